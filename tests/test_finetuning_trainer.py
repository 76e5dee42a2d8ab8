"""Accumulating 4 x 8 equals 1 x 32 for stock heads, in gradient, loss and updated weights."""

import copy

import pytest
import torch
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import tiny_tokenizer
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from modeling_electra_rtd.finetuning.kinds.question_answering import QuestionAnswering
from modeling_electra_rtd.finetuning.kinds.sequence_classification import Regression, SequenceClassification
from modeling_electra_rtd.finetuning.kinds.tagging import Tagging
from modeling_electra_rtd.finetuning.tasks import TASKS
from modeling_electra_rtd.finetuning.trainer import ShuffledBatches
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments


def tagging() -> tuple[Tagging, Dataset]:
    # Rows with one to six words: a mean of means would weigh their words differently.
    words = ["cat", "sat", "on", "mat", "dog", "a"]
    rows = [words[: 1 + (3 * i) % 6] for i in range(32)]
    examples = Dataset.from_dict({"tokens": rows, "label": [[w in ("cat", "dog") for w in row] for row in rows]})
    return Tagging(TASKS["ewt_pos"], ("OTHER", "NOUN"), tiny_tokenizer(), 16), examples


def classification() -> tuple[SequenceClassification, Dataset]:
    examples = Dataset.from_dict(
        {
            "sentence": [f"the {('cat', 'dog')[i % 2]} sat" + " on a mat" * (i % 3) for i in range(32)],
            "label": [0, 1] * 16,
        }
    )
    return SequenceClassification(TASKS["cola"], ("no", "yes"), tiny_tokenizer(), 16), examples


def question_answering() -> tuple[QuestionAnswering, Dataset]:
    # Contexts of very different lengths: the stock loss would see how much padding the others of a batch bring.
    rows = [("the cat sat on a mat" + " and w1" * (i * 7 % 12), ("cat", "mat")[i % 2]) for i in range(32)]
    examples = Dataset.from_list(
        [
            {
                "id": str(i),
                "question": "w2 w3 ?",
                "context": context,
                "answers": {"text": [answer], "answer_start": [context.index(answer)]},
            }
            for i, (context, answer) in enumerate(rows)
        ]
    )
    return QuestionAnswering(TASKS["squad"], (), tiny_tokenizer(), 48), examples


@pytest.mark.parametrize("make", [tagging, classification, question_answering])
def test_accumulation_changes_nothing(make, tmp_path):
    kind, examples = make()
    start = kind.load_model(checkpoint(tmp_path / "checkpoint"))
    results = []
    for batch, accumulation in ((32, 1), (8, 4)):
        trainer = trainer_of(
            kind,
            copy.deepcopy(start),
            examples,
            tmp_path / "run",
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=2,
            warmup_steps=0,
        )
        trainer.train()
        logs = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
        results.append((logs, trainer.model.state_dict()))
    (once, weights), (accumulated, accumulated_weights) = results
    assert len(once) == 2
    for expected, found in zip(once, accumulated, strict=True):
        assert found == pytest.approx(expected, rel=2e-4)
    # A softmax over positions does not see what is added to all of them: that bias has a gradient of rounding errors.
    weights.pop("qa_outputs.bias", None)
    for name, weight in weights.items():
        torch.testing.assert_close(accumulated_weights[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_the_trap_is_real(tmp_path):
    """What the stock `Trainer` does with the same data: four times the loss and the gradient."""
    kind, examples = classification()
    start = kind.load_model(checkpoint(tmp_path / "checkpoint"))
    features = kind.features(examples, training=True)
    norms = []
    for batch, accumulation in ((32, 1), (8, 4)):
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "stock"),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            train_sampling_strategy="sequential",
        )
        trainer = Trainer(copy.deepcopy(start), arguments, train_dataset=features, data_collator=kind.collator())
        trainer.train()
        norms.append(trainer.state.log_history[0]["grad_norm"])
    assert norms[1] == pytest.approx(4 * norms[0], rel=0.01)


