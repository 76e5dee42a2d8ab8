"""One task with one checkpoint: every seed trained, evaluated and written."""

import dataclasses
import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from datasets import Dataset, concatenate_datasets
from transformers import EarlyStoppingCallback, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.utils import logging

from ..common.asked import read_json, write_json
from ..common.files import TASK_RECORD
from ..common.machine import tune_cpu_memory
from ..common.references import ModelReference
from ..data.tokenization import load_tokenizer
from ..data.unknown_tokens import warn_of_unknown
from ..model.backbones import longest_row
from ..model.cpu_attention import use_cpu_layers
from ..model.text_encoding import reading_tokenizer
from ..model.vocabulary import padding_problem, vocabulary_size
from .kinds.heads import load_config
from .kinds.table import KINDS
from .kinds.task_kind import Cut
from .reading import TaskData
from .recipes import kind_options
from .tasks import Task
from .trainer import FinetuningTrainer, inputs_only
from .training_args import FinetuningArguments


logger = logging.get_logger(__name__)


class TaskRun:
    """What all seeds of a task share: tokenizer, features, settings.

    Args:
        values: fields of `FinetuningArguments`, and options of the task's kind.

    Raises:
        ValueError: for settings, a tokenizer or data that do not fit.
    """

    def __init__(self, task: Task, data: TaskData, checkpoint: ModelReference, folder: Path, values: dict[str, Any]):
        self.task, self.checkpoint, self.folder = task, checkpoint, folder
        values, self.options = kind_options(values, task)
        self.values = {
            **values,
            "num_train_epochs": values.get("num_train_epochs") or task.num_train_epochs,
            "max_length": values.get("max_length") or task.max_length,
        }
        if values.get("swap_pairs") is None:
            self.values["swap_pairs"] = task.swap_pairs
        if KINDS[task.kind].generates:
            # Beam search over the whole split costs more than the epoch before it.
            self.values.setdefault("eval_strategy", "no")
        self.settings = FinetuningArguments(**self.values)
        tokenizer = self.tokenizer = load_tokenizer(checkpoint)
        config = load_config(checkpoint)
        self._check_vocabulary(tokenizer, config)
        # A bare tokenizer.json does not say that its model has segments; the second text of a pair is one.
        if getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" not in tokenizer.model_input_names:
            tokenizer.model_input_names = [*tokenizer.model_input_names, "token_type_ids"]
        longest = self.values["max_length"]
        self.kind = KINDS[task.kind](
            task=task,
            labels=tuple(data.labels),
            tokenizer=reading_tokenizer(tokenizer),
            max_length=min(longest, longest_row(config) or sys.maxsize),
            **self.options,
        )
        if self.kind.max_length < longest:
            logger.warning(
                f"max_length is {self.settings.max_length}; {checkpoint} has {self.kind.max_length} positions, and so "
                "many are read"
            )
        if self.settings.label_smoothing_factor and not self.kind.predicts_one_class:
            raise ValueError(f"label_smoothing_factor: {task.name} is {task.kind}, which does not predict one class")
        self.examples = dict(data.splits)
        self.examples["train"] = self._training_examples(self.examples["train"])
        self.validation_splits = [name for name in self.examples if name.startswith("validation")]
        self.cut: dict[str, dict[str, Cut]] = {}
        self.features = {split: self._made_features(split, examples) for split, examples in self.examples.items()}
        self.unknown_token_share = {
            split: round(
                warn_of_unknown(features.data.column("input_ids"), tokenizer, f"the {split} split of {task.name}"), 6
            )
            for split, features in self.features.items()
        }

    def described(self) -> dict[str, Any]:
        """The settings that decide the result."""
        stated = {field.name for field in dataclasses.fields(FinetuningArguments)} - {
            field.name for field in dataclasses.fields(transformers.TrainingArguments)
        }
        names = sorted(
            stated
            | set(self.values)
            | {"learning_rate", "weight_decay", "warmup_steps", "per_device_train_batch_size", "precision"}
            | {"gradient_accumulation_steps", "lr_scheduler_type", "max_grad_norm", "max_steps"}
        )
        found = {name: getattr(self.settings, name) for name in names}
        # What was read, where less was than was asked for.
        found |= {name: getattr(self.kind, name) for name in ("max_length", *self.kind.options())}
        return {name: value for name, value in found.items() if isinstance(value, int | float | str | None)}

    def seed(self, seed: int, fresh_config: PreTrainedConfig | None = None) -> dict[str, Any]:
        """Train and evaluate once; what an interrupted run has finished is read instead.

        Args:
            fresh_config: train from random weights of this architecture.
        """
        folder = self.folder / (f"seed-{seed}" if fresh_config is None else f"from-scratch-{seed}")
        result = folder / TASK_RECORD
        if result.is_file():
            return read_json(result)
        values = dict(self.values)
        if fresh_config is not None:
            # Slower lower layers keep what pre-training put there; random weights have nothing to keep.
            values["layerwise_lr_decay"] = 1.0
        arguments = FinetuningArguments(
            **{
                **values,
                "output_dir": str(folder),
                "seed": seed,
                "data_seed": seed,
                "predict_with_generate": self.kind.generates,
                "metric_for_best_model": f"eval_{self.task.headline}",
                "greater_is_better": True,
            }
        )
        if arguments.device.type == "cpu":
            tune_cpu_memory()
        name = f"{self.task.name}, seed {seed}{'' if fresh_config is None else ' from scratch'}"
        if arguments.process_index == 0:
            print(f"{name}: {len(self.features['train']):,} training rows", flush=True)
        transformers.set_seed(seed)
        model = self.kind.load_model(self.checkpoint) if fresh_config is None else self.kind.fresh_model(fresh_config)
        trainer = self.trainer(model, arguments)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        metrics, predicted = {}, {}
        for split in self.examples:
            if split != "train" and (split in self.validation_splits or fresh_config is None):
                predicted[split] = self.predict(trainer, split)
            if split in self.validation_splits:
                metrics[split] = self.kind.metrics(predicted[split], self.examples[split])
        losses = [entry[key] for entry in trainer.state.log_history for key in ("loss", "train_loss") if key in entry]
        record = {
            "seed": seed,
            "metrics": metrics,
            "is_degenerate": self.kind.is_degenerate(predicted["validation"])
            or not all(math.isfinite(loss) for loss in losses),
            "steps": trainer.state.global_step,
            "best_checkpoint_step": getattr(trainer.state, "best_global_step", None)
            if arguments.load_best_model_at_end
            else None,
            "training_seconds": round(seconds, 2),
            "training_examples_per_second": round(
                trainer.state.epoch * len(self.features["train"]) / max(seconds, 1e-9), 1
            ),
            "log": trainer.state.log_history,
        }
        if fresh_config is None:
            # By all processes: each may hold a part of the weights.
            trainer.save_model()
        if arguments.process_index == 0:
            self._write(folder, record, predicted)
            score = metrics["validation"][self.task.headline]
            print(f"{name}: {self.task.headline} {score:.4g} after {seconds:.0f} s of training", flush=True)
        return record

    def _write(self, folder: Path, record: dict[str, Any], predicted: dict[str, list[Any]]) -> None:
        """Predictions and the record of a seed, and nothing that no reader of its model needs."""
        folder.mkdir(parents=True, exist_ok=True)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        # A pickle that no reader of the model needs.
        (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        for split, predictions in predicted.items():
            lines = [json.dumps(self.kind.readable(prediction), default=float) for prediction in predictions]
            (folder / f"predictions_{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Last, because its presence says that this seed is done.
        write_json(folder / TASK_RECORD, record)

    def oracle(self, split: str) -> dict[str, float] | None:
        """Scores of the best that the kind could predict, where that is no perfect score."""
        predictions = self.kind.oracle_predictions(self.examples[split])
        return None if predictions is None else self.kind.metrics(predictions, self.examples[split])

    def predict(self, trainer: FinetuningTrainer, split: str) -> list[Any]:
        """Predictions for a split, computed from its longest feature to its shortest: little padding, and memory that
        does not suffice is known at once.
        """
        features = self.features[split]
        order = np.argsort(-np.asarray(features["length"]), kind="stable")
        ranked = features.select(order).remove_columns(
            [name for name in self.kind.label_names if name in features.column_names]
        )
        outputs: Any = trainer.predict(ranked).predictions
        back = np.argsort(order, kind="stable")
        outputs = tuple(part[back] for part in outputs) if isinstance(outputs, tuple) else outputs[back]
        return self.kind.predictions(outputs, features, self.examples[split])

    def trainer(self, model: Any, arguments: FinetuningArguments) -> FinetuningTrainer:
        """A trainer of a model with this task's data and scores."""

        def score(trainer: FinetuningTrainer) -> dict[str, float]:
            return self.kind.metrics(self.predict(trainer, "validation"), self.examples["validation"])

        if arguments.attn_implementation is not None:
            model.set_attn_implementation(arguments.attn_implementation)
        if arguments.device.type == "cpu":
            use_cpu_layers(model)
        patience = arguments.early_stopping_patience
        return FinetuningTrainer(
            model=model,
            args=arguments,
            label_names=self.kind.label_names,
            train_dataset=self.features["train"],
            eval_dataset=self.features["validation"],
            data_collator=inputs_only(self.kind.collator(), self.kind.label_names),
            processing_class=self.tokenizer,
            score=score,
            loss=self.kind.loss,
            callbacks=[] if patience is None else [EarlyStoppingCallback(early_stopping_patience=patience)],
        )

    def _made_features(self, split: str, examples: Dataset) -> Dataset:
        self.kind.cut = {}
        features = self.kind.features(examples, training=split == "train")
        for what, cut in self.kind.cut.items():
            logger.warning(f"{self.task.name}, {split}: {cut.count:,} of {cut.total:,} {what} {cut.consequence}")
        self.cut[split] = self.kind.cut
        return features

    def _training_examples(self, examples: Dataset) -> Dataset:
        limit = self.settings.max_train_samples
        if limit is not None and limit < len(examples):
            # The same part for every seed: seeds differ by training, not by data.
            examples = examples.shuffle(seed=0).select(range(limit))
        self.sampled = len(examples)
        if self.settings.swap_pairs:
            if len(self.task.text_columns) != 2 or not self.kind.swaps_pairs:
                raise ValueError(f"swap_pairs: {self.task.name} has no pairs of texts")
            first, second = self.task.text_columns
            swapped = examples.rename_columns({first: second, second: first}).select_columns(examples.column_names)
            examples = concatenate_datasets([examples, swapped])
        return examples

    def _check_vocabulary(self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        """Embeddings may be padded to a round number."""
        size = vocabulary_size(tokenizer)
        unused = config.vocab_size - size
        if not 0 <= unused <= max(128, config.vocab_size // 10):
            raise ValueError(
                f"{self.checkpoint}: its tokenizer has {size} tokens, but the model has embeddings for "
                f"{config.vocab_size}; the tokenizer is another model's"
            )
        if problem := padding_problem(tokenizer, config):
            logger.warning(f"{self.checkpoint}: {problem}")
