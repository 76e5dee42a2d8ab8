"""Swapped words: what is changed, what is not, and that words alone tell nothing."""

from collections import Counter

from modeling_electra_rtd.finetuning.word_order import LABELS, word_order_examples


SENTENCES = [
    f"The {animal} sat on the mat and {verb} at number {number} for a very long time."
    for animal in ("cat", "dog", "owl")
    for verb in ("looked", "laughed", "barked")
    for number in range(6)
]
DOCUMENTS = [" ".join(SENTENCES[:20]), "\n".join(SENTENCES[20:]), "Too short. " + SENTENCES[0]]


def test_half_is_as_written_and_half_differs_in_two_neighbours():
    examples = word_order_examples(DOCUMENTS, 40)
    assert Counter(examples["label"]) == {0: 20, 1: 20}
    for sentence, label in zip(examples["sentence"], examples["label"], strict=True):
        if LABELS[label] == "as_written":
            assert sentence in SENTENCES
            continue
        assert sentence not in SENTENCES
        words = sentence.split()
        # Swapping one pair of neighbours back gives a sentence of the text with the very same words.
        origins = []
        for i in range(len(words) - 1):
            restored = [*words[:i], words[i + 1], words[i], *words[i + 2 :]]
            if " ".join(restored) in SENTENCES:
                origins.append((words[i], words[i + 1]))
        assert origins and all(word.isalpha() and word.islower() for pair in origins for word in pair)


def test_every_sentence_is_used_once():
    examples = word_order_examples(DOCUMENTS, 1000)
    assert len(examples) == len(set(SENTENCES))
    keys = [tuple(sorted(sentence.split())) for sentence in examples["sentence"]]
    assert len(set(keys)) == len(keys)


def test_the_seed_decides():
    first = word_order_examples(DOCUMENTS, 30, seed=1).to_list()
    assert word_order_examples(DOCUMENTS, 30, seed=1).to_list() == first
    assert word_order_examples(DOCUMENTS, 30, seed=2).to_list() != first
