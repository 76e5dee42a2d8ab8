"""What a discriminator learns from a corrupted text: one class for each objective the literature compares.

An objective says which networks it needs, which positions its losses are divided by, and computes the losses from the
discriminator's hidden states. Adding one is adding a class to `OBJECTIVES`.

Shapes: `batch` rows of `sequence` positions, `k` slots a row for chosen positions (see `corruption`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .corruption import CorruptedText


# What a loss is a mean over: chosen positions, tokens that may be corrupted, or all that are not padding.
LossPositions = Literal["chosen", "candidates", "tokens"]
LOSS_POSITIONS: tuple[LossPositions, ...] = ("chosen", "candidates", "tokens")

# Positions whose vocabulary logits are alive at a time where every position is predicted.
_ROWS_OF_LOGITS = 1024


class Heads(NamedTuple):
    """The heads of a discriminator, functions of hidden states `(..., hidden_size)`.

    Attributes:
        detect: -> `(...)` logits, positive where a token looks replaced.
        predict: -> `(..., vocab_size)` logits; `None` without a masked-LM head.
    """

    detect: Callable[[Tensor], Tensor] | None
    predict: Callable[[Tensor], Tensor] | None


class Verdict(NamedTuple):
    """What a discriminator makes of a corrupted text.

    Attributes:
        logits: `(batch, sequence)`, positive where it says "replaced"; `None` for objectives that do not ask.
        detection_losses: `(batch, sequence)` float32 in nats, 0 outside the terms.
        masked_lm_losses: float32 in nats, `(batch, k)` or `(batch, sequence)`, 0 outside the terms.
        is_recovered: `(batch, k)` bool, chosen positions whose likeliest token is the text's.
    """

    logits: Tensor | None = None
    detection_losses: Tensor | None = None
    masked_lm_losses: Tensor | None = None
    is_recovered: Tensor | None = None


class Objective(ABC):
    """Base of all objectives.

    Attributes:
        corrupts: whether the discriminator reads samples of a generator; otherwise it reads `[MASK]`.
        has_detection_head: whether it has the detection head.
        detection_loss_positions, masked_lm_loss_positions: what the two losses of the discriminator are means over;
            `None` for a loss that the objective does not have.
        gives_energies: whether the detection head's logit is the energy of a token instead of a verdict on it.
        hub_tag: the tag of its models on the Hub.
        needs_noise_everywhere: whether the noise has to know the probability of every token, chosen or not.
    """

    corrupts: ClassVar[bool] = True
    has_detection_head: ClassVar[bool] = True
    detection_loss_positions: ClassVar[LossPositions | None] = None
    masked_lm_loss_positions: ClassVar[LossPositions | None] = None
    needs_noise_everywhere: ClassVar[bool] = False
    gives_energies: ClassVar[bool] = False
    hub_tag: ClassVar[str] = "replaced-token-detection"

    @property
    def has_masked_lm_head(self) -> bool:
        """Whether the discriminator has a masked-LM head."""
        return self.masked_lm_loss_positions is not None

    @abstractmethod
    def __call__(self, hidden: Tensor, heads: Heads, text: CorruptedText) -> Verdict:
        """Read the discriminator's states, `(batch, sequence, hidden_size)`, of `text.corrupted_input_ids`."""


class ReplacedTokenDetection(Objective):
    """Says for every token whether it is the text's (ELECTRA paper, section 2)."""

    detection_loss_positions = "tokens"

    def __call__(self, hidden: Tensor, heads: Heads, text: CorruptedText) -> Verdict:
        logits = heads.detect(hidden)
        return Verdict(logits=logits, detection_losses=detection_losses(logits, text.is_replaced, text.token_mask))


class ChosenTokenDetection(Objective):
    """Replaced-token detection with the loss on the chosen positions only ("ELECTRA 15%", paper section 3.4)."""

    detection_loss_positions = "chosen"

    def __call__(self, hidden: Tensor, heads: Heads, text: CorruptedText) -> Verdict:
        logits = heads.detect(hidden)
        return Verdict(logits=logits, detection_losses=detection_losses(logits, text.is_replaced, text.is_chosen))


