"""Several labels for a text: loss and decisions by hand, learned, and read back by a stock pipeline."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import tiny_tokenizer
from torch.nn import functional as F
from transformers import AutoTokenizer, pipeline

from modeling_electra_rtd.finetuning.kinds.multi_label_classification import MultiLabelClassification
from modeling_electra_rtd.finetuning.layerwise import layerwise_groups
from modeling_electra_rtd.finetuning.own_task import explain, own_task
from modeling_electra_rtd.finetuning.run import finetune
from modeling_electra_rtd.finetuning.scoring import compute
from modeling_electra_rtd.finetuning.tasks import Task


LABELS = ("cat", "dog", "mat")
TEXTS = ["the cat sat", "a dog and a cat", "on the mat", "the dog sat on a mat", "and sat"]
WANTED = [[0], [0, 1], [2], [1, 2], []]


def kind(labels=LABELS) -> MultiLabelClassification:
    task = Task("animals", "multi_label_classification", ("text",), labels, "multi_label", "f1_micro", ".", {})
    return MultiLabelClassification(task=task, labels=labels, tokenizer=tiny_tokenizer(), max_length=32)


def examples() -> Dataset:
    return Dataset.from_dict({"text": TEXTS, "label": WANTED})


def test_targets_are_a_decision_for_every_label_and_the_loss_is_the_mean_over_them(tmp_path):
    features = kind().features(examples(), training=True)
    assert features["labels"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0]]
    model = kind().load_model(checkpoint(tmp_path)).eval()
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == dict(enumerate(LABELS)) and model.config.label2id["mat"] == 2
    batch = kind().collator()([{k: row[k] for k in ("input_ids", "attention_mask", "labels")} for row in features])
    with torch.no_grad():
        outputs = model(**batch)
    expected = F.binary_cross_entropy_with_logits(outputs.logits, torch.tensor(features["labels"]))
    assert float(kind().loss(outputs, batch)) == pytest.approx(float(expected))


def test_a_label_is_said_where_its_probability_is_above_one_half():
    logits = np.array([[0.1, -3, 2], [-1, -1, -1], [0.0, 5, np.nan]])
    assert kind().predictions(logits, None, None) == [[0, 2], [], [1]]
    assert kind().readable([0, 2]) == ["cat", "mat"] and kind().readable([]) == []
    assert kind().is_degenerate([[0], [0]]) and not kind().is_degenerate([[0], []])


def test_scores_by_hand():
    # Of labels 0, 1, 2: true positives 1, 1, 0; false positives 1, 0, 0; false negatives 0, 1, 1.
    predicted, expected = [[0], [0, 1], [], []], [[0], [1], [1, 2], []]
    scores = compute("multi_label", predicted, expected, num_labels=3)
    assert scores["f1_micro"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["exact_match_accuracy"] == 0.5
    assert compute("multi_label", [[], []], [[], []], num_labels=2)["f1_micro"] == 0.0
    one = compute("multi_label", [[0], [], [0]], [[0], [0], []], num_labels=1)
    assert one == pytest.approx({"f1_micro": 0.5, "f1_macro": 0.5, "exact_match_accuracy": 1 / 3})
    with pytest.raises(ValueError, match="1 predictions for 2 references"):
        compute("multi_label", [[0]], [[0], [1]])


def test_the_trivial_guess_is_what_most_texts_have_or_the_most_frequent_label():
    train = Dataset.from_dict({"label": [[0, 1], [0], [0, 2], []]})
    assert kind().trivial_predictions(train, examples()) == [[0]] * 5
    rare = Dataset.from_dict({"label": [[1], [2], [1], [], []]})
    assert kind().trivial_predictions(rare, examples()) == [[1]] * 5


def test_accumulated_batches_equal_one_batch(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint")
    grads = []
    for size, steps in ((4, 1), (1, 4)):
        torch.manual_seed(0)
        model = kind().load_model(folder)
        trainer = trainer_of(
            *(kind(), model, examples().select(range(4)), tmp_path / f"run-{size}"),
            **{"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1},
            learning_rate=1e-3,
        )
        model.electra.config.hidden_dropout_prob = 0.0
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.train()
        grads.append(model.classifier.out_proj.weight.detach().clone())
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)
    rates = {group["lr"] for group in layerwise_groups(model, 1e-3, 0.5, 0.0, 1)}
    assert len(rates) > 2


def test_files_to_a_model_that_a_stock_pipeline_reads(tmp_path):
    pairs = [("the cat sat", [0]), ("a dog and a cat", [0, 1]), ("the dog sat", [1]), ("a mat", [2]), ("and on", [])]
    rows = [{"text": text, "labels": [LABELS[i] for i in labels]} for text, labels in pairs]
    paths = {}
    for name, part in (("train", rows * 4), ("dev", rows), ("test", [{"text": "the dog"}, {"text": "and"}])):
        paths[name] = str(tmp_path / f"{name}.jsonl")
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    task, data = own_task(paths["train"], paths["dev"], paths["test"])
    assert "multi_label_classification with 3 labels (cat, dog, mat); text: text" in explain(task, data)
    values = {"max_steps": 120, "learning_rate": 3e-3, "per_device_train_batch_size": 10, "disable_tqdm": True}
    values |= {"eval_strategy": "no", "layerwise_lr_decay": 1.0}
    model = checkpoint(tmp_path / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    record = finetune(task, data, model, str(tmp_path / "run"), [0], values)
    assert (record["kind"], record["headline"], record["data"]["labels"]) == (task.kind, "f1_micro", list(LABELS))
    scores = record["fine_tuned"]["summary"]["validation"]
    assert scores["f1_micro"]["median"] == scores["exact_match_accuracy"]["median"] == 1.0
    assert record["trivial"]["validation"]["f1_micro"] < 0.7 and record["from_scratch"]["runs"]
    seed = tmp_path / "run" / "seed-0"
    lines = (seed / "predictions_validation.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [row["labels"] for row in rows]
    assert len((seed / "predictions_test.jsonl").read_text().splitlines()) == 2
    assert "| train | f1_micro |" in (tmp_path / "run" / "table.md").read_text()
    for name in ("curves.png", "labels.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run" / "confusion.png").exists()
    classify = pipeline("text-classification", str(seed), tokenizer=AutoTokenizer.from_pretrained(seed), top_k=None)
    scores = {item["label"]: item["score"] for item in classify(["a dog and a cat"])[0]}
    assert scores["cat"] > 0.5 and scores["dog"] > 0.5 and scores["mat"] < 0.5


def test_what_needs_one_class_is_refused(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "the cat {name}", "labels": ["a"]}}\n')
    task, data = own_task(str(tmp_path / "train.jsonl"), str(tmp_path / "dev.jsonl"))
    smoothed = {"label_smoothing_factor": 0.1}
    with pytest.raises(ValueError, match="label_smoothing_factor: train is multi_label_classification"):
        finetune(task, data, checkpoint(tmp_path / "model"), str(tmp_path / "run"), [0], smoothed)
