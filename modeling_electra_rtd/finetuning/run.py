"""A fine-tuning run: one task with every seed and its baselines, or a set of tasks; record, table and pictures."""

import dataclasses
import json
import math
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, concatenate_datasets
from transformers import EarlyStoppingCallback, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.tokenization import load_tokenizer
from ..machine import environment, keep_freed_memory
from .heads import load_config
from .reading import TaskData, read_task
from .recipes import KINDS, kind_options
from .report import aggregate, markdown_table, median_run, plot_confusion, plot_runs
from .sequence_to_sequence import warm_started
from .submission import write_answers, write_submission
from .tasks import TASKS, Task
from .trainer import FinetuningTrainer, inputs_only
from .training_args import FinetuningArguments


logger = logging.get_logger(__name__)

RECORD = "record.json"
TABLE = "table.md"
CURVES = "curves.png"
CONFUSION = "confusion.png"
SUBMISSION = "submission"


def finetune(
    task: Task,
    data: TaskData,
    checkpoint: str,
    output_dir: str,
    seeds: list[int],
    values: dict[str, Any] | None = None,
    resume: bool = False,
    diagnostics: TaskData | None = None,
) -> dict[str, Any]:
    """Fine-tune a checkpoint on one task with every seed, and its baselines.

    The folder gets `seed-N/` with each model, its predictions and scores; `record.json`, `table.md`, `curves.png`, for
    labels `confusion.png`, and for test splits of a task with a site `submission/`, by the median seed.

    Args:
        checkpoint: of this package, a stock checkpoint, or a Hub id; the tokenizer is its own.
        seeds: of the new head, the order of the examples and dropout.
        values: fields of `FinetuningArguments`, and options of the task's kind such as `doc_stride`.
        resume: keep the seeds that an interrupted run has finished.
        diagnostics: examples of AX, predicted with a model for MNLI.

    Returns:
        The record.

    Raises:
        ValueError: before any training, for a taken output folder, data or a checkpoint that do not fit.
    """
    values = dict(values or {})
    folder = Path(output_dir)
    _check_folder(folder, resume)
    if len(set(seeds)) != len(seeds) or not seeds:
        raise ValueError(f"seeds are {seeds}; give at least one, each once")
    if task.kind not in KINDS:
        raise ValueError(f"{task.name}: no kind {task.kind!r}")
    for split in ("train", "validation"):
        if split not in data.splits or not len(data.splits[split]):
            raise ValueError(f"{task.name}: no {split} split")
    run = _Run(task, data, checkpoint, folder, values)
    scratch_seeds = seeds[: run.settings.from_scratch_seeds]
    # Every model is built once before anything is written, so that a checkpoint that does not fit costs nothing.
    model = run.kind.load_model(checkpoint)
    config = model.config
    started = time.perf_counter()
    tuned = [run.seed(seed) for seed in seeds]
    scratch = [run.seed(seed, config) for seed in scratch_seeds]
    middle = median_run(tuned, "validation", task.headline)
    record = {
        "task": task.name,
        "kind": task.kind,
        "headline": task.headline,
        "model": checkpoint,
        "warm_started": warm_started(model) if run.kind.generates else "the encoder; the head is new",
        "data": {
            "sources": data.sources,
            "stand_ins": data.stand_ins,
            "labels": list(run.kind.labels),
            "examples": {name: len(split) for name, split in run.examples.items()},
        },
        "settings": run.described(),
        "selected_on_validation": run.settings.load_best_model_at_end,
        "validation_splits": run.validation_splits,
        "fine_tuned": _summarised(tuned, run.validation_splits),
        "from_scratch": _summarised(scratch, run.validation_splits),
        "trivial": {
            split: run.kind.metrics(
                run.kind.trivial_predictions(run.examples["train"], run.examples[split]), run.examples[split]
            )
            for split in run.validation_splits
        },
        "oracle": {split: run.oracle(split) for split in run.validation_splits},
        "median_seed": middle["seed"],
        "seconds": round(time.perf_counter() - started, 1),
        **environment(),
    }
    run.write(record, diagnostics)
    return record


