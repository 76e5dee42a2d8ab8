"""Blocks made while training reads them: for a corpus too large to prepare, or read only once."""

import logging
from collections.abc import Iterator
from typing import Any

from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node

from ..model.text_encoding import text_backend
from .block_writing import block_features
from .documents import hint_at_lines, read_head, read_share, share_dataset
from .encoding import DocumentEncoder, explain_speed
from .packing import BlockPacker
from .shares import Share, check_document_boundary, find_files, share_files
from .tokenization import load_tokenizer
from .unknown_tokens import UnknownTally, lost_characters


# Enough to see how a corpus is laid out, before the first block is made of it.
FILES_LOOKED_INTO = 10

logger = logging.getLogger(__name__)


def stream_blocks(
    corpus: list[str] | None = None,
    dataset: str | None = None,
    *,
    tokenizer: str,
    max_length: int = 128,
    dataset_name: str | None = None,
    dataset_split: str = "train",
    text_column: str = "text",
    documents: str = "blank_line",
    seed: int = 42,
    shuffle_buffer_blocks: int = 10_000,
    rank: int = 0,
    world_size: int = 1,
) -> IterableDataset:
    """Rows as `prepare_blocks` writes them, `input_ids` (max_length) and `document_lengths`, never all in memory.

    One pass is one epoch; `set_epoch(n)`, which `Trainer` calls, reshuffles the order of the shares and the buffer.

    With `Trainer`, leave `rank` and `world_size` alone: accelerate divides a stream by itself - the main process
    reads and hands out batches (its default), or, with `dispatch_batches=False`, each process keeps its own shards -
    and a stream that was divided before would be divided twice and lose data. They are for loops without accelerate.

    Args:
        corpus, dataset, dataset_name, dataset_split, text_column, documents, tokenizer, max_length: as in
            `prepare_blocks`. Files are not checked beforehand: a bad one is refused when the stream reaches it.
        shuffle_buffer_blocks: blocks held in memory to shuffle (about 2 KB each at length 128); 0: corpus order.

    Raises:
        ValueError: an argument is out of its range, the tokenizer does not fit, or a path or dataset does not exist;
            while it is read, as soon as nearly all its tokens are unknown.
    """
    if (corpus is None) == (dataset is None):
        raise ValueError("give either corpus or dataset, not both and not neither")
    if shuffle_buffer_blocks < 0:
        raise ValueError(f"shuffle_buffer_blocks is {shuffle_buffer_blocks}; it must be at least 0")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank}; it must be in [0, {world_size}), below world_size")
    check_document_boundary(documents)
    loaded = load_tokenizer(tokenizer)
    special_token_ids = (loaded.cls_token_id, loaded.sep_token_id, loaded.pad_token_id)
    BlockPacker(max_length, *special_token_ids)  # refuses an impossible max_length before any work starts
    backend = text_backend(loaded)
    explain_speed(backend, tokenizer)
    if lost := lost_characters(loaded):
        logger.warning("tokenizer %r: %s", tokenizer, lost)
    if corpus is not None:
        paths = find_files(corpus, text_column)
        heads = [read_head(path) for path in paths[:FILES_LOOKED_INTO]] if documents == "blank_line" else []
        if hint := hint_at_lines(heads, documents):
            logger.warning("%s", hint)
        shares = share_files(paths, documents)
    else:
        assert dataset is not None
        shares = share_dataset(dataset, dataset_name, dataset_split)
    stream = IterableDataset.from_generator(
        _blocks_of_shares,
        features=block_features(max_length),
        # The only list among them: `datasets` divides lists, and nothing else, between nodes and loader workers.
        gen_kwargs={
            "shares": shares,
            "backend": backend,
            "packer_arguments": (max_length, *special_token_ids),
            "unk_token_id": loaded.unk_token_id,
            "documents": documents,
            "text_column": text_column,
        },
    )
    if shuffle_buffer_blocks:
        stream = stream.shuffle(seed=seed, buffer_size=shuffle_buffer_blocks)
    return split_dataset_by_node(stream, rank, world_size) if world_size > 1 else stream


def _blocks_of_shares(
    shares: list[Share],
    backend: str,
    packer_arguments: tuple[int, int, int, int],
    unk_token_id: int | None,
    documents: str,
    text_column: str,
) -> Iterator[dict[str, Any]]:
    encoder = DocumentEncoder(backend)
    tally = UnknownTally(unk_token_id)
    for share in shares:
        # A packer for each share, so that the blocks do not depend on which shares a worker happens to read.
        packer = BlockPacker(*packer_arguments)
        for _, token_ids in encoder.encode(read_share(share, documents, text_column)):
            tally.add(token_ids)
            for block in packer.add(token_ids):
                yield block._asdict()
        tally.look()
        for block in packer.flush():
            yield block._asdict()
