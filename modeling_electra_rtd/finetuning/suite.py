"""Several tasks with one checkpoint, such as GLUE: one table, and one folder of submissions."""

import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.utils import logging

from ..common.asked import read_json
from ..common.files import TASK_RECORD
from ..common.references import ModelReference, find_model
from .reading import MissingData, TaskData, read_task
from .recipes import kind_options
from .report import markdown_table
from .run import SUBMISSION, TABLE, asked_for, check_folder, finetune
from .tasks import TASKS, Task
from .training_args import FinetuningArguments


logger = logging.get_logger(__name__)


def finetune_set(
    tasks: list[Task],
    checkpoint: str | ModelReference,
    output_dir: str,
    seeds: list[int],
    values: dict[str, Any] | None = None,
    data_dir: str | None = None,
    resume: bool = False,
    skip_missing: bool = False,
    validation_fraction: float | None = None,
) -> list[dict[str, Any]]:
    """Fine-tune on several tasks, each in its own folder below `output_dir`, and write one table of all.

    MNLI's model also predicts the diagnostics of AX where they are at hand. `submission/` collects what the site of a
    set takes.

    Args:
        skip_missing: leave out tasks whose files are missing, and say so in the table, instead of refusing the set. A
            file that is there and cannot be read is always refused.
        validation_fraction: see `read_task`.

    Raises:
        ValueError: see `finetune`; all data is read before the first task trains.
    """
    folder, values = Path(output_dir), dict(values or {})
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"tasks are {', '.join(names)}; give each once")
    check_folder(folder, resume)
    # Once, so that every task begins with the same commit.
    checkpoint = find_model(checkpoint)
    read, left_out = {}, []
    for task in tasks:
        kind_options(values, task)
        try:
            read[task.name] = read_task(task, data_dir, validation_fraction)
        except MissingData as error:
            if not skip_missing:
                raise
            left_out.append(str(error))
    if not read:
        raise ValueError(f"{data_dir} holds none of {', '.join(names)}")
    diagnostics = read_diagnostics(data_dir) if "mnli" in read else None
    records = []
    for task in tasks:
        if task.name not in read:
            continue
        place = folder / task.name
        records.append(
            _finished(task, read[task.name], checkpoint, place, seeds, values)
            or finetune(
                task,
                read[task.name],
                checkpoint,
                str(place),
                seeds,
                values,
                resume and place.is_dir(),
                diagnostics if task.name == "mnli" else None,
            )
        )
        if not PartialState().is_main_process:
            continue
        # After every task, so that a set that is cut off leaves what it has.
        (folder / TABLE).write_text(markdown_table(records, left_out), encoding="utf-8")
        for path in sorted((place / SUBMISSION).glob("*.tsv")):
            (folder / SUBMISSION).mkdir(exist_ok=True)
            shutil.copyfile(path, folder / SUBMISSION / path.name)
    return records


def read_diagnostics(data_dir: str | None) -> TaskData | None:
    """The examples of AX, which a model for MNLI predicts; `None`, with a warning, where they are missing."""
    try:
        return read_task(TASKS["ax"], data_dir)
    except ValueError as error:
        logger.warning(f"the diagnostics of AX are left out: {error}")
        return None


def _finished(
    task: Task, data: TaskData, checkpoint: ModelReference, folder: Path, seeds: list[int], values: dict[str, Any]
) -> dict[str, Any] | None:
    """The record of a task that an interrupted set has finished with these seeds."""
    if not (folder / TASK_RECORD).is_file():
        return None
    check_folder(folder, True, asked_for(task, data, checkpoint, values))
    record = read_json(folder / TASK_RECORD)
    baselines = values.get("from_scratch_seeds", FinetuningArguments.from_scratch_seeds)
    tuned, scratch = ([run["seed"] for run in record[kind]["runs"]] for kind in ("fine_tuned", "from_scratch"))
    return record if tuned == seeds and set(seeds[:baselines]) <= set(scratch) else None
