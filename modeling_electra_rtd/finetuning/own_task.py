"""A user's own labelled files as a task: what it is gets inferred, said, and refused where it cannot be told."""

import math
import re
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers.utils import logging

from ..backbones import nearest
from ..data.tables import TABLE_SUFFIXES, is_table, read_table
from ..data.text_files import data_suffix
from .reading import TaskData, read_token_file, tag_labels
from .tasks import Task


logger = logging.get_logger(__name__)

# More whole numbers than this are more likely scores than names of classes; the user has to say which.
_MAXIMUM_INTEGER_CLASSES = 50

_TOKEN_FILES = (".conll", ".bio", ".iob")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+$")


def own_task(
    train_file: str,
    validation_file: str | None,
    test_file: str | None = None,
    text_columns: list[str] | None = None,
    label_column: str | None = None,
    kind: str | None = None,
) -> tuple[Task, TaskData]:
    """A task from files: csv, tsv, jsonl and parquet with columns, or conll with a token and its tag a line.

    Args:
        test_file: predicted, never scored; it needs no label.
        text_columns: one, or two for pairs; `None` takes all other columns of text where they are at most two.
        label_column: `None` takes `label` or `labels` where there is one.
        kind: `classification`, `regression` or `tagging`; `None` infers: lists of tags are tagging, numbers with a
            fraction are regression, anything else names classes.

    Raises:
        ValueError: in one line, naming file, row and column of what does not fit.
    """
    if validation_file is None:
        raise ValueError("no validation split: give --validation-file with labelled examples that are not trained on")
    paths = {"train": train_file, "validation": validation_file, "test": test_file}
    paths = {split: path for split, path in paths.items() if path is not None}
    for path in paths.values():
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
    if len({Path(path).resolve() for path in paths.values()}) < len(paths):
        raise ValueError(f"{', '.join(paths.values())}: one file twice; what is trained on says nothing held out")
    name = Path(train_file).stem
    are_tokens = {Path(path).suffix.lower() in _TOKEN_FILES for path in paths.values()}
    if len(are_tokens) > 1:
        raise ValueError(f"{', '.join(paths.values())}: either all or none of them hold a token and its tag a line")
    if True in are_tokens:
        given = {"text_columns": text_columns, "label_column": label_column}
        given["kind"] = None if kind == "tagging" else kind
        for option, value in given.items():
            if value is not None:
                raise ValueError(f"{option} is {value!r}; {train_file} holds tokens and tags, and has no such choice")
        return _tagging_from_tokens(name, paths)
    tables = {split: _table(path) for split, path in paths.items()}
    label_column = _label_column(tables["train"], label_column, train_file)
    texts = _text_columns(tables["train"], text_columns, label_column, train_file)
    for split, table in tables.items():
        for column in texts + ([label_column] if split != "test" else []):
            if column not in table.column_names:
                raise ValueError(f"{paths[split]}: no column {column!r}{nearest(column, table.column_names)}")
            empty = next((i for i, value in enumerate(table[column]) if value is None or not str(value).strip()), None)
            if empty is not None:
                raise ValueError(f"{paths[split]}, row {empty + 1}: {column!r} is empty")
    labels = list(tables["train"][label_column])
    kind = kind or _inferred_kind(labels, label_column)
    for split, table in tables.items():
        _check_cells(table, texts, label_column if split != "test" else None, paths[split])
    for split, table in tables.items():
        for column in texts:
            is_list = [isinstance(value, list) for value in table[column]]
            if any(is_list) if kind != "tagging" else not all(is_list):
                wanted = "lists of tokens" if kind == "tagging" else "texts, not lists"
                raise ValueError(f"{paths[split]}: column {column!r} must hold {wanted} for {kind}")
    if kind == "tagging":
        return _tagging_from_lists(name, tables, paths, texts, label_column)
    if len(texts) > 2:
        raise ValueError(f"text_columns are {', '.join(texts)}; a model reads one text or a pair")
    classes: tuple[str, ...] = ()
    if kind == "classification":
        found = {_class_name(value) for value in labels}
        classes = tuple(sorted(found, key=lambda name: (0, int(name), "") if _is_integer(name) else (1, 0, name)))
        if len(classes) < 2:
            raise ValueError(f"{train_file}: column {label_column!r} has one value only, {classes[0]!r}")
    splits = {}
    for split, table in tables.items():
        columns: dict[str, list[Any]] = {column: [str(text) for text in table[column]] for column in texts}
        if split != "test":
            places = [f"{paths[split]}, row {i + 1}" for i in range(len(table))]
            columns["label"] = [
                _number(value, place) if kind == "regression" else _known(value, classes, place)
                for value, place in zip(table[label_column], places, strict=True)
            ]
        splits[split] = Dataset.from_dict(columns)
    _warn_of_overlap(splits, texts)
    metric, headline = ("correlation", "spearman") if kind == "regression" else ("classification", "accuracy")
    task = Task(
        name=name,
        kind=kind,
        text_columns=tuple(texts),
        labels=classes or None,
        metric=metric,
        headline=headline,
        folder=".",
        files={},
    )
    return task, TaskData(DatasetDict(splits), classes, paths, {})


