"""A user's labels as classes, scores or several classes at once, with their ids; a row that does not fit is named."""

import math
import re
from collections.abc import Iterable
from typing import Any

from transformers.utils import logging

from ..model.suggestions import nearest
from .tag_schemes import entity_scheme


logger = logging.get_logger(__name__)

# More whole numbers than this are more likely scores than names of classes; the user has to say which.
_MAXIMUM_INTEGER_CLASSES = 50
_SEPARATORS = ("|", ";", ",", "/", "+", " ")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+$")


def inferred_kind(labels: list[Any], column: str, reads_lists: bool) -> str:
    """`tagging`, `multi_label_classification`, `regression` or `classification`.

    Args:
        reads_lists: whether the text is lists of tokens.

    Raises:
        ValueError: for many whole numbers, which could be classes or scores, and names of which some are others with a
            separator between them.
    """
    if any(isinstance(value, list) for value in labels):
        return "tagging" if reads_lists else "multi_label_classification"
    numbers = [number for value in labels if (number := _as_number(value)) is not None]
    are_numbers = len(numbers) == len(labels)
    if are_numbers and not all(number.is_integer() for number in numbers if math.isfinite(number)):
        return "regression"
    if are_numbers:
        different = len(set(numbers))
        if different > _MAXIMUM_INTEGER_CLASSES:
            raise ValueError(
                f"column {column!r} holds {different} different whole numbers: classes or scores? give --kind "
                "classification or --kind regression"
            )
    names = {class_name(value) for value in labels}
    written = [name.split() for name in names]
    if any(len(tags) > 1 for tags in written) and entity_scheme(written) is not None:
        raise ValueError(
            f"column {column!r} holds tags of several tokens in one text, such as {max(names, key=len)!r:.60}; write "
            "tokens and tags as lists, or give --kind classification"
        )
    for name in sorted(names):
        for separator in _SEPARATORS:
            if separator in name and names >= (parts := {part.strip() for part in name.split(separator)}):
                raise ValueError(
                    f"column {column!r} holds {name!r} next to {', '.join(map(repr, sorted(parts)))}: several labels? "
                    f"write them as lists, such as {sorted(parts)}; or give --kind classification"
                )
    return "classification"


def class_names(labels: Iterable[Any]) -> tuple[str, ...]:
    """Names in the order of their ids: numbers by value, then others by the alphabet."""
    return in_order({class_name(value) for value in labels})


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Numbers by value, then others by the alphabet."""
    return tuple(sorted(names, key=lambda name: (0, int(name), "") if _is_integer(name) else (1, 0, name)))


def class_name(value: Any) -> str:
    """`1.0` is the class `1`, as which other tools wrote it; `01` and names stay as they are."""
    return _WHOLE_FLOAT.sub(r"\1", str(value).strip())


def known_class(value: Any, classes: tuple[str, ...], place: str) -> int:
    """
    Raises:
        ValueError: for a class that training does not have.
    """
    name = class_name(value)
    if name not in classes:
        raise ValueError(f"{place}: label {name!r} does not occur in training{nearest(name, classes)}")
    return classes.index(name)


def score(value: Any, place: str) -> float:
    """
    Raises:
        ValueError: if it is not a finite number.
    """
    number = _as_number(value)
    if number is None or not math.isfinite(number):
        raise ValueError(f"{place}: score {value!r} is not a finite number")
    return number


def merged_columns(rows: Iterable[tuple[Any, ...]], names: list[str], path: str) -> list[list[str]]:
    """The names of the columns that hold 1, for each row of several columns of 0 and 1.

    Raises:
        ValueError: for another value, naming its row and column.
    """
    merged = []
    for number, row in enumerate(rows, start=1):
        for name, value in zip(names, row, strict=True):
            if _bit(value) is None:
                raise ValueError(f"{path}, row {number}: column {name!r} is {value!r}; it must be 0 or 1")
        merged.append([name for name, value in zip(names, row, strict=True) if _bit(value)])
    return merged


def are_bits(rows: list[Any]) -> bool:
    """Whether lists say of each class whether it holds: 0 and 1 alone, at least two, as many in every row."""
    return (
        all(isinstance(row, list) for row in rows)
        and len({len(row) for row in rows}) == 1
        and len(rows[0]) > 1
        and all(_bit(value) is not None for row in rows for value in row)
    )


def label_sets(
    rows: dict[str, list[Any]], paths: dict[str, str], columns: list[str]
) -> tuple[tuple[str, ...], dict[str, list[list[int]]]]:
    """Several classes for each text, from lists of names, or of 0 and 1 for every class.

    Classes are those of all labelled splits, so that one that training lacks counts against a model; it is said.

    Args:
        rows: `split -> a list for each row`, an empty one for a text without any class.
        columns: names of the classes where rows were several columns; else one name, for messages.

    Returns:
        The names in the order of their ids, and `split -> ids of each row`, in ascending order.

    Raises:
        ValueError: for a row that is no list of names, naming it, or training without any label.
    """
    is_bits = len(columns) == 1 and are_bits(rows["train"])
    named: dict[str, list[list[str]]] = {}
    repeated = 0
    for split, values in rows.items():
        named[split] = []
        for number, value in enumerate(values, start=1):
            place = f"{paths[split]}, row {number}: column {', '.join(columns)!r}"
            names = _names(value, len(rows["train"][0]) if is_bits else None, place)
            repeated += len(names) > len(set(names))
            named[split].append(names)
    if repeated:
        logger.warning(f"{repeated} rows have a label more than once; it counts once")
    found = {split: {name for names in values for name in names} for split, values in named.items()}
    if not found["train"]:
        raise ValueError(f"{paths['train']}: column {', '.join(columns)!r} has no label in any row")
    classes = tuple(columns) if len(columns) > 1 else in_order(set().union(*found.values()))
    if is_bits:
        classes = tuple(str(number) for number in range(len(rows["train"][0])))
    for split in found:
        if unseen := [name for name in classes if name in found[split] - found["train"]]:
            logger.warning(f"{split}: labels that training does not have count against the model: {', '.join(unseen)}")
    if never := [name for name in classes if name not in found["train"]]:
        logger.warning(f"train: no text has the label {', '.join(never)}")
    ids = {name: i for i, name in enumerate(classes)}
    return classes, {split: [sorted({ids[name] for name in row}) for row in values] for split, values in named.items()}


def _names(value: Any, bits: int | None, place: str) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{place} is {value!r}; it must be a list of labels, an empty one for none")
    if bits is not None:
        if len(value) != bits or any(_bit(item) is None for item in value):
            raise ValueError(f"{place} is {value!r:.60}; it must be a list of {bits} numbers, each 0 or 1")
        return [str(number) for number, item in enumerate(value) if _bit(item)]
    names = []
    for item in value:
        if not isinstance(item, str | int | float) or not class_name(item):
            raise ValueError(f"{place} holds {item!r}; it must be a list of labels, an empty one for none")
        names.append(class_name(item))
    return names


def _bit(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    number = _as_number(value)
    return bool(number) if number in (0.0, 1.0) else None


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
