import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_electra_rtd.data.packing import BlockPacker


CLS, SEP, PAD = 1, 2, 0


def pack(documents, max_length):
    packer = BlockPacker(max_length, CLS, SEP, PAD)
    return [block for document in documents for block in packer.add(document)] + packer.flush()


def pieces_of(block):
    """The text of each segment of a block, after checking its structure."""
    start = 0
    for length in block.document_lengths:
        segment = block.input_ids[start : start + length]
        assert segment[0] == CLS and segment[-1] == SEP and length >= 3
        yield segment[1:-1]
        start += length
    assert set(block.input_ids[start:]) <= {PAD}


@settings(max_examples=300, deadline=None)
@given(lengths=st.lists(st.integers(0, 60), max_size=40), max_length=st.integers(3, 40))
def test_every_token_once_in_order(lengths, max_length):
    # Every token is a number of its own, so that equal sequences mean the same tokens in the same places.
    numbers = iter(range(10, 10**6))
    documents = [[next(numbers) for _ in range(length)] for length in lengths]
    blocks = pack(documents, max_length)
    assert all(len(block.input_ids) == max_length and block.document_lengths for block in blocks)
    pieces = [piece for block in blocks for piece in pieces_of(block)]
    rebuilt, expected = [], [document for document in documents if document]
    for document in expected:
        rebuilt.append([])
        while len(rebuilt[-1]) < len(document):
            rebuilt[-1] += pieces.pop(0)
    assert rebuilt == expected and pieces == []
    for block in blocks[:-1]:
        assert max_length - sum(block.document_lengths) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_fill(seed):
    rng = random.Random(seed)
    documents = [[7] * int(rng.lognormvariate(4, 1.5)) for _ in range(2000)]
    blocks = pack(documents, 128)
    filled = sum(sum(block.document_lengths) for block in blocks)
    assert filled / (len(blocks) * 128) >= 0.98


def test_long_document_continues_in_the_next_block():
    blocks = pack([[11, 12, 13, 14, 15], [21]], 5)
    assert blocks == [([CLS, 11, 12, 13, SEP], [5]), ([CLS, 14, 15, SEP, PAD], [4]), ([CLS, 21, SEP, PAD, PAD], [3])]


def test_short_documents_share_a_block():
    assert pack([[11], [], [21]], 8) == [([CLS, 11, SEP, CLS, 21, SEP, PAD, PAD], [3, 3])]


def test_nothing_to_pack():
    packer = BlockPacker(8, CLS, SEP, PAD)
    assert packer.add([]) == [] and packer.flush() == []


def test_flushed_packer_starts_anew():
    packer = BlockPacker(8, CLS, SEP, PAD)
    packer.add([11])
    assert len(packer.flush()) == 1 and packer.flush() == []


@pytest.mark.parametrize("max_length", [-1, 0, 2])
def test_too_short_blocks(max_length):
    with pytest.raises(ValueError, match=f"max_length is {max_length}; it must be at least 3"):
        BlockPacker(max_length, CLS, SEP, PAD)
