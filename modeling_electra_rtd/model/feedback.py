"""What a generator learns from the discriminator's verdict, in addition to or instead of maximum likelihood.

- `reinforce`: policy gradient. The reward of a sampled token is the discriminator's loss on it, less what a learned
  baseline expects (ELECTRA paper, appendix F, where it replaces maximum likelihood: `generator_loss_weight` 0).
- `gumbel_softmax`: the discriminator reads the samples, and its gradient reaches the generator with the opposite sign,
  as if it had read their Gumbel-softmax relaxation (AMOS, which moves the weights of a mixture of generators this way;
  here it moves the generator itself).

Both learn about the distribution that is drawn from, temperature and disallowed tokens included, and leave the
discriminator's gradient as it is. The samples are the plain step's: the corruption is the same to the bit.

Shapes: `batch` rows, `k` slots a row for chosen positions (see `corruption`).
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from .corruption import ChosenPositions
from .objectives import token_losses


# The temperature of the relaxation that is differentiated (AMOS, reference implementation).
_RELAXATION_TEMPERATURE = 0.3


class PolicyGradient(nn.Module):
    """REINFORCE with a baseline that reads the generator's state at a position: b = -log sigmoid(w h).

    The discriminator's verdict on a token is taken to depend on no other sampled token, so every position is rewarded
    for its own (ELECTRA paper, appendix F).

    Attributes:
        baseline: `(hidden_size,)`, w; 0 to begin with, where b is the loss of a discriminator that guesses.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.baseline = nn.Parameter(torch.zeros(hidden_size))

    def forward(
        self, states: Tensor, to_draw: Tensor, sampled: Tensor, rewards: Tensor, chosen: ChosenPositions
    ) -> Tensor:
        """`(batch, k)` float32 losses in nats, 0 at spare slots.

        Their value is the baseline's cross-entropy with the discriminator's probability of the truth, their gradient
        that and the policy's: the policy has no loss, only a gradient.

        Args:
            states: `(batch, k, hidden_size)` of the generator; the baseline does not move them.
            to_draw: `(batch * k, vocab_size)`, what was drawn from, in log-probabilities that need not be normalised.
            sampled: `(batch, k)` ids.
            rewards: `(batch, k)`, the discriminator's losses in nats.
        """
        expected = (states.detach() @ self.baseline).float()
        advantages = rewards + functional.logsigmoid(expected.detach())
        policy = advantages * token_losses(to_draw, sampled.flatten())[0].view_as(rewards)
        baseline = functional.binary_cross_entropy_with_logits(expected, (-rewards).exp(), reduction="none")
        return (baseline + policy - policy.detach()) * chosen.weights


def check_reads_embeddings(encoder: PreTrainedModel) -> None:
    """Refuse an encoder that cannot be given embeddings in the place of ids.

    Raises:
        ValueError: naming the family.
    """
    if "inputs_embeds" not in inspect.signature(encoder.forward).parameters:
        raise ValueError(
            "generator_feedback 'gumbel_softmax' needs a discriminator that reads inputs_embeds, and "
            f"{encoder.config.model_type!r} does not; use 'reinforce' or 'none'"
        )


def reversed_straight_through(
    corrupted_input_ids: Tensor,
    words: nn.Module,
    to_draw: Tensor,
    sampled: Tensor,
    chosen: ChosenPositions,
    weight: float,
) -> Tensor:
    """`(batch, sequence, embedding_size)`: the embeddings of a corrupted text, through which its reader's gradient
    reaches the generator, multiplied by `-weight`.

    The table learns as from a look-up: the relaxation does not move it.

    Args:
        words: the discriminator's embedding of tokens.
        to_draw: `(batch * k, vocab_size)` float32, what was drawn from, in log-probabilities that need not be
            normalised.
        sampled: `(batch, k)` ids.
    """
    relaxed = relaxed_samples(to_draw.detach(), sampled.flatten(), _RELAXATION_TEMPERATURE)
    table = words.weight.detach()
    device_type = table.device.type
    if torch.is_autocast_enabled(device_type):
        # One more product over the vocabulary, in the backward pass, where nothing is cast by itself.
        table = table.to(torch.get_autocast_dtype(device_type))
    scale = -weight / _RELAXATION_TEMPERATURE
    return _ReversedStraightThrough.apply(
        words(corrupted_input_ids), to_draw, relaxed, table, chosen.positions, chosen.weights, scale
    )


@torch.no_grad()
def relaxed_samples(log_probs: Tensor, sampled: Tensor, temperature: float) -> Tensor:
    """`(rows, vocab_size)`: Gumbel-softmax samples whose largest entry is `sampled`.

    The noise is drawn given its outcome, which is as good as drawing it first: perturbed log-probabilities have a
    maximum that is independent of who attains it, and the others are truncated at it. So the ids can come from one
    uniform number a row, and only their gradient costs a random number for every entry of the vocabulary. It is drawn
    from the global generator, as dropout's.

    Args:
        log_probs: `(rows, vocab_size)` float32, normalised or not.
        sampled: `(rows,)` ids.
    """
    probs = log_probs.softmax(dim=-1).clamp(min=torch.finfo(log_probs.dtype).tiny)
    # A Gumbel variable is minus the logarithm of an exponential one, whose minimum is the maximum here.
    waits = torch.empty_like(probs).exponential_()
    least = waits.gather(1, sampled[:, None])
    waits = (waits / probs + least).scatter(1, sampled[:, None], least)
    return (waits.log() / -temperature).softmax(dim=-1)


class _ReversedStraightThrough(torch.autograd.Function):
    """Embeddings as they are; backwards, also the gradient of the relaxation that could stand in their place.

    As an expression (one-hot + relaxed - relaxed.detach()) @ table it would cost one more product over the vocabulary
    forwards, and round.
    """

    @staticmethod
    def forward(
        ctx: Any,
        embedded: Tensor,
        to_draw: Tensor,
        relaxed: Tensor,
        table: Tensor,
        positions: Tensor,
        weights: Tensor,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(relaxed, table, positions, weights)
        ctx.scale = scale
        return embedded.view_as(embedded)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        relaxed, table, positions, weights = ctx.saved_tensors
        at_chosen = gradient.gather(1, positions[..., None].expand(-1, -1, gradient.shape[-1])) * weights[..., None]
        of_tokens = (at_chosen.flatten(0, 1).to(table.dtype) @ table.T).float()
        mean = (relaxed * of_tokens).sum(dim=-1, keepdim=True)
        return gradient, ctx.scale * relaxed * (of_tokens - mean), None, None, None, None, None
