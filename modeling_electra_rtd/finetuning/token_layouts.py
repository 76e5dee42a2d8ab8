"""The columns of a token file that hold words and tags: told from the columns themselves, or refused."""

import re
from dataclasses import dataclass

from ..model.suggestions import nearest
from .tag_schemes import entity_scheme
from .token_files import TokenFile


# More different tags over as many tokens are words, lemmas or counts.
_MOST_TAGS = 100
_FEW_TOKENS = 10
_NUMBERS = re.compile(r"[\d.,:/-]+$")
_TOKEN_NAMES = ("form", "token", "tokens", "word", "words", "text")
_TAG_NAMES = ("upos", "tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "pos")


@dataclass(frozen=True)
class TokenLayout:
    """The columns of a token file, counted from 0.

    Attributes:
        names: of the columns, where the file says them.
        others: columns that tags could be too.
    """

    token_column: int
    tag_column: int
    names: tuple[str, ...] | None
    others: tuple[int, ...] = ()

    def described(self) -> str:
        """The choice in words."""
        words, tags = (_shown(column, self.names) for column in (self.token_column, self.tag_column))
        others = ", ".join(_shown(column, self.names) for column in self.others)
        return f"words in column {words}, tags in column {tags}" + (
            f" (--label-column chooses another: {others})" if others else ""
        )


def find_layout(file: TokenFile, token_column: str | None = None, label_column: str | None = None) -> TokenLayout:
    """The columns of a file of training.

    Words are in the first column that is no count, no range of characters and no name of a document. Tags are, of
    CoNLL-U, UPOS; else the last column that holds entities, of GermEval the outer ones; else the one other column that
    can be tags.

    Args:
        token_column: number from 0 or name.
        label_column: the same.

    Raises:
        ValueError: for a column that is not there, or where columns make no sense or leave a choice.
    """
    tokens = _given(file, token_column, "token_column")
    tags = _given(file, label_column, "label_column")
    if file.width < 2:
        first = file.sentences[0][0]
        raise ValueError(f"{file.path}, line {first.number}: {len(first.fields)} columns, expected at least 2")
    schemes = {column: _scheme(file, column) for column in range(file.width) if column != tokens}
    entities = [column for column, scheme in schemes.items() if scheme is not None]
    if tokens is None:
        tokens = _token_column(file, tags, entities)
    if file.has_counter and tokens == 0:
        raise ValueError(
            f"{file.path}: token_column is 0, which counts the tokens; it must be the column of the words"
        )
    if tokens == tags:
        raise ValueError(f"{file.path}: token_column and label_column are both {tokens}; each must have its own")
    others: list[int] = []
    if tags is None:
        candidates = [column for column in range(file.width) if column != tokens]
        tags, others = _tag_column(file, candidates, [column for column in entities if column != tokens])
    problem = _no_tags(file, tags)
    if problem is None and token_column is None and label_column is None and file.names is None:
        problem = _is_more_various(file, tags, tokens)
    if problem is not None:
        raise ValueError(
            f"{file.path}: column {_shown(tags, file.names)} {problem}; give --label-column, a number from 0 or "
            f"a name, of {file.width} columns{_listed(file)}"
        )
    return TokenLayout(tokens, tags, file.names, tuple(column for column in others if column != tags))


def _given(file: TokenFile, value: str | None, option: str) -> int | None:
    if value is None:
        return None
    if file.names and value.lower() in file.names:
        return file.names.index(value.lower())
    if re.fullmatch(r"-?\d+", value):
        number = int(value) + (file.width if int(value) < 0 else 0)
        if 0 <= number < file.width:
            return number
        raise ValueError(f"{file.path}: {option} is {value}; it must be below {file.width}, its number of columns")
    known = nearest(value.lower(), file.names) if file.names else "; its columns have no names, give a number from 0"
    raise ValueError(f"{file.path}: no column {value!r}{known}")


def _token_column(file: TokenFile, tags: int | None, entities: list[int]) -> int:
    for name in _TOKEN_NAMES:
        if file.names and name in file.names and file.names.index(name) != tags:
            return file.names.index(name)
    for column in range(int(file.has_counter), file.width):
        # In some files the tag stands before its word.
        is_tag = column == tags or column in entities
        if not is_tag and not _is_no_word(file, column):
            return column
    raise ValueError(
        f"{file.path}: which column holds the words? give --token-column, a number from 0, of {file.width} columns"
        f"{_listed(file)}"
    )


def _is_no_word(file: TokenFile, column: int) -> bool:
    """Numbers and ranges throughout, or one value throughout every sentence: a count, a document."""
    values = file.column(column)
    if len(set(values)) > 1 and all(_NUMBERS.match(value) for value in values) and len(values) >= 2:
        return True
    longest = max(len(lines) for lines in file.sentences)
    return longest > 2 and all(
        len({line.fields[column] if column < len(line.fields) else "" for line in lines}) == 1
        for lines in file.sentences
    )


def _tag_column(file: TokenFile, candidates: list[int], entities: list[int]) -> tuple[int, list[int]]:
    named = [file.names.index(name) for name in _TAG_NAMES if file.names and name in file.names]
    named = [column for column in named if column in candidates]
    if entities and not (named and file.names is not None and "upos" in file.names):
        # Counter, word, outer and inner entities: GermEval, where the outer ones are the task.
        is_germeval = file.has_counter and len(entities) == 2 == len(candidates) - 1
        return (entities[0] if is_germeval else entities[-1]), entities
    for column in named:
        if _no_tags(file, column) is None:
            return column, sorted({*named, *entities})
    if len(candidates) == 1:
        return candidates[0], []
    possible = [
        column
        for column in candidates
        if not (column == 0 and file.has_counter) and not _no_tags(file, column) and not _is_no_word(file, column)
    ]
    if len(possible) == 1:
        return possible[0], []
    raise ValueError(
        f"{file.path}: which column holds the tags? give --label-column, a number from 0 or a name, of "
        f"{file.width} columns{_listed(file)}"
    )


def _scheme(file: TokenFile, column: int) -> str | None:
    return entity_scheme(
        [line.fields[column] if column < len(line.fields) else "" for line in lines] for lines in file.sentences
    )


def _no_tags(file: TokenFile, column: int) -> str | None:
    """Why a column cannot be tags."""
    values = file.column(column)
    different = set(values)
    if len(different) == 1 and len(values) > 1:
        return f"holds nothing but {values[0]!r}"
    if any(value.startswith(("http://", "https://")) for value in different):
        return f"holds addresses such as {next(v for v in values if v.startswith('http'))!r}"
    if column == 0 and file.has_counter:
        return "counts the tokens"
    if all(_NUMBERS.match(value) for value in different) and (
        len(different) > _FEW_TOKENS or 2 < len(different) == len(values)
    ):
        return f"holds {len(different)} different numbers for {len(values)} tokens, which are no tags"
    is_known = file.names is not None and column < len(file.names) and file.names[column] in ("upos", "xpos")
    if is_known or _scheme(file, column) is not None:
        return None
    if len(values) >= _FEW_TOKENS and len(different) == len(values):
        return f"holds another value for each of {len(values)} tokens, which are no tags"
    if len(different) > _MOST_TAGS and 2 * len(different) > len(values):
        return f"holds {len(different)} different values for {len(values)} tokens, which are no tags"
    return None


def _is_more_various(file: TokenFile, tags: int, tokens: int) -> str | None:
    """Tags that differ more than words do are the words, where no scheme of entities says otherwise."""
    counts = [len(set(file.column(column))) for column in (tags, tokens)]
    if counts[0] > max(2, counts[1]) and _scheme(file, tags) is None:
        return f"holds {counts[0]} different values, and column {tokens}, the words, {counts[1]}; which is which"
    return None


def _shown(column: int, names: tuple[str, ...] | None) -> str:
    return f"{column} ({names[column]})" if names and column < len(names) else str(column)


def _listed(file: TokenFile) -> str:
    first = file.sentences[0][0].fields
    return f": {', '.join(file.names)}" if file.names else f", of which the first line holds {' '.join(first)!r:.80}"