class MaskedLanguageModeling(Objective):
    """Predicts the chosen tokens behind `[MASK]`, without a generator (BERT; of the chosen tokens
    `mask_token_probability` show `[MASK]` and the others themselves, where BERT also shows random ones)."""

    corrupts = False
    has_detection_head = False
    hub_tag = "masked-language-modeling"
    masked_lm_loss_positions = "chosen"

    def __call__(self, hidden: Tensor, heads: Heads, text: CorruptedText) -> Verdict:
        losses, is_recovered = _losses_at_chosen(hidden, heads, text)
        return Verdict(masked_lm_losses=losses, is_recovered=is_recovered)


class ReplaceMaskedLanguageModeling(MaskedLanguageModeling):
    """Predicts the chosen tokens, but reads samples of a generator in their place ("Replace MLM", paper section
    3.4)."""

    corrupts = True


class AllTokensMaskedLanguageModeling(Objective):
    """Predicts every token of the text from the corrupted one, with a copy mechanism ("All-Tokens MLM", paper section
    3.4): the detection head's probability of "original" is the weight of the token that is read, the rest that of the
    masked-LM head.
    """

    masked_lm_loss_positions = "tokens"

    def __call__(self, hidden: Tensor, heads: Heads, text: CorruptedText) -> Verdict:
        logits = heads.detect(hidden)
        predicted, _ = token_log_probs(heads.predict, hidden.flatten(0, 1), text.input_ids.flatten())
        generated = functional.logsigmoid(logits.float()) + predicted.view_as(logits)
        copied = torch.where(text.is_replaced, -math.inf, functional.logsigmoid(-logits.float()))
        losses = -torch.logaddexp(copied, generated) * text.token_mask
        positions = text.chosen.positions
        # Whichever of the two wins: recovering costs the vocabulary of the chosen positions once more.
        with torch.no_grad():
            at_chosen = _at(hidden, positions)
            log_probs = heads.predict(at_chosen).float().log_softmax(dim=-1)
            log_probs = log_probs + functional.logsigmoid(logits.gather(1, positions).float())[..., None]
            read = text.corrupted_input_ids.gather(1, positions)[..., None]
            kept = functional.logsigmoid(-logits.gather(1, positions).float())[..., None]
            log_probs = log_probs.scatter(-1, read, torch.logaddexp(log_probs.gather(-1, read), kept))
            guess = log_probs.argmax(dim=-1)
            is_recovered = (guess == text.input_ids.gather(1, positions)) & (text.chosen.weights > 0)
        return Verdict(logits=logits, masked_lm_losses=losses, is_recovered=is_recovered)


class Electric(Objective):
    """A cloze model by noise-contrastive estimation (Electric; Clark et al. 2020, "Pre-Training Transformers as
    Energy-Based Cloze Models").

    The detection head's logit is the energy of a token in its context, and exp(-energy) its probability up to a
    constant that learns to be 1. Samples count as noise also where they are the text's own token. Only tokens that may
    be corrupted take part: the noise knows nothing about `[CLS]`.
    """

    detection_loss_positions = "candidates"
    needs_noise_everywhere = True
    gives_energies = True
    hub_tag = "electric"

    def __call__(self, hidden: Tensor, heads: Heads, text: CorruptedText) -> Verdict:
        energies = heads.detect(hidden).float()
        is_noise = text.is_chosen
        # The noise never makes special tokens, nor ids from `number_of_tokens` on: where a text has one, infinity
        # would make the loss nan.
        noise = torch.where(text.candidates, text.noise_log_probs, 0.0).clamp(min=torch.finfo(torch.float32).min)
        share = torch.as_tensor(text.mask_probability, dtype=torch.float32, device=energies.device)
        logits = energies + noise + share.logit()
        losses = functional.binary_cross_entropy_with_logits(logits, is_noise.float(), reduction="none")
        return Verdict(logits=logits, detection_losses=losses * text.candidates)


class DetectionAndMaskedLanguageModeling(Objective):
    """Replaced-token detection, and from the same states the text's tokens at the chosen positions.

    Detection alone teaches an encoder little that tells sentences apart; a masked-LM head on the discriminator keeps
    what tokens mean in its states (compare corrective language modelling, COCO-LM). One pass serves both.
    """

    detection_loss_positions = "tokens"
    masked_lm_loss_positions = "chosen"

    def __call__(self, hidden: Tensor, heads: Heads, text: CorruptedText) -> Verdict:
        logits = heads.detect(hidden)
        masked_lm_losses, is_recovered = _losses_at_chosen(hidden, heads, text)
        return Verdict(
            logits=logits,
            detection_losses=detection_losses(logits, text.is_replaced, text.token_mask),
            masked_lm_losses=masked_lm_losses,
            is_recovered=is_recovered,
        )


