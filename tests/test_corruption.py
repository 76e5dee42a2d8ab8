"""Choose, mask, sample, label: each against Python that says the same slowly."""

import math

import pytest
import torch
from helpers.tiny import CLS, MASK, PAD, SEP, SPECIAL, UNK
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_electra_rtd.model.corruption import (
    ChosenPositions,
    candidate_positions,
    choose_positions,
    chosen_per_row,
    drawing_bias,
    mask_tokens,
    number_of_uniforms,
    replace_tokens,
    sample_tokens,
    share_within_words,
    slots_per_row,
    split_uniforms,
)


PROBABILITIES = st.sampled_from([0.01, 0.15, 0.25, 0.3, 0.35, 0.5, 0.85, 1.0]) | st.floats(1e-3, 1.0)
# What torch.rand can return: multiples of 2**-24 below 1.
UNIFORMS = st.sampled_from([0, 1, 2**24 - 1]) | st.integers(0, 2**24 - 1)


def expected_count(candidates: int, probability: float) -> int:
    return max(1, round(probability * candidates)) if candidates else 0


def test_candidates_are_neither_special_nor_padding():
    ids = torch.tensor([[CLS, 7, UNK, MASK, 9, SEP, 8, PAD]])
    token_mask = torch.tensor([[True] * 6 + [False] * 2])
    expected = [[False, True, True, False, True, False, False, False]]
    assert candidate_positions(ids, token_mask, torch.tensor(SPECIAL)).tolist() == expected


@pytest.mark.parametrize("probability", [0.15, 0.25, 0.3, 0.35, 0.5, 1.0])
def test_the_number_of_chosen_positions_is_exact_at_every_length(probability):
    # 0.15 * 190 is 28.5 and rounds to 28; one float32 operation makes it 29, more than a row of 190 has slots.
    counts = range(1025)
    candidates = torch.arange(1024) < torch.tensor(counts)[:, None]
    expected = [expected_count(count, probability) for count in counts]
    assert chosen_per_row(candidates, probability).tolist() == expected
    for count in (1, 2, 95, 190, 350, 1024):
        full = torch.ones(1, count, dtype=torch.bool)
        assert chosen_per_row(full, probability).item() == slots_per_row(count, probability)


@pytest.mark.parametrize("probability", [0.15, 0.3, 0.35])
def test_a_probability_that_changes_keeps_the_slots_of_the_largest(probability):
    counts = range(257)
    candidates = torch.arange(256) < torch.tensor(counts)[:, None]
    scheduled = torch.tensor(probability, dtype=torch.float64)
    slots = slots_per_row(256, 0.5)
    assert chosen_per_row(candidates, scheduled, slots).tolist() == [expected_count(n, probability) for n in counts]
    uniforms = torch.rand(257, 256, generator=torch.Generator().manual_seed(0))
    wide, narrow = (
        choose_positions(candidates, scheduled, uniforms, slots),
        choose_positions(candidates, probability, uniforms),
    )
    own = slots_per_row(256, probability)
    assert wide.positions.shape == (257, slots)
    assert torch.equal(
        wide.positions[:, :own] * wide.weights[:, :own].long(), narrow.positions * narrow.weights.long()
    )
    assert torch.equal(wide.weights[:, :own], narrow.weights) and not wide.weights[:, own:].any()


@st.composite
def candidate_rows(draw):
    rows, length = draw(st.integers(1, 4)), draw(st.integers(1, 48))
    row = st.lists(st.booleans(), min_size=length, max_size=length)
    candidates = draw(st.lists(row, min_size=rows, max_size=rows))
    if draw(st.booleans()):
        candidates[0] = [False] * length
    uniforms = draw(st.lists(st.lists(UNIFORMS, min_size=length, max_size=length), min_size=rows, max_size=rows))
    return torch.tensor(candidates), torch.tensor(uniforms, dtype=torch.float64).div(2**24).float()


