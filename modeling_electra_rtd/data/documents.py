"""Shares of a corpus read as documents, one string each; whatever cannot be read is refused by name."""

import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from datasets import IterableDataset, load_dataset, load_dataset_builder

from ..common.progress import progress_bar
from .separated_values import said, say
from .shares import MAXIMUM_SHARES, DatasetSlice, FileSlice, Share, share_files, whole_file
from .tables import check_columns, is_table, text_of, text_rows
from .text_files import text_lines, unreadable
from .workers import run_tasks


# Reading alone is fast: below this many bytes for each, starting processes takes longer than it saves.
CHECK_BYTES_PER_PROCESS = 2**26
# A file of so many lines in one piece, or of documents as long as this on average, may be one text a line.
LINES_WITHOUT_BLANK = 10
LINES_OF_A_DOCUMENT = 200
HEAD_LINES = 1000

logger = logging.getLogger(__name__)


class FileReport(NamedTuple):
    """One file of a corpus: what identifies it, why it cannot be read (None if it can), how it is read where that
    needs saying, and what it holds."""

    path: str
    size: int
    sha256: str
    problem: str | None
    remark: str | None = None
    documents: int = 0
    lines: int = 0


def share_dataset(dataset: str, name: str | None, split: str) -> list[Share]:
    """One share for each shard of a Hub dataset (or of a local folder that `load_dataset` understands).

    Raises:
        ValueError: there is no such dataset, or it cannot be read.
    """
    if os.path.isdir(dataset):
        files = _tables_of_folder(dataset, name, split)
        if files:
            return [[whole_file(file)] for file in files] if len(files) <= MAXIMUM_SHARES else share_files(files)
    shards = min(_open_dataset(dataset, name, split).num_shards, MAXIMUM_SHARES)
    return [[DatasetSlice(dataset, name, split, shard, shards)] for shard in range(shards)]


def read_share(share: Share, documents: str = "blank_line", text_column: str = "text") -> Iterator[str]:
    """Yield the documents of a share in order. An empty or null table cell yields an empty string.

    Raises:
        ValueError: a file is binary, not UTF-8 or damaged, or the text column is missing or does not hold strings.
    """
    for piece in share:
        if isinstance(piece, DatasetSlice):
            yield from _dataset_texts(piece, text_column)
        elif is_table(piece.path):
            yield from (row[text_column] for row in text_rows(piece.path, [text_column]))
        else:
            yield from _read_text(piece, documents)


def read_lines(path: str, text_column: str = "text") -> Iterator[str]:
    """Yield every line of a text file, or the text of every row of a table, in order; a blank one as an empty string.

    Raises:
        ValueError: see `read_share`.
    """
    if is_table(path):
        yield from (row[text_column] for row in text_rows(path, [text_column]))
    else:
        yield from _lines(whole_file(path), keep_blank=True)


def read_rows(path: str, columns: list[str]) -> Iterator[dict[str, str]]:
    """Yield those columns of every row of a table, in order; an empty or null cell as an empty string.

    Raises:
        ValueError: see `read_share`; and for a file that is no table.
    """
    if not is_table(path):
        raise ValueError(f"{path}: no table, and columns are read of one (jsonl, csv, tsv, parquet)")
    yield from text_rows(path, columns)


def check_files(
    paths: list[str],
    documents: str,
    text_column: str,
    skip_invalid_files: bool,
    processes: int = 1,
    progress: bool = True,
) -> tuple[list[FileReport], list[FileReport]]:
    """Read every file once, before anything is made of them, and return the files to use and those to skip.

    Raises:
        ValueError: a file cannot be read, and `skip_invalid_files` is off; else it is skipped with a warning.
    """
    tasks = [(path, documents, text_column) for path in paths]
    total = sum(os.path.getsize(path) for path in paths)
    with progress_bar("checking files", total, progress) as bar:
        reports = run_tasks(check_file, tasks, min(processes, 1 + total // CHECK_BYTES_PER_PROCESS), bar.update)
    for report in reports:
        if report.remark:
            say(report.path, report.remark)
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
    return FileReport(path, size, sha256, problem, said(path), count, lines)


def hint_at_lines(files: Iterable[FileReport], documents: str) -> str | None:
    """Advice where blank lines were to separate documents, and text files have next to none; else None."""
    if documents != "blank_line":
        return None
    undivided = [
        file
        for file in files
        if not is_table(file.path)
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
        lines = [] if is_table(path) else [*itertools.islice(_lines(whole_file(path), keep_blank=True), HEAD_LINES)]
    except ValueError as error:
        return FileReport(path, 0, "", str(error))
    starts = sum(bool(line) and not before for before, line in zip(["", *lines], lines, strict=False))
    return FileReport(path, 0, "", None, None, starts, sum(map(bool, lines)))


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
    for text in text_lines(piece.path, piece.start, piece.stop):
        if text.isspace():
            text = ""
        if text or keep_blank:
            yield text


def _tables_of_folder(folder: str, name: str | None, split: str) -> list[str]:
    """The tables of a split of a local dataset, which our own reader takes as they are written; none if it is made of
    something else.
    """
    if set(folder) & set("[]{}*?"):
        raise ValueError(f"dataset {folder!r}: datasets reads no folder of such a name; give its files with --corpus")
    try:
        files = list(load_dataset_builder(folder, name).config.data_files[split])
    except Exception:  # a split or folder that is not there: opening it says so
        return []
    return files if all(is_table(file) for file in files) else []


def _open_dataset(dataset: str, name: str | None, split: str) -> IterableDataset:
    try:
        return load_dataset(dataset, name, split=split, streaming=True)
    except Exception as error:  # the Hub client, the network and the file readers raise dozens of types
        raise unreadable(f"dataset {dataset!r} (name {name!r}, split {split!r})", error) from error


def _dataset_texts(piece: DatasetSlice, text_column: str) -> Iterator[str]:
    # datasets logs every failure before it raises it; ours is one line.
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)
    source = f"dataset {piece.dataset!r}"
    shards = _open_dataset(piece.dataset, piece.name, piece.split)
    try:
        rows = shards.shard(num_shards=piece.number_of_shards, index=piece.shard)
        columns = rows.column_names or list(next(iter(rows), {text_column: None}))
    except Exception as error:  # pyarrow, pandas, the network and every decompressor have exceptions of their own
        raise unreadable(source, error) from error
    check_columns([text_column], columns, source)
    selected = iter(rows.select_columns([text_column]))
    while True:
        try:
            row = next(selected, None)
        except Exception as error:  # as above, in the middle of the data
            raise unreadable(source, error) from error
        if row is None:
            return
        yield text_of(row[text_column], source, text_column)
