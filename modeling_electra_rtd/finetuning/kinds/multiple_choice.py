"""The right one of several continuations or answers."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForMultipleChoice, PreTrainedConfig, PreTrainedModel

from ...common.references import ModelReference
from ...data.tables import open_table
from ..scoring import compute
from ..tasks import SplitFile, Task
from .heads import fresh, load_with_new_head
from .task_kind import TaskKind, count_cut


@dataclass
class MultipleChoice(TaskKind):
    """Each choice is read with the context, as a pair, and scored by one logit; the softmax is over the choices."""

    name: ClassVar[str] = "multiple_choice"
    hub_task_type: ClassVar[str] = "multiple-choice"
    predicts_one_class: ClassVar[bool] = True

    @classmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        for place, row in open_table(str(path))[1]:
            try:
                yield _choices(row)
            except (KeyError, ValueError) as error:
                raise ValueError(f"{place}: not in the layout of SWAG ({error})") from None

    @classmethod
    def from_hub(cls, task: Task, rows: Dataset, split: str) -> Dataset:
        return Dataset.from_list([_choices(row) for row in rows])

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        return load_with_new_head(AutoModelForMultipleChoice, checkpoint)

    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        return fresh(AutoModelForMultipleChoice, config)

    def features(self, examples: Dataset, training: bool) -> Dataset:
        counts = {len(choices) for choices in examples["choices"]}
        if len(counts) != 1:
            raise ValueError(f"{self.task.name}: examples have {sorted(counts)} choices; all must have as many")
        (count,) = counts
        cut = 0

        def encode(batch: dict[str, list]) -> dict[str, list]:
            nonlocal cut
            rows = list(zip(batch["context"], batch["question"], batch["choices"], strict=True))
            contexts = [context for context, _, choices in rows for _ in choices]
            endings = [f"{question} {choice}".strip() for _, question, choices in rows for choice in choices]
            flat = self.tokenizer(contexts, endings, truncation=True, max_length=self.max_length)
            cut += count_cut(flat)
            encoded = {
                name: [values[i : i + count] for i in range(0, len(values), count)] for name, values in flat.items()
            }
            encoded["length"] = [max(map(len, choices)) for choices in encoded["input_ids"]]
            if "label" in batch:
                encoded["labels"] = batch["label"]
            return encoded

        made = examples.map(
            encode,
            batched=True,
            remove_columns=examples.column_names,
            # What is cut is counted while mapping, so nothing may come from a cache.
            load_from_cache_file=False,
            desc="tokenizing",
        )
        self.note_cut(
            "choices with their context",
            cut,
            count * len(examples),
            f"are longer than {self.max_length} tokens; the longer of both loses its end",
        )
        return made

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
            names = [name for name in rows[0] if name != "labels"]
            count = len(rows[0][names[0]])
            flat = [{name: row[name][i] for name in names} for row in rows for i in range(count)]
            padded = self.tokenizer.pad(flat, pad_to_multiple_of=self.pad_to_multiple_of, return_tensors="pt")
            batch = {name: values.view(len(rows), count, -1) for name, values in padded.items()}
            if "labels" in rows[0]:
                batch["labels"] = torch.tensor([row["labels"] for row in rows])
            return batch

        return collate

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return np.argmax(logits, axis=-1).tolist()

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        count = len(examples[0]["choices"])
        return compute(self.task.metric, predictions, list(examples["label"]), num_labels=count)

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """The position that is right most often."""
        return [Counter(train["label"]).most_common(1)[0][0]] * len(examples)


def _choices(row: dict[str, Any]) -> dict[str, Any]:
    choices = [row[f"ending{i}"] for i in range(4)]
    label = int(row["label"])
    if not 0 <= label < len(choices):
        raise ValueError(f"label {label} of {len(choices)} choices")
    return {"context": row["sent1"], "question": row["sent2"], "choices": choices, "label": label}
