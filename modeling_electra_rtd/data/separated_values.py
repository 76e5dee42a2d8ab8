"""Rows of csv and tsv files; whether the quotation marks of a tsv are text is found out, and said."""

import csv
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .text_files import data_suffix, decoded_lines, text_lines
from .workers import is_worker


# The largest that `csv` takes everywhere; its default, 128 KiB, is less than a long document.
FIELD_CHARACTERS = 2**31 - 1

logger = logging.getLogger(__name__)

_remarks: dict[str, str] = {}


class _NotQuoted(ValueError):
    """Quotation marks that are not those of fields."""


class Record(NamedTuple):
    """One row: the number of its first line, the lines themselves, with line ends, and its fields."""

    line: int
    lines: list[str]
    fields: list[str]


def separated_rows(
    path: str, quoted: bool | None = None, report_broken: Callable[[str], None] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line and the fields of every row of a csv or tsv file, that of a header included. Blank
    lines are no rows.

    Args:
        quoted: whether fields may stand in quotation marks. `None`: a csv may be; for a tsv see `is_quoted`.
        report_broken: called with what is wrong for a row with another number of fields than the first, which is then
            left out; `None` refuses the file.

    Raises:
        ValueError: the file cannot be read, or a row is broken; names the line.
    """
    separator = "," if data_suffix(path) == ".csv" else "\t"
    if quoted is None and separator == "\t":
        status = os.stat(path)
        quoted = is_quoted(path, status.st_size, status.st_mtime_ns)
        rows = _quoted_rows(path, separator) if quoted else _marked_rows(path, separator)
    else:
        rows = _plain_rows(path, separator) if quoted is False else _quoted_rows(path, separator)
    width = 0
    for line, fields in rows:
        if _is_blank(fields, width):
            continue
        width = width or len(fields)
        if len(fields) != width:
            problem = f"{path}, line {line}: {len(fields)} fields, expected {width}"
            if report_broken is None:
                raise ValueError(problem)
            report_broken(problem)
            continue
        yield line, fields


@functools.lru_cache(maxsize=4096)
def is_quoted(path: str, size: int, modified: int) -> bool:
    """Whether a tsv was written with quotation marks around fields, as pandas and spreadsheets do, or never quoted,
    as most corpora are.

    It is quoted if it can be read so from end to end - each field that has a quotation mark stands in quotation marks
    and doubles those inside, and every row has as many fields as the first - and if something shows that it was meant
    so: a quoted name of a column, or a field that needs its quotation marks. But where every line has all fields of a
    row by itself, lines are rows, and nothing between two lone quotation marks is one field.

    Args:
        size, modified: in bytes and nanoseconds; another file needs another answer.

    Raises:
        ValueError: the file cannot be read.
    """
    if not any(line.startswith('"') or '\t"' in line for line in decoded_lines(path)):
        return False
    width, is_named_so, is_needed = 0, False, False
    is_whole, are_rows = True, False
    try:
        for record in _records(path, "\t"):
            if _is_blank(record.fields, width):
                continue
            in_marks = _fields_in_marks(record, "\t")
            if in_marks is None:
                return False
            if not width:
                width, is_named_so = len(record.fields), bool(in_marks)
                continue
            if len(record.fields) != width:
                return False
            is_whole &= all(line.count("\t") == width - 1 for line in record.lines)
            are_rows |= _may_be_rows(record, "\t")
            is_needed |= any(character in record.fields[column] for column in in_marks for character in '\t\n\r"')
    except _NotQuoted:
        return False
    if not is_named_so and (not is_needed or (is_whole and are_rows)):
        return False
    say(path, f"{path}: its fields are quoted, as pandas writes them; quotation marks around a field are left away")
    return True


def say(path: str, remark: str) -> None:
    """Warns of how a file is read, once; a worker process leaves that to its parent, which asks `said` there."""
    if path not in _remarks:
        _remarks[path] = remark
        if not is_worker():
            logger.warning(remark)


def said(path: str) -> str | None:
    """What was said of the file in this process."""
    return _remarks.get(path)


def _plain_rows(path: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text_lines(path), start=1):
        if line:
            yield number, line.split(separator)


def _marked_rows(path: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a tsv that is not quoted. The first field that looks as if it were is said."""
    for number, fields in _plain_rows(path, separator):
        if any(field.startswith('"') for field in fields):
            say(path, f"{path}, line {number}: the file is not quoted throughout, so a quotation mark is text")
        yield number, fields


def _quoted_rows(path: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    for record in _records(path, separator):
        if _may_be_rows(record, separator):
            last = record.line + len(record.lines) - 1
            say(path, f"{path}: lines {record.line} to {last} are read as one row, as their quotation marks say")
        yield record.line, record.fields


def _records(path: str, separator: str) -> Iterator[Record]:
    csv.field_size_limit(FIELD_CHARACTERS)
    lines: list[str] = []

    def kept() -> Iterator[str]:
        for line in decoded_lines(path):
            lines.append(line)
            content = line.removesuffix("\n").removesuffix("\r")
            # `csv` takes a carriage return in the middle of a line for its end; zeros no text file has.
            yield content.replace("\r", "\0") + line[len(content) :] if "\r" in content else line

    number = 1
    try:
        for fields in csv.reader(kept(), delimiter=separator, strict=True):
            if fields:
                yield Record(number, lines.copy(), [field.replace("\0", "\r") for field in fields])
            number += len(lines)
            lines.clear()
    except csv.Error as error:
        raise _NotQuoted(f"{path}, line {number}: not a row of a csv file ({error})") from None


def _fields_in_marks(record: Record, separator: str) -> set[int] | None:
    """Positions of the fields in quotation marks; None if a field has a quotation mark without standing in them."""
    content = "".join(record.lines)
    found: set[int] = set()
    if '"' not in content:
        return found
    position = 0
    for number, field in enumerate(record.fields):
        if content.startswith('"', position):
            found.add(number)
            position += 2 + field.count('"')
        elif '"' in field:
            return None
        position += len(field) + len(separator)
    return found


def _is_blank(fields: list[str], width: int) -> bool:
    return len(fields) <= 1 and width != 1 and not "".join(fields).strip()


def _may_be_rows(record: Record, separator: str) -> bool:
    """Whether a row of several lines is as many rows where quotation marks are text."""
    width = len(record.fields)
    return width > 1 and len(record.lines) > 1 and all(line.count(separator) == width - 1 for line in record.lines)
