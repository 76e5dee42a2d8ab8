"""A user's own labelled files as a task: what it is gets inferred, said, and refused where it cannot be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers.utils import logging

from ..data.tables import TABLE_SUFFIXES, is_table, read_table
from ..data.text_files import data_suffix
from ..model.suggestions import nearest
from .kinds.table import KINDS
from .kinds.tagging import Tagging, tag_labels
from .kinds.task_kind import TaskKind
from .own_columns import label_columns, list_columns, text_columns, with_lists
from .own_labels import inferred_kind, merged_columns
from .reading import TaskData
from .tag_schemes import entity_scheme
from .tasks import Task
from .token_files import TOKEN_SUFFIXES, is_token_file, open_token_file, tagged_sentences
from .token_layouts import find_layout


logger = logging.get_logger(__name__)

OWN_KINDS = ("classification", "multi_label_classification", "regression", Tagging.name)


def own_task(
    train_file: str,
    validation_file: str | None,
    test_file: str | None = None,
    text_columns: list[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    kind: str | None = None,
    token_column: str | None = None,
) -> tuple[Task, TaskData]:
    """A task from files: csv, tsv, jsonl and parquet with columns, or conll with a token and its tags a line.

    Args:
        test_file: predicted, never scored; it needs no label.
        text_columns: one, or two for pairs; `None` takes what is text and no identifier, where that can be told.
        label_column: `None` takes `label` or `labels`, or `tags`, where there is one. Several columns of 0 and 1 are
            several labels. Of conll a name or a number from 0.
        kind: one of `OWN_KINDS`; `None` infers: lists of tags are tagging, lists of labels next to a text are
            multi-label classification, numbers with a fraction are regression, anything else names classes.
        token_column: of files with a token a line, whatever their suffix: the column of the words, a name or a number
            from 0.

    Raises:
        ValueError: in one line, naming file, row and column of what does not fit.
    """
    if validation_file is None:
        raise ValueError("no validation split: give --validation-file with labelled examples that are not trained on")
    given_files = {"train": train_file, "validation": validation_file, "test": test_file}
    paths = {split: path for split, path in given_files.items() if path is not None}
    for path in paths.values():
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
    if len({Path(path).resolve() for path in paths.values()}) < len(paths):
        raise ValueError(f"{', '.join(paths.values())}: one file twice; what is trained on says nothing held out")
    if kind is not None and kind not in OWN_KINDS:
        raise ValueError(f"kind is {kind!r}{nearest(kind, OWN_KINDS)}")
    name = Path(train_file).stem
    are_tokens = {token_column is not None or is_token_file(data_suffix(path)) for path in paths.values()}
    if len(are_tokens) > 1:
        raise ValueError(f"{', '.join(paths.values())}: either all or none of them hold a token and its tag a line")
    if True in are_tokens:
        given = {"text_columns": text_columns, "kind": None if kind == Tagging.name else kind}
        for option, value in given.items():
            if value is not None:
                raise ValueError(f"{option} is {value!r}; {train_file} holds tokens and tags, and has no such choice")
        return _tagging_from_tokens(name, paths, token_column, label_column)
    return _task_from_tables(name, paths, text_columns, label_column, kind)


def explain(task: Task, data: TaskData) -> str:
    """What was inferred, in one line."""
    counts = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    what = task.kind
    if data.labels:
        shown = ", ".join(data.labels[:8]) + (", ..." if len(data.labels) > 8 else "")
        what += f" with {len(data.labels)} labels ({shown})"
    inferred = "".join(f"; {name}: {_in_words(value)}" for name, value in data.inferred.items() if value)
    return f"{task.name}: {what}; text: {', '.join(task.text_columns)}{inferred}; {counts}; metric: {task.headline}"


def _in_words(value: str | dict[str, str]) -> str:
    return value if isinstance(value, str) else ", ".join(f"{name} ({reason})" for name, reason in value.items())


@dataclass
class _OwnTables:
    """The tables of a user's files, and those of their columns that are read."""

    tables: dict[str, Dataset]  # by split, as `paths`
    paths: dict[str, str]
    texts: list[str]
    labels: list[str]
    inferred: dict[str, Any]  # what was inferred, in words

    def read_columns(self, split: str) -> list[str]:
        """Name the columns of a split that are read; the labels of a test file never are."""
        return self.texts + (self.labels if split != "test" else [])


