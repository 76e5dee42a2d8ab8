"""Files that hold a token and its columns a line: CoNLL, CoNLL-U, BIO and their kind, as sentences."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..data.text_files import text_lines


TOKEN_SUFFIXES = (".conll", ".conllu", ".conllup", ".bio", ".iob", ".iob2")

# The ten of CoNLL-U; `# global.columns =` of CoNLL-U Plus names others.
CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")

# Columns are parted by these alone: a no-break space, U+3000 or U+2028 is part of a word.
_BLANK = " \t"
_SPACES = re.compile(r"[ \t]+")
# `# sent_id = 1`, `# newdoc`, `#<tab>http://...`: a token "#" has a tag behind it, no equals sign and no address.
_COMMENT = re.compile(r"#([ \t]*[\w.:-]+ =|[ \t]+[\w.:-]+=|[ \t]+new(doc|par)\b|[ \t]+https?://)")
_GLOBAL_COLUMNS = re.compile(r"#[ \t]*global\.columns[ \t]*=[ \t]*(.+)")
_RANGE = re.compile(r"\d+-\d+$")
_EMPTY_NODE = re.compile(r"\d+\.\d+$")
_COUNT = re.compile(r"\d+([-.]\d+)?$")
# A first line of these words alone names the columns.
_HEADER = {
    *CONLLU_COLUMNS,
    *("index", "idx", "sentence", "sent", "doc", "token", "tokens", "word", "words", "text", "pos", "chunk", "ner"),
    *("tag", "tags", "label", "labels", "bio", "iob", "ner_tag", "ner_tags", "pos_tag", "pos_tags", "entity"),
}


class Line(NamedTuple):
    """A token's line: where it stands, and its columns."""

    number: int
    fields: list[str]


@dataclass
class TokenFile:
    """A file of tokens, read and not yet understood.

    Attributes:
        path: for messages.
        sentences: lines of tokens, sentence by sentence.
        width: columns that most lines have.
        has_tabs: whether columns are parted by tabs, so that a token may hold spaces.
        has_counter: whether the first column counts the tokens of a sentence.
        names: of the columns, in lower case; `None` where the file does not say.
        passed_over: `what -> how many lines` of those that are no token: comments, a header, multiword tokens.
    """

    path: str
    sentences: list[list[Line]]
    width: int
    has_tabs: bool
    has_counter: bool
    names: tuple[str, ...] | None
    passed_over: dict[str, int]

    def column(self, number: int) -> list[str]:
        """A column of all tokens; an empty string where a line lacks it."""
        return [line.fields[number] if number < len(line.fields) else "" for lines in self.sentences for line in lines]


def is_token_file(suffix: str) -> bool:
    """Whether files with this suffix, in lower case, hold a token and its columns a line."""
    return suffix in TOKEN_SUFFIXES


def open_token_file(path: str | Path) -> TokenFile:
    """Read lines into sentences, parted by blank lines or `-DOCSTART-`.

    Comments stand before a sentence, begin with `#` and have other columns than tokens or are plainly no token. Lines
    of multiword tokens (`1-2`) and empty nodes (`1.1`) are passed over: the words of CoNLL-U are what has tags.

    Raises:
        ValueError: the file cannot be read, or has no token.
    """
    lines = list(enumerate(text_lines(str(path)), start=1))
    filled = [line for _, line in lines if line.strip(_BLANK)]
    tokens = [line for line in filled if not line.startswith("#")] or filled
    tabs = sum("\t" in line.strip(_BLANK) for line in tokens)
    has_tabs = tabs > 0 and 2 * tabs >= len(tokens)
    split = _split_at_tabs if has_tabs else _split_at_spaces
    width = Counter(len(split(line)) for line in tokens).most_common(1)[0][0] if tokens else 0
    names, passed_over = None, Counter[str]()
    sentences: list[list[Line]] = [[]]
    for number, line in lines:
        if not line.strip(_BLANK):
            sentences.append([])
            continue
        fields = split(line)
        if found := _GLOBAL_COLUMNS.match(line):
            names = tuple(_SPACES.split(found[1].strip(_BLANK).lower()))
        is_comment, is_narrow = _COMMENT.match(line) is not None, len(fields) != width
        if line.startswith("#") and (is_comment or is_narrow if not sentences[-1] else is_comment and is_narrow):
            passed_over["comments"] += 1
            sentences.append([])
        elif "-DOCSTART-" in fields[:3]:
            passed_over["document starts"] += 1
            sentences.append([])
        elif names is None and len(fields) > 1 and not any(sentences) and {x.lower() for x in fields} <= _HEADER:
            passed_over["lines of column names"] += 1
            names = tuple(name.lower() for name in fields)
        else:
            sentences[-1].append(Line(number, fields))
    sentences = _split_at_restarts([lines for lines in sentences if lines])
    has_counter = width > 1 and _counts(sentences)
    if has_counter:
        sentences = _words(sentences, passed_over)
        if names is None and width == len(CONLLU_COLUMNS):
            names = CONLLU_COLUMNS
    if not sentences:
        raise ValueError(f"{path}: has no sentence")
    return TokenFile(str(path), sentences, width, has_tabs, has_counter, names, dict(passed_over))


