"""Words and their first subwords: alignment by hand, over windows, and learned."""

import numpy as np
import pytest
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import tiny_tokenizer

from modeling_electra_rtd.finetuning.kinds.tagging import Tagging
from modeling_electra_rtd.finetuning.tasks import TASKS


LABELS = ("O", "B-animal", "I-animal")
TOKENS = [["the", "cats", "sat", "on", "mats"], ["dogs", "and", "cats"]]
TAGS = [[0, 1, 0, 0, 0], [1, 0, 1]]


@pytest.fixture
def examples() -> Dataset:
    return Dataset.from_dict({"tokens": TOKENS, "label": TAGS})


def kind(max_length: int = 16) -> Tagging:
    return Tagging(task=TASKS["wnut17"], labels=LABELS, tokenizer=tiny_tokenizer(), max_length=max_length)


def pieces(row: dict) -> list[str]:
    return tiny_tokenizer().convert_ids_to_tokens(row["input_ids"])


def test_the_first_subword_carries_the_label(examples):
    features = kind().features(examples, training=True)
    assert pieces(features[0]) == ["[CLS]", "the", "cat", "##s", "sat", "on", "mat", "##s", "[SEP]"]
    assert features[0]["labels"] == [-100, 0, 1, -100, 0, 0, 0, -100, -100]
    assert features[0]["word"] == [-1, 0, 1, -1, 2, 3, 4, -1, -1]
    assert features[1]["labels"] == [-100, 1, -100, 0, 1, -100, -100]
    assert features["length"] == [9, 7]
    assert features["example"] == [0, 1]


def test_long_sentences_go_on_in_windows_and_lose_no_word(examples):
    # Windows of two pieces: "cat | ##s" and "mat | ##s" are split between some of them.
    features = kind(max_length=4).features(examples, training=False)
    for number, (tokens, tags) in enumerate(zip(TOKENS, TAGS, strict=True)):
        rows = [row for row in features if row["example"] == number]
        assert [word for row in rows for word in row["word"] if word >= 0] == list(range(len(tokens)))
        assert [label for row in rows for label in row["labels"] if label != -100] == tags


@pytest.mark.parametrize("max_length", [4, 16])
def test_predictions_come_back_to_their_words(examples, max_length):
    features = kind(max_length).features(examples, training=False)
    logits = np.full((len(features), max_length, 3), -100.0)
    for row, feature in enumerate(features):
        for position, label in enumerate(feature["labels"]):
            # Wherever no word begins a wrong tag is loudest, which must not matter.
            logits[row, position] = [0, 0, 9]
            if label != -100:
                logits[row, position] = np.eye(3)[label]
    assert kind(max_length).predictions(logits, features, examples) == TAGS


def test_words_without_subwords_get_the_majority_tag():
    # A soft hyphen is a control character, which the tokenizer drops.
    examples = Dataset.from_dict({"tokens": [["cat", "\u00ad", "sat"]]})
    features = kind().features(examples, training=False)
    assert features[0]["word"] == [-1, 0, 2, -1]
    logits = np.zeros((1, 4, 3))
    logits[0, 1:3, 1] = 1
    assert kind().predictions(logits, features, examples) == [[1, 1, 1]]
    reading = kind()
    reading.features(examples, training=False)
    assert {what: cut[:2] for what, cut in reading.cut.items()} == {"words": (1, 3)}


def test_scores_are_of_entities(examples):
    scores = kind().metrics([[0, 1, 2, 0, 0], [1, 0, 1]], examples)
    # Three entities predicted, one of them too long; three in the reference.
    assert scores["precision"] == scores["recall"] == scores["f1"] == pytest.approx(2 / 3)


def test_the_trivial_guess_is_each_words_most_frequent_tag(examples):
    unseen = Dataset.from_dict({"tokens": [["cats", "zebra"]]})
    assert kind().trivial_predictions(examples, unseen) == [[1, 0]]


def test_one_tag_everywhere_is_degenerate():
    assert kind().is_degenerate([[0, 0], [0]])
    assert not kind().is_degenerate([[0, 0], [1]])


def test_it_learns(examples, tmp_path):
    tagging = kind()
    model = tagging.load_model(checkpoint(tmp_path / "checkpoint"))
    trainer = trainer_of(tagging, model, examples, tmp_path / "run", max_steps=60, learning_rate=1e-2)
    trainer.train()
    features = tagging.features(examples, training=False)
    outputs = trainer.predict(features.remove_columns("labels")).predictions
    assert tagging.predictions(outputs, features, examples) == TAGS
    assert model.config.id2label == dict(enumerate(LABELS))
