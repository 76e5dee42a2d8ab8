"""Summaries made of the text's own sentences: the light alternative to writing them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from rouge_score.rouge_scorer import RougeScorer
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from ...common.references import ModelReference
from ..scoring import compute
from ..tasks import SplitFile, Task
from .document_files import document_rows
from .heads import fresh, load_with_new_head
from .task_kind import TaskKind


@dataclass
class ExtractiveSummarization(TaskKind):
    """A document is read once, a separator behind every sentence, and each separator is classified: in the summary, or
    not. A document longer than `max_length` goes on in further windows; only a sentence that is longer than a window
    is cut, and those are counted.

    Attributes:
        num_sentences: sentences of a summary (SciTLDR: one). Predictions always have as many; the oracle may do with
            fewer.
    """

    num_sentences: int = 1

    name: ClassVar[str] = "extractive_summarization"
    hub_task_type: ClassVar[str] = "summarization"
    predicts_one_class: ClassVar[bool] = True

    @classmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        for sentences, references in document_rows(path):
            yield {"sentences": sentences, "references": references}

    @classmethod
    def from_hub(cls, task: Task, rows: Dataset, split: str) -> Dataset:
        return Dataset.from_list([{"sentences": row["source"], "references": row["target"]} for row in rows])

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        names = {"id2label": {0: "left_out", 1: "in_summary"}, "label2id": {"left_out": 0, "in_summary": 1}}
        return load_with_new_head(AutoModelForTokenClassification, checkpoint, **names)

    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        return fresh(AutoModelForTokenClassification, config)

    def features(self, examples: Dataset, training: bool) -> Dataset:
        cut = 0

        def encode(batch: dict[str, list], positions: list[int]) -> dict[str, list]:
            nonlocal cut
            rows: dict[str, list] = {
                name: [] for name in ("input_ids", "attention_mask", "sentence", "labels", "example", "length")
            }
            for position, sentences, references in zip(
                positions, batch["sentences"], batch["references"], strict=True
            ):
                chosen = self.oracle(sentences, references) if training else set()
                encoded = self.tokenizer(sentences, add_special_tokens=False)["input_ids"]
                cut += sum(len(ids) > self.max_length - 2 for ids in encoded)
                for window in self._windows(encoded):
                    ids, ends = [self.tokenizer.cls_token_id], [-1]
                    for number in window:
                        kept = encoded[number][: self.max_length - 2]
                        ids += [*kept, self.tokenizer.sep_token_id]
                        ends += [*[-1] * len(kept), number]
                    rows["input_ids"].append(ids)
                    rows["attention_mask"].append([1] * len(ids))
                    rows["sentence"].append(ends)
                    rows["labels"].append([-100 if number < 0 else int(number in chosen) for number in ends])
                    rows["example"].append(position)
                    rows["length"].append(len(ids))
            if not training:
                del rows["labels"]
            return rows

        made = examples.map(
            encode,
            batched=True,
            with_indices=True,
            remove_columns=examples.column_names,
            load_from_cache_file=False,
            desc="tokenizing",
        )
        total = sum(map(len, examples["sentences"]))
        self.note_cut(
            "sentences", cut, total, f"are longer than a window of {self.max_length} tokens and lose their end"
        )
        self.note_cut(
            "documents",
            sum(count > 1 for count in Counter(made["example"]).values()),
            len(examples),
            f"are longer than {self.max_length} tokens and go on in further windows; no sentence is left out",
        )
        return made

    def _windows(self, encoded: list[list[int]]) -> list[list[int]]:
        windows: list[list[int]] = []
        room = 0
        for number, ids in enumerate(encoded):
            size = min(len(ids), self.max_length - 2) + 1
            if size > room:
                windows.append([])
                room = self.max_length - 1
            windows[-1].append(number)
            room -= size
        return windows

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return DataCollatorForTokenClassification(self.tokenizer, pad_to_multiple_of=self.pad_to_multiple_of)

    def oracle(self, sentences: list[str], references: list[str]) -> set[int]:
        """The sentences that together come nearest to a reference: taken one by one, as long as ROUGE-1 plus ROUGE-2
        (F-measure, best reference) rises.
        """
        scorer = RougeScorer(["rouge1", "rouge2"], use_stemmer=True)

        def score(chosen: set[int]) -> float:
            text = " ".join(sentences[number] for number in sorted(chosen))
            return max(sum(s.fmeasure for s in scorer.score(reference, text).values()) for reference in references)

        chosen: set[int] = set()
        best = 0.0
        while len(chosen) < min(self.num_sentences, len(sentences)):
            rest = [number for number in range(len(sentences)) if number not in chosen]
            scores = [score(chosen | {number}) for number in rest]
            if max(scores) <= best:
                break
            best = max(scores)
            chosen.add(rest[int(np.argmax(scores))])
        return chosen

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        scores: list[dict[int, float]] = [{} for _ in range(len(examples))]
        for row, example, ends in zip(logits, features["example"], features["sentence"], strict=True):
            for position, number in enumerate(ends):
                if number >= 0:
                    scores[example][number] = float(row[position, 1] - row[position, 0])
        return [
            self._joined(sentences, sorted(found, key=lambda number: -found[number])[: self.num_sentences])
            for sentences, found in zip(examples["sentences"], scores, strict=True)
        ]

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        return compute(self.task.metric, predictions, list(examples["references"]))

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """The lead: the first sentences."""
        return [self._joined(sentences, range(self.num_sentences)) for sentences in examples["sentences"]]

    def oracle_predictions(self, examples: Dataset) -> list[Any]:
        """The sentences that training calls right: what no choice of sentences can much exceed."""
        rows = zip(examples["sentences"], examples["references"], strict=True)
        return [self._joined(sentences, self.oracle(sentences, references)) for sentences, references in rows]

    def _joined(self, sentences: list[str], numbers: Any) -> str:
        return " ".join(sentences[number] for number in sorted(numbers) if number < len(sentences))
