import doctest
import subprocess
import sys

import datasets
import pytest
import torch

from modeling_electra_rtd.data import collator
from modeling_electra_rtd.data.collator import BlockCollator, IndexedBlocks, cut_rows


ROWS = [
    {"input_ids": [2, 10, 3, 2, 11, 12, 3, 0], "document_lengths": [3, 4]},
    {"input_ids": [2, 13, 14, 15, 16, 3], "document_lengths": [6]},
    {"input_ids": [2, 17, 3, 2, 18, 3, 2, 19, 3], "document_lengths": [3, 3, 3]},
]


def test_batch():
    batch = BlockCollator(pad_token_id=9)(ROWS)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in batch.items()} == {
        name: (torch.int64, (3, 9)) for name in ("input_ids", "document_ids", "position_ids")
    }
    assert batch["input_ids"].tolist() == [
        [2, 10, 3, 2, 11, 12, 3, 0, 9],
        [2, 13, 14, 15, 16, 3, 9, 9, 9],
        [2, 17, 3, 2, 18, 3, 2, 19, 3],
    ]
    assert batch["document_ids"].tolist() == [
        [1, 1, 1, 2, 2, 2, 2, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 2, 2, 2, 3, 3, 3],
    ]
    assert batch["position_ids"].tolist() == [
        [0, 1, 2, 0, 1, 2, 3, 0, 0],
        [0, 1, 2, 3, 4, 5, 0, 0, 0],
        [0, 1, 2, 0, 1, 2, 0, 1, 2],
    ]


@pytest.mark.parametrize("format", [None, "numpy", "torch"])
def test_rows_of_a_dataset(format):
    blocks = datasets.Dataset.from_list(ROWS).with_format(format)
    expected = BlockCollator()(ROWS)
    batch = BlockCollator()(IndexedBlocks(blocks).__getitems__([0, 1, 2]))
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


@pytest.mark.parametrize("blocks", [ROWS, datasets.Dataset.from_list(ROWS)])
def test_indexed_blocks(blocks):
    indexed = IndexedBlocks(blocks)
    assert len(indexed) == 3
    assert indexed[1] == {**ROWS[1], "block_index": 1}
    assert indexed.__getitems__([2, 0]) == [{**ROWS[2], "block_index": 2}, {**ROWS[0], "block_index": 0}]


def test_corruption_belongs_to_the_block():
    indexed = IndexedBlocks([ROWS[2]] * 6)
    collator = BlockCollator(corruption_seed=3, number_of_uniforms=lambda sequence: 4 * sequence)

    def uniforms(batch_size, order):
        loader = torch.utils.data.DataLoader(indexed, batch_size, sampler=order, collate_fn=collator)
        return torch.cat([batch["corruption_uniforms"] for batch in loader])

    whole = uniforms(6, [0, 1, 2, 3, 4, 5])
    assert whole.shape == (6, 36) and whole.dtype == torch.float32
    assert 0 <= whole.min() and whole.max() < 1 and whole.unique().numel() > 200
    assert torch.equal(uniforms(1, [5, 4, 3, 2, 1, 0]).flip(0), whole)
    assert torch.equal(uniforms(4, [3, 1, 2, 0, 4, 5])[[3, 1, 2, 0, 4, 5]], whole)
    other = BlockCollator(corruption_seed=4, number_of_uniforms=lambda sequence: 4 * sequence)
    assert not torch.equal(other(indexed.__getitems__([0]))["corruption_uniforms"], whole[:1])


def test_uniforms_are_uniform():
    collator = BlockCollator(corruption_seed=0, number_of_uniforms=lambda sequence: 1000)
    draws = collator(IndexedBlocks([ROWS[0]] * 100).__getitems__(range(100)))["corruption_uniforms"]
    assert draws.mean() == pytest.approx(0.5, abs=0.005) and draws.var() == pytest.approx(1 / 12, abs=0.002)
    # Neighbouring blocks are drawn independently, not shifted copies of one stream.
    assert abs(torch.corrcoef(draws)[~torch.eye(100, dtype=torch.bool)]).max() < 0.2


def test_errors():
    with pytest.raises(ValueError, match="corruption_seed needs number_of_uniforms"):
        BlockCollator(corruption_seed=1)
    with pytest.raises(ValueError, match="corruption_seed is -1; it must be 0 or more"):
        BlockCollator(corruption_seed=-1, number_of_uniforms=len)
    with pytest.raises(ValueError, match="corruption_seed needs rows with a block_index"):
        BlockCollator(corruption_seed=1, number_of_uniforms=lambda sequence: sequence)(ROWS)


def test_cutting_rows():
    rows = [
        {"input_ids": [2, 10, 3, 2, 11, 12, 3, 0], "document_lengths": [3, 4]},
        {"input_ids": [2, 20, 21, 22, 23, 24, 25, 3], "document_lengths": [8]},
        {"input_ids": [2, 30, 3, 2, 31, 3, 2, 3], "document_lengths": [3, 3, 2]},
        {"input_ids": [2, 3, 0, 0, 0, 0, 0, 0], "document_lengths": [2]},
    ]
    cut = cut_rows(BlockCollator()(rows), 4)
    assert {name: (values.dtype, tuple(values.shape)) for name, values in cut.items()} == {
        name: (torch.int64, (8, 4)) for name in ("input_ids", "document_ids", "position_ids")
    }
    assert cut["input_ids"].flatten().tolist() == [token for row in rows for token in row["input_ids"]]
    assert cut["document_ids"].tolist() == [
        *([1, 1, 1, 2], [1, 1, 1, 0]),
        *([1, 1, 1, 1], [1, 1, 1, 1]),
        *([1, 1, 1, 2], [1, 1, 2, 2]),
        *([1, 1, 0, 0], [0, 0, 0, 0]),
    ]
    assert cut["position_ids"].tolist() == [
        *([0, 1, 2, 0], [0, 1, 2, 0]),
        *([0, 1, 2, 3], [0, 1, 2, 3]),
        *([0, 1, 2, 0], [0, 1, 0, 1]),
        *([0, 1, 0, 0], [0, 0, 0, 0]),
    ]
    whole = BlockCollator()(rows)
    assert all(torch.equal(values, whole[name]) for name, values in cut_rows(whole, 8).items())
    fixed = BlockCollator(corruption_seed=3, number_of_uniforms=lambda sequence: 2 * sequence)
    with pytest.raises(ValueError, match="corruption_seed fixes the corruption of whole rows"):
        cut_rows(fixed(IndexedBlocks(rows).__getitems__([0, 1])), 4)


def test_imports_without_datasets():
    code = "import sys; sys.modules['datasets'] = None; import modeling_electra_rtd.data.collator"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_example_of_the_docstring_is_true():
    assert doctest.testmod(collator).attempted == 5
    assert not doctest.testmod(collator).failed
