"""Characters and words of a corpus: which a vocabulary has to hold, and what stripping accents would make of them."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer


# A smaller alphabet makes longer words of a vocabulary, but every word with a character that is left out is unknown.
COVERED_SHARE = 0.9999
# Alphabets up to this size are kept whole, as BERT's is.
SMALL_ALPHABET = 1000
# Runs longer than this that BERT's pre-tokenizer may leave in one piece, as it splits at punctuation and ideographs.
LONG_WORD = 100
_LONG_RUN = re.compile(
    r"[^\s!-/:-@\[-`{-~\u2010-\u2027\u3000-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]"
    f"{{{LONG_WORD + 1},}}"
)
# Different words that are remembered to count those which become one: some 100 MB.
MAXIMUM_WORDS = 10**6
SHOWN_WORDS = 3
_AROUND_WORDS = string.punctuation + "‘’“”„«»¿¡…।،؛؟。，！？、"


class Alphabet(NamedTuple):
    """Characters of a vocabulary.

    Attributes:
        characters: the most frequent ones.
        left_out: how many different ones are not among them.
        left_out_share: how much of the text these make up, white space not counted; in [0, 1].
    """

    characters: list[str]
    left_out: int
    left_out_share: float


class CorpusCharacters:
    """What is counted of a corpus on its way by.

    Args:
        keep_words: whether different words are remembered, up to `MAXIMUM_WORDS` of them.

    Attributes:
        characters: how often each occurs.
        words: different ones, without punctuation around them.
    """

    def __init__(self, keep_words: bool = False):
        self.characters: Counter[str] = Counter()
        self.words: set[str] = set()
        self._keep_words = keep_words
        self._long_runs: list[str] = []

    def counting(self, texts: Iterable[str]) -> Iterator[str]:
        """The same texts, counted."""
        for text in texts:
            self.characters.update(text)
            if not self._long_runs and (run := _LONG_RUN.search(text)):
                self._long_runs.append(run[0])
            if self._keep_words and len(self.words) < MAXIMUM_WORDS:
                self.words.update(word.strip(_AROUND_WORDS) for word in text.split())
            yield text

    @property
    def has_long_words(self) -> bool:
        """Whether a word has more characters than WordPiece reads of one."""
        return bool(self._long_runs)

    def alphabet(self, normalizer: Normalizer, pre_tokenizer: PreTokenizer, entries: int, is_exact: bool) -> Alphabet:
        """The characters that cover the text, as a tokenizer sees it, as far as a vocabulary has room for them.

        Args:
            entries: of the vocabulary.
            is_exact: count the two entries that a character needs which stands both at the start of words and within
                them, whether it does or not; else the one that it needs at least.
        """
        counts: Counter[str] = Counter()
        for character, count in self.characters.items():
            for normalized in normalizer.normalize_str(character):
                if not normalized.isspace():
                    counts[normalized] += count
        total = counts.total()
        characters: list[str] = []
        covered = 0
        for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            if len(characters) >= SMALL_ALPHABET and covered >= COVERED_SHARE * total:
                break
            entries -= 2 if is_exact and not _stands_alone(character, normalizer, pre_tokenizer) else 1
            if entries < 0:
                break
            characters.append(character)
            covered += count
        return Alphabet(characters, len(counts) - len(characters), 1 - covered / total if total else 0.0)


def accents_lost(words: set[str], kept: Normalizer, stripped: Normalizer) -> str | None:
    """What stripping accents makes of words, in a sentence; `None` if they have none.

    Args:
        kept, stripped: what the tokenizer would make of a text without stripping, and what it makes of it.
    """
    forms: dict[str, set[str]] = {}
    changed = []
    for word in words:
        keeps, strips = kept.normalize_str(word), stripped.normalize_str(word)
        forms.setdefault(strips, set()).add(keeps)
        if strips != keeps:
            changed.append((word, strips))
    if not changed:
        return None
    merged = sum(len(same) for same in forms.values() if len(same) > 1)
    least = "at least " if len(words) >= MAXIMUM_WORDS else ""
    shown = ", ".join(f"{word} > {strips}" for word, strips in sorted(changed)[:SHOWN_WORDS])
    scripts = sorted({script for word, _ in changed for script in _scripts_of_marks(word)})
    letters = f"; in {', '.join(scripts)} marks are letters" if scripts else ""
    return (
        f"accents are stripped from {least}{len(changed):,} of {len(words):,} different words ({shown}), and "
        f"{merged:,} of these words are no longer told apart{letters}"
    )


def _stands_alone(character: str, normalizer: Normalizer, pre_tokenizer: PreTokenizer) -> bool:
    """Whether it is never within a word: an ideograph, punctuation."""
    return len(pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(f"a{character}a"))) > 1


def _scripts_of_marks(word: str) -> set[str]:
    """Scripts other than Latin, Greek and Cyrillic, by their Unicode names, of which a word has marks."""
    scripts = set()
    for character in unicodedata.normalize("NFD", word):
        if unicodedata.category(character).startswith("M") or "\u1100" <= character <= "\u11ff":
            name = unicodedata.name(character, "COMBINING").split()[0]
            scripts |= {name.capitalize()} - {"Combining", "Greek", "Cyrillic", "Variation"}
    return scripts
