"""The settings that a run was asked for: they are written before it begins, and `--resume` compares with them."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from .recipe_files import located


# Beside what a run writes.
ASKED = "asked.json"
# How many differences a message names, which is one line.
_MOST_SHOWN, _MOST_CHARACTERS = 8, 120


class Difference(NamedTuple):
    """A setting that is not what the run began with."""

    key: str
    before: Any
    now: Any


def differences(before: dict[str, Any], asked: dict[str, Any], ignored: Collection[str] = ()) -> list[Difference]:
    """The settings in which two runs differ, in order. Files and folders that are named from elsewhere are the same.

    Args:
        before, asked: settings of any depth; those of a dict within are compared one by one, and named by their path
            with dots. What only one of them holds is `None` in the other.
        ignored: keys, at any depth, that do not matter.
    """
    found = []
    for key in [*asked, *(key for key in before if key not in asked)]:
        old, new = before.get(key), asked.get(key)
        if key in ignored or located(old) == located(new):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += [item._replace(key=f"{key}.{item.key}") for item in differences(old, new, ignored)]
        else:
            found.append(Difference(key, old, new))
    return found


def refuse_differences(folder: Path, found: list[Difference]) -> None:
    """Refuse to resume what began with something else.

    Raises:
        ValueError: if there is a difference; in one line, with both values of each.
    """
    if not found:
        return
    shown = [f"{key} {_shortened(before)}, not {_shortened(now)}" for key, before, now in found[:_MOST_SHOWN]]
    if len(found) > _MOST_SHOWN:
        shown.append(f"and {len(found) - _MOST_SHOWN} more")
    raise ValueError(f"{folder} holds a run with {'; '.join(shown)}; use another --output-dir")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole, as before or as now, whenever the process or the machine ends."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """`write_whole` of a value as JSON; a number of another library is a float."""
    write_whole(path, json.dumps(value, indent=2, default=float) + "\n")


def read_json(path: Path) -> Any:
    """
    Raises:
        ValueError: for a file that is not JSON, naming it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."
