"""TensorFlow's checkpoint format: what TensorFlow wrote is read, tables built by hand are read, what is written comes
back, and what is damaged or of another kind is refused in one line."""

import struct
from pathlib import Path

import numpy
import pytest

from modeling_electra_rtd.conversion.crc32c import crc32c, masked
from modeling_electra_rtd.conversion.tensorflow_bundle import TensorBundle, find_bundle, write_bundle


# Written by TensorFlow 2.21 itself (tf.compat.v1.train.Saver, sharded over two devices).
WRITTEN_BY_TENSORFLOW = Path(__file__).parent / "tensorflow_checkpoint"
HEADER = b"\x08\x01\x1a\x02\x08\x01"
TENSORS = {
    "electra/embeddings/word_embeddings": numpy.arange(60, dtype="<f4").reshape(12, 5) / 7,
    "electra/b": numpy.array([1.5, -2.5], dtype="<f4"),
    "global_step": numpy.array(2**40 + 3, dtype="<i8"),
    "half": numpy.array([[0.5]], dtype="<f2"),
    "double": numpy.array([0.1], dtype="<f8"),
    "whole": numpy.array([-7, 7], dtype="<i4"),
    "zürich": numpy.zeros((2, 0, 3), dtype="<f4"),
}


def entry(array: numpy.ndarray, offset: int, dtype: int = 1, more: bytes = b"") -> bytes:
    """A BundleEntryProto, byte by byte; every number is below 128."""
    content = array.tobytes()
    shape = b"".join(b"\x12\x02\x08" + bytes([size]) for size in array.shape)
    checksum = struct.pack("<I", masked(crc32c(content)))
    where = bytes([0x20, offset, 0x28, len(content)])
    return bytes([0x08, dtype, 0x12, len(shape)]) + shape + where + b"\x35" + checksum + more


def table(*blocks: list[tuple[int, bytes, bytes]], compression: int = 0) -> bytes:
    """A table of blocks of (bytes shared with the key before, the rest of the key, value)."""
    data, handles = b"", []

    def put(records) -> bytes:
        nonlocal data
        content = b"".join(bytes([shared, len(key), len(value)]) + key + value for shared, key, value in records)
        content += struct.pack("<II", 0, 1)
        handle = varint(len(data)) + varint(len(content))
        checksum = masked(crc32c(content + bytes([compression])))
        data += content + bytes([compression]) + struct.pack("<I", checksum)
        return handle

    for number, block in enumerate(blocks):
        # Keys of the index only have to part the blocks.
        handles.append((0, bytes([number + 1]), put(block)))
    footer = put([]) + put(handles)
    return data + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def written_by_hand(folder: Path, **changes) -> str:
    """Two tensors of which the second's name begins as the first's does, in a block of its own and without."""
    first, second = numpy.array([[1, 2], [3, 4]], dtype="<f4"), numpy.array([5], dtype="<f4")
    records = [(0, b"", changes.get("header", HEADER)), (0, b"a/kernel", entry(first, 0))]
    records.append((2, b"bias", entry(second, 16, changes.get("dtype", 1), changes.get("more", b""))))
    folder.joinpath("m.index").write_bytes(table(*[records], compression=changes.get("compression", 0)))
    folder.joinpath("m.data-00000-of-00001").write_bytes(first.tobytes() + second.tobytes())
    return str(folder / "m")


def test_a_table_built_by_hand(tmp_path):
    bundle = TensorBundle(written_by_hand(tmp_path))
    assert list(bundle.entries) == ["a/kernel", "a/bias"]
    assert bundle.entries["a/kernel"].shape == (2, 2)
    numpy.testing.assert_array_equal(bundle.read("a/kernel"), [[1, 2], [3, 4]])
    numpy.testing.assert_array_equal(bundle.read("a/bias"), [5])

    blocks = [(0, b"", HEADER)], [(0, b"a", entry(numpy.array([5], "<f4"), 16))]
    tmp_path.joinpath("m.index").write_bytes(table(*blocks))
    numpy.testing.assert_array_equal(TensorBundle(tmp_path / "m").read("a"), [5])


def test_what_tensorflow_wrote():
    prefix = find_bundle(WRITTEN_BY_TENSORFLOW)
    bundle = TensorBundle(prefix)
    assert bundle.number_of_shards == 2
    read = {name: bundle.read(name) for name in bundle.entries}
    assert set(read) == {"generator/encoder/layer_0/kernel", "generator/encoder/layer_0/bias", "global_step"}
    kernel = read["generator/encoder/layer_0/kernel"]
    numpy.testing.assert_array_equal(kernel, numpy.arange(12, dtype="f4").reshape(4, 3) / 8)
    numpy.testing.assert_array_equal(read["generator/encoder/layer_0/bias"], numpy.array([0.5, -1, 2], "f4"))
    assert read["global_step"] == 1234567890123 and read["global_step"].dtype == numpy.int64
    assert {bundle.entries[name].shard for name in read} == {0, 1}


