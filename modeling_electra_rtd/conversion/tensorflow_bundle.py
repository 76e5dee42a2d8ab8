"""TensorFlow's checkpoints (`tf.train.Saver`, format V2), read and written without TensorFlow.

`PREFIX.index` is a sorted table in the format of LevelDB: from the name of a tensor to a protocol buffer that says its
type, its shape and where its bytes lie. `PREFIX.data-00000-of-00001` holds the bytes, one tensor after another;
there can be several such files. Everything has a checksum.
"""

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from .crc32c import crc32c, masked


INDEX = ".index"
# Names the newest checkpoint of a folder, in the text form of a protocol buffer.
STATE = "checkpoint"
_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
# What follows a block: how it is compressed, and its checksum.
_TRAILER_SIZE = 5
# By their number in TensorFlow's `DataType`.
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
_DTYPE_NUMBERS = {name: number for number, name in _DTYPES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies.

    Attributes:
        dtype: number in TensorFlow's `DataType`.
        shape: of the tensor.
        shard: number of the file.
        offset, size: in the file, in bytes.
        checksum: masked CRC-32C of the bytes.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class TensorBundle:
    """A checkpoint on disk; tensors are read when they are asked for.

    Attributes:
        prefix: path without `.index`.
        entries: where each tensor lies, by its name.
    """

    def __init__(self, prefix: str | os.PathLike):
        """Read the index.

        Raises:
            ValueError: in one line, for an index that is missing, damaged, or of a kind this does not read.
        """
        self.prefix = str(prefix)
        path = Path(self.prefix + INDEX)
        if not path.is_file():
            raise ValueError(f"there is no {path}")
        try:
            self.number_of_shards, self.entries = _read_index(path.read_bytes())
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            # What a damaged file does to a parser.
            raise ValueError(f"{path} is no index of a TensorFlow checkpoint that can be read: {error}") from error

    def read(self, name: str) -> numpy.ndarray:
        """One tensor, its checksum verified.

        Raises:
            ValueError: in one line, for a type that this does not read, and for data that are missing or damaged.
        """
        entry = self.entries[name]
        if entry.dtype not in _DTYPES:
            raise ValueError(f"{self.prefix}: {name} has TensorFlow's type {entry.dtype}; allowed: {_type_names()}")
        dtype = numpy.dtype(_DTYPES[entry.dtype])
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            raise ValueError(f"{self.prefix}: {name} has shape {list(entry.shape)}, but {entry.size} bytes")
        path = _data_path(self.prefix, entry.shard, self.number_of_shards)
        if not path.is_file():
            raise ValueError(f"there is no {path}")
        with path.open("rb") as file:
            file.seek(entry.offset)
            content = file.read(entry.size)
        if len(content) != entry.size:
            raise ValueError(f"{path} ends before {name} does")
        if masked(crc32c(content)) != entry.checksum:
            raise ValueError(f"{path} is damaged: the checksum of {name} differs")
        return numpy.frombuffer(content, dtype).reshape(entry.shape)


def find_bundle(source: str | os.PathLike) -> str | None:
    """The prefix of the checkpoint that a path names: the prefix itself, its `.index` file, or a folder.

    In a folder it is the one that the file `checkpoint` names, or the only one; `None` if there is no checkpoint.

    Raises:
        ValueError: for a folder with several of which none is named.
    """
    text = os.fspath(source)
    prefix = text.removesuffix(INDEX)
    if Path(prefix + INDEX).is_file():
        return prefix
    if not Path(text).is_dir():
        return None
    found = sorted(path.name.removesuffix(INDEX) for path in Path(text).glob("*" + INDEX))
    state = Path(text, STATE)
    if state.is_file():
        for line in state.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            # It may name the folder of the machine it was written on.
            name = value.strip().strip('"').replace("\\", "/").rpartition("/")[2]
            if key.strip() == "model_checkpoint_path" and name in found:
                return str(Path(text, name))
    if len(found) > 1:
        raise ValueError(f"{text} holds several checkpoints; name one of them: {', '.join(found)}")
    return str(Path(text, found[0])) if found else None


def write_bundle(prefix: str | os.PathLike, tensors: Mapping[str, numpy.ndarray]) -> None:
    """Write a checkpoint that TensorFlow restores, and name it as the newest one of its folder.

    Args:
        tensors: little-endian arrays of float32, float64, float16, int32 or int64 by their names.
    """
    # The first key of the table is empty: one file of data, and the version of the format.
    records = [(b"", _number(1, 1) + _bytes(3, _number(1, 1)))]
    offset = 0
    with _data_path(str(prefix), 0, 1).open("wb") as file:
        for name in sorted(tensors, key=str.encode):
            array = numpy.ascontiguousarray(tensors[name])
            content = array.reshape(-1).view(numpy.uint8)
            file.write(content.data)
            shape = b"".join(_bytes(2, _number(1, size)) for size in numpy.shape(tensors[name]))
            records.append(
                (
                    name.encode(),
                    _number(1, _DTYPE_NUMBERS[array.dtype.str])
                    + _bytes(2, shape)
                    + _number(4, offset)
                    + _number(5, len(content))
                    + _varint(6 << 3 | 5)
                    + struct.pack("<I", masked(crc32c(content))),
                )
            )
            offset += len(content)
    table, handles = b"", []
    for block in (records, []):
        written = _block(block)
        handles.append(_varint(len(table)) + _varint(len(written)))
        table += _with_trailer(written)
    written = _block([(records[-1][0], handles[0])])
    handles.append(_varint(len(table)) + _varint(len(written)))
    table += _with_trailer(written)
    table += (handles[1] + handles[2]).ljust(_FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", _MAGIC)
    Path(str(prefix) + INDEX).write_bytes(table)
    name = Path(prefix).name
    state = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    Path(prefix).with_name(STATE).write_text(state, encoding="utf-8")


def _data_path(prefix: str, shard: int, number_of_shards: int) -> Path:
    return Path(f"{prefix}.data-{shard:05d}-of-{number_of_shards:05d}")


def _type_names() -> str:
    return ", ".join(f"{number} ({numpy.dtype(name)})" for number, name in _DTYPES.items())


def _read_index(data: bytes) -> tuple[int, dict[str, TensorEntry]]:
    if len(data) < _FOOTER_SIZE or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("it has no footer, so it is cut short or another kind of file")
    footer = data[-_FOOTER_SIZE:-8]
    _, position = _read_handle(footer, 0)
    index, _ = _read_handle(footer, position)
    blocks = [_read_handle(handle, 0)[0] for _, handle in _read_block(data, *index)]
    records = [record for block in blocks for record in _read_block(data, *block)]
    if not records or records[0][0]:
        raise ValueError("its first entry is not the header")
    header = dict(_fields(records[0][1]))
    if header.get(2, 0):
        raise ValueError("it was written by a big-endian machine")
    # Keys of a partitioned variable's parts are no text; the variable itself is refused by its name.
    entries = ((key.decode(errors="backslashreplace"), value) for key, value in records[1:])
    return header.get(1, 0), {name: _entry(name, value) for name, value in entries}


def _entry(name: str, value: bytes) -> TensorEntry:
    fields = list(_fields(value))
    if any(number == 7 for number, _ in fields):
        raise ValueError(f"{name} is a partitioned variable, which is not read; save it whole")
    values = dict(fields)
    shape = tuple(dict(_fields(dim)).get(1, 0) for number, dim in _fields(values.get(2, b"")) if number == 2)
    return TensorEntry(values[1], shape, *(values.get(number, 0) for number in (3, 4, 5, 6)))


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """((offset, size) of a block, position behind)."""
    offset, position = _read_varint(data, position)
    size, position = _read_varint(data, position)
    return (offset, size), position


def _read_block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key leaves out what it shares with the one before it."""
    content, trailer = data[offset : offset + size], data[offset + size : offset + size + _TRAILER_SIZE]
    compression, checksum = struct.unpack("<BI", trailer)
    if masked(crc32c(trailer[:1], crc32c(content))) != checksum:
        raise ValueError("it is damaged: a checksum differs")
    if compression:
        raise ValueError(f"its blocks are compressed (kind {compression}); TensorFlow itself writes them as they are")
    end = size - 4 * (struct.unpack("<I", content[-4:])[0] + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _read_varint(content, position)
        own, position = _read_varint(content, position)
        length, position = _read_varint(content, position)
        key = key[:shared] + content[position : position + own]
        yield key, content[position + own : position + own + length]
        position += own + length


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a protocol buffer's fields, in their order."""
    position = 0
    value: Any
    while position < len(data):
        tag, position = _read_varint(data, position)
        kind = tag & 7
        if kind == 0:
            value, position = _read_varint(data, position)
        elif kind == 2:
            length, position = _read_varint(data, position)
            value, position = data[position : position + length], position + length
        else:
            size, code = {1: (8, "<Q"), 5: (4, "<I")}[kind]
            (value,) = struct.unpack(code, data[position : position + size])
            position += size
        yield tag >> 3, value


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _number(field: int, value: int) -> bytes:
    # Zero is what a field holds that is not there.
    return _varint(field << 3) + _varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _block(records: list[tuple[bytes, bytes]]) -> bytes:
    """A block whose every key is written out, and so is a place to start reading from."""
    content, starts = b"", []
    for key, value in records:
        starts.append(len(content))
        content += _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value
    starts = starts or [0]
    return content + struct.pack(f"<{len(starts) + 1}I", *starts, len(starts))


def _with_trailer(content: bytes) -> bytes:
    return content + b"\0" + struct.pack("<I", masked(crc32c(b"\0", crc32c(content))))
