"""The columns of a user's table that are text and those that are labels; all others are left out by name."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Sequence
from typing import Any

import pyarrow
from datasets import Dataset

from ..model.suggestions import nearest
from .kinds.table import KINDS


LABEL_NAMES = ("label", "labels")
_TAG_NAMES = ("tags", "ner_tags", "pos_tags")
_TOKEN_NAMES = ("tokens", "words")

_ID_NAME = re.compile(
    r"(id|idx|index|uid|uuid|guid|pid|qid|sid|key|hash|md5|sha1|sha256|unnamed.*|)$|.*[_\-. ](id|idx|uid|uuid|guid)$|"
    r"(id|idx|uid|uuid|guid)[_\-. ].*$",
    re.IGNORECASE,
)
_CAMEL_ID_NAME = re.compile(r".*[a-z](Id|ID|Idx|IDX|Guid|GUID|Uid|UID)$")
# Two columns whose names differ by these are the two texts of a pair.
_SIDES = (("1", "2"), ("a", "b"), ("first", "second"), ("left", "right"), ("premise", "hypothesis"), ("src", "tgt"))
_FIRST = {"question", "query", "claim", "title", "headline", "subject", "context", "prompt", "post", "statement"}
_SECOND = {
    *("answer", "context", "passage", "sentence", "paragraph", "document", "evidence", "body", "text", "content"),
    *("abstract", "description", "article", "summary", "message", "response", "reply", "completion", "question"),
}
# A first line that is no header, but a token with its tag.
_OUTSIDE_TAG = re.compile(r"O$|[BIESLU]-\w")
_LIST_OF_SOME = re.compile(r"\[.*[\s,'\"].*\]$|array\(.*\)$", re.DOTALL)
_LIST_OF_TEXTS = re.compile(r"\[\s*['\"].*\]$", re.DOTALL)


def label_columns(table: Dataset, given: str | Sequence[str] | None, path: str) -> list[str]:
    """The label: one column, or several of 0 and 1 where they are given.

    Raises:
        ValueError: for a column that is not there, or none or several that could be the label.
    """
    columns = table.column_names
    if given is not None:
        names = [given] if isinstance(given, str) else list(given)
        for name in names:
            if name not in columns:
                raise ValueError(f"{path}: no column {name!r}{nearest(name, columns)}")
        if len(set(names)) < len(names):
            raise ValueError(f"label_column is {', '.join(names)}; it must name each column once")
        return names
    found = [name for name in LABEL_NAMES if name in columns] or [name for name in _TAG_NAMES if name in columns]
    if len(found) != 1:
        hint = "; is it separated by something other than commas?" if len(columns) == 1 else ""
        if any(_OUTSIDE_TAG.match(name) for name in columns):
            hint = "; of a token and its tag a line, give --token-column"
        asked = found or columns
        several = "" if hint or found else ", or several of 0 and 1"
        raise ValueError(
            f"{path}: which column is the label? give --label-column, one of {', '.join(asked)}{several}{hint}"
        )
    return found


def list_columns(table: Dataset, labels: list[str]) -> list[str]:
    """Columns of text in which lists are written, such as `"['Ann', 'left']"` in a csv: labels with any of them, and
    others with at least as many as other text.
    """
    found = []
    for name in table.column_names:
        cells = [cell.strip() for cell in table[name] if isinstance(cell, str) and cell.strip()]
        seems = _LIST_OF_SOME if name in labels else _LIST_OF_TEXTS
        count = sum(seems.match(cell) is not None or _literal(cell) is not None for cell in cells)
        if count and (name in labels or 2 * count >= len(cells)):
            found.append(name)
    return found


def with_lists(table: Dataset, columns: list[str], path: str) -> Dataset:
    """The table with the lists that columns of text hold.

    Raises:
        ValueError: for a cell that is no list, naming its row.
    """
    content: pyarrow.Table = table.with_format("arrow")[:]
    for name in columns:
        if name not in table.column_names:
            continue
        values = [
            _parsed(cell, f"{path}, row {number}: column {name!r}") if isinstance(cell, str) else cell
            for number, cell in enumerate(table[name], start=1)
        ]
        try:
            array = pyarrow.array(values)
        except pyarrow.ArrowException:
            raise ValueError(f"{path}: column {name!r} holds lists of several kinds; they must be of one") from None
        content = content.set_column(table.column_names.index(name), name, array)
    return Dataset(content) if columns else table


def text_columns(
    table: Dataset, given: list[str] | None, labels: list[str], kind: str | None, path: str
) -> tuple[list[str], dict[str, str]]:
    """The text, the two texts of a pair, or the tokens; and the columns that are left out with a reason.

    Raises:
        ValueError: for a column that is not there, or where it cannot be told.
    """
    names = table.column_names
    if given is not None:
        for name in given:
            if name not in names:
                raise ValueError(f"{path}: no column {name!r}{nearest(name, names)}")
        if set(labels) & set(given) or len(set(given)) < len(given):
            raise ValueError(
                f"text_columns are {', '.join(given)}; each once, and the label {', '.join(map(repr, labels))} not"
            )
        return given, {}
    left_out: dict[str, str] = {}
    texts, lists = [], []
    for name in names:
        if name in labels:
            continue
        values = list(table[name])
        if any(isinstance(value, list) for value in values):
            lists.append(name)
        elif not any(isinstance(value, str) and not _is_number(value) for value in values):
            are_numbers = any(isinstance(value, str | int | float) for value in values)
            left_out[name] = "numbers" if are_numbers else "no text"
        elif _is_id(name, values):
            left_out[name] = "identifiers"
        else:
            texts.append(name)
    found = _tokens(table, lists, labels, kind, bool(texts))
    if found is None:
        found = _one_or_two(table, texts or lists, path)
    for name in (*texts, *lists):
        if name not in found:
            left_out[name] = "identifiers" if name in texts and _are_ids(list(table[name])) else "not read"
    return found, left_out


def _tokens(table: Dataset, lists: list[str], labels: list[str], kind: str | None, has_text: bool) -> list[str] | None:
    """The column of tokens, where labels are lists with one for each of its items."""
    reads_tokens = kind is not None and KINDS[kind].reads_tokens
    if not lists or (kind is not None and not reads_tokens) or len(labels) > 1:
        return None
    sizes = [len(value) if isinstance(value, list) else None for value in table[labels[0]]]
    if None in sizes:
        return None
    fitting = [name for name in lists if [len(value or ()) for value in table[name]] == sizes]
    named = [name for name in fitting if name.lower() in _TOKEN_NAMES]
    if len(fitting) == 1 or len(named) == 1:
        return named if len(named) == 1 else fitting
    return lists if len(lists) == 1 and (reads_tokens or not has_text) else None


def _one_or_two(table: Dataset, candidates: list[str], path: str) -> list[str]:
    if len(candidates) == 2 and _are_named_as_pair(*candidates):
        return candidates
    by_value = [name for name in candidates if _are_ids(list(table[name]))]
    found = [name for name in candidates if name not in by_value] or candidates
    is_pair = len(found) == 2 and (
        _are_named_as_pair(*found) or all(_is_free_text(list(table[name])) for name in found)
    )
    if len(found) == 1 or is_pair:
        return found
    raise ValueError(
        f"{path}: which columns are the text? give --text-columns, one or two of {', '.join(table.column_names)}"
    )


def _is_id(name: str, values: list[Any]) -> bool:
    """By its name, where most values are one word."""
    if not (_ID_NAME.match(name.strip()) or _CAMEL_ID_NAME.match(name.strip())):
        return False
    return 2 * sum(len(str(value).split()) <= 1 for value in values) > len(values)


def _are_ids(values: list[Any]) -> bool:
    """`train-0000`, `doc_17`, hashes, addresses: one word of ASCII with a digit in it, and no two the same."""
    return len(set(map(str, values))) == len(values) and all(
        isinstance(value, str) and value.isascii() and len(value.split()) == 1 and re.search(r"\d", value)
        for value in values
    )


def _is_free_text(values: list[Any]) -> bool:
    """Most values are several words, or long without spaces, as some scripts write them."""
    count = sum(
        isinstance(value, str) and (len(value.split()) >= 3 or (not value.isascii() and len(value) >= 8))
        for value in values
    )
    return 2 * count > len(values)


def _are_named_as_pair(first: str, second: str) -> bool:
    one, other = first.lower(), second.lower()
    for pair in _SIDES:
        for a, b in (pair, pair[::-1]):
            if one == a and other == b:
                return True
            for cut in (str.removesuffix, str.removeprefix):
                stem = cut(one, a)
                if stem != one and stem.strip("_-. ") and stem == cut(other, b) != other:
                    return True
    return any(a in _FIRST and b in _SECOND and a != b for a, b in ((one, other), (other, one))) or {one, other} == {
        "source",
        "target",
    }


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _literal(cell: str) -> list[Any] | None:
    """Read a cell as a list written in JSON or Python; `None` if it is not a list."""
    if cell[:1] not in "[({":
        return None
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
        if _joins_strings(cell):
            return None
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return list(value) if isinstance(value, list | tuple) else None


def _joins_strings(cell: str) -> bool:
    """`['Ann' 'left']`, as numpy prints, is one string for Python."""
    tokens = tokenize.generate_tokens(io.StringIO(cell).readline)
    kinds = [token.type for token in tokens if token.type != tokenize.NL]
    return any(a == b == tokenize.STRING for a, b in zip(kinds, kinds[1:], strict=False))


def _parsed(cell: str, place: str) -> list[Any]:
    value = _literal(cell.strip())
    if value is None:
        raise ValueError(
            f"{place} is {cell!r:.60}; it must be a list as Python or JSON writes it, such as \"['a', 'b']\""
        )
    return value
