"""How tags write entities: the schemes of B, I, E, S and their other letters, told from the tags themselves."""

import re
from collections.abc import Iterable, Sequence


# The letters that schemes use for the same: last and end, middle and inside, unit, whole and single.
_SAME = {"L": "E", "M": "I", "U": "S", "W": "S"}
_TAG = re.compile(r"([BIESLUMW])(?:[-_](.+))?$", re.DOTALL)
# Tags that stand outside of any entity in files of entities: subwords of other tokenizers, columns without a value.
_OUTSIDE = {"O", "X", "_", "-X-"}
# Without types the letters alone must be a scheme; `S` and `B` are also parts of speech.
_BARE = ({"B", "I", "O"}, {"B", "I", "E", "S"}, {"B", "M", "E", "S"}, {"B", "I", "L", "U"}, {"B", "M", "E", "W"})


def entity_scheme(sentences: Iterable[Sequence[str]]) -> str | None:
    """The scheme in which sentences of tags write entities: `IOB1`, `IOB2`, `IOE1`, `IOE2`, `IOBES`, `BILOU`, `BMES`,
    `BMEWO`, or the letters of a mixture.

    Returns:
        `None` where tags are no entities: parts of speech, also those with a hyphen in their names.
    """
    sentences = [list(tags) for tags in sentences]
    tags = {tag for row in sentences for tag in row}
    inside = tags - _OUTSIDE
    matches = [match for tag in inside if (match := _TAG.match(tag)) is not None]
    if not inside or len(matches) < len(inside):
        return None
    letters = {match[1] for match in matches}
    if any(match[2] is None for match in matches):
        typed = any(match[2] is not None for match in matches)
        if typed or not any(scheme - {"O"} <= letters for scheme in _BARE):
            return None
    # Inside, end and single alone are letters that parts of speech begin with too, but those have no "O".
    elif "O" not in tags and not letters & {"B", "I"}:
        return None
    if letters & {"M", "W"} and not {"B", "E"} <= letters:
        return None
    return _name(letters, [[_parts(tag) for tag in row] for row in sentences])


def as_iobes(tag: str) -> str:
    """A tag in the letters B, I, E, S and O, which `seqeval` reads as `conlleval` does; all others are O.

    `U-PER` and `W_PER` become `S-PER`, `L-PER` `E-PER` and `M-PER` `I-PER`.
    """
    letter, kind = _parts(tag)
    return "O" if letter == "O" else f"{letter}-{kind}" if kind else letter


def _parts(tag: str) -> tuple[str, str]:
    match = None if tag in _OUTSIDE else _TAG.match(tag)
    return (_SAME.get(match[1], match[1]), match[2] or "") if match else ("O", "")


def _name(letters: set[str], sentences: list[list[tuple[str, str]]]) -> str:
    if letters <= {"B", "I"}:
        return _iob(letters, sentences)
    if letters <= {"I", "E"}:
        ends = [
            row[i]
            for row in sentences
            for i in range(len(row))
            if row[i][0] != "O" and (i + 1 == len(row) or row[i + 1][0] == "O" or row[i + 1][1] != row[i][1])
        ]
        return "IOE2" if all(letter == "E" for letter, _ in ends) else "IOE1"
    for name, allowed in (("IOBES", "BIES"), ("BILOU", "BILU"), ("BMES", "BMES"), ("BMEWO", "BMEW")):
        if letters <= set(allowed):
            return name
    return f"mixture of {', '.join(sorted(letters))}"


def _iob(letters: set[str], sentences: list[list[tuple[str, str]]]) -> str:
    """IOB2 begins every entity with B, IOB1 only one that follows another of its type."""
    begins = [
        (row[i][0], i > 0 and row[i - 1][0] != "O" and row[i - 1][1] == row[i][1])
        for row in sentences
        for i in range(len(row))
        if row[i][0] != "O"
    ]
    if all(follows for letter, follows in begins if letter == "I"):
        return "IOB2"
    if all(follows for letter, follows in begins if letter == "B"):
        return "IOB1"
    return "mixture of B, I" if "B" in letters else "IOB1"
