"""Token ids of words, remembered, because a corpus says few words many times: exactly the tokenizer's ids, sooner.

A text is cut only where every step of its tokenization falls apart anyway, so that its ids are those of the pieces,
one behind the other. Where that is, is known for the tokenizers below; others have to read each text as a whole.
"""

import itertools
import json
import re
import unicodedata
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer, Sequence, Split

from ..model.text_encoding import CONTROL_CUT


# Cuts have plain characters on both sides: normalization neither removes them, nor joins them with what stands before,
# nor makes white space of them (`whole_text_reason` makes sure). Combining marks, for one, are not plain.
LETTERS = (
    r"0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af"  # Latin
    r"\u0391-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u0561-\u0587"  # Greek, Cyrillic, Armenian
    r"\u05d0-\u05ea\u0621-\u064a\uac00-\ud7a3"  # Hebrew, Arabic, Korean
)
PUNCTUATION = r"!-/:-@\[-`{-~\u2010-\u2016\u2018-\u2027"
PLAIN = LETTERS + PUNCTUATION

LOCAL_NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "StripAccents"}
MODELS = {"WordPiece", "WordLevel", "BPE", "Unigram"}

# Rare long pieces, whole lines of a script without spaces among them, would fill the memory and never be seen again.
LONGEST_PIECE = 64
# About 30 MB. Corpora change their subject: a full memory starts anew rather than serve the first subject for ever.
MAXIMUM_PIECES = 2**17


def _pieces(space: str, word: str) -> re.Pattern[str]:
    """Cut before each `word`, and before a `space` in front of one, if a plain character precedes."""
    return re.compile(f"(?:{space}?{word})?+(?:(?!{space}?[{PLAIN}])[^{PLAIN}]++(?:{word})?+)*+")


# Only before single spaces, which stay with the word behind them.
_BETWEEN_WORDS = _pieces(" ", f"[{PLAIN}]++")
# By type of pre-tokenizer. BERT's isolates punctuation. The byte-level one ends a word before punctuation, but what
# follows may be one with it: "'s", "'ll".
_CUTS = {
    "BertPreTokenizer": _pieces("[ \n]", f"(?:[{LETTERS}]++|[{PUNCTUATION}])"),
    "ByteLevel": _pieces(" ", f"(?:[{PUNCTUATION}]++[{LETTERS}]*+|[{LETTERS}]++)"),
    "Metaspace": _BETWEEN_WORDS,
    "Whitespace": _BETWEEN_WORDS,
    "WhitespaceSplit": _BETWEEN_WORDS,
}


# Pieces of at most as many characters as WordPiece reads of a word, a character and its marks never apart.
_LONG_WORDS = r"\S{1,100}(?!\p{M})"


def long_word_pre_tokenizer() -> PreTokenizer:
    """BERT's, which also cuts words that are too long for WordPiece (proteins, addresses, scripts without spaces) into
    pieces. A longer limit would cost the cube of the length: ten thousand characters take WordPiece half a minute."""
    return Sequence([BertPreTokenizer(), Split(Regex(_LONG_WORDS), "isolated")])


def whole_text_reason(tokenizer: Tokenizer) -> str | None:
    """Why a text has to be encoded as a whole: its ids may not be those of its pieces. None: they are."""
    description = json.loads(tokenizer.to_str())
    model, splitter = description["model"], _splitter(description)
    if model["type"] not in MODELS or model.get("dropout"):
        return f"model {model['type']}{' with dropout' if model.get('dropout') else ''}"
    if splitter["type"] not in _CUTS or not splitter.get("use_regex", True) or not splitter.get("split", True):
        return f"pre-tokenizer {splitter['type']}, which may not split at spaces"
    for step in _normalizer_steps(description):
        if step["type"] not in LOCAL_NORMALIZERS and not _replaces_within_words(step):
            return f"normalizer {step['type']}, which may see more than a word"
    for token in _words_added(description):
        content = token["content"]
        spaces_only = content.isspace() and len(content) > 1
        if token["lstrip"] or token["rstrip"] or not spaces_only and re.search(r"\s", content):
            return f"added token {content!r}, which may span words"
    if tokenizer.normalizer is not None:
        for character in filter(re.compile(f"[{PLAIN}]").match, map(chr, range(0xD800))):
            normalized = tokenizer.normalizer.normalize_str(character)
            if not normalized or re.search(r"\s", normalized) or unicodedata.category(normalized[0]).startswith("M"):
                return f"normalizer that turns {character!r} into {normalized!r}"
    return None


class WordCache(dict[str, list[int]]):
    """Ids of the pieces seen lately; a missing piece is encoded on the way.

    Args:
        tokenizer: one without a `whole_text_reason`, that neither truncates nor pads.
    """

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self._tokenizer = tokenizer
        self._split = _cuts(json.loads(tokenizer.to_str())).findall

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        return list(itertools.chain.from_iterable(map(self.__getitem__, self._split(text))))

    def __missing__(self, piece: str) -> list[int]:
        ids = self._tokenizer.encode(piece, add_special_tokens=False).ids
        if len(piece) <= LONGEST_PIECE:
            if len(self) >= MAXIMUM_PIECES:
                self.clear()
            self[piece] = ids
        return ids


def _cuts(description: dict[str, Any]) -> re.Pattern[str]:
    # What is replaced or added may hold punctuation, and must not be cut there; a space put before the text would be
    # put before every piece that has none.
    uncut = any(step["type"] == "Replace" for step in _normalizer_steps(description)) or _words_added(description)
    splitter = _splitter(description)
    return _BETWEEN_WORDS if uncut or splitter.get("add_prefix_space") else _CUTS[splitter["type"]]


def _splitter(description: dict[str, Any]) -> dict[str, Any]:
    """The pre-tokenizer that says where a text may be cut."""
    splitter = description["pre_tokenizer"] or {"type": "none"}
    steps = splitter.get("pretokenizers", [])
    if len(steps) == 2 and steps[1].get("pattern", {}).get("Regex", "").startswith(CONTROL_CUT):
        # Cuts within words alone, as no control token has a space in it.
        splitter = steps[0]
        steps = splitter.get("pretokenizers", [])
    cuts_long_words = [step.get("pattern") for step in steps[1:]] == [{"Regex": _LONG_WORDS}]
    return steps[0] if cuts_long_words and steps[0]["type"] == "BertPreTokenizer" else splitter


def _normalizer_steps(description: dict[str, Any]) -> list[dict[str, Any]]:
    def steps(normalizer: dict[str, Any]) -> list[dict[str, Any]]:
        if normalizer["type"] != "Sequence":
            return [normalizer]
        return [step for member in normalizer["normalizers"] for step in steps(member)]

    return steps(description["normalizer"]) if description["normalizer"] else []


def _replaces_within_words(step: dict[str, Any]) -> bool:
    if step["type"] != "Replace":
        return False
    # Runs of spaces are never cut.
    if step["pattern"] == {"Regex": " {2,}"}:
        return True
    return all(re.fullmatch("[!-~]+", text) for text in (step["pattern"].get("String", ""), step["content"]))


def _words_added(description: dict[str, Any]) -> list[dict[str, Any]]:
    """Tokens that are found in a text before anything else; special ones are text like any other in a corpus."""
    return [token for token in description["added_tokens"] if not token["special"]]
