"""A corpus - files, folders and globs, or a Hub dataset - found, and cut into shares for several processes.

A share is a list of slices that one process reads from end to end. How a corpus falls into shares depends on the
corpus alone, never on the number of processes, so whatever is made of the shares does not either.
"""

import glob
import itertools
import logging
import os
from collections.abc import Iterable
from typing import NamedTuple

from .tables import is_table, open_table
from .text_files import check_compression, compression, data_suffix


DOCUMENT_BOUNDARIES = ("blank_line", "line", "file")

# A share of 4 MiB takes a second or two: small enough to keep processes evenly busy and a progress bar moving, large
# enough that its last, partly filled block does not matter. Every share is a file or two, hence the upper bound.
SHARE_BYTES = 4 * 2**20
MAXIMUM_SHARES = 1024

logger = logging.getLogger(__name__)


class FileSlice(NamedTuple):
    """Whole documents of one file: the bytes from `start` to `stop` (None: to the end), `size` bytes on disk."""

    path: str
    start: int
    stop: int | None
    size: int


class DatasetSlice(NamedTuple):
    """One of `number_of_shards` parts of a Hub dataset; its `size` in bytes is not known beforehand."""

    dataset: str
    name: str | None
    split: str
    shard: int
    number_of_shards: int
    size: int = 0


Share = list[FileSlice] | list[DatasetSlice]


def check_document_boundary(documents: str) -> None:
    """
    Raises:
        ValueError: if `documents` is not one of `DOCUMENT_BOUNDARIES`.
    """
    if documents not in DOCUMENT_BOUNDARIES:
        raise ValueError(f"documents is {documents!r}; it must be one of {', '.join(DOCUMENT_BOUNDARIES)}")


def find_files(corpus: Iterable[str], text_column: str = "text") -> list[str]:
    """The files that paths, folders (recursive) and globs name, each once, in order.

    What a folder holds besides its text is left out, and said: read-mes, licences, and comma- or tab-separated tables
    without the text column, which are lists of sources more often than corpora. Hidden files are left out as well.
    Named by path or glob, a file is always meant.

    Raises:
        ValueError: a path does not exist, or a folder or glob holds no file.
    """
    paths: dict[str, str] = {}
    for entry in map(os.fspath, corpus):
        if os.path.isdir(entry):
            found = [path for path in _files_below(entry) if _is_text_of_a_folder(path, text_column)]
            kind = "folder without files"
        elif os.path.exists(entry):
            found = [entry]
        elif glob.has_magic(entry):
            found = sorted(path for path in glob.glob(_pattern(entry), recursive=True) if os.path.isfile(path))
            kind = "glob that matches no file"
        else:
            raise ValueError(f"corpus {entry!r}: no such file or folder")
        if not found:
            raise ValueError(f"corpus {entry!r}: {kind}")
        for path in found:
            paths.setdefault(os.path.realpath(path), path)
    if not paths:
        raise ValueError("corpus: empty list, give at least one file, folder or glob")
    for path in paths.values():
        check_compression(path)
    return list(paths.values())


def share_files(paths: Iterable[str], documents: str = "blank_line") -> list[Share]:
    """Cut files into shares of about equal size. Only plain text is cut, always between two documents."""
    paths = list(paths)
    total = sum(os.path.getsize(path) for path in paths)
    share_bytes = max(SHARE_BYTES, -(-total // MAXIMUM_SHARES))
    shares: list[list[FileSlice]] = [[]]
    room = share_bytes
    for piece in itertools.chain.from_iterable(cut_file(path, documents, share_bytes) for path in paths):
        if room <= 0:
            shares.append([])
            room = share_bytes
        shares[-1].append(piece)
        room -= piece.size
    return list(shares)


def whole_file(path: str) -> FileSlice:
    """The file as one slice."""
    return FileSlice(path, 0, None, os.path.getsize(path))


def cut_file(path: str, documents: str, piece_bytes: int) -> list[FileSlice]:
    """Slices of about `piece_bytes` bytes that together hold every document of the file exactly once."""
    size = os.path.getsize(path)
    if is_table(path) or compression(path) or documents == "file":
        return [whole_file(path)]
    # A document that starts before a target offset stays in the slice before it, however far it runs past the target.
    starts = {_next_document_start(path, offset, documents) for offset in range(piece_bytes, size, piece_bytes)}
    bounds = sorted(starts | {0, size})
    return [FileSlice(path, start, stop, stop - start) for start, stop in itertools.pairwise(bounds)]


def _pattern(entry: str) -> str:
    """The glob with its leading folders taken as they are named, `data[v1]` too, as far as there are such folders."""
    parts = entry.split(os.sep)
    for count in range(len(parts) - 1, 0, -1):
        folder = os.sep.join(parts[:count])
        if os.path.isdir(folder):
            return os.path.join(glob.escape(folder), *parts[count:])
    return entry


def _files_below(folder: str) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(parent, name) for name in sorted(files) if not name.startswith(".")]
    return found


def _next_document_start(path: str, offset: int, documents: str) -> int:
    """The first byte of a document that starts after the line holding byte `offset - 1`, or the size of the file."""
    with open(path, "rb") as file:
        file.seek(offset - 1)
        file.readline()  # Most likely only a tail: whether its whole line is blank cannot be told.
        if documents == "line":
            return file.tell()
        after_blank = False
        for line in iter(file.readline, b""):
            # Bad bytes are the reader's to refuse; here they only count as not blank.
            blank = not line.decode("utf-8", errors="replace").strip()
            if after_blank and not blank:
                return file.tell() - len(line)
            after_blank = blank
        return file.tell()


def _is_text_of_a_folder(path: str, text_column: str) -> bool:
    if os.path.basename(path).upper().startswith(("README", "LICENSE", "LICENCE")):
        reason = "a description"
    elif data_suffix(path) in (".csv", ".tsv") and not compression(path) and not _has_column(path, text_column):
        reason = f"no column {text_column!r}"
    else:
        return True
    logger.warning("left out of the folder: %s (%s); name the file itself to read it", path, reason)
    return False


def _has_column(path: str, column: str) -> bool:
    try:
        names, _ = open_table(path)
    except ValueError:
        # What cannot be read is refused when it is, or left out if the user says so.
        return True
    return column in (names or [])
