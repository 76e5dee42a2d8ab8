"""Files as decoded lines, compressed ones too; whatever cannot be read is refused by name."""

import bz2
import codecs
import gzip
import importlib.util
import io
import lzma
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO


COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")


def compression(path: str) -> str | None:
    """The last suffix of the path if it is one of `COMPRESSIONS`."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix if suffix in COMPRESSIONS else None


def data_suffix(path: str) -> str:
    """The suffix in lower case, without that of a compression: ".csv" for "a.CSV.gz"."""
    stem = os.path.splitext(path)[0] if compression(path) else path
    return os.path.splitext(stem)[1].lower()


def check_compression(path: str) -> None:
    """
    Raises:
        ValueError: for a `.zst` file where the optional package that reads it is missing.
    """
    if compression(path) == ".zst" and importlib.util.find_spec("zstandard") is None:
        raise ValueError(f"{path}: reading .zst needs the package zstandard (pip install 'electra-rtd[zstd]')")


def open_bytes(path: str) -> BinaryIO:
    """The bytes of a file, decompressed."""
    check_compression(path)
    return _OPENERS.get(compression(path), lambda path: open(path, "rb"))(path)


def decoded_lines(path: str, start: int = 0, stop: int | None = None) -> Iterator[str]:
    """Lines with their line ends, cut at the line feed alone, without a byte order mark.

    Args:
        start: bytes to pass over; it must be the begin of a line.
        stop: byte before which the last line begins; `None` reads to the end.

    Raises:
        ValueError: the file is binary, not UTF-8 or damaged.
    """
    try:
        with open_bytes(path) as file:
            if start:
                file.seek(start)
            offset = start
            for line in file:
                if stop is not None and offset >= stop:
                    break
                yield _decode(line, offset, path)
                offset += len(line)
    except ValueError:
        raise
    except Exception as error:  # every decompressor has exceptions of its own
        raise unreadable(path, error) from error


def text_lines(path: str, start: int = 0, stop: int | None = None) -> Iterator[str]:
    """Lines as `decoded_lines` gives them, without their line ends, those of Windows too."""
    return (line.rstrip("\r\n") for line in decoded_lines(path, start, stop))


def unreadable(source: str, error: Exception) -> ValueError:
    """What a library said of a file or dataset, in one line that names it."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ValueError(f"{source}: cannot be read ({reason})")


def _open_zstandard(path: str) -> BinaryIO:
    import zstandard  # an optional dependency: check_compression has refused .zst files where it is missing

    # Parallel compressors write many frames; the default reader would stop, silently, after the first.
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), read_across_frames=True))


_OPENERS: dict[str | None, Callable[[str], BinaryIO]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstandard,
}


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
