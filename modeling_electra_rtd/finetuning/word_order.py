"""A labelled task that any plain text contains: was this sentence written so, or were two neighbouring words swapped?

The words of both classes are the same, so counting them tells nothing: whoever reads no order is right half of the
time. What helps is knowing which word follows which, and that is what pre-training on replaced tokens teaches.
"""

import random
import re
from collections.abc import Iterable, Iterator

from datasets import Dataset


LABELS = ("as_written", "swapped")
# Words. Shorter sentences leave little to swap, longer ones little to see of it.
SHORTEST, LONGEST = 8, 32

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_PLAIN_WORD = re.compile(r"[a-z]+$")


def word_order_examples(documents: Iterable[str], count: int, seed: int = 0) -> Dataset:
    """Balanced examples with `sentence` and `label`, each sentence of the text used once, in one of the classes.

    Swapped are two neighbouring, different, plain lower-case words, so that neither capitals nor punctuation tell.

    Args:
        documents: texts; sentences end with a full stop, a question or an exclamation mark.
        count: how many examples; fewer where the text has fewer sentences.
        seed: of the choice of sentences and of the words that are swapped.
    """
    generator = random.Random(seed)
    sentences = sorted(set(_sentences(documents)))
    generator.shuffle(sentences)
    rows = []
    for number, sentence in enumerate(sentences[: count - count % 2]):
        words = sentence.split()
        if number % 2:
            position = generator.choice(_swappable(words))
            words[position], words[position + 1] = words[position + 1], words[position]
        rows.append({"sentence": " ".join(words), "label": number % 2})
    return Dataset.from_list(rows)


def _sentences(documents: Iterable[str]) -> Iterator[str]:
    for document in documents:
        for paragraph in document.splitlines():
            for sentence in _SENTENCE.split(paragraph):
                words = sentence.split()
                if SHORTEST <= len(words) <= LONGEST and sentence[-1:] in ".!?" and _swappable(words):
                    yield " ".join(words)


def _swappable(words: list[str]) -> list[int]:
    return [
        i
        for i, (first, second) in enumerate(zip(words, words[1:], strict=False))
        if first != second and _PLAIN_WORD.match(first) and _PLAIN_WORD.match(second)
    ]
