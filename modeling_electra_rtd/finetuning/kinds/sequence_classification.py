"""One label, or one number, for a text or a pair of texts."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedConfig, PreTrainedModel

from ...common.references import ModelReference
from ..scoring import compute
from .heads import fresh, load_with_new_head
from .task_kind import TaskKind, count_cut


@dataclass
class SequenceClassification(TaskKind):
    """Classification, and regression where the task has no labels."""

    @property
    def _is_regression(self) -> bool:
        return self.task.kind == "regression"

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        overrides = {"num_labels": 1, "problem_type": "regression"}
        if not self._is_regression:
            overrides = {
                "id2label": dict(enumerate(self.labels)),
                "label2id": {label: i for i, label in enumerate(self.labels)},
                "problem_type": "single_label_classification",
            }
        return load_with_new_head(AutoModelForSequenceClassification, checkpoint, **overrides)

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
        return [float(label) for label in labels] if self._is_regression else labels

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return DataCollatorWithPadding(self.tokenizer, pad_to_multiple_of=self.pad_to_multiple_of)

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return logits[:, 0].tolist() if self._is_regression else np.argmax(logits, axis=-1).tolist()

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        options = {} if self._is_regression else {"num_labels": len(self.labels)}
        return compute(self.task.metric, predictions, list(examples["label"]), **options)

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """The majority class of the training split, or its mean."""
        labels = list(train["label"])
        guess = float(np.mean(labels)) if self._is_regression else Counter(labels).most_common(1)[0][0]
        return [guess] * len(examples)

    def readable(self, prediction: Any) -> Any:
        return prediction if self._is_regression else self.labels[prediction]
