"""Positions, proposals, corrupted text and verdicts of the demo, beside the networks themselves."""

import pytest
import torch
from helpers.tiny import MASK, tiny_pair, tiny_tokenizer
from transformers import ElectraForPreTraining

from modeling_electra_rtd.inspection.demo import (
    draw_positions,
    generate,
    has_generator,
    load_detector,
    tokens_of,
    verdicts,
    verdicts_on_edit,
)


TEXT = "the Cat sat on a mat, and the dogs sat on the cats."
TOKENS = "the cat sat on a mat [UNK] and the dog ##s sat on the cat ##s .".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    tiny_pair("electra").save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def detector(folder):
    return load_detector(str(folder))


def test_drawn_positions_are_distinct_and_as_many_as_in_training(detector):
    assert tokens_of(detector, TEXT) == TOKENS
    for share, count in ((0.15, 3), (0.01, 1), (1.0, 17)):
        positions = draw_positions(detector, TEXT, share, seed=4)
        assert positions == sorted(set(positions)) and len(positions) == count
        assert draw_positions(detector, TEXT, share, seed=4) == positions
    assert len({tuple(draw_positions(detector, TEXT, 0.15, seed)) for seed in range(20)}) > 10
    # A special token that is written in a text is text, as in training.
    assert draw_positions(detector, "the [SEP] cat", 1.0, seed=0) == [0, 1, 2, 3, 4]


def test_proposals_are_the_generators_at_masked_positions(detector):
    positions = [1, 9, 15]
    generated = generate(detector, TEXT, positions, seed=3, top_k=4)
    ids = detector.tokenizer(TEXT)["input_ids"]
    masked = [MASK if index - 1 in positions else token for index, token in enumerate(ids)]
    with torch.no_grad():
        logits = detector.model.generator(torch.tensor([masked])).logits[0, 1:-1]
    logits[:, detector.model.config.special_token_ids] = -torch.inf
    probabilities = logits.softmax(dim=-1)
    vocabulary = detector.tokenizer.get_vocab()
    for position, proposals in zip(positions, generated.proposals, strict=True):
        best = probabilities[position].topk(4)
        assert [vocabulary[proposal.token] for proposal in proposals[:4]] == best.indices.tolist()
        for proposal in proposals:
            expected = probabilities[position, vocabulary[proposal.token]].item()
            assert proposal.probability == pytest.approx(expected, rel=1e-4)
        # The original and the drawn token are shown even where they are far down.
        assert [p.token for p in proposals if p.is_original] == [TOKENS[position]]
        (drawn,) = [p.token for p in proposals if p.is_drawn]
        assert vocabulary[drawn] == generated.ids[position]
        assert len(proposals) == len({p.token for p in proposals}) <= 6
    assert [i for i, (a, b) in enumerate(zip(generated.ids, ids[1:-1], strict=True)) if a != b] == [
        i
        for i, row in zip(positions, generated.proposals, strict=True)
        if not any(p.is_original and p.is_drawn for p in row)
    ]


def test_draws_follow_the_seed_and_the_temperature(detector):
    def drawn(**arguments):
        return generate(detector, TEXT, [1, 9, 15], **arguments).ids

    assert drawn(seed=3) == drawn(seed=3)
    assert len({tuple(drawn(seed=seed)) for seed in range(20)}) > 5
    generated = generate(detector, TEXT, [1, 9, 15], temperature=0)
    assert all(row[0].is_drawn for row in generated.proposals)
    assert drawn(temperature=0.001, seed=7) == generated.ids
    # At temperature 1 the frequencies are the generator's probabilities.
    best = generated.proposals[0][0]
    hits = [generate(detector, TEXT, [1], seed=seed).ids[1] == generated.ids[1] for seed in range(150)]
    alone = generate(detector, TEXT, [1], temperature=0).proposals[0][0].probability
    assert best.token and abs(sum(hits) / 150 - alone) < 4 * (alone * (1 - alone) / 150) ** 0.5


