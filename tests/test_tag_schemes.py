"""Schemes of entities: told from tags, and the same entities counted in each."""

import random

import pytest

from modeling_electra_rtd.finetuning.scoring import compute
from modeling_electra_rtd.finetuning.tag_schemes import as_iobes, entity_scheme


# Prefixes of an entity of one token, and of the first, inner and last token of a longer one.
SCHEMES = {
    "IOB2": ("B", "B", "I", "I"),
    "IOE2": ("E", "I", "I", "E"),
    "IOBES": ("S", "B", "I", "E"),
    "BILOU": ("U", "B", "I", "L"),
    "BMES": ("S", "B", "M", "E"),
    "BMEWO": ("W", "B", "M", "E"),
}


def written(spans: list[tuple[int, int, str]], size: int, scheme: str) -> list[str]:
    """Spans `(first, last, type)` as tags."""
    tags = ["O"] * size
    for number, (first, last, kind) in enumerate(spans):
        before, after = spans[number - 1] if number else None, (spans[number + 1 :] or [None])[0]
        if scheme in ("IOB1", "IOE1"):
            letters = ["I"] * (last - first + 1)
            if scheme == "IOB1" and before and (before[1], before[2]) == (first - 1, kind):
                letters[0] = "B"
            if scheme == "IOE1" and after and (after[0], after[2]) == (last + 1, kind):
                letters[-1] = "E"
        else:
            single, begin, inside, end = SCHEMES[scheme]
            letters = [single] if first == last else [begin, *[inside] * (last - first - 1), end]
        tags[first : last + 1] = [f"{letter}-{kind}" for letter in letters]
    return tags


def random_spans(generator: random.Random, size: int) -> list[tuple[int, int, str]]:
    spans, at = [], 0
    while at < size:
        last = min(size - 1, at + generator.randint(0, 3))
        if generator.random() < 0.6:
            spans.append((at, last, generator.choice(["PER", "WORK-OF-ART"])))
        at = last + 1
    return spans


@pytest.mark.parametrize("scheme", [*SCHEMES, "IOB1", "IOE1"])
def test_every_scheme_is_found_and_counts_the_same_entities(scheme):
    generator = random.Random(0)
    sizes = [generator.randint(3, 14) for _ in range(60)]
    expected, predicted = ([random_spans(generator, size) for size in sizes] for _ in range(2))
    rows = [written(spans, size, scheme) for spans, size in zip(expected, sizes, strict=True)]
    guesses = [written(spans, size, scheme) for spans, size in zip(predicted, sizes, strict=True)]
    assert entity_scheme(rows) == scheme
    right = sum(len(set(a) & set(b)) for a, b in zip(expected, predicted, strict=True))
    found, there = sum(map(len, predicted)), sum(map(len, expected))
    scores = compute("entities", guesses, rows)
    assert scores["precision"] == pytest.approx(right / found) and scores["recall"] == pytest.approx(right / there)
    assert scores["support_PER"] + scores["support_WORK-OF-ART"] == there
    assert compute("entities", rows, rows)["f1"] == 1


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["I-ORG", "I-ORG", "O"], "IOB1"),
        (["B_PER", "I_PER", "O"], "IOB2"),
        (["B", "I", "O"], "IOB2"),
        (["B", "M", "E", "S"], "BMES"),
        (["B-NP", "I-NP", "B-VP"], "IOB2"),
        (["O", "U-PER"], "BILOU"),
        (["O", "S-PER"], "IOBES"),
        (["O", "B-PER", "I-PER", "L-PER", "S-LOC"], "mixture of B, I, L, S"),
        (["O", "B-PER", "I-PER", "X"], "IOB2"),
        (["NN", "NN-HL", "IN-TL", "B-X"], None),
        (["S-sg", "E-pl"], None),
        (["N-SG", "V-PL", "O"], None),
        (["S", "E", "B", "V"], None),
        (["B-PER", "O", "MISC"], None),
        (["O"], None),
        (["M-x", "O"], None),
        (["DET", "NOUN", "X", "_"], None),
    ],
)
def test_what_are_entities_and_what_are_parts_of_speech(tags, scheme):
    assert entity_scheme([tags]) == scheme


def test_other_letters_are_renamed():
    tags = ["U-A", "L-A", "M-A", "W_A-B", "I-A", "O", "X", "MISC", "B"]
    assert [as_iobes(tag) for tag in tags] == ["S-A", "E-A", "I-A", "S-A-B", "I-A", "O", "O", "O", "B"]
