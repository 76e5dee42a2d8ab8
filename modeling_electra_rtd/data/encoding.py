"""Text -> token ids. Imports no `transformers`, whose three seconds every worker process would pay again."""

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer


BATCH_CHARACTERS = 2**20


def text_encoder(backend: str) -> Tokenizer:
    """The backend tokenizer, given as JSON, for a corpus: it neither truncates nor pads, whatever was saved with it.

    In a corpus, "[MASK]" is text like any other: it is split, so that no document can forge a special token.
    """
    encoder = Tokenizer.from_str(backend)
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    return encoder


def encode_documents(encoder: Tokenizer, documents: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
    """Yields each document with its token ids, without special tokens, in order; a blank document has none."""
    for batch in _batches(documents):
        for document, encoding in zip(batch, encoder.encode_batch_fast(batch, add_special_tokens=False), strict=True):
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
