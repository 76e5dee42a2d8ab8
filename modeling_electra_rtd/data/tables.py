"""Tables - csv, tsv, json, jsonl and parquet, compressed too - as rows: the one reader of all commands.

Text stays as it was written: nothing is inferred from what a cell looks like, so `007`, `NA` and dates are text.
"""

import difflib
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Dataset, Features, LargeList, List

from .separated_values import separated_rows
from .text_files import check_compression, compression, data_suffix, decoded_lines, open_bytes, unreadable


TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
LISTED_COLUMNS = 10
# Rows of a jsonl file that are looked at for a column: they may leave out what is empty, but not so many of them.
ROWS_TO_FIND_COLUMNS = 1000
PARQUET_ROWS = 1024

# Where a row stands, for messages, and its values.
Row = tuple[str, dict[str, Any]]


def is_table(path: str) -> bool:
    """Whether a file holds a table, by its name; if not, it holds text."""
    return data_suffix(path) in TABLE_SUFFIXES


def open_table(path: str, columns: list[str] | None = None) -> tuple[list[str] | None, Iterator[Row]]:
    """The names of the columns, None for json, whose rows each have their own; and the rows.

    Classes are given by name, and -1, which stands for no class, as None.

    Args:
        columns: enough for the caller; parquet reads no others.

    Raises:
        ValueError: the file cannot be read; names the line or row.
    """
    suffix = data_suffix(path)
    if suffix == ".parquet":
        return _open_parquet(path, columns)
    if suffix in (".json", ".jsonl"):
        return None, _json_rows(path)
    rows = separated_rows(path)
    _, names = next(rows, (0, []))
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: two columns are named {twice[0]!r}; each must have a name of its own")
    return names, ((f"{path}, line {line}", dict(zip(names, fields, strict=True))) for line, fields in rows)


def text_rows(path: str, columns: list[str]) -> Iterator[dict[str, str]]:
    """Yield those columns of every row, in order; an empty or null cell as an empty string.

    Raises:
        ValueError: the file cannot be read, a column is missing, or a cell holds no text; names the line or row.
    """
    names, rows = open_table(path, columns)
    if names is None:
        names, rows = _names_of_first_rows(rows, columns)
        if names is None:
            return
    elif not names:
        return
    check_columns(columns, names, path)
    for place, row in rows:
        yield {name: text_of(row.get(name), place, name) for name in columns}


def text_of(value: Any, place: str, column: str) -> str:
    """The text of a cell, an empty one if it is null.

    Raises:
        ValueError: if a cell is not text. A number can be written in many ways, so none of them is chosen.
    """
    if not isinstance(value, str | None):
        kind = type(value).__name__
        raise ValueError(f"{place}: column {column!r} holds {kind}, allowed are strings; it is {str(value):.40}")
    return value or ""


def read_table(path: str) -> Dataset:
    """The whole table.

    Raises:
        ValueError: the file cannot be read, has no row, or mixes kinds of values in a column; names the row.
    """
    names, rows = open_table(path)
    read = list(rows)
    if not read:
        raise ValueError(f"{path}: has no row")
    names = list(dict.fromkeys(itertools.chain.from_iterable(row for _, row in read))) if names is None else names
    arrays = {}
    for name in names:
        values = [row.get(name) for _, row in read]
        try:
            arrays[name] = pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError) as error:
            first = next(value for value in values if value is not None)
            other = next(
                (i for i, value in enumerate(values) if value is not None and type(value) is not type(first)), None
            )
            if other is None:
                raise unreadable(f"{path}: column {name!r}", error) from None
            raise ValueError(
                f"{read[other][0]}: column {name!r} is {values[other]!r}, but {first!r} before; it must be all text, "
                "all numbers or all lists"
            ) from None
    return Dataset(pyarrow.table(arrays))


def check_columns(wanted: Iterable[str], columns: list[str], source: str) -> None:
    """
    Raises:
        ValueError: for a column that is not there, with the nearest that is.
    """
    for name in wanted:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1, cutoff=0.0)
            listed = ", ".join(map(repr, columns[:LISTED_COLUMNS])) + ", ..." * (len(columns) > LISTED_COLUMNS)
            nearest = f", nearest is {near[0]!r} of {listed}" if near else ""
            raise ValueError(f"{source}: no column {name!r}{nearest}")


