"""A task's examples, from the official folder or from the Hub, in the one form that `Task` describes."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import ClassLabel, DatasetDict, Sequence, load_dataset

from .kinds.table import KINDS
from .tasks import Task


class MissingData(ValueError):
    """A task's files are not there."""


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Attributes:
        splits: `train`, `validation`, ... in the form that the docstring of `Task` describes.
        labels: names of the classes in the order of their ids; empty where there are none. Those of tagging are of
            all labelled splits, "O" first, so that an unseen tag counts against a model instead of ending its run.
        sources: `split -> file`, or `split -> dataset on the Hub`.
        stand_ins: `split -> file` where a part or a stand-in of the official file was read.
        inferred: `what -> in words` of a user's files: columns, what is left out, the scheme of entities.
    """

    splits: DatasetDict
    labels: tuple[str, ...]
    sources: dict[str, str]
    stand_ins: dict[str, str]
    inferred: dict[str, Any] = field(default_factory=dict)


def read_task(task: Task, data_dir: str | None = None, validation_fraction: float | None = None) -> TaskData:
    """Read a task.

    Args:
        data_dir: folder in the official layout; `None` reads the dataset on the Hub.
        validation_fraction: take this share of the training examples as the validation split, by a hash of their text
            (question answering: of their context), so that it is the same in every run.

    Raises:
        MissingData: a `ValueError`, for a folder without the task's files.
        ValueError: in one line, naming file and line of what cannot be read.
    """
    if validation_fraction is not None and not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}; it must be in (0, 1)")
    read = _read_hub(task) if data_dir is None else _read_folder(task, Path(data_dir), validation_fraction)
    if validation_fraction is None:
        return read
    held_out = f"{validation_fraction:.0%} of {read.sources['train']}, by a hash of the text"
    kind = KINDS[task.kind]
    is_held_out = [_share(kind.group_of(task, row)) < validation_fraction for row in read.splits["train"]]
    train = read.splits["train"].select([i for i, out in enumerate(is_held_out) if not out])
    validation = read.splits["train"].select([i for i, out in enumerate(is_held_out) if out])
    kind.check_split(validation, read.sources["train"])
    splits = DatasetDict({**read.splits, "train": train, "validation": validation})
    sources = {**read.sources, "validation": held_out}
    return TaskData(splits, read.labels, sources, {**read.stand_ins, "validation": held_out})


def _read_folder(task: Task, data_dir: Path, validation_fraction: float | None) -> TaskData:
    if not data_dir.is_dir():
        raise ValueError(f"data_dir {str(data_dir)!r}: no such folder")
    folder = data_dir / task.folder if (data_dir / task.folder).is_dir() else data_dir
    paths, stand_ins = {}, {}
    for split, files in task.files.items():
        path = next((folder / name for name in files.names if (folder / name).is_file()), None)
        if path is not None:
            paths[split] = path
            if path.name != files.names[0]:
                stand_ins[split] = path.name
        elif split == "train" or (split == "validation" and validation_fraction is None):
            raise MissingData(f"{task.name}: no {split} split: {folder} has no {' or '.join(files.names)}")
    if not paths:
        raise MissingData(f"{task.name}: {folder} has none of its files")
    sources = {split: str(path) for split, path in paths.items()}
    splits, labels = KINDS[task.kind].read_files(task, paths)
    return TaskData(splits, labels, sources, stand_ins)


def _read_hub(task: Task) -> TaskData:
    if task.hub_dataset is None:
        raise ValueError(f"{task.name} is not read from the Hub; give --data-dir with its files")
    try:
        loaded = _load_from_hub(task.hub_dataset, task.hub_config)
    except Exception as error:  # the Hub client, files and parsers each have exceptions of their own
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{task.name}: {task.hub_dataset} cannot be read ({reason}); give --data-dir with its files"
        ) from error
    splits, sources = {}, {}
    labels = tuple(task.labels or ())
    for split in task.files:
        hub_split = task.hub_splits.get(split, split)
        if hub_split not in loaded:
            continue
        rows = loaded[hub_split]
        renamed = {theirs: ours for ours, theirs in task.hub_columns.items() if theirs in rows.column_names}
        rows = rows.rename_columns(renamed)
        feature = rows.features.get("label")
        feature = feature.feature if isinstance(feature, Sequence) else feature
        if isinstance(feature, ClassLabel):
            if labels and tuple(feature.names) != labels:
                raise ValueError(f"{task.name}: classes on the Hub are {feature.names}, expected {list(labels)}")
            labels = tuple(feature.names)
        splits[split] = KINDS[task.kind].from_hub(task, rows, split)
        sources[split] = f"{task.hub_dataset}{f' ({task.hub_config})' if task.hub_config else ''}: {hub_split}"
    return TaskData(DatasetDict(splits), labels, sources, {})


def _load_from_hub(dataset: str, config: str | None) -> DatasetDict:
    try:
        return load_dataset(dataset, config)
    except RuntimeError as error:
        if "script" not in str(error):
            raise
    # No code of a dataset is run; the Hub keeps tables made of it on a branch of their own.
    folder = config or f"{dataset.rpartition('/')[2]}"
    return load_dataset(dataset, data_dir=folder, revision="refs/convert/parquet")


def _share(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
