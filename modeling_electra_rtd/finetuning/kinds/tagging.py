"""One tag for every word: named entities, parts of speech."""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from ...common.references import ModelReference
from ..report import plot_confusion
from ..scoring import compute
from ..tasks import SplitFile, Task
from ..token_files import read_token_file
from .heads import fresh, load_with_new_head
from .sequence_classification import CONFUSION
from .task_kind import TaskKind


logger = logging.get_logger(__name__)


@dataclass
class Tagging(TaskKind):
    """A word's first subword carries its label and its prediction (Devlin et al. 2019, section 5.3).

    A sentence longer than `max_length` goes on in further windows, so every word that has a subword is tagged; a word
    without any (characters that the tokenizer drops) is tagged as the majority is.
    """

    name: ClassVar[str] = "tagging"
    hub_task_type: ClassVar[str] = "token-classification"
    reads_tokens: ClassVar[bool] = True
    takes_label_lists: ClassVar[bool] = True
    predicts_one_class: ClassVar[bool] = True

    @classmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        for tokens, tags in read_token_file(path, files.columns["tokens"], files.columns["label"]):
            yield {"tokens": tokens, "label": tags}

    @classmethod
    def read_files(cls, task: Task, paths: dict[str, Path]) -> tuple[DatasetDict, tuple[str, ...]]:
        sentences = {split: list(cls.read_rows(task, path, task.files[split], split)) for split, path in paths.items()}
        labels = tag_labels({split: [row["label"] for row in rows] for split, rows in sentences.items()})
        ids = {label: i for i, label in enumerate(labels)}
        splits = {
            split: Dataset.from_dict(
                {
                    "tokens": [row["tokens"] for row in rows],
                    "label": [[ids[tag] for tag in row["label"]] for row in rows],
                }
            )
            for split, rows in sentences.items()
        }
        return DatasetDict(splits), labels

    def __post_init__(self):
        # Windows follow each other from the first word on.
        self.tokenizer.truncation_side = "right"

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        names = {"id2label": dict(enumerate(self.labels)), "label2id": {name: i for i, name in enumerate(self.labels)}}
        return load_with_new_head(AutoModelForTokenClassification, checkpoint, **names)

    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        return fresh(AutoModelForTokenClassification, config)

    def features(self, examples: Dataset, training: bool) -> Dataset:
        def encode(batch: dict[str, list], positions: list[int]) -> dict[str, list]:
            # Words on their own would lose the space before them, which belongs to the tokens of byte-level BPE and
            # SentencePiece: a sentence is read as the text that pre-training saw.
            joined = [_joined(words) for words in batch["tokens"]]
            encoded = self.tokenizer(
                [text for text, _ in joined],
                truncation=True,
                max_length=self.max_length,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            rows = dict(encoded)
            sources, offsets = rows.pop("overflow_to_sample_mapping"), rows.pop("offset_mapping")
            rows["example"] = [positions[source] for source in sources]
            rows["word"] = []
            previous: tuple[int, int] | None = None
            for window, source in enumerate(sources):
                words = []
                for part, (start, end) in zip(encoded.sequence_ids(window), offsets[window], strict=True):
                    word = None if part is None else _word_at(joined[source][1], start, end)
                    # Only a first subword counts, also where a window begins within a word.
                    is_first = word is not None and previous != (source, word)
                    words.append(word if is_first else -1)
                    previous = previous if word is None else (source, word)
                rows["word"].append(words)
            rows["length"] = [len(row) for row in rows["input_ids"]]
            if "label" in batch:
                rows["labels"] = [
                    [-100 if word < 0 else batch["label"][source][word] for word in words]
                    for words, source in zip(rows["word"], sources, strict=True)
                ]
            return rows

        made = examples.map(
            encode, batched=True, with_indices=True, remove_columns=examples.column_names, desc="tokenizing"
        )
        self.note_cut(
            "sentences",
            sum(count > 1 for count in Counter(made["example"]).values()),
            len(examples),
            f"are longer than {self.max_length} tokens and go on in further windows; no word is left out",
        )
        total = sum(map(len, examples["tokens"]))
        self.note_cut(
            "words",
            total - sum(word >= 0 for words in made["word"] for word in words),
            total,
            "have no token, as the tokenizer drops their characters; they are tagged as the majority is",
        )
        return made

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return DataCollatorForTokenClassification(self.tokenizer, pad_to_multiple_of=self.pad_to_multiple_of)

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        best = np.argmax(logits, axis=-1)
        tags: list[list[int | None]] = [[None] * len(tokens) for tokens in examples["tokens"]]
        for row, example, words in zip(best, features["example"], features["word"], strict=True):
            for position, word in enumerate(words):
                if word >= 0:
                    tags[example][word] = int(row[position])
        majority = Counter(tag for row in tags for tag in row if tag is not None).most_common(1)[0][0]
        return [[majority if tag is None else tag for tag in row] for row in tags]

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        references = list(examples["label"])
        return compute(self.task.metric, self.readable(predictions), self.readable(references))

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """Each word's most frequent tag in training, and the majority tag for words never seen there: it reads no
        context.
        """
        seen: dict[str, Counter] = {}
        for tokens, tags in zip(train["tokens"], train["label"], strict=True):
            for token, tag in zip(tokens, tags, strict=True):
                seen.setdefault(token, Counter())[tag] += 1
        majority = sum(seen.values(), Counter()).most_common(1)[0][0]
        best = {token: counts.most_common(1)[0][0] for token, counts in seen.items()}
        return [[best.get(token, majority) for token in tokens] for tokens in examples["tokens"]]

    def is_degenerate(self, predictions: list[Any]) -> bool:
        return len(list(groupby(tag for tags in predictions for tag in tags))) <= 1

    def draw_errors(self, references: list[Any], predictions: list[Any], folder: Path) -> None:
        tags, found = (list(chain.from_iterable(rows)) for rows in (references, predictions))
        plot_confusion(tags, found, list(self.labels), folder / CONFUSION)

    def readable(self, prediction: Any) -> Any:
        return self.labels[prediction] if isinstance(prediction, int) else [self.readable(tag) for tag in prediction]


def _joined(words: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """A text with a space between its words, and where each of them stands in it."""
    spans, end = [], 0
    for word in words:
        start = end + bool(end and word)
        end = start + len(word)
        spans.append((start, end))
    return " ".join(word for word in words if word), spans


def _word_at(spans: list[tuple[int, int]], start: int, end: int) -> int | None:
    """The first word that has a character between `start` and `end`, of which a space before it may be the first."""
    number = bisect(spans, start, key=lambda span: span[1])
    return number if number < len(spans) and spans[number][0] < end else None


def tag_labels(splits: dict[str, list[list[str]]]) -> tuple[str, ...]:
    """List all tags of sentences, "O" first and the others sorted: ids do not depend on the order of the sentences.

    Args:
        splits: `split -> the tags of each sentence`.

    Tags that training lacks are said in a warning: no model can find them, and they count against it.
    """
    by_split = {split: {tag for tags in rows for tag in tags} for split, rows in splits.items()}
    for split, tags in by_split.items():
        if unseen := sorted(tags - by_split.get("train", tags)):
            logger.warning(f"{split}: tags that training does not have count against the model: {', '.join(unseen)}")
    found = set().union(*by_split.values())
    return (*(["O"] if "O" in found else []), *sorted(found - {"O"}))
