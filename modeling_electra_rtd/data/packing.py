"""Token ids of documents, in order, as blocks of equal length: no token lost, repeated or moved."""

from collections.abc import Sequence
from typing import NamedTuple


# [CLS], one token of text, [SEP].
SHORTEST_SEGMENT = 3


class Block(NamedTuple):
    """One row of training data.

    Attributes:
        input_ids: exactly `max_length` ids: segments `[CLS] text [SEP]` one behind the other, then padding.
        document_lengths: positions of each segment, in order, [CLS] and [SEP] included.
    """

    input_ids: list[int]
    document_lengths: list[int]


class BlockPacker:
    """Fills blocks greedily: what does not fit into the room left in a block continues in the next one.

    Every segment stands between its own [CLS] and [SEP], so a block wastes at most two positions, the room in which
    no token of text fits between the two.

    Args:
        max_length: positions of a block, at least 3.
        cls_token_id, sep_token_id, pad_token_id: ids of the tokens around and behind the segments.

    Raises:
        ValueError: `max_length` is too short to hold any text.
    """

    def __init__(self, max_length: int, cls_token_id: int, sep_token_id: int, pad_token_id: int):
        if max_length < SHORTEST_SEGMENT:
            raise ValueError(f"max_length is {max_length}; it must be at least {SHORTEST_SEGMENT} ([CLS] token [SEP])")
        self.max_length = max_length
        self.cls_token_id = cls_token_id
        self.sep_token_id = sep_token_id
        self.pad_token_id = pad_token_id
        self._input_ids: list[int] = []
        self._document_lengths: list[int] = []

    def add(self, token_ids: Sequence[int]) -> list[Block]:
        """Appends one document (no special tokens) and returns the blocks it completes; no tokens, no segment."""
        completed = []
        start = 0
        while start < len(token_ids):
            room = self.max_length - len(self._input_ids) - 2
            piece = token_ids[start : start + room]
            start += len(piece)
            self._input_ids += [self.cls_token_id, *piece, self.sep_token_id]
            self._document_lengths.append(len(piece) + 2)
            if self.max_length - len(self._input_ids) < SHORTEST_SEGMENT:
                completed += self.flush()
        return completed

    def flush(self) -> list[Block]:
        """Pad and return the block being filled, if there is one, and start a new one."""
        if not self._document_lengths:
            return []
        padding = [self.pad_token_id] * (self.max_length - len(self._input_ids))
        block = Block(self._input_ids + padding, self._document_lengths)
        self._input_ids, self._document_lengths = [], []
        return [block]