@given(candidate_rows(), PROBABILITIES)
@settings(max_examples=150, deadline=None)
def test_choosing_is_exact_without_replacement(rows, probability):
    candidates, uniforms = rows
    positions, weights = choose_positions(candidates, probability, uniforms)
    slots = max(1, round(probability * candidates.shape[1]))
    assert positions.shape == weights.shape == (len(candidates), slots)
    for row in range(len(candidates)):
        in_row = positions[row].tolist()
        assert len(set(in_row)) == slots
        count = expected_count(int(candidates[row].sum()), probability)
        assert weights[row].tolist() == [1.0] * count + [0.0] * (slots - count)
        chosen = in_row[:count]
        assert candidates[row, chosen].all()
        # The largest uniforms of the candidates win, which makes every set of candidates equally likely.
        largest = sorted(uniforms[row][candidates[row]].tolist(), reverse=True)[:count]
        assert uniforms[row, chosen].tolist() == largest


def test_every_candidate_is_chosen_equally_often():
    candidates = torch.tensor([[False, True, True, True, False, True, True, True, True, True, True, True, False]])
    draws = 20_000
    uniforms = torch.rand(draws, 13, generator=torch.Generator().manual_seed(0))
    positions, weights = choose_positions(candidates.expand(draws, -1), 0.3, uniforms)
    counts = torch.bincount(positions[weights > 0], minlength=13)
    assert counts[~candidates[0]].sum() == 0
    # Three of ten, without replacement: variance p (1 - p) each; five standard deviations.
    assert (counts[candidates[0]] - 0.3 * draws).abs().max() < 5 * math.sqrt(draws * 0.3 * 0.7)


def test_uniforms_are_split_without_overlap():
    sequence, probability = 20, 0.15
    count = number_of_uniforms(sequence, probability)
    assert count == 20 + 3 + 3
    pieces = split_uniforms(torch.arange(2.0 * count).view(2, count), sequence)
    assert [piece.shape[1] for piece in pieces] == [20, 3, 3, 0]
    assert torch.cat(pieces, dim=1).tolist() == torch.arange(2.0 * count).view(2, count).tolist()
    count = number_of_uniforms(sequence, probability, joins_words=True)
    pieces = split_uniforms(torch.arange(2.0 * count).view(2, count), sequence, joins_words=True)
    assert [piece.shape[1] for piece in pieces] == [20, 3, 3, 20]
    assert torch.cat(pieces, dim=1).tolist() == torch.arange(2.0 * count).view(2, count).tolist()


def test_words_are_chosen_whole():
    # [CLS] un ##believ ##able cats , sat [SEP] [CLS] ##s ran [SEP]; what follows a special token starts anew.
    word_starts = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1]]).bool()
    candidates = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]]).bool()
    uniforms = torch.arange(12.0)[None] / 12
    shared = share_within_words(uniforms, candidates, word_starts, torch.empty(1, 0)) * 12
    assert shared[0].round().tolist() == [0, 1, 1, 1, 4, 5, 6, 7, 8, 9, 10, 11]
    # Joined where the number is above the probability that a span ends: cats with the word before it.
    to_join = torch.zeros(1, 12)
    to_join[0, [4, 9, 10]] = 0.9
    spans = share_within_words(uniforms, candidates, word_starts, to_join) * 12
    assert spans[0].round().tolist() == [0, 1, 1, 1, 1, 5, 6, 7, 8, 9, 9, 11]


@pytest.mark.parametrize(("joins", "mean_length"), [(False, 1.0), (True, 3.8)])
def test_length_of_spans(joins, mean_length):
    length, rows = 200, 400
    generator = torch.Generator().manual_seed(0)
    everything = torch.ones(rows, length, dtype=torch.bool)
    to_join = torch.rand(rows, length if joins else 0, generator=generator)
    shared = share_within_words(torch.rand(rows, length, generator=generator), everything, everything, to_join)
    runs = (shared[:, 1:] != shared[:, :-1]).sum().item() + rows
    assert rows * length / runs == pytest.approx(mean_length, rel=0.03)
    # However words are joined, as many positions are chosen as ever, and no word but one a row is cut.
    chosen = choose_positions(everything, 0.15, shared)
    assert chosen.weights.sum() == rows * 30
    mask = torch.zeros(rows, length, dtype=torch.bool).scatter(1, chosen.positions, True)
    cut = 0
    for row in range(20):
        for value in shared[row].unique():
            inside = mask[row, shared[row] == value]
            cut += bool(inside.any() and not inside.all())
    assert cut <= 20


