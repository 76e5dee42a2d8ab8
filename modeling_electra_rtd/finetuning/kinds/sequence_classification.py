"""One class, or one number, for a text or a pair of texts."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...common.references import ModelReference
from ...data.separated_values import separated_rows
from ...model.suggestions import nearest
from ..own_labels import class_names, known_class, score
from ..report import plot_confusion
from ..scoring import compute
from ..tasks import SplitFile, Task
from .heads import fresh, load_with_new_head
from .task_kind import TaskKind, count_cut


logger = logging.get_logger(__name__)

CONFUSION = "confusion.png"
# The scale of STS-B (Cer et al. 2017).
_SCORES = (0.0, 5.0)


@dataclass
class SequenceClassification(TaskKind):
    """One class for a text or a pair of texts."""

    name: ClassVar[str] = "classification"
    hub_task_type: ClassVar[str] = "text-classification"
    metric: ClassVar[str | None] = "classification"
    headline: ClassVar[str | None] = "accuracy"
    swaps_pairs: ClassVar[bool] = True
    predicts_one_class: ClassVar[bool] = True

    @classmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        """Read an official TSV: never quoted, with a header unless columns are given by position."""
        broken: list[str] = []
        leaves_out = task.has_broken_lines and not split.startswith("test")
        lines = separated_rows(str(path), quoted=False, report_broken=broken.append if leaves_out else None)
        positions = dict(files.columns)
        if any(not isinstance(column, int) for column in positions.values()):
            header = next(lines, (1, []))[1]
            for name, wanted in positions.items():
                candidates = (wanted,) if isinstance(wanted, str) else wanted
                present = [candidate for candidate in candidates if candidate in header]
                if not present and name == "index":
                    continue
                if not present:
                    raise ValueError(
                        f"{path}: no column {' or '.join(candidates)}; its columns are {', '.join(header)}"
                    )
                positions[name] = header.index(present[0])
            positions = {name: position for name, position in positions.items() if isinstance(position, int)}
        for rows, (number, fields) in enumerate(lines):
            if len(fields) <= max(positions.values()):
                raise ValueError(
                    f"{path}, line {number}: {len(fields)} fields, expected {max(positions.values()) + 1}"
                )
            row: dict[str, Any] = {name: fields[position] for name, position in positions.items()}
            if "label" in row:
                place = f"{path}, line {number}"
                row["label"] = cls.read_label(task, row["label"], place)
            if split.startswith("test"):
                row["index"] = _index(row.get("index", rows), f"{path}, line {number}")
            yield row
        if broken:
            logger.warning(f"{broken[0]}; {len(broken)} such lines are left out, as in the task's usual readers")

    @classmethod
    def read_label(cls, task: Task, text: str, place: str) -> Any:
        """Read the label of an official file.

        Raises:
            ValueError: for another label than the task has, naming the place.
        """
        return class_id(text, task.labels or (), place)

    @classmethod
    def from_hub(cls, task: Task, rows: Dataset, split: str) -> Dataset:
        if not split.startswith("test"):
            return rows
        if "idx" in rows.column_names:
            rows = rows.rename_column("idx", "index")
        return rows.remove_columns([name for name in ("label",) if name in rows.column_names])

    @classmethod
    def own_targets(
        cls, labels: dict[str, list[Any]], paths: dict[str, str], columns: list[str], inferred: dict[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, list[Any]]]:
        classes = class_names(labels["train"])
        if len(classes) < 2:
            raise ValueError(f"{paths['train']}: column {columns[0]!r} has one value only, {classes[0]!r}")
        return classes, {
            split: [known_class(value, classes, f"{paths[split]}, row {i}") for i, value in enumerate(values, start=1)]
            for split, values in labels.items()
        }

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        return load_with_new_head(
            AutoModelForSequenceClassification,
            checkpoint,
            id2label=dict(enumerate(self.labels)),
            label2id={label: i for i, label in enumerate(self.labels)},
            problem_type="single_label_classification",
        )

    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        return fresh(AutoModelForSequenceClassification, config)

    def features(self, examples: Dataset, training: bool) -> Dataset:
        """A pair too long for `max_length` loses the end of its longer text, as in the reference."""
        cut = 0

        def encode(batch: dict[str, list]) -> dict[str, list]:
            nonlocal cut
            texts = [batch[column] for column in self.task.text_columns]
            made = self.tokenizer(*texts, truncation=True, max_length=self.max_length)
            cut += count_cut(made)
            encoded = dict(made)
            encoded["length"] = [len(row) for row in encoded["input_ids"]]
            if "label" in batch:
                encoded["labels"] = self.targets(batch["label"])
            return encoded

        made = examples.map(
            encode,
            batched=True,
            remove_columns=examples.column_names,
            # What is cut is counted while mapping, so nothing may come from a cache.
            load_from_cache_file=False,
            desc="tokenizing",
        )
        what = "texts" if len(self.task.text_columns) == 1 else "pairs of texts"
        self.note_cut(what, cut, len(examples), f"are longer than {self.max_length} tokens and lose their end")
        return made

    def targets(self, labels: list[Any]) -> list[Any]:
        """Labels of examples as the loss takes them."""
        return labels

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return DataCollatorWithPadding(self.tokenizer, pad_to_multiple_of=self.pad_to_multiple_of)

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        return np.argmax(_logits(outputs), axis=-1).tolist()

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        return compute(self.task.metric, predictions, list(examples["label"]), num_labels=len(self.labels))

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """The majority class of the training split."""
        return [Counter(train["label"]).most_common(1)[0][0]] * len(examples)

    def draw_errors(self, references: list[Any], predictions: list[Any], folder: Path) -> None:
        plot_confusion(references, predictions, list(self.labels), folder / CONFUSION)

    def submitted(self, prediction: Any) -> str:
        return self.labels[prediction] if self.task.submits_names else str(prediction)

    def readable(self, prediction: Any) -> Any:
        return self.labels[prediction]


@dataclass
class Regression(SequenceClassification):
    """One number for a text or a pair of texts."""

    name: ClassVar[str] = "regression"
    metric: ClassVar[str | None] = "correlation"
    headline: ClassVar[str | None] = "spearman"
    predicts_one_class: ClassVar[bool] = False

    @classmethod
    def read_label(cls, task: Task, text: str, place: str) -> float:
        low, high = _SCORES
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{place}: score {text!r} is not a number") from None
        if not low <= value <= high:
            raise ValueError(f"{place}: score {value} is out of range, allowed is {low:g} to {high:g}")
        return value

    @classmethod
    def own_targets(
        cls, labels: dict[str, list[Any]], paths: dict[str, str], columns: list[str], inferred: dict[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, list[Any]]]:
        return (), {
            split: [score(value, f"{paths[split]}, row {i}") for i, value in enumerate(values, start=1)]
            for split, values in labels.items()
        }

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        return load_with_new_head(
            AutoModelForSequenceClassification, checkpoint, num_labels=1, problem_type="regression"
        )

    def targets(self, labels: list[Any]) -> list[float]:
        return [float(label) for label in labels]

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[float]:
        return _logits(outputs)[:, 0].tolist()

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        return compute(self.task.metric, predictions, list(examples["label"]))

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[float]:
        """The mean of the training split."""
        return [float(np.mean(train["label"]))] * len(examples)

    def draw_errors(self, references: list[Any], predictions: list[Any], folder: Path) -> None:
        """Draw nothing: a number is not mistaken for another."""

    def submitted(self, prediction: Any) -> str:
        low, high = _SCORES
        return f"{min(high, max(low, prediction)):.3f}"

    def readable(self, prediction: Any) -> Any:
        return prediction


def _logits(outputs: Any) -> np.ndarray:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def class_id(value: Any, labels: tuple[str, ...], place: str) -> int:
    """The id of a class that a file names, or gives as an id.

    Raises:
        ValueError: for a label that is not among `labels`, naming the place.
    """
    text = str(value).strip()
    if text in labels:
        return labels.index(text)
    if text.isdigit() and int(text) < len(labels):
        return int(text)
    raise ValueError(f"{place}: label {text!r}{nearest(text, labels)}")


def _index(value: str | int, place: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{place}: index {value!r} is not a whole number") from None
