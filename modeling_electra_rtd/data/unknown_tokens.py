"""Unknown tokens, counted and said: where they are many, a text has become something else."""

import json
import logging
from collections.abc import Iterable

import numpy as np
import pyarrow
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

from ..model.vocabulary import vocabulary_size


# An English text of a vocabulary of its own has less than one in a thousand.
WARNED_SHARE = 0.01
# The share of tokens, punctuation left out, that must be known: nothing can be learned from fewer words.
REFUSED_SHARE = 0.9
# A stream looks at its share after so many tokens, and whenever they have doubled.
FIRST_LOOK = 1000

logger = logging.getLogger(__name__)


def unknown_share_problem(unknown: int, tokens: int, of_what: str) -> str | None:
    """A warning for a share above `WARNED_SHARE`, else None.

    Args:
        of_what: whose tokens these are.
    """
    if not tokens or unknown / tokens <= WARNED_SHARE:
        return None
    return (
        f"{unknown:,} of {tokens:,} tokens of {of_what} ({unknown / tokens:.1%}) are unknown ([UNK]): words or "
        "characters that the vocabulary has no tokens for"
    )


def check_unknown(unknown: int, tokens: int, words: int, of_what: str) -> None:
    """Warns of unknown tokens, where they are more than `WARNED_SHARE`.

    Args:
        tokens: all of them, but what the template puts around a text.
        words: those that are not punctuation: unknown words stand between commas, which are known and say nothing.

    Raises:
        ValueError: nearly all are unknown.
    """
    problem = unknown_share_problem(unknown, tokens, of_what)
    if problem is None:
        return
    way_out = "train a tokenizer on such texts (electra-rtd tokenizer; --algorithm bpe knows every text)"
    if unknown > REFUSED_SHARE * words:
        raise ValueError(f"{problem}, and there is nearly nothing else to learn from; {way_out}")
    logger.warning("%s; %s", problem, way_out)


def without_punctuation(counts: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens hold a letter or a digit, or are unknown.

    Args:
        counts: `(vocabulary,)`, how often each id occurs; special tokens not counted.
    """
    words = np.zeros(len(counts), dtype=bool)
    for token, token_id in tokenizer.get_vocab().items():
        words[token_id] = any(c.isalnum() for c in token)
    words[_special_ids(tokenizer)] = False
    return int(counts[words].sum())


def count_ids(columns: Iterable[pyarrow.ChunkedArray], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """`(vocabulary,)` int64: how often each id of a tokenizer occurs in columns of lists of ids, however deep."""
    counts = np.zeros(vocabulary_size(tokenizer), dtype=np.int64)
    for column in columns:
        for chunk in column.chunks:
            while not pyarrow.types.is_integer(chunk.type):
                chunk = chunk.flatten()
            counts += np.bincount(chunk.to_numpy(zero_copy_only=False), minlength=len(counts))[: len(counts)]
    return counts


def warn_of_unknown(input_ids: pyarrow.ChunkedArray, tokenizer: PreTrainedTokenizerBase, of_what: str) -> float:
    """Warns of unknown tokens in what a model is to read, where they are more than `WARNED_SHARE`.

    Args:
        input_ids: lists of ids, however deep, special tokens among them.
        of_what: whose ids these are.

    Returns:
        The share of the tokens that are unknown, in [0, 1].
    """
    if tokenizer.unk_token_id is None:
        return 0.0
    counts = count_ids([input_ids], tokenizer)
    counts[_special_ids(tokenizer)] = 0
    unknown, tokens = int(counts[tokenizer.unk_token_id]), int(counts.sum())
    if problem := unknown_share_problem(unknown, tokens, of_what):
        logger.warning("%s", problem)
    return unknown / max(1, tokens)


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]


def lost_characters(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why a tokenizer leaves characters out of texts without a trace; None if it has tokens for all, or an unknown
    token."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    model = description["model"]
    if model["type"] != "BPE" or model.get("unk_token") is not None or model.get("byte_fallback"):
        return None
    if '"ByteLevel"' not in json.dumps([description["pre_tokenizer"], description["normalizer"]]):
        return "characters that are not in its vocabulary vanish from texts, as it has no unknown token"
    # Bytes 0xc0, 0xc1 and from 0xf5 on are in no UTF-8 text.
    texts = [chr(i) for i in (*range(0x800), *range(0x800, 0xD800, 0x800), *range(0xE000, 0x110000, 0x1000))]
    needed = {c for text in texts for c in ByteLevel(False, use_regex=False).pre_tokenize_str(text)[0][0]}
    missing = len(needed - model["vocab"].keys())
    if not missing:
        return None
    return (
        f"{missing} of the {len(needed)} bytes of texts are not in its vocabulary and vanish from them, as it has no "
        "unknown token; train it with the whole byte alphabet"
    )


class UnknownTally:
    """Counts the unknown tokens of a stream and speaks up once, as soon as that is certain.

    Args:
        unk_token_id: `None` for a tokenizer without an unknown token.
    """

    def __init__(self, unk_token_id: int | None):
        self.unknown = self.tokens = 0
        self._unk_token_id = unk_token_id
        self._next_look = FIRST_LOOK
        self._has_spoken = unk_token_id is None

    def add(self, token_ids: list[int]) -> None:
        """Count the ids of a document.

        Raises:
            ValueError: nearly all tokens so far are unknown.
        """
        if self._has_spoken:
            return
        self.unknown += 0 if self._unk_token_id is None else token_ids.count(self._unk_token_id)
        self.tokens += len(token_ids)
        if self.tokens >= self._next_look:
            self._next_look = 2 * self.tokens
            self.look()

    def look(self) -> None:
        """Speaks up if there is reason to; for the end of a stream."""
        if self._has_spoken or self.unknown <= WARNED_SHARE * self.tokens:
            return
        self._has_spoken = True
        check_unknown(self.unknown, self.tokens, self.tokens, "the stream so far")
