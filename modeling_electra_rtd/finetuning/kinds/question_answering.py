"""Answers as spans of a context: SQuAD 1.1, and 2.0 where a question may have none."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForQuestionAnswering, DataCollatorWithPadding, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...common.references import ModelReference
from ..scoring import compute
from ..squad_files import check_ids, question_rows
from ..submission import write_answers
from ..tasks import SplitFile, Task
from .heads import fresh, load_with_new_head
from .task_kind import TaskKind


logger = logging.get_logger(__name__)

# Where a position is not of the context.
_OUTSIDE = (-1, -1)


@dataclass
class QuestionAnswering(TaskKind):
    """Start and end of the answer in windows over the context; no answer is the classifier token at both.

    Attributes:
        doc_stride: tokens of the context that neighbouring windows share, 128 as in the examples of `transformers`. In
            the reference 128 is how far a window moves, which makes more windows.
        max_query_length: tokens of a question, 64 as in the reference.
        n_best_size: starts and ends that are combined in a window, 20 as in the reference.
        max_answer_length: tokens of an answer, 30 as in the reference.
        null_score_diff_threshold: SQuAD 2.0: how much the score of no answer must lie above the best answer's. The
            metric also reports the best threshold, found on the same data.
    """

    doc_stride: int = 128
    max_query_length: int = 64
    n_best_size: int = 20
    max_answer_length: int = 30
    null_score_diff_threshold: float = 0.0

    name: ClassVar[str] = "question_answering"
    hub_task_type: ClassVar[str] = "question-answering"
    label_names: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")

    @classmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        yield from question_rows(path, task, split)

    @classmethod
    def group_of(cls, task: Task, row: dict[str, Any]) -> str:
        """Name the article: a model that has seen a context knows half of the answers to its questions."""
        return row.get("title") or row["context"]

    @classmethod
    def check_split(cls, examples: Dataset, source: str) -> None:
        check_ids(examples["id"], source)

    def __post_init__(self):
        if self.tokenizer.padding_side != "right":
            raise ValueError("question answering needs a tokenizer that pads on the right; the null answer is token 0")
        if self.max_length < 16:
            raise ValueError(f"max_length is {self.max_length}; a question and a window of its context need 16")
        for name in ("doc_stride", "max_query_length", "n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        given = {"max_query_length": self.max_query_length, "doc_stride": self.doc_stride}
        self.max_query_length = min(self.max_query_length, self.max_length // 2)
        # A window holds question, context and three special tokens; the overlap must leave it room to move on.
        self.doc_stride = max(1, min(self.doc_stride, (self.max_length - self.max_query_length - 3) // 2))
        for name, value in given.items():
            if getattr(self, name) < value:
                logger.warning(
                    f"{name} is {value}; with max_length {self.max_length} it becomes {getattr(self, name)}"
                )

    @property
    def _may_be_unanswerable(self) -> bool:
        return self.task.metric == "squad_v2"

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        return load_with_new_head(AutoModelForQuestionAnswering, checkpoint)

    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        return fresh(AutoModelForQuestionAnswering, config)

    def features(self, examples: Dataset, training: bool) -> Dataset:
        """Windows of at most `max_length`; an answer outside a window trains on position 0. An answer whose text is
        not at its `answer_start` is looked for nearest to it; examples without any are left out of training, and
        counted.
        """
        lost = 0
        # In training: questions with an answer in their context, and those whose answer a window holds whole.
        answered: set[int] = set()
        whole: set[int] = set()

        def encode(batch: dict[str, list], positions: list[int]) -> dict[str, list]:
            nonlocal lost
            ends = self.tokenizer(batch["question"], add_special_tokens=False, return_offsets_mapping=True)
            encoded = self.tokenizer(
                [
                    # Cut as a text: ids that are decoded and encoded again are others.
                    question[: offsets[self.max_query_length - 1][1]]
                    if len(offsets) > self.max_query_length
                    else question
                    for question, offsets in zip(batch["question"], ends["offset_mapping"], strict=True)
                ],
                batch["context"],
                truncation="only_second",
                max_length=self.max_length,
                stride=self.doc_stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            rows: dict[str, list] = defaultdict(list)
            for window, source in enumerate(encoded["overflow_to_sample_mapping"]):
                sequence = encoded.sequence_ids(window)
                offsets = [
                    tuple(offset) if part == 1 else _OUTSIDE
                    for offset, part in zip(encoded["offset_mapping"][window], sequence, strict=True)
                ]
                if training:
                    span = _answer_span(batch["context"][source], batch["answers"][source])
                    if span is None and batch["answers"][source]["text"]:
                        lost += window == 0 or encoded["overflow_to_sample_mapping"][window - 1] != source
                        continue
                    start, end = _positions(offsets, span)
                    if span is not None:
                        answered.add(positions[source])
                    if (start, end) != (0, 0):
                        whole.add(positions[source])
                    rows["start_positions"].append(start)
                    rows["end_positions"].append(end)
                else:
                    rows["offset_mapping"].append(offsets)
                rows["example"].append(positions[source])
                rows["length"].append(len(offsets))
                for name in self.tokenizer.model_input_names:
                    if name in encoded:
                        rows[name].append(encoded[name][window])
            return dict(rows)

        made = examples.map(
            encode,
            batched=True,
            batch_size=200,
            with_indices=True,
            remove_columns=examples.column_names,
            # The count of lost answers is taken while mapping, so nothing may come from a cache.
            load_from_cache_file=False,
            desc="tokenizing",
        )
        if training and not len(made):
            raise ValueError(f"{self.task.name}: no question of the training split has its answer in its context")
        self.note_cut("answers", lost, len(examples), "are not in their context; their questions are left out")
        self.note_cut(
            "answers in their context",
            len(answered - whole),
            len(answered),
            "lie whole in no window; their questions are trained on as having none",
        )
        self._note_long(examples, training)
        return made

    def _note_long(self, examples: Dataset, training: bool) -> None:
        """Questions that are cut, and answers that are too long to be predicted."""
        questions = self._lengths(list(examples["question"]))
        self.note_cut(
            "questions",
            sum(length > self.max_query_length for length in questions),
            len(examples),
            f"are longer than {self.max_query_length} tokens and lose their end",
        )
        if training or "answers" not in examples.column_names:
            return
        answers = [answers["text"] for answers in examples["answers"] if answers["text"]]
        lengths = iter(self._lengths([text for texts in answers for text in texts]))
        shortest = [min(next(lengths) for _ in texts) for texts in answers]
        self.note_cut(
            "accepted answers",
            sum(length > self.max_answer_length for length in shortest),
            len(answers),
            f"are longer than {self.max_answer_length} tokens, which no prediction is",
        )

    def _lengths(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return DataCollatorWithPadding(self.tokenizer, pad_to_multiple_of=self.pad_to_multiple_of)

    def loss(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Over the positions of a row alone. The stock head's softmax also runs over padding, so its loss would hang
        on how long the other rows of the batch are, and accumulating would change it.
        """
        is_padding = batch["attention_mask"].eq(0)
        ends = [
            F.cross_entropy(
                outputs[f"{end}_logits"].float().masked_fill(is_padding, float("-inf")), batch[f"{end}_positions"]
            )
            for end in ("start", "end")
        ]
        return (ends[0] + ends[1]) / 2

    def n_best(self, outputs: Any, features: Dataset, examples: Dataset) -> list[dict[str, Any]]:
        """For each example the best spans over all of its windows, best first, and the score of no answer.

        Returns:
            `{"id", "null_score", "answers": [{"text", "score", "start", "end"}]}`, positions in characters of the
            context.
        """
        # A diverged run is scored like any other, and named as failed for its loss.
        starts, ends = np.nan_to_num(outputs[0]), np.nan_to_num(outputs[1])
        found: list[dict[tuple[int, int], float]] = [{} for _ in range(len(examples))]
        null_scores = np.full(len(examples), np.inf)
        for window, (example, offsets) in enumerate(zip(features["example"], features["offset_mapping"], strict=True)):
            start, end = starts[window, : len(offsets)], ends[window, : len(offsets)]
            # A window without the answer says so; only when every window says so is there none.
            null_scores[example] = min(null_scores[example], start[0] + end[0])
            inside = np.array([offset[0] >= 0 for offset in offsets])
            first = _top(np.where(inside, start, -np.inf), self.n_best_size)
            last = _top(np.where(inside, end, -np.inf), self.n_best_size)
            sizes = last[None, :] - first[:, None] + 1
            for i, j in zip(*np.nonzero((sizes >= 1) & (sizes <= self.max_answer_length)), strict=True):
                span = (offsets[first[i]][0], offsets[last[j]][1])
                score = float(start[first[i]] + end[last[j]])
                found[example][span] = max(score, found[example].get(span, -np.inf))
        best = []
        for example, spans in enumerate(found):
            context = examples[example]["context"]
            ranked = sorted(spans.items(), key=lambda item: -item[1])[: self.n_best_size]
            best.append(
                {
                    "id": examples[example]["id"],
                    "null_score": float(null_scores[example]),
                    "answers": [
                        {"text": context[span[0] : span[1]], "score": score, "start": span[0], "end": span[1]}
                        for span, score in ranked
                    ],
                }
            )
        return best

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        """`{"id", "prediction_text", "n_best"}`, and for SQuAD 2.0 `no_answer_probability`, the logistic function of
        how far the score of no answer lies above the best answer's; the text is the best answer in either case.
        """
        predicted = []
        for found in self.n_best(outputs, features, examples):
            best = found["answers"][0] if found["answers"] else {"text": "", "score": -np.inf}
            row = {"id": found["id"], "prediction_text": best["text"]}
            if self._may_be_unanswerable:
                difference = found["null_score"] - best["score"]
                row["no_answer_probability"] = float(1 / (1 + np.exp(-np.clip(difference, -50, 50))))
            row["n_best"] = found["answers"]
            predicted.append(row)
        return predicted

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        references = [
            {"id": name, "answers": answers} for name, answers in zip(examples["id"], examples["answers"], strict=True)
        ]
        options = {}
        if self._may_be_unanswerable:
            options["no_answer_threshold"] = self._no_answer_threshold
        return compute(self.task.metric, predictions, references, **options)

    def write_answers(self, predictions: list[Any], folder: Path) -> None:
        write_answers(predictions, folder)

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """No answer at all where that is allowed, else the most frequent answer of the training split."""
        if self._may_be_unanswerable:
            return [{"id": name, "prediction_text": "", "no_answer_probability": 1.0} for name in examples["id"]]
        texts = Counter(answers["text"][0] for answers in train["answers"] if answers["text"])
        return [{"id": name, "prediction_text": texts.most_common(1)[0][0]} for name in examples["id"]]

    def is_degenerate(self, predictions: list[Any]) -> bool:
        answers = {
            "" if row.get("no_answer_probability", 0.0) > self._no_answer_threshold else row["prediction_text"]
            for row in predictions
        }
        return len(answers) <= 1

    @property
    def _no_answer_threshold(self) -> float:
        return float(1 / (1 + np.exp(-self.null_score_diff_threshold)))


def _answer_span(context: str, answers: dict[str, list]) -> tuple[int, int] | None:
    """Characters of the first answer, at its start or at the occurrence nearest to it."""
    if not answers["text"]:
        return None
    text, start = answers["text"][0], answers["answer_start"][0]
    before, behind = context.rfind(text, 0, start + len(text)), context.find(text, start)
    found = [position for position in (before, behind) if position >= 0]
    if not text or not found:
        return None
    begin = min(found, key=lambda position: abs(position - start))
    return begin, begin + len(text)


def _positions(offsets: list[tuple[int, int]], span: tuple[int, int] | None) -> tuple[int, int]:
    """Tokens of a window that cover the characters of a span; (0, 0) if it does not lie wholly inside."""
    if span is None:
        return 0, 0
    inside = [i for i, offset in enumerate(offsets) if offset != _OUTSIDE]
    if not inside or offsets[inside[0]][0] > span[0] or offsets[inside[-1]][1] < span[1]:
        return 0, 0
    covering = [i for i in inside if offsets[i][0] < span[1] and offsets[i][1] > span[0]]
    return (covering[0], covering[-1]) if covering else (0, 0)


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    ranked = np.argsort(-scores, kind="stable")[:count]
    return ranked[np.isfinite(scores[ranked])]
