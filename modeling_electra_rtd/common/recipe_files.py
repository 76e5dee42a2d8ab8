"""Recipe files: found, read, overridden and held against the dataclasses they are for; nothing is silently ignored."""

import dataclasses
import enum
import importlib.resources
import math
import os
import reprlib
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from ..model.suggestions import nearest


def shipped_folder(name: str, content: str) -> Path:
    """Where shipped files lie: in an installed package, or next to it in a source tree.

    Args:
        content: what the folder holds; next to a package there may be others of its name.

    Raises:
        ValueError: if it lies in neither.
    """
    package = Path(str(importlib.resources.files(__package__.partition(".")[0])))
    candidates = (package / name, package.parent / name)
    for folder in candidates:
        if (folder / content).exists():
            return folder
    raise ValueError(f"the shipped {content} is in neither of {', '.join(map(str, candidates))}")


def configuration_folder() -> Path:
    """Where the shipped recipes lie (see `shipped_folder`)."""
    return shipped_folder("configuration", "pretrain")


def find_recipe(name: str, kind: str) -> Path:
    """A recipe by path, or a shipped one by name (`tiny`, `tiny.yaml`, `configuration/pretrain/tiny.yaml`).

    Args:
        kind: folder of the shipped ones below `configuration/`: `pretrain` or `finetune`.

    Raises:
        ValueError: if there is none, with the nearest shipped name.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = {path.stem: path for path in (configuration_folder() / kind).glob("*.yaml")}
    stem = Path(name).stem
    if stem in shipped and Path(name).parent.as_posix() in (".", f"configuration/{kind}"):
        return shipped[stem]
    raise ValueError(f"no recipe {name!r}{nearest(stem, shipped)}")


def located(value: Any) -> Any:
    """A setting as two runs are compared by it: files and folders, which may be named from elsewhere, by where they
    lie."""
    if isinstance(value, list):
        return [located(item) for item in value]
    return os.path.realpath(value) if isinstance(value, str) and os.path.exists(value) else value


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ValueError: in one line, for a file that is not YAML, naming it.
    """
    try:
        return _loaded(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _loaded(text: str) -> Any:
    """Load YAML that is what it seems: no key twice, and no names for parts that make much of a little text.

    Raises:
        yaml.YAMLError: for text that is not YAML.
        ValueError: for a key that stands twice, and for aliases (`*name`), which grow with each use.
    """
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = 0 if event.start_mark is None else event.start_mark.line
            raise ValueError(f"line {line + 1}: *{event.anchor} is an alias; write the value itself")
    waiting = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(f"line {node.start_mark.line + 1}: key {twice[0]!r} stands there twice")
            waiting += [value for _, value in node.value]
    return yaml.safe_load(text)


def read_sections(
    name: str | None, kind: str, sections: dict[str, type], overrides: dict[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """The values of a recipe, overridden and converted to the types of the dataclasses they are for.

    Args:
        name: as for `find_recipe`; `None` for a recipe without a file.
        kind: as for `find_recipe`.
        sections: `{section: dataclass}`.
        overrides: `{field: value}` of any section, values as text; these win over the file.

    Raises:
        ValueError: in one line, for an unknown section or key (with the nearest valid one) or a wrong type.
    """
    values: Any = {}
    if name is not None:
        path = find_recipe(name, kind)
        values = read_yaml(path)
        if not isinstance(values, dict):
            raise ValueError(f"{path}: a recipe has the sections {', '.join(sections)}")
        for section, content in values.items():
            if section not in sections:
                raise ValueError(f"{path}: unknown section {section!r}{nearest(str(section), sections)}")
            if not isinstance(content, dict):
                raise ValueError(f"{path}: section {section!r} must hold keys and values")
    merged = {section: dict(values.get(section, {})) for section in sections}
    owners = {key: section for section, owner in sections.items() for key in _types(owner)}
    for key, text in (overrides or {}).items():
        if key not in owners:
            raise ValueError(f"unknown option --{key.replace('_', '-')}{nearest(key, owners)}")
        merged[owners[key]][key] = _option(key, text)
    return checked_sections(merged, sections)


def _option(key: str, text: str) -> Any:
    if text.strip()[:1] not in ("[", "{"):
        return text
    try:
        return _loaded(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--{key.replace('_', '-')} is {reprlib.repr(text)}; it must be YAML ({reason})") from None


def checked_sections(values: dict[str, dict[str, Any]], sections: dict[str, type]) -> dict[str, dict[str, Any]]:
    """Every section with its values converted to the types of its dataclass.

    Raises:
        ValueError: see `read_sections`.
    """
    return {section: _checked(section, owner, values.get(section, {})) for section, owner in sections.items()}


def _types(owner: type) -> dict[str, Any]:
    hints = typing.get_type_hints(owner)
    return {item.name: hints[item.name] for item in dataclasses.fields(owner) if item.init}


def _checked(section: str, owner: type, values: dict[str, Any]) -> dict[str, Any]:
    allowed = _types(owner)
    defaults = {item.name: item.default for item in dataclasses.fields(owner)}
    checked = {}
    for key, value in values.items():
        if key not in allowed:
            raise ValueError(f"{section}: unknown key {key!r}{nearest(str(key), allowed)}")
        checked[key] = _converted(f"{section}.{key}", value, allowed[key], defaults[key])
    return checked


def _converted(key: str, value: Any, annotation: Any, default: Any) -> Any:
    """A value as its field's type. YAML 1.1 reads `5e-4` as text, and options are text: both become numbers.

    `none` is nothing, unless it is a word of the field: one of its `Literal`, or its default.
    """
    origin = typing.get_origin(annotation)
    members = typing.get_args(annotation) if origin in (typing.Union, types.UnionType) else (annotation,)
    kinds = {typing.get_origin(member) or member for member in members}
    words = {default}
    if Literal in kinds:
        words |= {word for member in members for word in typing.get_args(member)}
        kinds = kinds - {Literal} | {str}
    if kinds & {Any, object}:
        return value
    if isinstance(value, str) and value.lower() == "none" and "none" in words:
        return "none"
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null") and type(None) in kinds):
        if type(None) in kinds:
            return None
    elif bool in kinds and (isinstance(value, bool) or str(value).lower() in ("true", "false")):
        return str(value).lower() == "true"
    elif isinstance(value, dict | list) and {dict, list} & kinds and type(value) in kinds:
        return value
    elif kinds & {int, float} and not isinstance(value, bool | dict | list):
        number = _number(value)
        if number is not None and int in kinds and number.is_integer() and not isinstance(value, float):
            return int(number)
        if number is not None and float in kinds:
            return number
        if number is not None and number.is_integer():
            return int(number)
    if list in kinds and isinstance(value, str) and str not in kinds:
        return [value]
    if isinstance(value, str) and (str in kinds or any(_is_enum(kind) for kind in kinds)):
        return value
    names = sorted("null" if kind is type(None) else getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise ValueError(f"{key} is {reprlib.repr(value)}; it must be {' or '.join(names)}")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