def explain(task: Task, data: TaskData) -> str:
    """What was inferred, in one line."""
    counts = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    what = task.kind
    if data.labels:
        shown = ", ".join(data.labels[:8]) + (", ..." if len(data.labels) > 8 else "")
        what += f" with {len(data.labels)} labels ({shown})"
    return f"{task.name}: {what}; text: {', '.join(task.text_columns)}; {counts}; metric: {task.headline}"


def _tagging_from_tokens(name: str, paths: dict[str, str]) -> tuple[Task, TaskData]:
    sentences = {split: list(read_token_file(Path(path), has_tags=split != "test")) for split, path in paths.items()}
    for split, rows in sentences.items():
        if not rows:
            raise ValueError(f"{paths[split]}: has no sentence")
    return _tagging(name, sentences, paths)


def _tagging_from_lists(
    name: str, tables: dict[str, Dataset], paths: dict[str, str], texts: list[str], label_column: str
) -> tuple[Task, TaskData]:
    if len(texts) != 1:
        raise ValueError(f"text_columns are {', '.join(texts)}; tagging reads one column of tokens")
    sentences = {}
    for split, table in tables.items():
        rows = [list(row) for row in table[texts[0]]]
        # Tags of a test split are never read, and it may have none.
        tags = table[label_column] if split != "test" else [["O"] * len(row) for row in rows]
        sentences[split] = [(row, [str(tag) for tag in found]) for row, found in zip(rows, tags, strict=True)]
        for number, (tokens, found) in enumerate(sentences[split], start=1):
            if len(tokens) != len(found):
                raise ValueError(f"{paths[split]}, row {number}: {len(found)} tags for {len(tokens)} tokens")
    return _tagging(name, sentences, paths)


def _tagging(name: str, sentences: dict[str, list], paths: dict[str, str]) -> tuple[Task, TaskData]:
    labels = tag_labels({split: rows for split, rows in sentences.items() if split != "test"})
    ids = {label: i for i, label in enumerate(labels)}
    splits = {}
    for split, rows in sentences.items():
        columns: dict[str, list[Any]] = {"tokens": [tokens for tokens, _ in rows]}
        if split != "test":
            columns["label"] = [[ids[tag] for tag in tags] for _, tags in rows]
        splits[split] = Dataset.from_dict(columns)
    are_entities = any(label.startswith("B-") for label in labels)
    task = Task(
        name=name,
        kind="tagging",
        text_columns=("tokens",),
        labels=None,
        metric="entities" if are_entities else "tags",
        headline="f1" if are_entities else "accuracy",
        folder=".",
        files={},
    )
    return task, TaskData(DatasetDict(splits), labels, paths, {})