def test_what_is_written_comes_back(tmp_path):
    write_bundle(tmp_path / "model.ckpt-0", TENSORS)
    assert find_bundle(tmp_path) == find_bundle(tmp_path / "model.ckpt-0.index") == str(tmp_path / "model.ckpt-0")
    bundle = TensorBundle(tmp_path / "model.ckpt-0")
    assert list(bundle.entries) == sorted(TENSORS, key=str.encode)
    for name, value in TENSORS.items():
        read = bundle.read(name)
        assert read.dtype == value.dtype and read.shape == value.shape
        assert read.tobytes() == value.tobytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint",
        "model.ckpt-0.index",
        "model.ckpt-0.data-00000-of-00001",
    }


def test_a_transposed_array_is_written_in_its_order(tmp_path):
    array = numpy.arange(6, dtype="<f4").reshape(2, 3).T
    write_bundle(tmp_path / "m", {"a": array})
    numpy.testing.assert_array_equal(TensorBundle(tmp_path / "m").read("a"), array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compression": 1}, "compressed"),
        ({"header": HEADER + b"\x10\x01"}, "big-endian"),
        ({"more": b"\x3a\x00"}, "a/bias is a partitioned variable"),
    ],
)
def test_other_kinds_of_tables_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        TensorBundle(written_by_hand(tmp_path, **changes))
    assert "\n" not in str(error.value) and "m.index" in str(error.value)


def test_a_partitioned_variable_is_named_though_keys_of_its_parts_are_no_text(tmp_path):
    first = numpy.zeros((2, 2), dtype="<f4")
    records = [(0, b"", HEADER), (0, b"\x00a\x80\xff", entry(first, 0)), (0, b"a", entry(first, 0, 1, b"\x3a\x00"))]
    tmp_path.joinpath("m.index").write_bytes(table(*[records]))
    with pytest.raises(ValueError, match="a is a partitioned variable, which is not read; save it whole"):
        TensorBundle(tmp_path / "m")


def test_other_types_are_refused_when_they_are_read(tmp_path):
    bundle = TensorBundle(written_by_hand(tmp_path, dtype=7))
    assert bundle.read("a/kernel").shape == (2, 2)
    with pytest.raises(ValueError, match="a/bias has TensorFlow's type 7; allowed: 1 .float32., "):
        bundle.read("a/bias")


def test_a_damaged_byte_of_an_index_is_found_unless_nobody_reads_it(tmp_path):
    prefix = written_by_hand(tmp_path)
    path = Path(prefix + ".index")
    content, entries = path.read_bytes(), TensorBundle(prefix).entries
    unread = 0
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :])
        try:
            assert TensorBundle(prefix).entries == entries
            unread += 1
        except ValueError as error:
            assert "is no index of a TensorFlow checkpoint" in str(error) and "\n" not in str(error)
    # The empty block of other metadata (13 bytes), its place (2) and what fills the footer.
    assert unread <= 13 + 2 + 36
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="is no index of a TensorFlow checkpoint"):
            TensorBundle(prefix)


def test_damaged_and_missing_data_are_refused(tmp_path):
    prefix = written_by_hand(tmp_path)
    path = Path(prefix + ".data-00000-of-00001")
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(ValueError, match="checksum of a/bias differs"):
        TensorBundle(prefix).read("a/bias")
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="ends before a/bias does"):
        TensorBundle(prefix).read("a/bias")
    path.unlink()
    with pytest.raises(ValueError, match="there is no .*data-00000-of-00001"):
        TensorBundle(prefix).read("a/bias")
    with pytest.raises(ValueError, match="there is no .*other.index"):
        TensorBundle(tmp_path / "other")


def test_the_newest_of_a_folder_is_the_one_that_it_names(tmp_path):
    assert find_bundle(tmp_path) is None and find_bundle(tmp_path / "m") is None
    for name in ("model.ckpt-10", "model.ckpt-9"):
        write_bundle(tmp_path / name, {"a": numpy.zeros(1, "<f4")})
    assert find_bundle(tmp_path) == str(tmp_path / "model.ckpt-9")
    state = tmp_path / "checkpoint"
    state.write_text('model_checkpoint_path: "/home/someone/model.ckpt-10"\n', encoding="utf-8")
    assert find_bundle(tmp_path) == str(tmp_path / "model.ckpt-10")
    state.unlink()
    with pytest.raises(ValueError, match="several checkpoints; name one of them: model.ckpt-10, model.ckpt-9"):
        find_bundle(tmp_path)
    assert find_bundle(tmp_path / "model.ckpt-10") == str(tmp_path / "model.ckpt-10")


def test_tensorflow_reads_what_is_written_and_is_read(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    write_bundle(tmp_path / "model.ckpt-0", TENSORS)
    prefix = tensorflow.train.latest_checkpoint(str(tmp_path))
    reader = tensorflow.train.load_checkpoint(prefix)
    assert set(reader.get_variable_to_shape_map()) == set(TENSORS)
    for name, value in TENSORS.items():
        assert reader.get_tensor(name).tobytes() == value.tobytes()

    v1 = tensorflow.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        for name, value in TENSORS.items():
            if value.size and name.isascii():
                v1.get_variable(name, initializer=value, use_resource=False)
        session.run(v1.global_variables_initializer())
        path = v1.train.Saver().save(session, str(tmp_path / "theirs" / "model.ckpt"), global_step=7)
    bundle = TensorBundle(path)
    for name in bundle.entries:
        assert bundle.read(name).tobytes() == TENSORS[name].tobytes()
    assert len(bundle.entries) == 6
