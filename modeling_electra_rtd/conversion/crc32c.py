"""CRC-32C (Castagnoli, RFC 3720), the checksum of TensorFlow's files, by NumPy.

A remainder is linear in the message, so the front half of a block, multiplied by the power of x that moves it over the
back half, is added to it, and so on: log2 steps over arrays instead of one step a byte.
"""

from functools import cache

import numpy


_POLYNOMIAL = 0x82F63B78  # bits reversed, as all numbers here: the lowest bit is the highest power of x
_MASK_DELTA = 0xA282EAD8
# Bytes taken at once: what fits a cache.
_BLOCK_SIZE = 1 << 20
# Below this a step a byte costs less.
_SHORT = 64


def crc32c(data: bytes | memoryview | numpy.ndarray, value: int = 0) -> int:
    """The checksum of some bytes, or with the `value` of those before them that of both."""
    data = numpy.frombuffer(data, dtype=numpy.uint8)
    state = value ^ 0xFFFFFFFF
    for start in range(0, len(data), _BLOCK_SIZE):
        state = _advanced(state, data[start : start + _BLOCK_SIZE])
    return state ^ 0xFFFFFFFF


def masked(value: int) -> int:
    """How a checksum is stored, so that one over bytes with checksums among them stays a good one."""
    return (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _advanced(state: int, data: numpy.ndarray) -> int:
    if len(data) >= _SHORT:
        # Zeros in front of a message change nothing, and the state is added to its first four bytes.
        padded = numpy.zeros(1 << (len(data) - 1).bit_length(), dtype=numpy.uint8)
        padded[-len(data) :] = data
        padded[len(padded) - len(data) :][:4] ^= numpy.frombuffer(state.to_bytes(4, "little"), dtype=numpy.uint8)
        words = padded.view("<u4")
        while len(words) > 1:
            half = len(words) // 2
            words = _times(words[:half], _tables(half)) ^ words[half:]
        state, data = 0, words.view(numpy.uint8)
    table = _byte_table()
    for byte in data.tolist():
        state = table[(state ^ byte) & 255] ^ (state >> 8)
    return state


def _times(words: numpy.ndarray, tables: numpy.ndarray) -> numpy.ndarray:
    low, high = words.view("<u2").reshape(-1, 2).T
    return tables[0][low] ^ tables[1][high]


@cache
def _tables(number_of_words: int) -> numpy.ndarray:
    """`(2, 65536)`: the low and the high half of a word, multiplied by x to the power of 32 `number_of_words`."""
    tables = numpy.zeros((2, 1 << 16), dtype="<u4")
    for position, image in enumerate(_images(number_of_words)):
        table, bit = tables[position // 16], 1 << position % 16
        table[bit : 2 * bit] = table[:bit] ^ image
    return tables


@cache
def _images(number_of_words: int) -> numpy.ndarray:
    """`(32,)`: what the same multiplication makes of each bit; a power of two words."""
    if number_of_words > 1:
        # Twice as far is the same once more.
        return _times(_images(number_of_words // 2), _tables(number_of_words // 2))
    table, images = _byte_table(), []
    for position in range(32):
        state = 1 << position
        for _ in range(4):
            state = table[state & 255] ^ (state >> 8)
        images.append(state)
    return numpy.array(images, dtype="<u4")


@cache
def _byte_table() -> list[int]:
    table = []
    for state in range(256):
        for _ in range(8):
            state = (state >> 1) ^ (_POLYNOMIAL if state & 1 else 0)
        table.append(state)
    return table
