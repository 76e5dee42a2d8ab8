"""What a kind of task says for itself: its files, features, head, predictions, metrics and the trivial baseline."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from transformers import BatchEncoding, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...common.references import ModelReference
from ..tasks import SplitFile, Task


class Cut(NamedTuple):
    """How many of what is in a split are not read as they stand, and what becomes of them."""

    count: int  # type: ignore[assignment]  # a method of tuples, which nobody asks of this one
    total: int
    consequence: str


@dataclass
class TaskKind(ABC):
    """One task with one tokenizer. Subclasses are the kinds.

    Attributes:
        task: the row of the table.
        labels: names of the classes in the order of their ids; empty where there are none.
        tokenizer: of the checkpoint.
        max_length: positions of an input.
        cut: `what -> Cut` of what `features` was called with since this was emptied.
        name: what `Task.kind` says.
        hub_task_type: the task as model cards on the Hub name it.
        metric, headline: of a user's own files; `None` for a kind that is not read from these.
        reads_tokens: whether the text is a list of tokens instead of a string.
        takes_label_lists: whether the label of an example is a list.
        swaps_pairs: whether a pair of texts may be trained on in both orders.
        predicts_one_class: whether a target is one class, which label smoothing needs.
        generates: whether predictions are written token by token, which `Seq2SeqTrainer` does.
        label_names: columns of the features that hold what is to be predicted, as `Trainer` wants them named.
    """

    task: Task
    labels: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    cut: dict[str, Cut] = field(default_factory=dict, init=False, repr=False)

    name: ClassVar[str]
    hub_task_type: ClassVar[str]
    metric: ClassVar[str | None] = None
    headline: ClassVar[str | None] = None
    reads_tokens: ClassVar[bool] = False
    takes_label_lists: ClassVar[bool] = False
    swaps_pairs: ClassVar[bool] = False
    predicts_one_class: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    label_names: ClassVar[tuple[str, ...]] = ("labels",)

    @classmethod
    def options(cls) -> dict[str, Field]:
        """Fields that a recipe may set, by name: those that a kind has beyond these."""
        shared = {item.name for item in fields(TaskKind)}
        return {item.name: item for item in fields(cls) if item.name not in shared}

    @classmethod
    @abstractmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        """Read the examples of a split from its file in the official layout, in the form that `Task` describes.

        Raises:
            ValueError: in one line, naming file and line of what cannot be read.
        """

    @classmethod
    def read_files(cls, task: Task, paths: dict[str, Path]) -> tuple[DatasetDict, tuple[str, ...]]:
        """Read all splits from their files in the official layout; also the names of the classes.

        Raises:
            ValueError: see `read_rows`, and for a file without examples.
        """
        splits = {}
        for split, path in paths.items():
            rows = list(cls.read_rows(task, path, task.files[split], split))
            if not rows:
                raise ValueError(f"{path}: has no example")
            splits[split] = Dataset.from_list(rows)
        return DatasetDict(splits), tuple(task.labels or ())

    @classmethod
    def from_hub(cls, task: Task, rows: Dataset, split: str) -> Dataset:
        """Bring the rows of a dataset on the Hub, its columns renamed, into the form that `Task` describes."""
        return rows

    @classmethod
    def group_of(cls, task: Task, row: dict[str, Any]) -> str:
        """Name what must stay on one side when a part of the training examples is held out: the text of an example."""
        return json.dumps([row[column] for column in task.text_columns])

    @classmethod
    def check_split(cls, examples: Dataset, source: str) -> None:
        """Refuse examples that cannot be scored; for splits that were not read as they are.

        Raises:
            ValueError: in one line.
        """
        return None

    @classmethod
    def own_targets(
        cls, labels: dict[str, list[Any]], paths: dict[str, str], columns: list[str], inferred: dict[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, list[Any]]]:
        """Turn the labels of a user's own files into targets.

        Args:
            labels: `split -> a label for each row`, as the file holds it.
            paths: `split -> file`, for messages.
            columns: names of the label columns.
            inferred: `what -> in words`, to which is added what was inferred here.

        Returns:
            The names of the classes, and `split -> a target for each row`.

        Raises:
            ValueError: in one line, for a label that does not fit.
        """
        raise NotImplementedError(f"{cls.name} is not read from a user's own files")

    @property
    def pad_to_multiple_of(self) -> int | None:
        """Matrix units of accelerators want multiples of 8; a CPU takes any length and pays for every position."""
        return 8 if torch.accelerator.is_available() else None

    def note_cut(self, what: str, count: int, total: int, consequence: str) -> None:
        """Keep for the output and the record what is not read as it stands; nothing where the count is 0."""
        if count:
            self.cut[what] = Cut(int(count), total, consequence)

    @abstractmethod
    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        """The checkpoint's encoder under this kind's head, which is new.

        Any stock or native checkpoint; what is missing must be the head alone.
        """

    @abstractmethod
    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        """The same architecture from random weights: the from-scratch baseline.

        Args:
            config: of a model that `load_model` returned.
        """

    @abstractmethod
    def features(self, examples: Dataset, training: bool) -> Dataset:
        """Model inputs with a column `length` (positions), in the order of the examples. An example may become several
        features (windows), and then a column `example` holds its position.

        Columns other than the model's inputs and `length` are kept for `predictions`, and never reach the model.
        What is cut is counted by `note_cut`.
        """

    @abstractmethod
    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Pad a batch of features to its own longest row. It receives model inputs only."""

    def loss(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """The mean over a batch's targets: the stock head's own, where that is one."""
        return outputs["loss"]

    @abstractmethod
    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        """One prediction for each example, in the form the metric takes.

        Args:
            outputs: what `Trainer.predict` gathered: a float array, or a tuple of them, `(features, ...)`, padded with
                -100 where rows differ in length; token ids of a kind that generates.
            features: as `features(examples, training=False)` returned them.
        """

    @abstractmethod
    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        """Scores of predictions against labelled examples, `task.headline` among them."""

    @abstractmethod
    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """What the best guesser that reads no text predicts: the majority class, the mean, no answer, the lead."""

    def oracle_predictions(self, examples: Dataset) -> list[Any] | None:
        """The best that this kind could predict, where even that is no perfect score; `None` elsewhere."""
        return None

    def is_degenerate(self, predictions: list[Any]) -> bool:
        """Whether a run learned nothing visible: every prediction is the same, or one is not a finite number."""
        if any(isinstance(prediction, float) and not np.isfinite(prediction) for prediction in predictions):
            return True
        return all(np.array_equal(prediction, predictions[0]) for prediction in predictions)

    def draw_errors(self, references: list[Any], predictions: list[Any], folder: Path) -> None:
        """Draw a picture of what was mistaken for what, if the kind has one.

        Args:
            references: labels of the validation split, made `readable`.
            predictions: of the validation split, in the same form.
        """
        return None

    def submitted(self, prediction: Any) -> str:
        """Write a prediction for the test set as the task's site takes it."""
        return str(prediction)

    def write_answers(self, predictions: list[Any], folder: Path) -> None:
        """Write the predictions of the validation split for an official scorer, if there is one."""
        return None

    def readable(self, prediction: Any) -> Any:
        """A prediction as it is written to files: names instead of ids."""
        return prediction


def count_cut(encoded: BatchEncoding) -> int:
    """Rows of which a tokenizer has cut something off."""
    assert encoded.encodings is not None, "tokenizers without Rust do not say what they cut"
    return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
