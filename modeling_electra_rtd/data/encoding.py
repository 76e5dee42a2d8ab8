"""Text -> token ids. Imports no `transformers`, whose three seconds every worker process would pay again."""

import logging
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer

from ..model.text_encoding import text_encoder_of
from .word_cache import WordCache, whole_text_reason


BATCH_CHARACTERS = 2**20

logger = logging.getLogger(__name__)


def text_encoder(backend: str) -> Tokenizer:
    """The backend tokenizer, given as JSON, for a corpus: it neither truncates nor pads, whatever was saved with it.

    In a corpus, "[MASK]" is text like any other: it is split, so that no document can forge a control token.

    Args:
        backend: as `text_encoding.text_backend` makes it, for which a user's own special tokens are not special.
    """
    return text_encoder_of(Tokenizer, backend)


def explain_speed(backend: str, name: str) -> None:
    """Say so if documents will be encoded slowly with this tokenizer, and why."""
    reason = whole_text_reason(text_encoder(backend))
    if reason:
        logger.warning("tokenizer %r: slower, words cannot be remembered (%s)", name, reason)


class DocumentEncoder:
    """Documents -> the ids that `text_encoder` gives them; words are remembered where the tokenizer allows it.

    Args:
        backend: see `text_encoder`.
    """

    def __init__(self, backend: str):
        self._encoder = text_encoder(backend)
        self._words = None if whole_text_reason(self._encoder) else WordCache(self._encoder)

    def encode(self, documents: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
        """Yield each document with its token ids, without special tokens, in order; a blank document has none."""
        if self._words is not None:
            for document in documents:
                yield document, self._words.encode(document)
            return
        for batch in _batches(documents):
            encodings = self._encoder.encode_batch_fast(batch, add_special_tokens=False)
            for document, encoding in zip(batch, encodings, strict=True):
                yield document, encoding.ids


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Batches by length, not by count: documents run from one line to one book, and memory has to stay flat."""
    batch: list[str] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
