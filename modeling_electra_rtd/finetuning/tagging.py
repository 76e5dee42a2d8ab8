"""One tag for every word: named entities, parts of speech."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..model_reference import ModelReference
from .heads import fresh, load_with_new_head
from .scoring import compute
from .task_kind import TaskKind


@dataclass
class Tagging(TaskKind):
    """A word's first subword carries its label and its prediction (Devlin et al. 2019, section 5.3).

    A sentence longer than `max_length` goes on in further windows, so every word that has a subword is tagged; a word
    without any (characters that the tokenizer drops) is tagged as the majority is.
    """

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        names = {"id2label": dict(enumerate(self.labels)), "label2id": {name: i for i, name in enumerate(self.labels)}}
        return load_with_new_head(AutoModelForTokenClassification, checkpoint, **names)

    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        return fresh(AutoModelForTokenClassification, config)

    def features(self, examples: Dataset, training: bool) -> Dataset:
        def encode(batch: dict[str, list], positions: list[int]) -> dict[str, list]:
            encoded = self.tokenizer(
                batch["tokens"],
                is_split_into_words=True,
                truncation=True,
                max_length=self.max_length,
                return_overflowing_tokens=True,
            )
            rows = dict(encoded)
            sources = rows.pop("overflow_to_sample_mapping")
            rows["example"] = [positions[source] for source in sources]
            rows["word"] = []
            previous = (None, None)
            for window, source in enumerate(sources):
                words = []
                for word in encoded.word_ids(window):
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

    def readable(self, prediction: Any) -> Any:
        return self.labels[prediction] if isinstance(prediction, int) else [self.readable(tag) for tag in prediction]