def _names_of_first_rows(rows: Iterator[Row], columns: list[str]) -> tuple[list[str] | None, Iterator[Row]]:
    """Names that the first rows have, None where there is no row; and all rows."""
    names: dict[str, None] = {}
    read = []
    for place, row in itertools.islice(rows, ROWS_TO_FIND_COLUMNS):
        read.append((place, row))
        names |= dict.fromkeys(row)
        if names.keys() >= set(columns):
            break
    return list(names) if read else None, itertools.chain(read, rows)


def _json_rows(path: str) -> Iterator[Row]:
    """Objects one a line, or an array of them."""
    is_first = True
    for number, line in enumerate(decoded_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        # One object over several lines, or an array: both have to be read as a whole.
        if is_first and (line.lstrip().startswith("[") or (data_suffix(path) == ".json" and not _is_json(line))):
            content = _json("".join(decoded_lines(path)), path)
            objects = content if isinstance(content, list) else [content]
            yield from ((at, _object(item, at)) for at, item in _numbered(objects, path))
            return
        is_first = False
        yield place, _object(_json(line, place), place)


def _numbered(values: Iterable[Any], path: str) -> Iterator[tuple[str, Any]]:
    return ((f"{path}, row {number}", value) for number, value in enumerate(values, start=1))


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _json(content: str, place: str) -> Any:
    try:
        value = json.loads(content)
        if "\\ud" in content or "\\uD" in content:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise ValueError(f"{place}: cannot be read (half of a surrogate pair, which is no character)") from None
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in content.strip() else ""
        raise ValueError(f"{place}{line}: cannot be read as JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or lists in lists without end
        raise ValueError(f"{place}: cannot be read as JSON ({error})") from None


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: cannot be read (a row is an object of columns, and this is {value!r:.40})")
    return value


def _open_parquet(path: str, columns: list[str] | None) -> tuple[list[str], Iterator[Row]]:
    check_compression(path)
    try:
        # Parquet is read from its end, which a compressed file would have to be decompressed for again and again.
        source: str | io.BytesIO = path
        if compression(path):
            with open_bytes(path) as compressed:
                source = io.BytesIO(compressed.read())
        file = pyarrow.parquet.ParquetFile(source)
        schema = file.schema_arrow
        has_features = b"huggingface" in (schema.metadata or {})
        features = Features.from_arrow_schema(schema) if has_features else Features()
    except Exception as error:  # pyarrow and every decompressor have exceptions of their own
        raise unreadable(path, error) from error
    wanted = None if columns is None else [name for name in columns if name in schema.names]
    decoders = {name: decoder for name in wanted or schema.names if (decoder := _decoder(features.get(name)))}
    return schema.names, _parquet_rows(path, file, wanted, decoders)


def _parquet_rows(
    path: str, file: pyarrow.parquet.ParquetFile, columns: list[str] | None, decoders: dict[str, Callable[[Any], Any]]
) -> Iterator[Row]:
    number = 0
    with file:
        batches = file.iter_batches(batch_size=PARQUET_ROWS, columns=columns)
        while True:
            try:
                batch = next(batches, None)
                rows = None if batch is None else batch.to_pylist()
            except Exception as error:  # a damaged page has one of many exceptions
                raise unreadable(path, error) from error
            if rows is None:
                return
            for row in rows:
                number += 1
                place = f"{path}, row {number}"
                for name, decoder in decoders.items():
                    try:
                        row[name] = decoder(row[name])
                    except ValueError as error:
                        raise ValueError(f"{place}: column {name!r}: {error}") from None
                yield place, row


def _decoder(feature: Any) -> Callable[[Any], Any] | None:
    """Names for the ids of classes, in lists too; None for what holds no classes."""
    if isinstance(feature, ClassLabel):
        return lambda value: None if value in (None, -1) else feature.int2str(value)
    if isinstance(feature, List | LargeList) and (inner := _decoder(feature.feature)):
        return lambda values: None if values is None else [inner(value) for value in values]
    return None
