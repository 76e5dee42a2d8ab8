"""Shares of a corpus read as documents, one string each; whatever cannot be read is refused by name."""

import bz2
import codecs
import difflib
import glob
import gzip
import hashlib
import io
import itertools
import logging
import lzma
import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from datasets import IterableDataset, load_dataset

from .shares import (
    MAXIMUM_SHARES,
    DatasetSlice,
    FileSlice,
    Share,
    compression,
    data_suffix,
    table_reader,
    whole_file,
)
from .workers import progress_bar, run_tasks


# Reading alone is fast: below this many bytes for each, starting processes takes longer than it saves.
CHECK_BYTES_PER_PROCESS = 2**26
LISTED_COLUMNS = 10
# A file of so many lines in one piece, or of documents as long as this on average, may be one text a line.
LINES_WITHOUT_BLANK = 10
LINES_OF_A_DOCUMENT = 200
HEAD_LINES = 1000

logger = logging.getLogger(__name__)


class FileReport(NamedTuple):
    """One file of a corpus: what identifies it, why it cannot be read (None if it can), and what it holds."""

    path: str
    size: int
    sha256: str
    problem: str | None
    documents: int = 0
    lines: int = 0


def share_dataset(dataset: str, name: str | None, split: str) -> list[Share]:
    """One share for each shard of a Hub dataset (or of a local folder that `load_dataset` understands)."""
    shards = min(_open_dataset(dataset, name, split).num_shards, MAXIMUM_SHARES)
    return [[DatasetSlice(dataset, name, split, shard, shards)] for shard in range(shards)]


def read_share(share: Share, documents: str = "blank_line", text_column: str = "text") -> Iterator[str]:
    """Yields the documents of a share in order. An empty or null table cell yields an empty string.

    Raises:
        ValueError: a file is binary, not UTF-8 or damaged, or the text column is missing or does not hold strings.
    """
    for piece in share:
        if isinstance(piece, DatasetSlice):
            label = f"dataset {piece.dataset!r}"
            shards = _open_dataset(piece.dataset, piece.name, piece.split)
            shard = shards.shard(num_shards=piece.number_of_shards, index=piece.shard)
            yield from _texts(lambda shard=shard: shard, text_column, label)
        elif table_reader(piece.path):
            yield from _texts(lambda path=piece.path: _open_table(path, text_column), text_column, piece.path)
        else:
            yield from _read_text(piece, documents)


def read_lines(path: str, text_column: str = "text") -> Iterator[str]:
    """Yields every line of a text file, or the text of every row of a table, in order; a blank one as an empty string.

    Raises:
        ValueError: see `read_share`.
    """
    if table_reader(path):
        yield from _texts(lambda: _open_table(path, text_column), text_column, path)
    else:
        yield from _lines(whole_file(path), keep_blank=True)


def read_rows(path: str, columns: list[str]) -> Iterator[dict[str, str]]:
    """Yields those columns of every row of a table, in order; an empty or null cell as an empty string.

    Raises:
        ValueError: see `read_share`; and for a file that is no table.
    """
    if not table_reader(path):
        raise ValueError(f"{path}: no table, and columns are read of one (jsonl, csv, tsv, parquet)")
    yield from _rows(lambda: _open_table(path, *columns), columns, path)


def check_files(
    paths: list[str],
    documents: str,
    text_column: str,
    skip_invalid_files: bool,
    processes: int = 1,
    progress: bool = True,
) -> tuple[list[FileReport], list[FileReport]]:
    """Reads every file once, before anything is made of them; returns the files to use and those to skip.

    Raises:
        ValueError: a file cannot be read, and `skip_invalid_files` is off; else it is skipped with a warning.
    """
    tasks = [(path, documents, text_column) for path in paths]
    total = sum(os.path.getsize(path) for path in paths)
    with progress_bar("checking files", total, progress) as bar:
        reports = run_tasks(check_file, tasks, min(processes, 1 + total // CHECK_BYTES_PER_PROCESS), bar.update)
    invalid = [report for report in reports if report.problem]
    if invalid and not skip_invalid_files:
        more = f" (and {len(invalid) - 1} more)" if len(invalid) > 1 else ""
        raise ValueError(f"{invalid[0].problem}{more}; skip_invalid_files leaves such files out")
    for report in invalid:
        logger.warning("skipped %s", report.problem)
    return [report for report in reports if not report.problem], invalid


def check_file(path: str, documents: str, text_column: str, report: Callable[[int], None]) -> FileReport:
    """Hashes a file and reads it from end to end, looking for whatever `read_share` refuses.

    Args:
        report: called once, with the size of the file in bytes.
    """
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    problem = None
    count = lines = 0
    try:
        for text in read_share([whole_file(path)], documents, text_column):
            count += 1
            lines += text.count("\n") + 1
    except ValueError as error:
        problem = str(error)
    size = os.path.getsize(path)
    report(size)
    return FileReport(path, size, sha256, problem, count, lines)


def hint_at_lines(files: Iterable[FileReport], documents: str) -> str | None:
    """Advice where blank lines were to separate documents, and text files have next to none; else None."""
    if documents != "blank_line":
        return None
    undivided = [
        file
        for file in files
        if not table_reader(file.path)
        and file.lines >= (LINES_WITHOUT_BLANK if file.documents == 1 else LINES_OF_A_DOCUMENT * file.documents)
        and file.lines
    ]
    if not undivided:
        return None
    first, more = undivided[0], f" (and {len(undivided) - 1} files more)" if len(undivided) > 1 else ""
    return (
        f"{first.path}: {first.lines:,} lines are {first.documents:,} document{'s' * (first.documents > 1)}, because "
        f"blank lines separate them and there are so few{more}; where every line is a text of its own, choose "
        "--documents line"
    )


def read_head(path: str) -> FileReport:
    """Documents and lines among the first lines of a text file, for `hint_at_lines`; of a table none are read."""
    try:
        lines = (
            [] if table_reader(path) else [*itertools.islice(_lines(whole_file(path), keep_blank=True), HEAD_LINES)]
        )
    except ValueError as error:
        return FileReport(path, 0, "", str(error))
    starts = sum(bool(line) and not before for before, line in zip(["", *lines], lines, strict=False))
    return FileReport(path, 0, "", None, starts, sum(map(bool, lines)))


def _open_zstandard(path: str) -> BinaryIO:
    import zstandard  # an optional dependency: find_files has refused .zst files where it is missing

    # Parallel compressors write many frames; the default reader would stop, silently, after the first.
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), read_across_frames=True))