def tagged_sentences(
    file: TokenFile, token_column: int, tag_column: int, has_tags: bool = True
) -> list[tuple[list[str], list[str]]]:
    """Tokens and tags of each sentence.

    Args:
        tag_column: counted from 0; -1 is the last one of each line.
        has_tags: whether each token needs a tag; without, tags are "O".

    Raises:
        ValueError: for a line with too few columns, or with more than its neighbours where columns are parted by
            spaces, or without a token or a tag, naming it.
    """
    needed = max(token_column, tag_column) + 1 if tag_column >= 0 else max(token_column + 1, 2)
    sentences = []
    for lines in file.sentences:
        tokens, tags = [], []
        for line in lines:
            place, found = f"{file.path}, line {line.number}", len(line.fields)
            if has_tags and found < needed:
                raise ValueError(f"{place}: {found} columns, expected at least {needed}")
            if has_tags and found != file.width and (tag_column < 0 or not file.has_tabs):
                raise ValueError(f"{place}: {found} columns, expected the {file.width} of most lines")
            if found <= token_column:
                raise ValueError(f"{place}: {found} columns, expected at least {token_column + 1}")
            tokens.append(line.fields[token_column])
            tags.append(line.fields[tag_column].strip(_BLANK) if has_tags else "O")
            for name, value in (("token", tokens[-1]), ("tag", tags[-1])):
                if not value.strip(_BLANK):
                    raise ValueError(f"{place}: its {name} is empty")
        sentences.append((tokens, tags))
    return sentences


def read_token_file(
    path: str | Path, token_column: int = 0, tag_column: int = -1, has_tags: bool = True
) -> Iterator[tuple[list[str], list[str]]]:
    """`tagged_sentences` of a file whose columns are known."""
    yield from tagged_sentences(open_token_file(path), token_column, tag_column, has_tags)


def _split_at_tabs(line: str) -> list[str]:
    return line.rstrip(_BLANK).split("\t")


def _split_at_spaces(line: str) -> list[str]:
    return _SPACES.split(line.strip(_BLANK))


def _split_at_restarts(sentences: list[list[Line]]) -> list[list[Line]]:
    """Sentences that only a count beginning anew parts; others as they are."""
    if not all(_COUNT.match(line.fields[0]) for lines in sentences for line in lines):
        return sentences
    found: list[list[Line]] = []
    for lines in sentences:
        found.append([])
        for line in lines:
            if line.fields[0] in ("0", "1") and any(before.fields[0] == line.fields[0] for before in found[-1]):
                found.append([])
            found[-1].append(line)
    return found


def _counts(sentences: list[list[Line]]) -> bool:
    """Whether the first column of every sentence is numbers, each one more than the one before."""
    longest = 0
    for lines in sentences:
        numbers = [line.fields[0] for line in lines]
        plain = [int(number) for number in numbers if number.isascii() and number.isdigit()]
        if not plain or any(b - a != 1 for a, b in zip(plain, plain[1:], strict=False)):
            return False
        rest = [number for number in numbers if not (number.isascii() and number.isdigit())]
        if not all(_RANGE.match(number) or _EMPTY_NODE.match(number) for number in rest):
            return False
        longest = max(longest, len(plain))
    # A number alone may be a word; in a row they are a count, or begin at 1 in every sentence.
    return longest > 1 or (len(sentences) > 0 and all(lines[0].fields[0] in ("0", "1") for lines in sentences))


def _words(sentences: list[list[Line]], passed_over: Counter[str]) -> list[list[Line]]:
    kinds: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("lines of multiword tokens", _RANGE.match),
        ("empty nodes", _EMPTY_NODE.match),
    )
    for name, is_one in kinds:
        if count := sum(bool(is_one(line.fields[0])) for lines in sentences for line in lines):
            passed_over[name] += count
    return [[line for line in lines if line.fields[0].isdigit()] for lines in sentences]
