"""Several labels, or none, for a text or a pair of texts."""

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ...common.references import ModelReference
from ..scoring import compute
from .heads import load_with_new_head
from .sequence_classification import SequenceClassification


@dataclass
class MultiLabelClassification(SequenceClassification):
    """Each label is a decision of its own: the stock head with `problem_type` `multi_label_classification`, whose loss
    is the binary cross-entropy, a mean over texts and labels.
    """

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
        """The labels that most texts of the training split have; the most frequent one where there are none such."""
        counts = Counter(chain.from_iterable(train["label"]))
        guess = sorted(label for label, count in counts.items() if 2 * count > len(train))
        return [guess or [min(counts, key=lambda label: (-counts[label], label))]] * len(examples)

    def readable(self, prediction: Any) -> Any:
        return [self.labels[label] for label in prediction]