_OPENERS: dict[str, Callable[[str], BinaryIO]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstandard,
}


def _read_text(piece: FileSlice, documents: str) -> Iterator[str]:
    if documents == "line":
        yield from _lines(piece)
    elif documents == "file":
        whole = "\n".join(_lines(piece, keep_blank=True)).strip()
        if whole:
            yield whole
    else:
        lines: list[str] = []
        for line in _lines(piece, keep_blank=True):
            if line:
                lines.append(line)
            elif lines:
                yield "\n".join(lines)
                lines = []
        if lines:
            yield "\n".join(lines)


def _lines(piece: FileSlice, keep_blank: bool = False) -> Iterator[str]:
    """Decoded lines without their line end; a blank line is an empty string, or left out."""
    opened = _OPENERS.get(compression(piece.path), lambda path: open(path, "rb"))
    try:
        with opened(piece.path) as file:
            if piece.start:
                file.seek(piece.start)
            offset = piece.start
            for line in file:
                if piece.stop is not None and offset >= piece.stop:
                    break
                text = _decode(line, offset, piece.path)
                offset += len(line)
                if text.isspace() or not text:
                    text = ""
                if text or keep_blank:
                    yield text.rstrip("\r\n")
    except ValueError:
        raise
    except Exception as error:  # every decompressor has exceptions of its own
        raise _unreadable(piece.path, error) from error


def _decode(line: bytes, offset: int, path: str) -> str:
    zero = line.find(b"\0")
    if zero >= 0:
        raise ValueError(f"{path}: binary file (NUL byte at offset {offset + zero}), allowed is UTF-8 text")
    if offset == 0:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = f"byte 0x{line[error.start]:02x} at offset {offset + error.start}"
        raise ValueError(f"{path}: not UTF-8 ({bad}), convert it with iconv -t UTF-8") from None


def _open_dataset(dataset: str, name: str | None, split: str) -> IterableDataset:
    try:
        return load_dataset(dataset, name, split=split, streaming=True)
    except Exception as error:  # the Hub client, the network and the file readers raise dozens of types
        raise _unreadable(f"dataset {dataset!r} (name {name!r}, split {split!r})", error) from error


def _open_table(path: str, *columns: str) -> IterableDataset:
    # By itself pandas takes the words "NA" and "null" for nothing, and digits for numbers.
    csv_options = {
        "sep": "\t" if data_suffix(path) == ".tsv" else ",",
        "converters": dict.fromkeys(columns, str),
        "keep_default_na": False,
    }
    reader = table_reader(path)
    options = csv_options if reader == "csv" else {}
    file = glob.escape(os.path.abspath(path))
    return load_dataset(reader, data_files=[file], split="train", streaming=True, **options)


def _texts(open_rows: Callable[[], IterableDataset], text_column: str, source: str) -> Iterator[str]:
    return (row[text_column] for row in _rows(open_rows, [text_column], source))


def _rows(open_rows: Callable[[], IterableDataset], text_columns: list[str], source: str) -> Iterator[dict[str, str]]:
    # datasets logs every failure before it raises it; ours is one line.
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)
    if os.path.isfile(source) and os.path.getsize(source) == 0:
        return
    try:
        rows = open_rows()
        columns = rows.column_names or list(next(iter(rows), dict.fromkeys(text_columns)))
        missing = [name for name in text_columns if name not in columns]
        if not missing:
            for row in rows.select_columns(text_columns):
                for name in text_columns:
                    if not isinstance(row[name], str | None):
                        raise TypeError(f"column {name!r} holds {type(row[name]).__name__}, allowed are strings")
                yield {name: row[name] or "" for name in text_columns}
            return
    except Exception as error:  # pyarrow, pandas, json and every decompressor have exceptions of their own
        raise _unreadable(source, error) from error
    nearest = difflib.get_close_matches(missing[0], columns, n=1, cutoff=0.0)
    listed = ", ".join(map(repr, columns[:LISTED_COLUMNS])) + ", ..." * (len(columns) > LISTED_COLUMNS)
    raise ValueError(f"{source}: no column {missing[0]!r}, nearest is {nearest[0]!r} of {listed}")


def _unreadable(source: str, error: Exception) -> ValueError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ValueError(f"{source}: cannot be read ({reason})")