def test_predictions_come_in_the_order_of_the_features(tmp_path):
    kind, examples = classification()
    model = kind.load_model(checkpoint(tmp_path / "checkpoint")).eval()
    trainer = trainer_of(kind, model, examples, tmp_path / "run", per_device_eval_batch_size=5)
    features = kind.features(examples, training=False)
    found = trainer.predict(features.remove_columns("labels")).predictions
    for row, logits in zip(features, found, strict=True):
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}
        with torch.no_grad():
            torch.testing.assert_close(torch.tensor(logits), model(**inputs).logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layerwise_lr_decay": 1.5}, r"layerwise_lr_decay is 1.5; it must be in \(0, 1\]"),
        ({"last_layer_exponent": 3}, "last_layer_exponent is 3; allowed are 1 and 2"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"num_train_epochs": -1}, "num_train_epochs is -1"),
        ({"from_scratch_seeds": -1}, "from_scratch_seeds is -1"),
        ({"push_to_hub": True}, "push_to_hub is True.*electra-rtd push FOLDER OWNER/NAME"),
        ({"early_stopping_patience": 2, "eval_strategy": "no"}, "early_stopping_patience needs evaluations"),
    ],
)
def test_arguments_that_cannot_be(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        FinetuningArguments(output_dir=str(tmp_path), **values)


def test_selecting_a_checkpoint_is_off_unless_asked_for(tmp_path):
    plain = FinetuningArguments(output_dir=str(tmp_path))
    assert not plain.load_best_model_at_end and plain.save_strategy == "no"
    early = FinetuningArguments(output_dir=str(tmp_path), early_stopping_patience=2)
    assert early.load_best_model_at_end and early.save_strategy == early.eval_strategy == "epoch"


def test_a_score_of_minus_one_hundred_is_a_score(tmp_path):
    kind = Regression(TASKS["stsb"], (), tiny_tokenizer(), 16)
    examples = Dataset.from_dict(
        {"sentence1": ["the cat"] * 4, "sentence2": ["a mat"] * 4, "label": [-100.0, -100.0, -99.0, -101.0]}
    )
    model = kind.load_model(checkpoint(tmp_path / "checkpoint")).eval()
    trainer = trainer_of(kind, model, examples, tmp_path / "run", per_device_train_batch_size=4, warmup_steps=0)
    trainer.train()
    # The mean squared error of four rows near -100, not of two.
    assert trainer.state.log_history[0]["loss"] == pytest.approx(1e4, rel=0.05)


def test_label_smoothing_reaches_the_loss(tmp_path):
    kind, examples = classification()
    model = kind.load_model(checkpoint(tmp_path / "checkpoint")).eval()
    trainer = trainer_of(kind, model, examples, tmp_path / "run", label_smoothing_factor=0.2)
    batch = trainer.data_collator([kind.features(examples, training=True)[i] for i in range(4)])
    with torch.no_grad():
        found = trainer.compute_loss(model, batch)
        logits = model(**batch).logits
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"], label_smoothing=0.2)
    torch.testing.assert_close(found, expected)


def test_batches_are_alike_in_length_and_come_in_any_order():
    lengths = [3 + (7 * i) % 40 for i in range(203)]
    orders = []
    for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0)):
        # What dropout has drawn meanwhile, in this process or in another.
        torch.rand(len(orders))
        sampler = ShuffledBatches(LengthGroupedSampler(batch_size=8, lengths=lengths), seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] and orders[0] != orders[3] and orders[2] != orders[3]
    assert sorted(orders[0]) == list(range(203)) and len(sampler) == 203
    batches = [[lengths[row] for row in orders[0][start : start + 8]] for start in range(0, 200, 8)]
    # All but those of the last rows, which are too few to be sorted finely.
    assert sorted(max(batch) - min(batch) for batch in batches)[-3] <= 8
    means = [sum(batch) / 8 for batch in batches]
    falls = sum(later < earlier for earlier, later in zip(means, means[1:], strict=False))
    assert 0.25 < falls / len(means) < 0.75