def _table(path: str) -> Dataset:
    if not is_table(path):
        allowed = ", ".join([*TABLE_SUFFIXES, *_TOKEN_FILES])
        raise ValueError(f"{path}: unknown kind of file {data_suffix(path)!r}; allowed: {allowed}")
    return read_table(path)


def _check_cells(table: Dataset, texts: list[str], label_column: str | None, path: str) -> None:
    """Texts and tokens must be text: a number can be written in many ways. No token is without a tag."""
    for column in texts:
        for number, value in enumerate(table[column], start=1):
            for item in value if isinstance(value, list) else [value]:
                if not isinstance(item, str):
                    raise ValueError(f"{path}, row {number}: column {column!r} holds {item!r}; it must be text")
    for number, value in enumerate(table[label_column] if label_column else [], start=1):
        if isinstance(value, list) and None in value:
            raise ValueError(
                f"{path}, row {number}: column {label_column!r} has no label for each (null, or class -1)"
            )


def _label_column(table: Dataset, given: str | None, path: str) -> str:
    columns = table.column_names
    if given is not None:
        if given not in columns:
            raise ValueError(f"{path}: no column {given!r}{nearest(given, columns)}")
        return given
    found = [name for name in ("label", "labels") if name in columns]
    if not found:
        hint = "; is it separated by something other than commas?" if len(columns) == 1 else ""
        raise ValueError(f"{path}: which column is the label? give --label-column, one of {', '.join(columns)}{hint}")
    return found[0]


def _text_columns(table: Dataset, given: list[str] | None, label_column: str, path: str) -> list[str]:
    if given is not None:
        for column in given:
            if column not in table.column_names:
                raise ValueError(f"{path}: no column {column!r}{nearest(column, table.column_names)}")
        if label_column in given or len(set(given)) < len(given):
            raise ValueError(f"text_columns are {', '.join(given)}; each once, and the label {label_column!r} not")
        return given
    found = [name for name in table.column_names if name != label_column and _holds_text(table[name])]
    if not 1 <= len(found) <= 2:
        raise ValueError(
            f"{path}: which columns are the text? give --text-columns, of {', '.join(table.column_names)}"
        )
    return found


def _holds_text(values: Any) -> bool:
    """Texts or lists; not numbers, which are ids more often than text."""
    return isinstance(values[0], str | list) and any(_as_number(value) is None for value in values)


def _inferred_kind(labels: list[Any], column: str) -> str:
    if all(isinstance(value, list) for value in labels):
        return "tagging"
    numbers = [_as_number(value) for value in labels]
    if None not in numbers and not all(number.is_integer() for number in numbers if math.isfinite(number)):
        return "regression"
    if None not in numbers:
        different = len(set(numbers))
        if different > _MAXIMUM_INTEGER_CLASSES:
            raise ValueError(
                f"column {column!r} holds {different} different whole numbers: classes or scores? give --kind "
                "classification or --kind regression"
            )
    return "classification"


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _class_name(value: Any) -> str:
    """`1.0` is the class `1`, as which other tools wrote it; `01` and names stay as they are."""
    return _WHOLE_FLOAT.sub(r"\1", str(value).strip())


def _warn_of_overlap(splits: dict[str, Dataset], columns: list[str]) -> None:
    seen = set(zip(*(splits["train"][column] for column in columns), strict=True))
    held_out = list(zip(*(splits["validation"][column] for column in columns), strict=True))
    both = sum(row in seen for row in held_out)
    if both:
        logger.warning(f"{both} of {len(held_out)} validation texts are trained on too; scores will look too good")


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdigit()


def _known(value: Any, classes: tuple[str, ...], place: str) -> int:
    name = _class_name(value)
    if name not in classes:
        raise ValueError(f"{place}: label {name!r} does not occur in training{nearest(name, classes)}")
    return classes.index(name)


def _number(value: Any, place: str) -> float:
    number = _as_number(value)
    if number is None or not math.isfinite(number):
        raise ValueError(f"{place}: score {value!r} is not a finite number")
    return number
