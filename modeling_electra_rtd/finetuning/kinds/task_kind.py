"""What a kind of task has to say for itself: features, head, predictions, metrics, the trivial baseline."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import BatchEncoding, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...common.references import ModelReference
from ..tasks import Task


class Cut(NamedTuple):
    """How many of what is in a split are not read as they stand, and what becomes of them."""

    count: int
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
        generates: whether predictions are written token by token, which `Seq2SeqTrainer` does.
        label_names: columns of the features that hold what is to be predicted, as `Trainer` wants them named.
    """

    task: Task
    labels: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    cut: dict[str, Cut] = field(default_factory=dict, init=False, repr=False)

    generates: ClassVar[bool] = False
    label_names: ClassVar[tuple[str, ...]] = ("labels",)

    @classmethod
    def options(cls) -> dict[str, Field]:
        """Fields that a recipe may set, by name: those that a kind has beyond these."""
        shared = {item.name for item in fields(TaskKind)}
        return {item.name: item for item in fields(cls) if item.name not in shared}

    @property
    def pad_to_multiple_of(self) -> int | None:
        """Matrix units of accelerators want multiples of 8; a CPU takes any length and pays for every position."""
        return 8 if torch.accelerator.is_available() else None

    def note_cut(self, what: str, count: int, total: int, consequence: str) -> None:
        """Keeps for the output and the record what is not read as it stands; nothing where the count is 0."""
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
        """Pads a batch of features to its own longest row. It receives model inputs only."""

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

    def readable(self, prediction: Any) -> Any:
        """A prediction as it is written to files: names instead of ids."""
        return prediction


def count_cut(encoded: BatchEncoding) -> int:
    """Rows of which a tokenizer has cut something off."""
    assert encoded.encodings is not None, "tokenizers without Rust do not say what they cut"
    return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
