"""Sentences and their separators, the oracle by hand, and a tiny model that finds the right ones."""

import numpy as np
import pytest
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import tiny_tokenizer

from modeling_electra_rtd.finetuning.kinds.extractive_summarization import ExtractiveSummarization
from modeling_electra_rtd.finetuning.tasks import TASKS


SENTENCES = ["the cat sat on a mat", "w1 w2", "the dog and the cat"]


def kind(max_length: int = 48, num_sentences: int = 1) -> ExtractiveSummarization:
    task = TASKS["scitldr_extractive"]
    return ExtractiveSummarization(task, (), tiny_tokenizer(), max_length, num_sentences=num_sentences)


def examples(*references: str) -> Dataset:
    return Dataset.from_list([{"sentences": SENTENCES, "references": [reference]} for reference in references])


def test_every_sentence_ends_in_its_separator():
    row = kind().features(examples("a dog and a cat"), training=True)[0]
    tokens = tiny_tokenizer().convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["[CLS]", *SENTENCES[0].split(), "[SEP]", "w1", "w2", "[SEP]", *SENTENCES[2].split(), "[SEP]"]
    ends = [position for position, number in enumerate(row["sentence"]) if number >= 0]
    assert [tokens[position] for position in ends] == ["[SEP]"] * 3
    assert [row["labels"][position] for position in ends] == [0, 0, 1]
    assert sum(label != -100 for label in row["labels"]) == 3


@pytest.mark.parametrize("max_length", [9, 12, 48])
def test_windows_lose_no_sentence_and_predictions_find_them(max_length):
    small, data = kind(max_length, num_sentences=2), examples("x", "y")
    features = small.features(data, training=False)
    assert max(features["length"]) <= max_length
    numbers = [[n for row in features if row["example"] == e for n in row["sentence"] if n >= 0] for e in (0, 1)]
    assert numbers == [[0, 1, 2]] * 2
    logits = np.zeros((len(features), max_length, 2))
    for row, (example, ends) in enumerate(zip(features["example"], features["sentence"], strict=True)):
        for position, number in enumerate(ends):
            # Positions within sentences shout louder, which must not matter.
            logits[row, position, 1] = 9.0 if number < 0 else [[1, 3, 2], [3, 1, 2]][example][number]
    assert small.predictions(logits, features, data) == [
        f"{SENTENCES[1]} {SENTENCES[2]}",
        f"{SENTENCES[0]} {SENTENCES[2]}",
    ]


def test_only_a_sentence_beyond_a_window_is_cut_and_counted():
    whole, small = kind(8), kind(7)
    assert whole.features(examples("x"), training=False)["sentence"][:] == [
        [-1] * 7 + [0],
        [-1, -1, -1, 1],
        [-1] * 6 + [2],
    ]
    windows = "are longer than 8 tokens and go on in further windows; no sentence is left out"
    assert whole.cut == {"documents": (1, 1, windows)}
    cut = small.features(examples("x"), training=False)
    assert tiny_tokenizer().decode(cut[0]["input_ids"]) == "[CLS] the cat sat on a [SEP]"
    assert small.cut["sentences"] == (1, 3, "are longer than a window of 7 tokens and lose their end")


def test_the_oracle_adds_sentences_while_they_help():
    assert kind().oracle(SENTENCES, ["a dog and a cat"]) == {2}
    assert kind(num_sentences=3).oracle(SENTENCES, ["the cat sat on a mat w1 w2"]) == {0, 1}
    assert kind(num_sentences=3).oracle(SENTENCES, ["nothing alike", "w1 w2"]) == {1}
    assert kind().oracle(SENTENCES, ["zebra"]) == set()
    best = kind().oracle_predictions(examples("w2 w1", "the dog"))
    assert best == [SENTENCES[1], SENTENCES[2]]


def test_the_lead_is_the_trivial_guess():
    assert kind(num_sentences=2).trivial_predictions(None, examples("x")) == [f"{SENTENCES[0]} {SENTENCES[1]}"]


def test_it_learns(tmp_path):
    orders = [[0, 1, 2], [1, 0, 2], [2, 1, 0], [2, 0, 1]] * 2
    data = Dataset.from_list(
        [{"sentences": [SENTENCES[n] for n in order], "references": [SENTENCES[1]]} for order in orders]
    )
    extracting = kind()
    model = extracting.load_model(checkpoint(tmp_path / "checkpoint"))
    trainer = trainer_of(extracting, model, data, tmp_path / "run", max_steps=60, learning_rate=1e-2)
    trainer.train()
    features = extracting.features(data, training=False)
    outputs = trainer.predict(features).predictions
    predictions = extracting.predictions(outputs, features, data)
    assert predictions == [SENTENCES[1]] * 8
    assert extracting.metrics(predictions, data)["rouge1"] == 100
    assert extracting.metrics(extracting.trivial_predictions(data, data), data)["rouge1"] < 50
