"""Which tokens of a row continue a word, for masking whole words and spans of them."""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

from ..model.vocabulary import vocabulary_size


# Ideographs and kana, which are written without spaces: each is a word, or what a vocabulary has learned of several.
_IDEOGRAPHS = [
    *[range(0x2E80, 0x2FE0), range(0x3005, 0x3008), range(0x3021, 0x302A), range(0x3031, 0x3130)],
    *[range(0x31A0, 0x3200), range(0x3400, 0xA000), range(0xF900, 0xFB00), range(0xFF66, 0xFFA0)],
    *[range(0x1AFF0, 0x1B170), range(0x20000, 0x40000)],
]
# The sign that makes a vowel of katakana long is a letter to Unicode.
_LONG_VOWEL = "\u30fc"
# Zero width joiner and non-joiner: what stands behind goes on with what stands before.
_JOINERS = "\u200c\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_BYTE = re.compile("<0x([0-9A-F]{2})>")
# Byte-level BPE and SentencePiece mark the tokens that start a word with the space before it.
_SPACES = ("Ġ", "▁")
# In the place of tokens that have no text; UTF-8 has neither of these bytes.
_BREAK, _UNKNOWN = 0xFF, 0xFE


class _Kind(IntEnum):
    """What a character is to the word that it stands in.

    MARK: of the character before it. JOINER: joins what stands before and behind it. SPACE: a part of the word behind
    it. LETTER: of a word with spaces around, digits too. OTHER: a word of its own. BREAK: no character,
    but a special token.
    """

    MARK = 0
    JOINER = 1
    SPACE = 2
    LETTER = 3
    OTHER = 4
    BREAK = 5