def _task_from_tables(
    name: str,
    paths: dict[str, str],
    given_texts: list[str] | None,
    given_label: str | Sequence[str] | None,
    kind: str | None,
) -> tuple[Task, TaskData]:
    own = _read_tables(paths, given_texts, given_label, kind)
    _check_nothing_is_empty(own)
    targets = _label_values(own)
    reads_lists = any(isinstance(value, list) for value in own.tables["train"][own.texts[0]])
    found = KINDS[kind or inferred_kind(targets["train"], own.labels[0], reads_lists)]
    _check_lists(own, targets, found)
    if found.reads_tokens:
        return _tagging_from_lists(name, own.tables, targets, paths, own.texts, own.inferred)
    if len(own.texts) > 2:
        raise ValueError(f"text_columns are {', '.join(own.texts)}; a model reads one text or a pair")
    classes, ids = found.own_targets(targets, paths, own.labels, own.inferred)
    splits = {}
    for split, table in own.tables.items():
        columns: dict[str, list[Any]] = {column: [str(text) for text in table[column]] for column in own.texts}
        splits[split] = Dataset.from_dict(columns | ({"label": ids[split]} if split in ids else {}))
    _warn_of_overlap(splits, own.texts)
    task = Task(
        name=name,
        kind=found.name,
        text_columns=tuple(own.texts),
        labels=classes or None,
        metric=str(found.metric),
        headline=str(found.headline),
        folder=".",
        files={},
    )
    return task, TaskData(DatasetDict(splits), classes, paths, {}, own.inferred)


def _read_tables(
    paths: dict[str, str], given_texts: list[str] | None, given_label: str | Sequence[str] | None, kind: str | None
) -> _OwnTables:
    """Read the files, find the columns in the training file, and turn lists that are written as text into lists."""
    tables = {split: _table(path) for split, path in paths.items()}
    labels = label_columns(tables["train"], given_label, paths["train"])
    features = tables["train"].features
    tables["train"], broken = _with_lists(tables["train"], labels, paths["train"])
    if len(labels) > 1 and kind is not None and (KINDS[kind].reads_tokens or not KINDS[kind].takes_label_lists):
        raise ValueError(f"label_column is {', '.join(labels)}; {kind} has one label")
    texts, left_out = text_columns(tables["train"], given_texts, labels, kind, paths["train"])
    for column in texts:
        if column in broken:
            raise broken[column]
    own = _OwnTables(tables, paths, texts, labels, {"label": ", ".join(labels), "left out": left_out})
    lists = [
        column for column in (*texts, *labels) if any(isinstance(value, list) for value in tables["train"][column])
    ]
    for split, table in tables.items():
        read = own.read_columns(split)
        tables[split] = with_lists(table, [column for column in lists if column in read], paths[split])
    if written := [column for column in lists if getattr(features[column], "dtype", None) == "string"]:
        own.inferred["lists read from text"] = ", ".join(written)
    return own


def _check_nothing_is_empty(own: _OwnTables) -> None:
    for split, table in own.tables.items():
        for column in own.read_columns(split):
            if column not in table.column_names:
                raise ValueError(f"{own.paths[split]}: no column {column!r}{nearest(column, table.column_names)}")
            empty = next((i for i, value in enumerate(table[column]) if value is None or not str(value).strip()), None)
            if empty is not None:
                raise ValueError(f"{own.paths[split]}, row {empty + 1}: {column!r} is empty")


def _label_values(own: _OwnTables) -> dict[str, list[Any]]:
    """Return the label of every row by split; several columns of 0 and 1 become one list of names."""
    values = {}
    for split, table in own.tables.items():
        if split == "test":
            continue
        columns = [table[column] for column in own.labels]
        values[split] = (
            merged_columns(zip(*columns, strict=True), own.labels, own.paths[split])
            if len(columns) > 1
            else list(columns[0])
        )
    return values


def _check_lists(own: _OwnTables, targets: dict[str, list[Any]], kind: type[TaskKind]) -> None:
    """Refuse lists where `kind` reads one text or one label, and single values where it reads lists."""
    for split, table in own.tables.items():
        path = own.paths[split]
        _check_cells(table, own.texts, own.labels[0] if kind.reads_tokens and split != "test" else None, path)
        for column in own.texts:
            is_list = [isinstance(value, list) for value in table[column]]
            if not all(is_list) if kind.reads_tokens else any(is_list):
                allowed = "lists of tokens" if kind.reads_tokens else "texts, not lists"
                raise ValueError(f"{path}: column {column!r} must hold {allowed} for {kind.name}")
        for number, value in enumerate(targets.get(split, ()), start=1):
            if isinstance(value, list) != kind.takes_label_lists:
                raise ValueError(
                    f"{path}, row {number}: column {own.labels[0]!r} is {value!r:.60}; it must be "
                    f"{'a list' if kind.takes_label_lists else 'one label'} for {kind.name}"
                )


