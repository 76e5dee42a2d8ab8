"""What a step of the pair says, position by position, and what its generator drew."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from transformers.utils import ModelOutput

from .generators import Proposal


@dataclass
class ElectraRtdForPreTrainingOutput(ModelOutput):
    """Everything one RTD step knows, aligned position by position.

    Attributes:
        loss: scalar; the losses below, each times its weight.
        generator_loss: scalar, detached; the generator's cross-entropy, in nats.
        discriminator_loss: scalar, detached; the detection's binary cross-entropy, in nats.
        masked_lm_loss: scalar, detached; the discriminator's own masked-LM cross-entropy, in nats.
        generator_feedback_loss: scalar, detached; of a policy gradient, its baseline's cross-entropy, in nats.
        logits: `(batch, sequence)`, detached; discriminator logits, positive where it says "replaced".
        replaced_probs: `(batch, sequence)` float32, P_d: the probability it gives "replaced".
        corrupted_input_ids: `(batch, sequence)`, what the discriminator read.
        is_replaced: `(batch, sequence)` bool, the labels: the id changed.
        is_chosen: `(batch, sequence)` bool, positions the generator was asked for.
        sampled_log_probs: `(batch, sequence)` float32, log P_g: the generator's log-probability (at temperature 1,
            among the tokens that may be drawn) of what stands at a chosen position; 0 elsewhere.
        generator_is_correct: `(batch, sequence)` bool, chosen positions where the generator's first guess is the text.
        is_recovered: `(batch, sequence)` bool, those where the discriminator's first guess is.
        token_mask: `(batch, sequence)` bool, positions that are not padding.
        loss_terms: `(3,)` float32, what this batch adds to `LOSS_POSITIONS`.

    What an objective does not have is `None`.
    """

    loss: Tensor | None = None
    generator_loss: Tensor | None = None
    discriminator_loss: Tensor | None = None
    masked_lm_loss: Tensor | None = None
    generator_feedback_loss: Tensor | None = None
    logits: Tensor | None = None
    replaced_probs: Tensor | None = None
    corrupted_input_ids: Tensor | None = None
    is_replaced: Tensor | None = None
    is_chosen: Tensor | None = None
    sampled_log_probs: Tensor | None = None
    generator_is_correct: Tensor | None = None
    is_recovered: Tensor | None = None
    token_mask: Tensor | None = None
    loss_terms: Tensor | None = None


class Draw(NamedTuple):
    """What a generator put in the place of chosen tokens.

    Attributes:
        proposal: what the generator said.
        to_draw: `(batch * k, vocab_size)` float32, the log-probabilities that were drawn from, up to a constant of
            the row.
        sampled_ids: `(batch, k)`.
        sampled_log_probs, is_correct: `(batch, sequence)`, as `sampled_log_probs` and `generator_is_correct` of the
            output.
    """

    proposal: Proposal
    to_draw: Tensor
    sampled_ids: Tensor
    sampled_log_probs: Tensor
    is_correct: Tensor