OBJECTIVES: dict[str, Objective] = {
    "rtd": ReplacedTokenDetection(),
    "rtd_15": ChosenTokenDetection(),
    "rtd_mlm": DetectionAndMaskedLanguageModeling(),
    "mlm": MaskedLanguageModeling(),
    "replace_mlm": ReplaceMaskedLanguageModeling(),
    "all_tokens_mlm": AllTokensMaskedLanguageModeling(),
    "electric": Electric(),
}


def detection_losses(logits: Tensor, is_replaced: Tensor, mask: Tensor) -> Tensor:
    """`(batch, sequence)` float32: binary cross-entropy where `mask` is set, 0 elsewhere.

    Args:
        logits, is_replaced, mask: `(batch, sequence)`.
    """
    losses = functional.binary_cross_entropy_with_logits(logits.float(), is_replaced.float(), reduction="none")
    return losses * mask


def _losses_at_chosen(hidden: Tensor, heads: Heads, text: CorruptedText) -> tuple[Tensor, Tensor]:
    logits = heads.predict(_at(hidden, text.chosen.positions)).float()
    original = text.input_ids.gather(1, text.chosen.positions)
    losses = token_losses(logits.flatten(0, 1), original.flatten())[0].view_as(original)
    is_recovered = (logits.argmax(dim=-1) == original) & (text.chosen.weights > 0)
    return losses * text.chosen.weights, is_recovered


class _TokenLosses(torch.autograd.Function):
    """Cross-entropy over a vocabulary whose gradient is one pass over it, softmax less a comparison.

    Left to torch, a compiled step goes over the vocabulary once more, to add up numbers of which all but one are 0;
    on a CPU that takes longer than the exponentials (docs/log/speed.md).
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        scores_of_tokens = scores.gather(1, token_ids[:, None])
        losses = -scores.log_softmax(dim=-1).gather(1, token_ids[:, None])
        log_normalizers = losses + scores_of_tokens
        ctx.save_for_backward(scores, log_normalizers, token_ids)
        ctx.mark_non_differentiable(log_normalizers)
        return losses[:, 0], log_normalizers

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:
        scores, log_normalizers, token_ids = ctx.saved_tensors
        # Half the width of an id, so that the comparison keeps up with the exponentials.
        vocabulary = torch.arange(scores.shape[1], dtype=torch.int32, device=scores.device)
        probs = (scores - log_normalizers).exp_()
        return probs.sub_((vocabulary == token_ids.int()[:, None]).float()).mul_(gradient[:, None]), None


def token_losses(scores: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the log-probabilities of tokens, `(n,)` float32 in nats; and `(n, 1)` without gradient, what a row's
    scores exceed log-probabilities by.

    Args:
        scores: `(n, vocab_size)` float32.
        token_ids: `(n,)`.
    """
    return _TokenLosses.apply(scores, token_ids)


def token_log_probs(
    predict: Callable[[Tensor], Tensor], hidden: Tensor, token_ids: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of one token a position, without all vocabulary logits at once: they are computed again in the
    backward pass, a share of the positions at a time.

    Args:
        predict: `(rows, hidden_size)` -> `(rows, vocab_size)` logits.
        hidden: `(n, hidden_size)`.
        token_ids: `(n,)`.
        bias: `(vocab_size,)`, see `drawing_bias`; `None` for zeros.

    Returns:
        `(n,)` float32 in nats each: over the whole vocabulary; and without gradient, over what may be drawn alone,
        -inf for a token that never is.
    """

    def log_probs(states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        scores = predict(states).float()
        losses, log_normalizers = token_losses(scores, ids)
        with torch.no_grad():
            if bias is not None:
                scores = scores + bias
                log_normalizers = scores.logsumexp(dim=-1, keepdim=True)
            of_drawn = (scores.gather(1, ids[:, None]) - log_normalizers)[:, 0]
        return -losses, of_drawn

    shares = zip(hidden.split(_ROWS_OF_LOGITS), token_ids.split(_ROWS_OF_LOGITS), strict=True)
    found = [checkpoint(log_probs, states, ids, use_reentrant=False) for states, ids in shares]
    return tuple(torch.cat(part) for part in zip(*found, strict=True))


def _at(hidden: Tensor, positions: Tensor) -> Tensor:
    return hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))
