"""Files as decoded lines, compressed ones too; whatever cannot be read is refused by name."""

import bz2
import codecs
import gzip
import importlib.util
import io
import lzma
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO


# Compressed bytes that are read at a time.
_CHUNK_BYTES = 2**17


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

    return io.BufferedReader(_Frames(open(path, "rb"), zstandard.ZstdDecompressor))


class _Frames(io.RawIOBase):
    """The text of a zstd file frame by frame: parallel compressors write many, and the package's own reader takes a
    file that was cut off within one for a whole one."""

    def __init__(self, file: BinaryIO, decompressor: Callable[[], Any]):
        self._file = file
        self._decompressor = decompressor
        self._frame: Any = None
        self._waiting = b""
        self._text = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._text:
            data = self._waiting or self._file.read(_CHUNK_BYTES)
            self._waiting = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("the file ends within compressed data")
                return 0
            if self._frame is None:
                self._frame = self._decompressor().decompressobj()
            self._text = self._frame.decompress(data)
            if self._frame.eof:
                self._waiting, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._text))
        buffer[:count], self._text = self._text[:count], self._text[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


_OPENERS: dict[str | None, Callable[[str], Any]] = {
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