def test_masking_by_hand():
    ids = torch.tensor([[CLS, 11, 12, 13, 14, SEP], [CLS, 21, SEP, PAD, PAD, PAD]])
    chosen = ChosenPositions(torch.tensor([[3, 1, 4], [1, 0, 5]]), torch.tensor([[1.0, 1, 1], [1, 0, 0]]))
    # Masked below 0.85, kept from there on; spare slots are never masked.
    uniforms = torch.tensor([[0.0, 0.85, 0.8499], [0.9999, 0.0, 0.0]])
    masked = mask_tokens(ids, chosen, MASK, 0.85, uniforms)
    assert masked.tolist() == [[CLS, 11, 12, MASK, MASK, SEP], [CLS, 21, SEP, PAD, PAD, PAD]]
    everything = mask_tokens(ids, chosen, MASK, 1.0, torch.full((2, 3), 1 - 2**-24))
    assert everything.tolist() == [[CLS, MASK, 12, MASK, MASK, SEP], [CLS, MASK, SEP, PAD, PAD, PAD]]


def test_replacing_by_hand_and_a_sampled_original_is_original():
    ids = torch.tensor([[CLS, 11, 12, 13, 14, SEP], [CLS, 21, SEP, PAD, PAD, PAD]])
    chosen = ChosenPositions(torch.tensor([[3, 1, 4], [1, 0, 5]]), torch.tensor([[1.0, 1, 1], [1, 0, 0]]))
    sampled = torch.tensor([[99, 11, 98], [97, 96, 95]])
    corrupted = replace_tokens(ids, chosen, sampled)
    assert corrupted.tolist() == [[CLS, 11, 12, 99, 98, SEP], [CLS, 97, SEP, PAD, PAD, PAD]]
    # The definition of the labels: position 1 of the first row was chosen and sampled back.
    assert (corrupted != ids).tolist() == [[False] * 3 + [True] * 2 + [False], [False, True] + [False] * 4]


