"""Labels and scores for texts and pairs."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import tiny_tokenizer

from modeling_electra_rtd.finetuning.kinds.table import KINDS
from modeling_electra_rtd.finetuning.kinds.task_kind import TaskKind
from modeling_electra_rtd.finetuning.tasks import TASKS


def kind(name: str, max_length: int = 32) -> TaskKind:
    task = TASKS[name]
    return KINDS[task.kind](
        task=task, labels=tuple(task.labels or ()), tokenizer=tiny_tokenizer(), max_length=max_length
    )


def cats_or_dogs() -> Dataset:
    texts = ["the cat sat", "a cat sat on the mat", "the dog sat", "on the mat a dog sat"] * 4
    return Dataset.from_dict({"sentence": texts, "label": [0, 0, 1, 1] * 4})


def test_a_pair_is_read_in_the_order_of_the_table():
    examples = Dataset.from_dict({"sentence2": ["the dog"], "sentence1": ["a cat"], "label": [1]})
    row = kind("mrpc").features(examples, training=True)[0]
    tokens = tiny_tokenizer().convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["[CLS]", "a", "cat", "[SEP]", "the", "dog", "[SEP]"]
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert (row["labels"], row["length"]) == (1, 7)


def test_the_longer_text_of_a_pair_is_cut():
    examples = Dataset.from_dict({"sentence1": ["the cat sat on a mat"], "sentence2": ["the dog"]})
    row = kind("mrpc", max_length=8).features(examples, training=False)[0]
    tokens = tiny_tokenizer().convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["[CLS]", "the", "cat", "sat", "[SEP]", "the", "dog", "[SEP]"]
    assert "labels" not in row


def test_what_is_cut_is_counted():
    single, pairs = kind("cola", max_length=5), kind("mrpc", max_length=8)
    # With [CLS] and [SEP], three words fill five positions.
    single.features(Dataset.from_dict({"sentence": ["the cat sat", "the cat sat on", "on"]}), training=False)
    assert single.cut == {"texts": (1, 3, "are longer than 5 tokens and lose their end")}
    texts = {"sentence1": ["the cat", "the cat sat", "on"], "sentence2": ["a dog sat", "a dog sat", "a dog"]}
    pairs.features(Dataset.from_dict(texts), training=False)
    assert pairs.cut == {"pairs of texts": (1, 3, "are longer than 8 tokens and lose their end")}


def test_predictions_and_scores():
    classification, regression = kind("cola"), kind("stsb")
    logits = np.array([[0.1, 0.2], [3.0, -1.0], [0.0, 5.0]])
    assert classification.predictions(logits, None, None) == [1, 0, 1]
    examples = Dataset.from_dict({"label": [1, 0, 0]})
    # By hand: TP 1, TN 1, FP 1, FN 0 -> MCC = (1*1 - 1*0) / sqrt(2*1*2*1) = 1/2.
    assert classification.metrics([1, 0, 1], examples)["matthews_correlation"] == pytest.approx(0.5)
    assert classification.metrics([1, 0, 1], examples)["accuracy"] == pytest.approx(2 / 3)
    assert regression.predictions(np.array([[1.5], [2.0]]), None, None) == [1.5, 2.0]
    scores = regression.metrics([1.0, 2.0, 9.0], Dataset.from_dict({"label": [0.0, 1.0, 2.0]}))
    assert scores["spearman"] == pytest.approx(1.0) and scores["pearson"] < 1


def test_trivial_guesses():
    train = Dataset.from_dict({"label": [1, 1, 0]})
    assert kind("cola").trivial_predictions(train, Dataset.from_dict({"label": [0, 0]})) == [1, 1]
    scores = Dataset.from_dict({"label": [1.0, 2.0, 4.5]})
    assert kind("stsb").trivial_predictions(scores, Dataset.from_dict({"label": [0.0]})) == [2.5]


def test_constant_predictions_are_degenerate():
    assert kind("cola").is_degenerate([1, 1, 1])
    assert not kind("cola").is_degenerate([1, 0, 1])


def test_the_head_carries_the_names_of_the_labels(tmp_path):
    model = kind("mnli").load_model(checkpoint(tmp_path))
    assert model.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    assert model.config.problem_type == "single_label_classification"
    assert kind("stsb").load_model(str(tmp_path)).config.problem_type == "regression"


def test_the_from_scratch_baseline_is_the_same_architecture_with_other_weights(tmp_path):
    model = kind("cola").load_model(checkpoint(tmp_path))
    fresh = kind("cola").fresh_model(model.config)
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in fresh.named_parameters()}
    assert not torch.equal(
        model.electra.embeddings.word_embeddings.weight, fresh.electra.embeddings.word_embeddings.weight
    )


def test_classification_is_learned(tmp_path):
    classification = kind("cola")
    model = classification.load_model(checkpoint(tmp_path / "checkpoint"))
    examples = cats_or_dogs()
    trainer = trainer_of(classification, model, examples, tmp_path / "run", max_steps=40, learning_rate=1e-2)
    trainer.train()
    features = classification.features(examples, training=False)
    outputs = trainer.predict(features.remove_columns("labels")).predictions
    assert classification.metrics(classification.predictions(outputs, features, examples), examples)["accuracy"] == 1


def test_regression_is_learned(tmp_path):
    regression = kind("stsb")
    texts = ["the cat sat", "a dog sat", "on the mat", "the cat and the dog"]
    examples = Dataset.from_dict({"sentence1": texts, "sentence2": texts[::-1], "label": [0.5, 2.0, 4.0, 5.0]})
    model = regression.load_model(checkpoint(tmp_path / "checkpoint"))
    trainer = trainer_of(regression, model, examples, tmp_path / "run", max_steps=150, learning_rate=1e-2)
    trainer.train()
    features = regression.features(examples, training=False)
    outputs = trainer.predict(features.remove_columns("labels")).predictions
    predictions = regression.predictions(outputs, features, examples)
    assert predictions == pytest.approx([0.5, 2.0, 4.0, 5.0], abs=0.5)
