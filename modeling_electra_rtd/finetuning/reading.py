"""A task's examples, from the official folder or from the Hub, in the one form that `Task` describes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Sequence, load_dataset
from transformers.utils import logging

from ..data.separated_values import separated_rows
from ..data.tables import open_table
from ..data.text_files import text_lines
from ..model.suggestions import nearest
from .squad_files import check_ids, question_rows
from .tasks import SplitFile, Task
from .token_files import read_token_file


logger = logging.get_logger(__name__)

# The scale of STS-B (Cer et al. 2017).
_SCORES = (0.0, 5.0)


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
    is_held_out = [_share(_key(task, row)) < validation_fraction for row in read.splits["train"]]
    train = read.splits["train"].select([i for i, out in enumerate(is_held_out) if not out])
    validation = read.splits["train"].select([i for i, out in enumerate(is_held_out) if out])
    if task.kind == "question_answering":
        check_ids(validation["id"], read.sources["train"])
    splits = DatasetDict({**read.splits, "train": train, "validation": validation})
    sources = {**read.sources, "validation": held_out}
    return TaskData(splits, read.labels, sources, {**read.stand_ins, "validation": held_out})


def class_id(value: Any, labels: tuple[str, ...], place: str) -> int:
    """The id of a class that a file names, or gives as an id.

    Raises:
        ValueError: for a label that is not among `labels`, naming the place.
    """
    text = str(value).strip()
    if text in labels:
        return labels.index(text)
    if text.isdigit() and int(text) < len(labels):
        return int(text)
    raise ValueError(f"{place}: label {text!r}{nearest(text, labels)}")


def tag_labels(splits: dict[str, list[tuple[list[str], list[str]]]]) -> tuple[str, ...]:
    """All tags of sentences, "O" first and the others sorted, so that ids do not hang on the order of the sentences.

    Tags that training lacks are said in a warning: no model can find them, and they count against it.
    """
    by_split = {split: {tag for _, tags in sentences for tag in tags} for split, sentences in splits.items()}
    for split, tags in by_split.items():
        if unseen := sorted(tags - by_split.get("train", tags)):
            logger.warning(f"{split}: tags that training does not have count against the model: {', '.join(unseen)}")
    found = set().union(*by_split.values())
    return (*(["O"] if "O" in found else []), *sorted(found - {"O"}))


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
    if task.kind == "tagging":
        sentences = {}
        for split, path in paths.items():
            columns = task.files[split].columns
            sentences[split] = list(read_token_file(path, columns["tokens"], columns["label"]))
        labels = tag_labels(sentences)
        ids = {label: i for i, label in enumerate(labels)}
        splits = {
            split: Dataset.from_dict(
                {"tokens": [tokens for tokens, _ in rows], "label": [[ids[tag] for tag in tags] for _, tags in rows]}
            )
            for split, rows in sentences.items()
        }
        return TaskData(DatasetDict(splits), labels, sources, stand_ins)
    reader = _READERS[task.kind]
    splits = {}
    for split, path in paths.items():
        rows = list(reader(task, path, task.files[split], split))
        if not rows:
            raise ValueError(f"{path}: has no example")
        splits[split] = Dataset.from_list(rows)
    return TaskData(DatasetDict(splits), tuple(task.labels or ()), sources, stand_ins)


def _table_rows(task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
    """Official TSV: never quoted, with a header unless columns are given by position."""
    broken: list[str] = []
    leaves_out = task.has_broken_lines and not split.startswith("test")
    lines = separated_rows(str(path), quoted=False, report_broken=broken.append if leaves_out else None)
    positions = dict(files.columns)
    if any(not isinstance(column, int) for column in positions.values()):
        header = next(lines, (1, []))[1]
        for name, wanted in positions.items():
            candidates = (wanted,) if isinstance(wanted, str) else wanted
            present = [candidate for candidate in candidates if candidate in header]
            if not present and name == "index":
                continue
            if not present:
                raise ValueError(f"{path}: no column {' or '.join(candidates)}; its columns are {', '.join(header)}")
            positions[name] = header.index(present[0])
        positions = {name: position for name, position in positions.items() if isinstance(position, int)}
    for rows, (number, fields) in enumerate(lines):
        if len(fields) <= max(positions.values()):
            raise ValueError(f"{path}, line {number}: {len(fields)} fields, expected {max(positions.values()) + 1}")
        row: dict[str, Any] = {name: fields[position] for name, position in positions.items()}
        if "label" in row:
            place = f"{path}, line {number}"
            is_score = task.kind == "regression"
            row["label"] = _score(row["label"], place) if is_score else class_id(row["label"], task.labels, place)
        if split.startswith("test"):
            row["index"] = _index(row.get("index", rows), f"{path}, line {number}")
        yield row
    if broken:
        logger.warning(f"{broken[0]}; {len(broken)} such lines are left out, as in the task's usual readers")


def _index(value: str | int, place: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{place}: index {value!r} is not a whole number") from None


def _score(text: str, place: str) -> float:
    low, high = _SCORES
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{place}: score {text!r} is not a number") from None
    if not low <= value <= high:
        raise ValueError(f"{place}: score {value} is out of range, allowed is {low:g} to {high:g}")
    return value


def _document_rows(task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
    for place, row in open_table(str(path))[1]:
        missing = [name for name in ("source", "target") if not row.get(name)]
        if missing:
            raise ValueError(f"{place}: no {missing[0]}")
        for name in ("source", "target"):
            if not isinstance(row[name], list) or not all(isinstance(text, str) for text in row[name]):
                raise ValueError(f"{place}: {name} is {row[name]!r:.40}; it must be a list of texts")
        yield from _documents(task, row, split)


def _documents(task: Task, row: dict[str, Any], split: str) -> Iterator[dict[str, Any]]:
    """A text and its summaries: one row for each summary in training, and one for the text elsewhere."""
    sentences, references = list(row["source"]), list(row["target"])
    if task.kind == "extractive_summarization":
        yield {"sentences": sentences, "references": references}
        return
    for target in references if split == "train" else references[:1]:
        yield {"source": " ".join(sentences), "target": target, "references": references}


def _translation_rows(task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
    other = path.parent / files.columns["target"]
    if not other.is_file():
        raise ValueError(f"{path}: its other side {other} is missing")
    sources, targets = list(_lines(path)), list(_lines(other))
    if len(sources) != len(targets):
        raise ValueError(f"{path} has {len(sources)} lines, but {other} has {len(targets)}")
    for number, (source, target) in enumerate(zip(sources, targets, strict=True), start=1):
        if not source.strip() and not target.strip():
            continue
        if not source.strip() or not target.strip():
            empty = path if not source.strip() else other
            raise ValueError(f"{empty}, line {number}: is empty, but the line of the other side is not")
        yield {"source": source, "target": target, "references": [target]}


def _choice_rows(task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
    for place, row in open_table(str(path))[1]:
        try:
            yield _choices(row)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{place}: not in the layout of SWAG ({error})") from None


def _choices(row: dict[str, Any]) -> dict[str, Any]:
    choices = [row[f"ending{i}"] for i in range(4)]
    label = int(row["label"])
    if not 0 <= label < len(choices):
        raise ValueError(f"label {label} of {len(choices)} choices")
    return {"context": row["sent1"], "question": row["sent2"], "choices": choices, "label": label}


_READERS: dict[str, Callable[[Task, Path, SplitFile, str], Iterator[dict[str, Any]]]] = {
    "classification": _table_rows,
    "regression": _table_rows,
    "question_answering": lambda task, path, files, split: question_rows(path, task, split),
    "multiple_choice": _choice_rows,
    "summarization": _document_rows,
    "extractive_summarization": _document_rows,
    "translation": _translation_rows,
}


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
        splits[split] = _canonical(task, rows, split)
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


def _canonical(task: Task, rows: Dataset, split: str) -> Dataset:
    """The rows of a dataset on the Hub in the form of files."""
    if task.kind in ("summarization", "extractive_summarization"):
        return Dataset.from_list([item for row in rows for item in _documents(task, row, split)])
    if task.kind == "translation":
        return Dataset.from_list(
            [{"source": r["source"], "target": r["target"], "references": [r["target"]]} for r in rows]
        )
    if task.kind == "multiple_choice":
        return Dataset.from_list([_choices(row) for row in rows])
    if task.kind in ("classification", "regression") and split.startswith("test"):
        if "idx" in rows.column_names:
            rows = rows.rename_column("idx", "index")
        return rows.remove_columns([name for name in ("label",) if name in rows.column_names])
    return rows


def _lines(path: Path) -> Iterator[str]:
    return text_lines(str(path))


def _key(task: Task, row: dict[str, Any]) -> str:
    # Questions of one article stay together: a model that has seen a context knows half of its answers.
    if task.kind == "question_answering":
        return row.get("title") or row["context"]
    return json.dumps([row[column] for column in task.text_columns])


def _share(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