@given(candidate_rows(), PROBABILITIES, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_only_chosen_candidates_ever_change(rows, probability, seed):
    candidates, uniforms = rows
    generator = torch.Generator().manual_seed(seed)
    ids = torch.where(candidates, torch.randint(5, 50, candidates.shape, generator=generator), PAD)
    chosen = choose_positions(candidates, probability, uniforms)
    is_chosen = torch.zeros_like(candidates).scatter(1, chosen.positions, chosen.weights > 0)
    sampled = torch.full(chosen.positions.shape, 77)
    assert torch.equal(replace_tokens(ids, chosen, sampled), torch.where(is_chosen, 77, ids))
    to_mask = torch.zeros(chosen.positions.shape)
    assert torch.equal(mask_tokens(ids, chosen, MASK, 0.85, to_mask), torch.where(is_chosen, MASK, ids))


def test_the_bias_of_drawing_by_hand():
    special = torch.tensor([0, 2])
    assert drawing_bias(8, 6, special).exp().tolist() == [0, 1, 0, 1, 1, 1, 0, 0]
    for all_rows in (None, 8, 9):
        assert drawing_bias(8, all_rows, special).exp().tolist() == [0, 1, 0, 1, 1, 1, 1, 1]


# Larger than what float32 sums are off by, and far smaller than the probability of a token that matters.
ROUNDING = 2e-6


def assert_inverse_cdf(log_probs: torch.Tensor, uniforms: torch.Tensor) -> None:
    """Every sample is the token whose float64 CDF interval holds the uniform, up to rounding at its two ends."""
    sampled = sample_tokens(log_probs, uniforms)
    probabilities = log_probs.double().softmax(dim=1)
    ends = probabilities.cumsum(dim=1)
    targets = uniforms.double()
    token = sampled[:, None]
    assert (probabilities.gather(1, token) > 0).all()
    assert (targets < ends.gather(1, token)[:, 0] + ROUNDING).all()
    assert (targets >= (ends - probabilities).gather(1, token)[:, 0] - ROUNDING).all()
    # Where no boundary is near, that is one token and no other.
    clear = (ends - targets[:, None]).abs().amin(dim=1) > ROUNDING
    expected = (ends <= targets[:, None]).sum(dim=1)
    assert torch.equal(sampled[clear], expected[clear])


@st.composite
def distributions(draw):
    vocabulary = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 16, 17, 150, 1000, 30522]))
    rows = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.0, 1.0, 5.0, 30.0]))
    logits = scale * torch.randn(rows, vocabulary, generator=generator)
    # Tokens that cannot be sampled, at the ends and in long runs as well as here and there.
    forbidden = draw(st.sampled_from(["none", "some", "first half", "last half", "all but one"]))
    half = vocabulary // 2
    if forbidden == "some":
        hidden = torch.rand(rows, vocabulary, generator=generator) < 0.5
        hidden[:, half] = False
        logits[hidden] = -torch.inf
    elif forbidden == "first half":
        logits[:, :half] = -torch.inf
    elif forbidden == "last half":
        logits[:, half + 1 :] = -torch.inf
    elif forbidden == "all but one":
        kept = logits[:, half].clone()
        logits[:] = -torch.inf
        logits[:, half] = kept
    uniforms = draw(st.lists(UNIFORMS, min_size=rows, max_size=rows))
    return logits, torch.tensor(uniforms, dtype=torch.float64).div(2**24).float()


@given(distributions(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_samples_are_the_inverse_cdf(distribution, normalised):
    logits, uniforms = distribution
    assert_inverse_cdf(logits.log_softmax(dim=1) if normalised else logits, uniforms)


def test_samples_are_the_inverse_cdf_over_a_whole_grid_of_uniforms():
    generator = torch.Generator().manual_seed(3)
    for vocabulary in (10, 150, 30522):
        log_probs = torch.randn(1, vocabulary, generator=generator).mul(2).log_softmax(dim=1)
        uniforms = torch.arange(0, 1, 1 / 256)
        assert_inverse_cdf(log_probs.expand(len(uniforms), -1), uniforms)


def test_sampling_by_hand():
    log_probs = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0]).log().expand(7, -1)
    uniforms = torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.7501, 0.9999, 1 - 2**-24])
    assert sample_tokens(log_probs, uniforms).tolist() == [1, 1, 3, 3, 4, 4, 4]


@pytest.mark.parametrize("temperature", [0.01, 0.05, 2.0, 100.0])
def test_sampling_at_any_temperature_is_from_the_sharpened_distribution(temperature):
    # A flat start over 30,522 tokens at temperature 0.05: every exp(log p / T) is below the smallest float32.
    generator = torch.Generator().manual_seed(5)
    log_probs = torch.randn(16, 30522, generator=generator).mul(0.02).log_softmax(dim=1)
    assert log_probs.div(0.05).exp().sum() == 0
    assert_inverse_cdf(log_probs / temperature, torch.rand(16, generator=generator))


@pytest.mark.parametrize("vocabulary", [8, 150])
def test_frequencies_follow_the_distribution(vocabulary):
    draws = 100_000
    generator = torch.Generator().manual_seed(1)
    log_probs = torch.randn(1, vocabulary, generator=generator).log_softmax(dim=1)
    sampled = sample_tokens(log_probs.expand(draws, -1), torch.rand(draws, generator=generator))
    expected = log_probs[0].double().exp() * draws
    chi_square = ((torch.bincount(sampled, minlength=vocabulary) - expected) ** 2 / expected).sum().item()
    # Mean and variance of the statistic: degrees of freedom, and twice that.
    freedom = vocabulary - 1
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)
