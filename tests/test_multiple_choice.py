"""Choices scored one by one, padded together, and learned."""

import pytest
import torch
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import tiny_tokenizer

from modeling_electra_rtd.finetuning.kinds.multiple_choice import MultipleChoice
from modeling_electra_rtd.finetuning.tasks import TASKS


def kind() -> MultipleChoice:
    return MultipleChoice(TASKS["swag"], (), tiny_tokenizer(), 32)


def examples() -> Dataset:
    rows = []
    for i in range(12):
        choices = ["sat on a mat", "w1 w2 w3", "w4"]
        right = i % 3
        choices[0], choices[right] = choices[right], choices[0]
        rows.append({"context": "the cat", "question": "and the dog", "choices": choices, "label": right})
    return Dataset.from_list(rows)


def test_every_choice_is_read_with_its_context():
    row = kind().features(examples(), training=True)[1]
    tokens = tiny_tokenizer().convert_ids_to_tokens(row["input_ids"][1])
    assert tokens == ["[CLS]", "the", "cat", "[SEP]", *"and the dog sat on a mat".split(), "[SEP]"]
    assert row["labels"] == 1 and row["length"] == 12 and len(row["input_ids"]) == 3


def test_what_is_cut_is_counted():
    small = MultipleChoice(TASKS["swag"], (), tiny_tokenizer(), 11)
    small.features(examples(), training=True)
    # "sat on a mat" makes twelve positions, and is one of the three choices everywhere.
    assert {what: cut[:2] for what, cut in small.cut.items()} == {"choices with their context": (12, 36)}


def test_a_batch_scores_each_choice_as_if_alone(tmp_path):
    choosing = kind()
    model = choosing.load_model(checkpoint(tmp_path)).eval()
    rows = [dict(row) for row in choosing.features(examples().select(range(2)), training=False)]
    batch = choosing.collator()([{k: v for k, v in row.items() if k != "length"} for row in rows])
    with torch.no_grad():
        together = model(**batch).logits
        for i, row in enumerate(rows):
            for j in range(3):
                names = ("input_ids", "attention_mask", "token_type_ids")
                alone = {name: torch.tensor([[row[name][j]]]) for name in names}
                torch.testing.assert_close(model(**alone).logits[0, 0], together[i, j], rtol=1e-4, atol=1e-5)


def test_ragged_choices_are_refused():
    rows = [{"context": "a", "question": "", "choices": ["b"] * n, "label": 0} for n in (2, 3)]
    with pytest.raises(ValueError, match=r"\[2, 3\] choices"):
        kind().features(Dataset.from_list(rows), training=True)


def test_it_learns(tmp_path):
    choosing = kind()
    model = choosing.load_model(checkpoint(tmp_path / "checkpoint"))
    trainer = trainer_of(choosing, model, examples(), tmp_path / "run", max_steps=40, learning_rate=1e-2)
    trainer.train()
    features = choosing.features(examples(), training=False)
    outputs = trainer.predict(features.remove_columns("labels")).predictions
    predictions = choosing.predictions(outputs, features, examples())
    assert choosing.metrics(predictions, examples())["accuracy"] == 1
    assert choosing.trivial_predictions(examples(), examples()) == [0] * 12
