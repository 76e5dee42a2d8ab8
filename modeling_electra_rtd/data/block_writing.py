"""One share of a corpus, read, tokenized, packed and written as Arrow files; what a worker process does."""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow
from datasets import Features, List, Value
from datasets.arrow_writer import ArrowWriter

from .documents import read_share
from .encoding import DocumentEncoder
from .packing import Block, BlockPacker
from .shares import Share


SPLITS = ("train", "validation")
HASH_BITS = 64
BLOCKS_PER_BATCH = 1000
REPORT_BYTES = 2**18


# Building it takes 0.1 s, the words it remembers more, and a process works through many shares.
_document_encoder = functools.lru_cache(maxsize=1)(DocumentEncoder)


class BlockSettings(NamedTuple):
    """What decides the content of the blocks, besides the corpus.

    `validation_threshold` lies in [0, 2**64]: a document whose `document_hash` is below it goes to validation.
    """

    tokenizer: str
    control_tokens: tuple[str, ...]
    cls_token_id: int
    sep_token_id: int
    pad_token_id: int
    unk_token_id: int | None
    max_length: int
    documents: str
    text_column: str
    seed: int
    validation_threshold: int

    def packer(self) -> BlockPacker:
        """An empty packer for these settings."""
        return BlockPacker(self.max_length, self.cls_token_id, self.sep_token_id, self.pad_token_id)


class SplitCounts(NamedTuple):
    """Sizes of one split; `tokens` are those of the text, `unknown_tokens` the [UNK] among them; `filled` positions
    also hold [CLS] and [SEP]."""

    documents: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    blocks: int = 0
    filled: int = 0

    def plus(self, other: "SplitCounts") -> "SplitCounts":
        """The sum, field by field."""
        return SplitCounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class ShareReport(NamedTuple):
    """What was found in one share; the hashes are None where it holds no document. `control_tokens` counts those that
    its texts write, as text."""

    splits: dict[str, SplitCounts]
    files: dict[str, str]
    text_bytes: int
    empty_documents: int
    control_tokens: Counter[str]
    smallest_hash: int | None
    largest_hash: int | None


def document_hash(text: bytes, seed: int) -> int:
    """A number in [0, 2**64) drawn by content, so that copies of a document never stand in different splits."""
    digest = hashlib.blake2b(text, digest_size=HASH_BITS // 8, key=str(seed).encode())
    return int.from_bytes(digest.digest(), "big")


def block_features(max_length: int) -> Features:
    """The columns of a block on disk."""
    return Features({"input_ids": List(Value("int32"), length=max_length), "document_lengths": List(Value("int32"))})


def write_share(share: Share, settings: BlockSettings, stem: str, report: Callable[[int], None]) -> ShareReport:
    """Write the blocks of one share to `{stem}-train.arrow` and `{stem}-validation.arrow`.

    Args:
        report: called now and then with the bytes of text read since the last call; may raise to stop the work.

    Raises:
        ValueError: a file or column of the share cannot be read (see `read_share`).
    """
    files = {split: f"{stem}-{split}.arrow" for split in SPLITS}
    writers = {split: _SplitWriter(files[split], settings) for split in SPLITS}
    text_bytes = unreported = empty_documents = 0
    written: Counter[str] = Counter()
    smallest, largest = 2**HASH_BITS, -1
    documents = read_share(share, settings.documents, settings.text_column)
    for text, token_ids in _document_encoder(settings.tokenizer).encode(documents):
        content = text.encode()
        written.update({token: text.count(token) for token in settings.control_tokens if token in text})
        text_bytes += len(content)
        unreported += len(content)
        if unreported >= REPORT_BYTES:
            report(unreported)
            unreported = 0
        if not token_ids:
            empty_documents += 1
            continue
        content_hash = document_hash(content, settings.seed)
        smallest, largest = min(smallest, content_hash), max(largest, content_hash)
        writers["validation" if content_hash < settings.validation_threshold else "train"].add(token_ids)
    # Blank lines and markup are no text; what is left of the share's bytes is reported here.
    report(unreported + max(0, sum(piece.size for piece in share) - text_bytes))
    counts = {split: writer.close() for split, writer in writers.items()}
    hashes = (smallest, largest) if largest >= 0 else (None, None)
    return ShareReport(counts, files, text_bytes, empty_documents, written, *hashes)


class _SplitWriter:
    """Pack the documents of one split into blocks and write them in batches."""

    def __init__(self, path: str, settings: BlockSettings):
        self._packer = settings.packer()
        self._unk_token_id = settings.unk_token_id
        self._features = block_features(settings.max_length)
        self._writer = ArrowWriter(features=self._features, path=path, writer_batch_size=BLOCKS_PER_BATCH)
        self._pending: list[Block] = []
        self._counts = SplitCounts()

    def add(self, token_ids: list[int]) -> None:
        self._counts = self._counts._replace(
            documents=self._counts.documents + 1,
            tokens=self._counts.tokens + len(token_ids),
            unknown_tokens=self._counts.unknown_tokens
            + (0 if self._unk_token_id is None else token_ids.count(self._unk_token_id)),
        )
        self._pending += self._packer.add(token_ids)
        if len(self._pending) >= BLOCKS_PER_BATCH:
            self._write()

    def close(self) -> SplitCounts:
        self._pending += self._packer.flush()
        self._write()
        self._writer.finalize()
        return self._counts

    def _write(self) -> None:
        if not self._pending:
            return
        input_ids = np.array([block.input_ids for block in self._pending], dtype=np.int32)
        segments = np.array([len(block.document_lengths) for block in self._pending], dtype=np.int32)
        lengths = np.concatenate([block.document_lengths for block in self._pending], dtype=np.int32)
        # Training relies on it: a row without a document would have nothing to predict.
        assert segments.min() >= 1 and lengths.min() >= 3, "a block holds at least one [CLS] token [SEP]"
        offsets = np.concatenate([np.zeros(1, np.int32), segments.cumsum(dtype=np.int32)])
        columns = {
            "input_ids": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(input_ids.ravel()), input_ids.shape[1]),
            "document_lengths": pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(lengths)),
        }
        self._writer.write_table(pyarrow.table(columns))
        self._counts = self._counts._replace(
            blocks=self._counts.blocks + len(self._pending), filled=self._counts.filled + int(lengths.sum())
        )
        self._pending = []