class ContinuingTokens:
    """Tells which tokens go on with the word of the token before them. It is indexed by ids, as a table would be, but
    what stands before a token matters too.

    Words are those that people write: none is cut within a character, nor before its marks. Vocabularies of WordPiece
    say themselves what continues a word: "##". Elsewhere a space starts a word, and letters, digits and marks behind a
    letter continue it; punctuation marks and ideographs are words of their own, and so are special tokens. Scripts
    without spaces between words, such as Thai, are read from space to space.

    Args:
        tokenizer: a fast one.

    Raises:
        ValueError: for a vocabulary that marks neither the start nor the continuation of words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        description = json.loads(tokenizer.backend_tokenizer.to_str())
        vocabulary = tokenizer.get_vocab()
        prefix = _continuing_prefix(description["model"], vocabulary)
        is_byte_level = '"ByteLevel"' in json.dumps([description["pre_tokenizer"], description["normalizer"]])
        if prefix is None and not any(token.startswith(_SPACES) for token in vocabulary):
            raise ValueError(
                f"tokenizer {tokenizer.name_or_path!r} does not mark where words start, which masking_strategy "
                "'whole_word' and 'span' need; use 'token'"
            )
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        special = {*tokenizer.all_special_tokens, *added} - {tokenizer.unk_token}
        size = vocabulary_size(tokenizer)
        self._is_special = np.zeros(size, dtype=bool)
        self._is_special[[vocabulary[token] for token in special if token in vocabulary]] = True
        self._is_marked: np.ndarray | None = None
        if prefix is not None:
            self._is_marked = np.zeros(size, dtype=bool)
            marked = [token for token in vocabulary if _continues_by_itself(token, prefix) and token not in special]
            self._is_marked[[vocabulary[token] for token in marked]] = True
            return
        contents = [bytes([_BREAK])] * size
        for token, token_id in vocabulary.items():
            if token not in special:
                is_unknown = token == tokenizer.unk_token
                contents[token_id] = bytes([_UNKNOWN]) if is_unknown else _content(token, is_byte_level)
        self._lengths = np.array([len(content) for content in contents])
        self._offsets = np.cumsum(self._lengths) - self._lengths
        self._bytes = np.frombuffer(b"".join(contents), dtype=np.uint8)

    def __getitem__(self, input_ids: Any) -> np.ndarray | bool:
        """Bool, in the shape of the ids.

        Args:
            input_ids: `(batch, sequence)` or `(sequence,)`; of a single id it is said whether it continues a word that
                stands before it.
        """
        ids = np.asarray(input_ids)
        if self._is_marked is not None:
            continues = self._is_marked[ids]
            if not ids.ndim:
                return bool(continues)
        elif not ids.ndim:
            content = self._bytes[self._offsets[ids] : self._offsets[ids] + self._lengths[ids]]
            return bool(_continue_words(np.append(np.uint8(ord("a")), content), np.array([1]))[0])
        else:
            lengths = self._lengths[ids.ravel()]
            starts = np.cumsum(lengths) - lengths
            within = np.arange(lengths.sum()) - np.repeat(starts, lengths)
            content = self._bytes[np.repeat(self._offsets[ids.ravel()], lengths) + within]
            continues = _continue_words(content, starts).reshape(ids.shape)
        # Nothing goes on with a special token, nor with the end of the row, which was rolled to its start.
        is_first = np.roll(self._is_special[ids], 1, axis=-1)
        is_first[..., 0] = True
        return continues & ~is_first


def continuing_tokens(tokenizer: PreTrainedTokenizerBase) -> ContinuingTokens:
    """`ContinuingTokens(tokenizer)`.

    Raises:
        ValueError: see there.
    """
    return ContinuingTokens(tokenizer)


def _continuing_prefix(model: dict[str, Any], vocabulary: Iterable[str]) -> str | None:
    """What a token begins with that continues a word, where the model marks that."""
    prefix = model.get("continuing_subword_prefix") or None
    has_any = prefix is not None and any(token.startswith(prefix) and token != prefix for token in vocabulary)
    return prefix if has_any and model["type"] in ("WordPiece", "BPE") else None


def _continues_by_itself(token: str, prefix: str) -> bool:
    # The pre-tokenizer takes marks from ideographs: a variation selector is no word.
    return token.startswith(prefix) and token != prefix or _kind_of(ord(token[:1] or " ")) == _Kind.MARK


def _content(token: str, is_byte_level: bool) -> bytes:
    """The text of a token of byte-level BPE or SentencePiece, which may begin or end within a character."""
    if is_byte_level:
        content = bytes(_bytes_by_name().get(character, _BREAK) for character in token)
    elif byte := _BYTE.fullmatch(token):
        content = bytes([int(byte[1], 16)])
    else:
        content = token.replace(_SPACES[1], " ").encode()
    return content or bytes([_BREAK])


def _continue_words(content: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """`(tokens,)` bool.

    Args:
        content: `(bytes,)` uint8, the text of all tokens.
        starts: `(tokens,)`, where each begins in it.
    """
    begins_character = content & 0xC0 != 0x80
    first = np.flatnonzero(begins_character)
    codes, inverse = np.unique(_code_points(content, first), return_inverse=True)
    kinds = np.array([_kind_of(code) for code in codes.tolist()], dtype=np.int8)[inverse]
    # Marks say nothing of the word that they stand in.
    position = np.where(kinds > _Kind.MARK, np.arange(len(kinds)), 0)
    before = np.roll(kinds[np.maximum.accumulate(position)], 1)
    continues = kinds <= _Kind.JOINER
    continues |= (kinds == _Kind.LETTER) & (before == _Kind.LETTER)
    continues |= (before == _Kind.JOINER) | (before == _Kind.SPACE) & (kinds != _Kind.SPACE)
    continues &= kinds != _Kind.BREAK
    # What begins within a character continues it.
    found = np.ones(len(content), dtype=bool)
    found[first] = continues
    return found[starts]


def _code_points(content: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Classify the characters from `first` on; `_BREAK` and `_UNKNOWN` lie beyond all of them."""
    padded = np.append(content, np.zeros(3, np.uint8)).astype(np.int64)
    lead, *rest = (padded[first + i] for i in range(4))
    second, third, fourth = (byte & 0x3F for byte in rest)
    two, three = (lead & 0x1F) << 6 | second, (lead & 0x0F) << 12 | second << 6 | third
    four = (lead & 0x07) << 18 | second << 12 | third << 6 | fourth
    codes = np.select([lead < 0x80, lead < 0xE0, lead < 0xF0, lead < 0xF8], [lead, two, three, four], 0x110000 + lead)
    return codes


@functools.lru_cache(maxsize=2**16)
def _kind_of(code: int) -> _Kind:
    if code == 0x110000 + _UNKNOWN:
        # Characters of a word, most likely.
        return _Kind.LETTER
    if code > 0x10FFFF:
        return _Kind.BREAK
    character, category = chr(code), unicodedata.category(chr(code))
    if character == " ":
        return _Kind.SPACE
    if character in _JOINERS:
        return _Kind.JOINER
    if category.startswith("M") or character == _LONG_VOWEL or code in _SKIN_TONES:
        return _Kind.MARK
    if category[0] in "LN" and not any(code in block for block in _IDEOGRAPHS):
        return _Kind.LETTER
    return _Kind.OTHER


@functools.lru_cache(maxsize=1)
def _bytes_by_name() -> dict[str, int]:
    """The bytes that the characters of byte-level vocabularies stand for: those of printable Latin-1 characters stand
    for themselves, others for the characters from U+0100 on, in order."""
    own = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in own]
    names = {chr(byte): byte for byte in own} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
    assert names.keys() == set(ByteLevel.alphabet()), "the byte alphabet of `tokenizers`"
    return names
