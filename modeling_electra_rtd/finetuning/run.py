"""A fine-tuning run: one task with every seed and its baselines; record, table, pictures, submission."""

import json
import statistics
import time
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import DatasetDict

from ..common.asked import ASKED, differences, read_json, refuse_differences, write_json
from ..common.files import TASK_RECORD, weights_hash
from ..common.machine import environment
from ..common.references import ModelReference, find_model
from ..model.precision import precision_facts
from .kinds.sequence_to_sequence import warm_started
from .kinds.table import KINDS
from .reading import TaskData
from .report import aggregate, markdown_table, median_run, plot_runs
from .seed_run import TaskRun
from .submission import write_submission
from .tasks import TASKS, Task


TABLE = "table.md"
CURVES = "curves.png"
CONFUSION = "confusion.png"
LABEL_SCORES = "labels.png"
SUBMISSION = "submission"
# Settings that decide the result of no run: how much is shown, and of how many seeds there are baselines.
_DECIDE_NOTHING = {"disable_tqdm", "from_scratch_seeds"}


def finetune(
    task: Task,
    data: TaskData,
    checkpoint: str | ModelReference,
    output_dir: str,
    seeds: list[int],
    values: dict[str, Any] | None = None,
    resume: bool = False,
    diagnostics: TaskData | None = None,
) -> dict[str, Any]:
    """Fine-tune a checkpoint on one task with every seed, and its baselines.

    The folder gets `seed-N/` with each model, its predictions and scores; `record.json`, `table.md`, `curves.png`, for
    classes `confusion.png`, for several labels a text `labels.png`, and for test splits of a task with a site
    `submission/`, by the median seed.

    Args:
        checkpoint: of this package or stock, by any name that `find_model` takes; the tokenizer is its own.
        seeds: of the new head, the order of the examples and dropout.
        values: fields of `FinetuningArguments`, and options of the task's kind such as `doc_stride`.
        resume: keep the seeds that an interrupted run of the same task, model, data and settings has finished.
        diagnostics: examples of AX, predicted with a model for MNLI.

    Returns:
        The record.

    Raises:
        ValueError: before any training, for a taken output folder, data or a checkpoint that do not fit, or a run to
            resume that was asked for something else.
    """
    values = dict(values or {})
    folder = Path(output_dir)
    if len(set(seeds)) != len(seeds) or not seeds:
        raise ValueError(f"seeds are {seeds}; give at least one, each once")
    if task.kind not in KINDS:
        raise ValueError(f"{task.name}: no kind {task.kind!r}")
    for split in ("train", "validation"):
        if split not in data.splits or not len(data.splits[split]):
            raise ValueError(f"{task.name}: no {split} split")
    checkpoint = find_model(checkpoint)
    asked = asked_for(task, data, checkpoint, values)
    check_folder(folder, resume, asked)
    if diagnostics is not None:
        splits = DatasetDict({**data.splits, "diagnostics": diagnostics.splits["test"]})
        sources = {**data.sources, "diagnostics": diagnostics.sources["test"]}
        data = TaskData(splits, data.labels, sources, data.stand_ins)
    run = TaskRun(task, data, checkpoint, folder, values)
    if run.settings.from_scratch_seeds > len(seeds):
        raise ValueError(f"from_scratch_seeds is {run.settings.from_scratch_seeds}; there are {len(seeds)} seeds")
    finished = {int(path.parent.name.removeprefix("seed-")) for path in folder.glob(f"seed-*/{TASK_RECORD}")}
    if not finished <= set(seeds):
        raise ValueError(f"{folder} holds seeds {sorted(finished)}; give them too, or another --output-dir")
    # Every model is built once before anything is written, so that a checkpoint that does not fit costs nothing.
    model = run.kind.load_model(checkpoint)
    # No process writes before all have found the folder free.
    process = PartialState()
    process.wait_for_everyone()
    if process.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ASKED, asked)
    started = time.perf_counter()
    tuned = [run.seed(seed) for seed in seeds]
    # Baselines that are there stay, also where fewer are asked for.
    baselines = [seed for seed in seeds if (folder / f"from-scratch-{seed}" / TASK_RECORD).is_file()]
    baselines = [seed for seed in seeds if seed in {*baselines, *seeds[: run.settings.from_scratch_seeds]}]
    scratch = [run.seed(seed, model.config) for seed in baselines]
    record = {
        "task": task.name,
        "kind": task.kind,
        "headline": task.headline,
        "model": str(checkpoint),
        "model_from_hub": checkpoint.from_hub,
        "weights_sha256": weights_hash(checkpoint.folder),
        "warm_started": warm_started(model) if run.kind.generates else "the encoder; the head is new",
        "data": {
            "sources": data.sources,
            "stand_ins": data.stand_ins,
            "labels": list(run.kind.labels),
            "text_columns": list(task.text_columns),
            "inferred": data.inferred,
            "cut": {split: {what: cut._asdict() for what, cut in found.items()} for split, found in run.cut.items()},
            "examples": {**{name: len(split) for name, split in run.examples.items()}, "train": run.sampled},
            "train_available": len(data.splits["train"]),
            "unknown_token_share": run.unknown_token_share,
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
        "median_seed": median_run(tuned, "validation", task.headline)["seed"],
        "seconds": round(time.perf_counter() - started, 1),
        "precision": precision_facts(run.settings.precision, run.settings.device.type),
        **environment(),
    }
    if process.is_main_process:
        _write(run, record)
    return record


def asked_for(task: Task, data: TaskData, checkpoint: ModelReference, values: dict[str, Any]) -> dict[str, Any]:
    """What decides a run's results, as `ASKED` holds it."""
    return {
        "task": task.name,
        "model": str(checkpoint),
        "model_from_hub": checkpoint.from_hub,
        # Those of the Hub are not here yet; their commit stands for them.
        "weights_sha256": weights_hash(checkpoint.folder) if checkpoint.from_hub is None else None,
        "sources": dict(data.sources),
        "examples": {name: len(split) for name, split in data.splits.items()},
        "text_columns": list(task.text_columns),
        "labels": list(data.labels),
        "settings": {name: value for name, value in sorted(values.items()) if name not in _DECIDE_NOTHING},
    }


def check_folder(folder: Path, resume: bool, asked: dict[str, Any] | None = None) -> None:
    """Nothing is overwritten, and a run is continued by what began it alone.

    Args:
        asked: what the run in the folder must have been asked for; `None` for a folder of several runs.

    Raises:
        ValueError: for a folder that holds something, or with `resume` for one that holds no such run.
    """
    if folder.is_file():
        raise ValueError(f"output_dir {folder} is a file")
    holds_something = folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))
    if not resume and holds_something:
        raise ValueError(f"output_dir {folder} already holds something; use --resume, or another --output-dir")
    if not resume:
        return
    begun = list(folder.glob(ASKED if asked is not None else f"*/{ASKED}"))
    if not begun:
        raise ValueError(f"nothing to resume: {folder} holds no run of finetune")
    if asked is None:
        return
    before = read_json(begun[0])
    # A run of an earlier version says nothing of what it did not know.
    known = {name: value for name, value in asked.items() if name in before}
    found = differences(before, known, ignored=_DECIDE_NOTHING)
    refuse_differences(folder, [difference._replace(key=_named(difference.key)) for difference in found])


