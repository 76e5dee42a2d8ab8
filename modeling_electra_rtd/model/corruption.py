"""The corruption of a batch: choose -> mask -> (generator) -> sample -> label. Pure functions of tensors.

Shapes are static: every row has `k` slots, and a row with fewer candidates than slots carries weights of 0 in the
rest. All randomness comes in as uniform numbers in [0, 1), one row of `number_of_uniforms(sequence)` per example, so
a batch, its micro-batches and its shards over ranks are corrupted alike when they are given the same numbers.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


# The probability that a span ends with a word: spans of 3.8 words on average, as SpanBERT's (section 3.1) are.
_SPAN_END_PROBABILITY = 1 / 3.8


class ChosenPositions(NamedTuple):
    """The slots of a batch.

    Attributes:
        positions: `(batch, k)` int64, distinct positions within a row; slots of weight 0 point at arbitrary ones.
        weights: `(batch, k)` float32, 1 where the slot holds a chosen candidate and 0 where it is spare.
    """

    positions: Tensor
    weights: Tensor


class CorruptedText(NamedTuple):
    """A batch and what was made of it; `(batch, sequence)` where nothing else is said.

    Attributes:
        input_ids: the text.
        token_mask: bool, positions that are not padding.
        candidates: bool, tokens that may be corrupted.
        chosen: the slots.
        is_chosen: bool, their positions.
        mask_probability: the share of the candidates that is chosen, a number or a scalar tensor.
        corrupted_input_ids: what the discriminator reads: samples, or `[MASK]` where the objective has no generator.
        is_replaced: bool, the id changed.
        noise_log_probs: float32, the noise's log-probability of what stands there; `None` where the noise knows only
            the chosen positions.
    """

    input_ids: Tensor
    token_mask: Tensor
    candidates: Tensor
    chosen: ChosenPositions
    is_chosen: Tensor
    mask_probability: float | Tensor
    corrupted_input_ids: Tensor
    is_replaced: Tensor
    noise_log_probs: Tensor | None


def slots_per_row(sequence_length: int, mask_probability: float) -> int:
    """`k` for rows of `sequence_length` positions: the chosen positions of a row without special tokens."""
    return max(1, round(mask_probability * sequence_length))


def number_of_uniforms(sequence_length: int, mask_probability: float, joins_words: bool = False) -> int:
    """Uniform numbers one row consumes: one a position to choose, one a slot to mask, one a slot to sample, and one a
    position to join words into spans where that is asked for."""
    positions = sequence_length * (2 if joins_words else 1)
    return positions + 2 * slots_per_row(sequence_length, mask_probability)


def split_uniforms(
    uniforms: Tensor, sequence_length: int, joins_words: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`(batch, number_of_uniforms)` -> `(batch, sequence)` to choose, `(batch, k)` to mask, `(batch, k)` to sample,
    and `(batch, sequence)` to join words, which has no columns where they are not joined."""
    joins = sequence_length if joins_words else 0
    slots = (uniforms.shape[1] - sequence_length - joins) // 2
    return tuple(uniforms.split([sequence_length, slots, slots, joins], dim=1))


def candidate_positions(input_ids: Tensor, token_mask: Tensor, special_token_ids: Tensor) -> Tensor:
    """`(batch, sequence)` bool: tokens that may be corrupted, i.e. neither padding nor special."""
    return token_mask & ~torch.isin(input_ids, special_token_ids)


def drawing_bias(vocab_size: int, number_of_tokens: int | None, special_token_ids: Tensor) -> Tensor:
    """`(vocab_size,)` float32 to add to scores that are drawn from: 0 for tokens that may replace others, and -inf for
    the special ones and for rows of the vocabulary that are no token.

    A sum, and filled by index: a compiled step that selects by a mask takes half as long again to draw on a CPU.

    Args:
        number_of_tokens: rows from here on are no tokens; `None` where all are.
    """
    # Made anew in every step, by kernels that wait for nothing: there is no buffer to be resized or left behind.
    device = special_token_ids.device
    no_tokens = torch.arange(min(number_of_tokens or vocab_size, vocab_size), vocab_size, device=device)
    return torch.zeros(vocab_size, device=device).index_fill(0, torch.cat([special_token_ids, no_tokens]), -math.inf)


def share_within_words(uniforms: Tensor, candidates: Tensor, word_starts: Tensor, to_join: Tensor) -> Tensor:
    """`(batch, sequence)` numbers to choose by that are equal within a word or span, so that all of it is chosen or
    none. As the number of chosen positions of a row is fixed, the last one of a row may be cut.

    Args:
        uniforms: `(batch, sequence)` in [0, 1).
        candidates: `(batch, sequence)` bool; a position that is not a candidate ends a word.
        word_starts: `(batch, sequence)` bool.
        to_join: `(batch, sequence)` uniforms to join words into spans, or no columns to keep single words.
    """
    if to_join.shape[1]:
        word_starts = word_starts & (to_join < _SPAN_END_PROBABILITY)
    follows = torch.zeros_like(candidates)
    follows[:, 1:] = candidates[:, :-1]
    starts = word_starts | ~candidates | ~follows
    position = torch.arange(candidates.shape[1], device=candidates.device)
    start_of = torch.where(starts, position, 0).cummax(dim=1).values
    return uniforms.gather(1, start_of)