def test_the_corrupted_text_changes_only_what_was_replaced(detector):
    generated = generate(detector, TEXT, [1, 9], seed=3)
    one, other = (detector.tokenizer.convert_ids_to_tokens(generated.ids[i]).removeprefix("##") for i in (1, 9))
    assert "cat" != one and "dog" != other
    assert generated.text == f"the {one} sat on a mat, and the {other}s sat on the cats."


def test_verdicts_are_the_discriminators_on_the_corrupted_ids(detector):
    generated = generate(detector, TEXT, [1, 9, 15], seed=3)
    ids = detector.tokenizer(TEXT)["input_ids"]
    with torch.no_grad():
        expected = detector.model.discriminate(torch.tensor([[ids[0], *generated.ids, ids[-1]]])).sigmoid()[0, 1:-1]
    tokens = verdicts(detector, generated)
    assert [token.replaced_probability for token in tokens] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [token.original for token in tokens] == TOKENS
    assert [token.is_chosen for token in tokens] == [index in (1, 9, 15) for index in range(17)]
    assert [token.is_replaced for token in tokens] == [token.original != token.shown for token in tokens]
    for position, row in zip((1, 9, 15), generated.proposals, strict=True):
        (drawn,) = [proposal for proposal in row if proposal.is_drawn]
        assert tokens[position].generated_probability == drawn.probability
        assert tokens[position].shown == drawn.token


def test_long_texts_are_masked_and_judged_in_windows(detector):
    words = [f"w{number % 100}" for number in range(150)]
    positions = [0, 61, 75, 149]
    generated = generate(detector, " ".join(words), positions, temperature=0, top_k=1)
    tokens = verdicts(detector, generated)
    assert [token.original for token in tokens] == words
    assert [index for index, token in enumerate(tokens) if token.is_chosen] == positions
    assert [[p.is_original for p in row].count(True) for row in generated.proposals] == [1] * 4


def test_edits_are_compared_with_the_original(detector):
    edited = "the dog sat on a mat and the the dogs sat."
    tokens = verdicts_on_edit(detector, edited, "the cat sat on a mat and the dogs sat on.")
    assert [(token.shown, token.original) for token in tokens if token.is_replaced] == [("dog", "cat"), ("the", "")]
    assert [token.shown for token in tokens] == tokens_of(detector, edited)
    alone = verdicts_on_edit(detector, edited)
    assert not any(token.is_replaced for token in alone)
    assert [t.replaced_probability for t in alone] == [t.replaced_probability for t in tokens]
    # One token for two: what was there stands above it, all of it.
    (changed,) = [t for t in verdicts_on_edit(detector, "the mat sat", "the dogs sat") if t.is_replaced]
    assert (changed.shown, changed.original) == ("mat", "dog ##s")
    (changed,) = [t for t in verdicts_on_edit(detector, "the mat", "the dogs sat on") if t.is_replaced]
    assert (changed.shown, changed.original) == ("mat", "…")


def test_a_lone_discriminator_judges_edits(detector, folder, tmp_path):
    assert has_generator(detector)
    ElectraForPreTraining(detector.model.config.discriminator_config).save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    lone = load_detector(str(tmp_path))
    assert not has_generator(lone)
    assert len(verdicts_on_edit(lone, TEXT)) == len(TOKENS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"positions": []}, r"positions are \[\]; allowed: one or more in \[0, 16\]"),
        ({"positions": [3, 17]}, r"positions are \[3, 17\]"),
        ({"positions": [-1]}, r"positions are \[-1\]"),
        ({"temperature": -0.5}, "temperature is -0.5; it must be at least 0"),
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"text": " "}, "has no tokens"),
    ],
)
def test_impossible_values_are_refused(detector, values, message):
    with pytest.raises(ValueError, match=message):
        generate(detector, **{"text": TEXT, "positions": [1], **values})


def test_shares_outside_the_text_are_refused(detector):
    for share in (0, 1.5):
        with pytest.raises(ValueError, match=f"share is {share}"):
            draw_positions(detector, TEXT, share, seed=0)