def _named(key: str) -> str:
    """A setting by its own name: the user gave it without the part of `ASKED` that holds it."""
    return key.partition(".")[2] or key


def _write(run: TaskRun, record: dict[str, Any]) -> None:
    """The record, the table, the pictures and, where the task has a site, the submission of the median seed."""
    task, kind, folder = run.task, run.kind, run.folder
    seed = folder / f"seed-{record['median_seed']}"
    write_json(folder / TASK_RECORD, record)
    (folder / TABLE).write_text(markdown_table([record]), encoding="utf-8")
    plot_runs(record, folder / CURVES)
    predicted = _read_lines(seed / "predictions_validation.jsonl")
    if "label" in run.examples["validation"].column_names:
        references = [kind.readable(label) for label in run.examples["validation"]["label"]]
        kind.draw_errors(references, predicted, folder)
    kind.write_answers(predicted, folder / SUBMISSION)
    if task.submission is None:
        return
    ids = {label: i for i, label in enumerate(kind.labels)}
    files = {
        "test": task.submission,
        "test_mismatched": task.submission.replace("-m.", "-mm."),
        "diagnostics": str(TASKS["ax"].submission),
    }
    for split, name in files.items():
        if split in run.examples and "index" in run.examples[split].column_names:
            predictions = [ids.get(x, x) for x in _read_lines(seed / f"predictions_{split}.jsonl")]
            write_submission(predictions, kind.submitted, run.examples[split], folder / SUBMISSION / name)


def _summarised(runs: list[dict[str, Any]], splits: list[str]) -> dict[str, Any]:
    return {
        "summary": {split: aggregate(runs, split) for split in splits if runs},
        "failed_seeds": [run["seed"] for run in runs if run["is_degenerate"]],
        "training_examples_per_second": statistics.median(run["training_examples_per_second"] for run in runs)
        if runs
        else None,
        "runs": runs,
    }


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