def _with_lists(table: Dataset, labels: list[str], path: str) -> tuple[Dataset, dict[str, ValueError]]:
    """A table of training with the lists that are written as text, and what is wrong with columns of which it is not
    yet known whether they are read.
    """
    broken = {}
    for column in list_columns(table, labels):
        try:
            table = with_lists(table, [column], path)
        except ValueError as error:
            if column in labels:
                raise
            broken[column] = error
    return table, broken


def _tagging_from_tokens(
    name: str, paths: dict[str, str], token_column: str | None, label_column: str | Sequence[str] | None
) -> tuple[Task, TaskData]:
    if label_column is not None and not isinstance(label_column, str):
        if len(label_column) > 1:
            raise ValueError(
                f"label_column is {', '.join(label_column)}; a token has one tag, so it must be one column"
            )
        label_column = label_column[0]
    files = {split: open_token_file(path) for split, path in paths.items()}
    layout = find_layout(files["train"], token_column, label_column)
    for split, file in files.items():
        if files["train"].has_counter and not file.has_counter:
            raise ValueError(
                f"{paths[split]}: its first column does not count the tokens, but that of {paths['train']} does; all "
                "files must have the same columns"
            )
    sentences = {
        split: tagged_sentences(file, layout.token_column, layout.tag_column, has_tags=split != "test")
        for split, file in files.items()
    }
    passed_over = [
        f"{count} {what} in {split}" for split, file in files.items() for what, count in file.passed_over.items()
    ]
    inferred = {"columns": layout.described(), "passed over": ", ".join(passed_over)}
    return _tagging(name, sentences, paths, inferred)


def _tagging_from_lists(
    name: str,
    tables: dict[str, Dataset],
    targets: dict[str, list[Any]],
    paths: dict[str, str],
    texts: list[str],
    inferred: dict[str, Any],
) -> tuple[Task, TaskData]:
    if len(texts) != 1:
        raise ValueError(f"text_columns are {', '.join(texts)}; tagging reads one column of tokens")
    sentences = {}
    for split, table in tables.items():
        rows = [list(row) for row in table[texts[0]]]
        # Tags of a test split are never read, and it may have none.
        tags = targets.get(split) or [["O"] * len(row) for row in rows]
        sentences[split] = [(row, [str(tag) for tag in found]) for row, found in zip(rows, tags, strict=True)]
        for number, (tokens, found) in enumerate(sentences[split], start=1):
            if len(tokens) != len(found):
                raise ValueError(f"{paths[split]}, row {number}: {len(found)} tags for {len(tokens)} tokens")
    return _tagging(name, sentences, paths, inferred)


def _tagging(
    name: str, sentences: dict[str, list], paths: dict[str, str], inferred: dict[str, Any]
) -> tuple[Task, TaskData]:
    labelled = {split: rows for split, rows in sentences.items() if split != "test"}
    labels = tag_labels({split: [tags for _, tags in rows] for split, rows in labelled.items()})
    ids = {label: i for i, label in enumerate(labels)}
    splits = {}
    for split, rows in sentences.items():
        columns: dict[str, list[Any]] = {"tokens": [tokens for tokens, _ in rows]}
        if split != "test":
            columns["label"] = [[ids[tag] for tag in tags] for _, tags in rows]
        splits[split] = Dataset.from_dict(columns)
    scheme = entity_scheme(tags for rows in labelled.values() for _, tags in rows)
    if scheme is not None:
        inferred = {**inferred, "entities": scheme}
    elif seeming := [label for label in labels if label.startswith(("B-", "I-"))]:
        others = [label for label in labels if label != "O" and label not in seeming]
        logger.warning(
            f"{name}: tags such as {seeming[0]} write entities, but {', '.join(others[:5])} do not; every tag "
            "counts for itself, by accuracy"
        )
    task = Task(
        name=name,
        kind=Tagging.name,
        text_columns=("tokens",),
        labels=None,
        metric="tags" if scheme is None else "entities",
        headline="accuracy" if scheme is None else "f1",
        folder=".",
        files={},
    )
    return task, TaskData(DatasetDict(splits), labels, paths, {}, inferred)


def _table(path: str) -> Dataset:
    if not is_table(path):
        allowed = ", ".join([*TABLE_SUFFIXES, *TOKEN_SUFFIXES])
        raise ValueError(
            f"{path}: unknown kind of file {data_suffix(path)!r}; allowed: {allowed}; another file of a token and "
            "its tag a line is read with --token-column"
        )
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


def _warn_of_overlap(splits: dict[str, Dataset], columns: list[str]) -> None:
    seen = set(zip(*(splits["train"][column] for column in columns), strict=True))
    held_out = list(zip(*(splits["validation"][column] for column in columns), strict=True))
    both = sum(row in seen for row in held_out)
    if both:
        logger.warning(f"{both} of {len(held_out)} validation texts are trained on too; scores will look too good")