def finetune_set(
    tasks: list[Task],
    checkpoint: str,
    output_dir: str,
    seeds: list[int],
    values: dict[str, Any] | None = None,
    data_dir: str | None = None,
    resume: bool = False,
    skip_missing: bool = False,
) -> list[dict[str, Any]]:
    """Fine-tune on several tasks, each in its own folder below `output_dir`, and write one table of all.

    MNLI's model also predicts the diagnostics of AX where they are at hand.

    Args:
        skip_missing: leave out tasks whose data is missing, with a warning, instead of refusing the set.

    Raises:
        ValueError: see `finetune`; all data is read before the first task trains.
    """
    folder = Path(output_dir)
    _check_folder(folder, resume)
    read = {}
    for task in tasks:
        try:
            read[task.name] = read_task(task, data_dir)
        except ValueError as error:
            if not skip_missing:
                raise
            logger.warning(f"left out: {error}")
    if not read:
        raise ValueError(f"{data_dir} holds none of {', '.join(task.name for task in tasks)}")
    diagnostics = None
    if "mnli" in read:
        try:
            diagnostics = read_task(TASKS["ax"], data_dir)
        except ValueError as error:
            logger.warning(f"the diagnostics of AX are left out: {error}")
    records = []
    for task in [task for task in tasks if task.name in read]:
        done = folder / task.name / RECORD
        if resume and done.is_file():
            records.append(json.loads(done.read_text(encoding="utf-8")))
            continue
        records.append(
            finetune(
                task,
                read[task.name],
                checkpoint,
                str(folder / task.name),
                seeds,
                values,
                resume,
                diagnostics if task.name == "mnli" else None,
            )
        )
        # After every task, so that a set that is cut off leaves what it has.
        (folder / TABLE).write_text(markdown_table(records), encoding="utf-8")
    return records


