"""Several labels, or none, for a text or a pair of texts."""

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ...common.references import ModelReference
from ..own_labels import are_bits, label_sets
from ..report import plot_label_scores
from ..scoring import compute
from .heads import load_with_new_head
from .sequence_classification import SequenceClassification


LABEL_SCORES = "labels.png"


@dataclass
class MultiLabelClassification(SequenceClassification):
    """Each label is a decision of its own: the stock head with `problem_type` `multi_label_classification`, whose loss
    is the binary cross-entropy, a mean over texts and labels.
    """

    name: ClassVar[str] = "multi_label_classification"
    metric: ClassVar[str | None] = "multi_label"
    headline: ClassVar[str | None] = "f1_micro"
    takes_label_lists: ClassVar[bool] = True
    predicts_one_class: ClassVar[bool] = False

    @classmethod
    def own_targets(
        cls, labels: dict[str, list[Any]], paths: dict[str, str], columns: list[str], inferred: dict[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, list[Any]]]:
        if len(columns) == 1 and are_bits(labels["train"]):
            inferred["names of labels"] = "their positions, as lists of 0 and 1 have none"
        return label_sets(labels, paths, columns)

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        names = {"id2label": dict(enumerate(self.labels)), "label2id": {name: i for i, name in enumerate(self.labels)}}
        return load_with_new_head(
            AutoModelForSequenceClassification, checkpoint, **names, problem_type="multi_label_classification"
        )

    def targets(self, labels: list[Any]) -> list[Any]:
        """`(batch, labels)` floats of 0 and 1."""
        rows = [set(row) for row in labels]
        return [[float(i in row) for i in range(len(self.labels))] for row in rows]

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        """Ids of the labels whose probability, the logistic function of the logit, is above 0.5, in ascending order; a
        list may be empty.
        """
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return [np.flatnonzero(row > 0).tolist() for row in np.asarray(logits)]

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        return compute(self.task.metric, predictions, list(examples["label"]), num_labels=len(self.labels))

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """The labels that most texts of the training split have; the most frequent one if no label is so frequent."""
        counts = Counter(chain.from_iterable(train["label"]))
        guess = sorted(label for label, count in counts.items() if 2 * count > len(train))
        return [guess or [min(counts, key=lambda label: (-counts[label], label))]] * len(examples)

    def draw_errors(self, references: list[Any], predictions: list[Any], folder: Path) -> None:
        plot_label_scores(references, predictions, list(self.labels), folder / LABEL_SCORES)

    def readable(self, prediction: Any) -> Any:
        return [self.labels[label] for label in prediction]