def chosen_per_row(candidates: Tensor, mask_probability: float | Tensor, slots: int | None = None) -> Tensor:
    """`(batch,)` int64: max(1, round(p * candidates)), and 0 for a row without candidates.

    Args:
        mask_probability: a number, or a scalar tensor, on which a compiled graph does not specialise: float64 where
            the device has it, since float32 rounds some products to the other side of a half.
        slots: `k`, which no row exceeds; `None` takes that of a `mask_probability` that is a number.
    """
    count = candidates.sum(dim=1)
    # In float64, as `slots_per_row` counts: in float32 0.15 * 190 is above 28.5 and there would be more than slots.
    dtype = torch.float32 if count.device.type == "mps" else torch.float64
    chosen = (count.to(dtype) * mask_probability).round().long().clamp(min=1).minimum(count)
    return chosen.clamp(max=slots_per_row(candidates.shape[1], mask_probability) if slots is None else slots)


def choose_positions(
    candidates: Tensor, mask_probability: float | Tensor, uniforms: Tensor, slots: int | None = None
) -> ChosenPositions:
    """Choose candidates uniformly and without replacement (the reference samples with replacement and averages the
    ids that collide).

    Args:
        candidates: `(batch, sequence)` bool.
        mask_probability, slots: as for `chosen_per_row`. A probability that changes from step to step keeps its shapes
            with the `slots` of the largest.
        uniforms: `(batch, sequence)` in [0, 1).
    """
    slots = slots_per_row(candidates.shape[1], mask_probability) if slots is None else slots
    priorities = torch.where(candidates, uniforms, -1.0)
    # Tokens of a word have one number: the order among equals must not depend on the row's length.
    positions = priorities.sort(dim=1, descending=True, stable=True).indices[:, :slots]
    slot_numbers = torch.arange(slots, device=candidates.device)
    weights = (slot_numbers < chosen_per_row(candidates, mask_probability, slots)[:, None]).float()
    return ChosenPositions(positions, weights)


def mask_tokens(
    input_ids: Tensor, chosen: ChosenPositions, mask_token_id: int, mask_token_probability: float, uniforms: Tensor
) -> Tensor:
    """`(batch, sequence)` ids the generator reads: chosen tokens become `[MASK]` with `mask_token_probability`.

    Args:
        uniforms: `(batch, k)` in [0, 1).
    """
    original = input_ids.gather(1, chosen.positions)
    hidden = (uniforms < mask_token_probability) & (chosen.weights > 0)
    return input_ids.scatter(1, chosen.positions, torch.where(hidden, mask_token_id, original))


def sample_tokens(scores: Tensor, uniforms: Tensor) -> Tensor:
    """Exact samples from softmax(scores) by the inverse CDF, one uniform a row, in two levels.

    A running sum over the whole vocabulary would be one more serial pass over (rows, vocabulary); summing blocks of
    about sqrt(vocabulary) entries, and running sums over the blocks and inside the one that is hit, reads it once.
    Random numbers are what sampling costs on a CPU: Gumbel-max draws one for every vocabulary entry.

    Args:
        scores: `(rows, vocabulary)` float32, log-probabilities up to a constant of the row.
        uniforms: `(rows,)` in [0, 1).

    Returns:
        `(rows,)` int64.
    """
    vocabulary = scores.shape[1]
    width = math.isqrt(vocabulary - 1) + 1
    whole = vocabulary // width * width
    highest = scores.amax(dim=-1, keepdim=True)
    # In place: on a CPU one more tensor of this size costs as much as the exponentials.
    weights = (scores - highest).exp_()
    sums = weights[:, :whole].unflatten(1, (-1, width)).sum(dim=2)
    if whole < vocabulary:
        sums = torch.cat([sums, weights[:, whole:].sum(dim=1, keepdim=True)], dim=1)
    block_ends = sums.cumsum(dim=1)
    total = block_ends[:, -1:]
    # u * total may round up to total, where no token is left.
    target = (uniforms[:, None] * total).minimum(total * (1 - 2**-23))
    # Counting the ends at or below the target skips entries of probability 0, also for a uniform of exactly 0.
    block = (block_ends <= target).sum(dim=1, keepdim=True).clamp(max=block_ends.shape[1] - 1)
    before = torch.where(block > 0, block_ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    tokens = block * width + torch.arange(width, device=scores.device)
    # From the scores: weights that are only summed are never written to memory by a compiled step.
    inside = (scores.gather(1, tokens.clamp(max=vocabulary - 1)) - highest).exp()
    # The last block may be shorter than the others.
    inside = torch.where(tokens < vocabulary, inside, 0.0)
    token_ends = inside.cumsum(dim=1)
    # The two levels round differently: keep the target inside the block that was hit.
    rest = (target - before).clamp(min=0.0).minimum(token_ends[:, -1:] * (1 - 2**-23))
    token = (token_ends <= rest).sum(dim=1).clamp(max=width - 1)
    return (block[:, 0] * width + token).clamp(max=vocabulary - 1)


def replace_tokens(input_ids: Tensor, chosen: ChosenPositions, sampled_ids: Tensor) -> Tensor:
    """`(batch, sequence)` ids the discriminator reads: samples at the chosen positions, the text elsewhere.

    Args:
        sampled_ids: `(batch, k)`.
    """
    original = input_ids.gather(1, chosen.positions)
    return input_ids.scatter(1, chosen.positions, torch.where(chosen.weights > 0, sampled_ids, original))


def at_positions(values: Tensor, chosen: ChosenPositions, input_ids: Tensor) -> Tensor:
    """`(batch, sequence)`: values of slots, `(batch, k)`, where these stand in the text, and 0 elsewhere."""
    return torch.zeros_like(input_ids, dtype=values.dtype).scatter(1, chosen.positions, values)