class _Run:
    """What all seeds of a task share: tokenizer, features, settings."""

    def __init__(self, task: Task, data: TaskData, checkpoint: str, folder: Path, values: dict[str, Any]):
        self.task, self.checkpoint, self.folder = task, checkpoint, folder
        values, self.options = kind_options(values, task)
        self.values = {
            **values,
            "num_train_epochs": values.get("num_train_epochs") or task.num_train_epochs,
            "max_length": values.get("max_length") or task.max_length,
        }
        if values.get("swap_pairs") is None:
            self.values["swap_pairs"] = task.swap_pairs
        # One stack of layers has a rate for each; an encoder with a new decoder does not.
        if KINDS[task.kind].generates:
            self.values.setdefault("layerwise_lr_decay", 1.0)
            # Beam search over the whole split costs more than the epoch before it.
            self.values.setdefault("eval_strategy", "no")
        self.settings = FinetuningArguments(**self.values)
        tokenizer = load_tokenizer(checkpoint)
        config = load_config(checkpoint)
        self._check_vocabulary(tokenizer, config)
        # A bare tokenizer.json does not say that its model has segments; the second text of a pair is one.
        if getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" not in tokenizer.model_input_names:
            tokenizer.model_input_names = [*tokenizer.model_input_names, "token_type_ids"]
        self.kind = KINDS[task.kind](
            task=task,
            labels=tuple(data.labels),
            tokenizer=tokenizer,
            max_length=min(self.settings.max_length, getattr(config, "max_position_embeddings", sys.maxsize)),
            **self.options,
        )
        if self.settings.label_smoothing_factor and (
            task.kind == "regression" or self.kind.label_names != ("labels",)
        ):
            raise ValueError(f"label_smoothing_factor: {task.name} is {task.kind}, which predicts no class")
        self.examples = dict(data.splits)
        self.examples["train"] = self._training_examples(self.examples["train"])
        self.validation_splits = [name for name in self.examples if name.startswith("validation")]
        self._features = {
            split: self.kind.features(examples, training=split == "train") for split, examples in self.examples.items()
        }

    def described(self) -> dict[str, Any]:
        """The settings that decide the result."""
        stated = {field.name for field in dataclasses.fields(FinetuningArguments)} - {
            field.name for field in dataclasses.fields(transformers.TrainingArguments)
        }
        names = sorted(
            stated
            | set(self.values)
            | {"learning_rate", "weight_decay", "warmup_steps", "per_device_train_batch_size", "bf16"}
            | {"gradient_accumulation_steps", "lr_scheduler_type", "max_grad_norm", "max_steps"}
        )
        found = {name: getattr(self.settings, name) for name in names}
        found |= {name: getattr(self.kind, name) for name in self.kind.options()}
        return {name: value for name, value in found.items() if isinstance(value, int | float | str | None)}

    def seed(self, seed: int, fresh_config: PreTrainedConfig | None = None) -> dict[str, Any]:
        """Train and evaluate once; what an interrupted run has finished is read instead.

        Args:
            fresh_config: train from random weights of this architecture.
        """
        folder = self.folder / (f"seed-{seed}" if fresh_config is None else f"from-scratch-{seed}")
        result = folder / RECORD
        if result.is_file():
            return json.loads(result.read_text(encoding="utf-8"))
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
            keep_freed_memory()
        transformers.set_seed(seed)
        model = self.kind.load_model(self.checkpoint) if fresh_config is None else self.kind.fresh_model(fresh_config)
        trainer = self._trainer(model, arguments)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        metrics, predicted = {}, {}
        for split in self.examples:
            if split != "train" and (split in self.validation_splits or fresh_config is None):
                predicted[split] = self.predict(trainer, split)
            if split in self.validation_splits:
                metrics[split] = self.kind.metrics(predicted[split], self.examples[split])
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
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
                trainer.state.epoch * len(self._features["train"]) / max(seconds, 1e-9), 1
            ),
            "log": trainer.state.log_history,
        }
        folder.mkdir(parents=True, exist_ok=True)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        if fresh_config is None:
            trainer.save_model()
        for split, predictions in predicted.items():
            lines = [json.dumps(self.kind.readable(prediction), default=float) for prediction in predictions]
            (folder / f"predictions_{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Last, because its presence says that this seed is done.
        result.write_text(json.dumps(record, indent=2, default=float) + "\n", encoding="utf-8")
        return record

    def oracle(self, split: str) -> dict[str, float] | None:
        """Scores of the best that the kind could predict, where that is no perfect score."""
        predictions = self.kind.oracle_predictions(self.examples[split])
        return None if predictions is None else self.kind.metrics(predictions, self.examples[split])

    def predict(self, trainer: FinetuningTrainer, split: str) -> list[Any]:
        """Predictions for a split, computed from its longest feature to its shortest: little padding, and memory that
        does not suffice is known at once.
        """
        return self._predicted(trainer, self._features[split], self.examples[split])

    def _predicted(self, trainer: FinetuningTrainer, features: Dataset, examples: Dataset) -> list[Any]:
        order = np.argsort(-np.asarray(features["length"]), kind="stable")
        ranked = features.select(order).remove_columns(
            [name for name in self.kind.label_names if name in features.column_names]
        )
        outputs = trainer.predict(ranked).predictions
        back = np.argsort(order, kind="stable")
        outputs = tuple(part[back] for part in outputs) if isinstance(outputs, tuple) else outputs[back]
        return self.kind.predictions(outputs, features, examples)

    def write(self, record: dict[str, Any], diagnostics: TaskData | None) -> None:
        """The record, the table, the pictures and, where the task has a site, the submission of the median seed."""
        task, kind, seed = self.task, self.kind, self.folder / f"seed-{record['median_seed']}"
        (self.folder / RECORD).write_text(json.dumps(record, indent=2, default=float) + "\n", encoding="utf-8")
        (self.folder / TABLE).write_text(markdown_table([record]), encoding="utf-8")
        plot_runs(record, self.folder / CURVES)
        if kind.labels and "label" in self.examples["validation"].column_names:
            references = [kind.readable(label) for label in self.examples["validation"]["label"]]
            predicted = _read_lines(seed / "predictions_validation.jsonl")
            plot_confusion(_flat(references), _flat(predicted), list(kind.labels), self.folder / CONFUSION)
        if task.kind == "question_answering":
            write_answers(_read_lines(seed / "predictions_validation.jsonl"), self.folder / SUBMISSION)
        if task.submission is None:
            return
        ids = {label: i for i, label in enumerate(kind.labels)}
        files = {"test": task.submission, "test_mismatched": task.submission.replace("-m.", "-mm.")}
        for split, name in files.items():
            if split in self.examples and "index" in self.examples[split].column_names:
                predictions = [ids.get(x, x) for x in _read_lines(seed / f"predictions_{split}.jsonl")]
                path = self.folder / SUBMISSION / name
                write_submission(task, predictions, kind.labels, self.examples[split], path)
        if diagnostics is not None:
            examples = diagnostics.splits["test"]
            arguments = FinetuningArguments(**{**self.values, "output_dir": str(seed)})
            trainer = self._trainer(kind.load_model(str(seed)), arguments)
            predictions = self._predicted(trainer, kind.features(examples, training=False), examples)
            ax = TASKS["ax"]
            write_submission(ax, predictions, kind.labels, examples, self.folder / SUBMISSION / ax.submission)

    def _trainer(self, model: torch.nn.Module, arguments: FinetuningArguments) -> FinetuningTrainer:
        def score(trainer: FinetuningTrainer) -> dict[str, float]:
            return self.kind.metrics(self.predict(trainer, "validation"), self.examples["validation"])

        if arguments.attn_implementation is not None:
            model.set_attn_implementation(arguments.attn_implementation)
        patience = arguments.early_stopping_patience
        return FinetuningTrainer(
            model=model,
            args=arguments,
            label_names=self.kind.label_names,
            train_dataset=self._features["train"],
            eval_dataset=self._features["validation"],
            data_collator=inputs_only(self.kind.collator(), self.kind.label_names),
            processing_class=self.kind.tokenizer,
            score=score,
            loss=self.kind.loss,
            callbacks=[] if patience is None else [EarlyStoppingCallback(early_stopping_patience=patience)],
        )

    def _training_examples(self, examples: Dataset) -> Dataset:
        limit = self.settings.max_train_samples
        if limit is not None and limit < len(examples):
            # The same part for every seed: seeds differ by training, not by data.
            examples = examples.shuffle(seed=0).select(range(limit))
        if self.settings.swap_pairs:
            if len(self.task.text_columns) != 2 or self.task.kind not in ("classification", "regression"):
                raise ValueError(f"swap_pairs: {self.task.name} has no pairs of texts")
            first, second = self.task.text_columns
            swapped = examples.rename_columns({first: second, second: first}).select_columns(examples.column_names)
            examples = concatenate_datasets([examples, swapped])
        return examples

    def _check_vocabulary(self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        if len(tokenizer) > config.vocab_size:
            raise ValueError(
                f"{self.checkpoint}: its tokenizer has {len(tokenizer)} tokens, but the model has embeddings for "
                f"{config.vocab_size}; the tokenizer is another model's"
            )


def _summarised(runs: list[dict[str, Any]], splits: list[str]) -> dict[str, Any]:
    return {
        "summary": {split: aggregate(runs, split) for split in splits if runs},
        "failed_seeds": [run["seed"] for run in runs if run["is_degenerate"]],
        "training_examples_per_second": statistics.median(run["training_examples_per_second"] for run in runs)
        if runs
        else None,
        "runs": runs,
    }


def _check_folder(folder: Path, resume: bool) -> None:
    if folder.is_file():
        raise ValueError(f"output_dir {folder} is a file")
    holds_something = folder.is_dir() and any(folder.iterdir())
    if holds_something and not resume:
        raise ValueError(f"output_dir {folder} already holds something; use --resume, or another --output-dir")
    if resume and not holds_something:
        raise ValueError(f"nothing to resume: {folder} holds no run")


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _flat(values: list[Any]) -> list[Any]:
    return [item for value in values for item in value] if values and isinstance(values[0], list) else values
