"""Rows of blocks -> a batch of tensors, and a batch cut into shorter rows.

Imports without `datasets`, so that benchmarks run where it is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .word_starts import ContinuingTokens


class IndexedBlocks(torch.utils.data.Dataset):
    """Blocks that know their number, which decides their corruption when it is fixed.

    Args:
        blocks: a `datasets.Dataset` of blocks, or any sequence of rows.
    """

    def __init__(self, blocks: Any):
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.blocks[index], "block_index": index}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Rows of a whole batch in one read, which for memory-mapped blocks is far cheaper than one by one."""
        if hasattr(self.blocks, "__getitems__"):
            rows = self.blocks.__getitems__(indices)
        else:
            rows = [self.blocks[index] for index in indices]
        return [{**row, "block_index": index} for row, index in zip(rows, indices, strict=True)]


@dataclass(frozen=True)
class BlockCollator:
    """A collator that turns rows of `input_ids` and `document_lengths` into the tensors that the joint model takes.

    A batch holds, all `(batch, sequence)` int64: `input_ids`; `document_ids`, 1 for the first packed document of a
    row, 2 for the second, 0 for padding; `position_ids`, starting at 0 with every document.

    Args:
        pad_token_id: fills rows shorter than the longest of the batch.
        corruption_seed: fixes the corruption of every block by (seed, `block_index`), whatever the batch size, order
            or rank: the batch gets `corruption_uniforms`, `(batch, number_of_uniforms(sequence))` float32 in [0, 1).
            `None` leaves the model to draw a new corruption.
        number_of_uniforms: sequence length -> numbers a row consumes; needed with `corruption_seed`.
        continues_word: indexed by ids of shape `(batch, sequence)`, whether tokens go on with a word: what
            `word_starts.continuing_tokens` gives, or a table, `(vocabulary,)` bool; the batch gets `word_starts`,
            `(batch, sequence)` bool.

    Example: a row with two packed documents, of 3 and 4 positions, and a row with one.

        >>> rows = [
        ...     {"input_ids": [2, 7, 3, 2, 8, 9, 3], "document_lengths": [3, 4]},
        ...     {"input_ids": [2, 5, 6, 3], "document_lengths": [4]},
        ... ]
        >>> batch = BlockCollator(pad_token_id=0)(rows)
        >>> batch["input_ids"].tolist()
        [[2, 7, 3, 2, 8, 9, 3], [2, 5, 6, 3, 0, 0, 0]]
        >>> batch["document_ids"].tolist()
        [[1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 0, 0, 0]]
        >>> batch["position_ids"].tolist()
        [[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 0, 0, 0]]
    """

    pad_token_id: int = 0
    corruption_seed: int | None = None
    number_of_uniforms: Callable[[int], int] | None = None
    continues_word: ContinuingTokens | np.ndarray | None = None

    def __post_init__(self):
        if self.corruption_seed is None:
            return
        if self.number_of_uniforms is None:
            raise ValueError("corruption_seed needs number_of_uniforms, the numbers a row consumes")
        if not 0 <= self.corruption_seed < 2**64:
            raise ValueError(f"corruption_seed is {self.corruption_seed}; it must be 0 or more, and less than 2**64")

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        if self.corruption_seed is not None and not all("block_index" in row for row in rows):
            raise ValueError("corruption_seed needs rows with a block_index, wrap the blocks in IndexedBlocks")
        lengths = [len(row["input_ids"]) for row in rows]
        for number, row in enumerate(rows):
            if not lengths[number] or not sum(row["document_lengths"]):
                raise ValueError(f"row {number} of the batch, block {row.get('block_index', '?')}, holds no tokens")
        shape = (len(rows), max(lengths))
        input_ids = np.full(shape, self.pad_token_id, dtype=np.int64)
        document_ids = np.zeros(shape, dtype=np.int64)
        position_ids = np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(rows):
            input_ids[number, : lengths[number]] = row["input_ids"]
            document_lengths = np.asarray(row["document_lengths"], dtype=np.int64)
            starts = np.cumsum(document_lengths) - document_lengths
            filled = int(document_lengths.sum())
            document_ids[number, :filled] = np.repeat(np.arange(1, len(document_lengths) + 1), document_lengths)
            position_ids[number, :filled] = np.arange(filled) - np.repeat(starts, document_lengths)
        batch: dict[str, Any] = {"input_ids": input_ids, "document_ids": document_ids, "position_ids": position_ids}
        if self.continues_word is not None:
            batch["word_starts"] = ~self.continues_word[input_ids]
        if self.corruption_seed is not None:
            assert self.number_of_uniforms is not None
            count = self.number_of_uniforms(shape[1])
            batch["corruption_uniforms"] = np.stack(
                [
                    np.random.Generator(np.random.Philox(key=[self.corruption_seed, row["block_index"]])).random(
                        count, dtype=np.float32
                    )
                    for row in rows
                ]
            )
        return {name: torch.from_numpy(array) for name, array in batch.items()}


def cut_rows(batch: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    """Cut every row into rows of `length` positions. A document that goes on after a cut is a new one there, without
    a classifier token of its own.

    Args:
        batch: tensors `(batch, sequence)` as of `BlockCollator`; `sequence` is a multiple of `length`.

    Returns:
        Tensors `(batch * sequence / length, length)`, the pieces of a row one below the other.

    Raises:
        ValueError: for a batch with `corruption_uniforms`, which belong to whole rows.
    """
    if batch["input_ids"].shape[1] == length:
        return dict(batch)
    if "corruption_uniforms" in batch:
        raise ValueError("corruption_seed fixes the corruption of whole rows, and initial_sequence_length cuts them")
    cut = {name: values.reshape(-1, length) for name, values in batch.items()}
    if "document_ids" in cut:
        document_ids = cut["document_ids"]
        first = document_ids[:, :1]
        if "position_ids" in cut:
            begun = torch.where(document_ids == first, cut["position_ids"][:, :1], 0)
            cut["position_ids"] = cut["position_ids"] - begun
        cut["document_ids"] = torch.where(document_ids > 0, document_ids - first + 1, 0)
    return cut
