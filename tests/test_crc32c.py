"""The checksum against the vectors of RFC 3720 and against its definition, one bit after another."""

import random

import pytest

from modeling_electra_rtd.conversion.crc32c import crc32c, masked


def bit_by_bit(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    # RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    ("data", "value"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_values(data, value):
    assert crc32c(data) == value


@pytest.mark.parametrize("size", [1, 3, 4, 63, 64, 65, 66, 67, 127, 128, 129, 1000, 4099])
def test_any_length_at_once_and_in_parts(size):
    data = random.Random(size).randbytes(size)
    expected = bit_by_bit(data)
    assert crc32c(data) == crc32c(memoryview(data)) == expected
    assert crc32c(data[size // 3 :], crc32c(data[: size // 3])) == expected


def test_longer_than_a_block():
    size = (1 << 20) + 70
    data = random.Random(0).randbytes(size)
    assert crc32c(data) == crc32c(data[1 << 20 :], crc32c(data[: 1 << 20]))
    assert crc32c(data) == crc32c(data[777:], crc32c(data[:777]))
    assert crc32c(data) != crc32c(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_masked_value_turns_back():
    value = crc32c(b"foo")
    rotated = (masked(value) - 0xA282EAD8) & 0xFFFFFFFF
    assert ((rotated << 15) | (rotated >> 17)) & 0xFFFFFFFF == value
