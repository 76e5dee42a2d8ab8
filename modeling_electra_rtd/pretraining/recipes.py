"""Recipes: one YAML names the data, the model and the training of a run, and nothing in it is silently ignored."""

import dataclasses
import enum
import json
import math
import sysconfig
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..backbones import backbone_config, nearest
from .training_args import ElectraRtdTrainingArguments


@dataclass
class DataRecipe:
    """What is read. Either `blocks`, or a stream from `corpus` or `dataset`.

    Attributes:
        blocks: folder written by `electra-rtd prepare`, with its train and validation blocks.
        corpus: files, folders or globs to stream instead, for text that does not fit on disk as blocks.
        dataset, dataset_name, dataset_split: Hub dataset to stream instead.
        text_column: column of tabular files and datasets.
        documents: what separates documents in text files: `blank_line`, `line` or `file`.
        max_length: positions of a block; `None` takes what the blocks were prepared with (128 for a stream).
        validation_blocks: folder of prepared blocks to evaluate a stream on.
        tokenizer: folder or Hub id; `None` takes the one the blocks were made with.
    """

    blocks: str | None = None
    corpus: list[str] | None = None
    dataset: str | None = None
    dataset_name: str | None = None
    dataset_split: str = "train"
    text_column: str = "text"
    documents: str = "blank_line"
    max_length: int | None = None
    validation_blocks: str | None = None
    tokenizer: str | None = None

    def __post_init__(self):
        sources = [name for name in ("blocks", "corpus", "dataset") if getattr(self, name)]
        if len(sources) > 1:
            raise ValueError(f"data: {' and '.join(sources)} are both set; give one source")
        if sources and sources[0] != "blocks" and self.tokenizer is None:
            raise ValueError(f"data: streaming from {sources[0]} needs a tokenizer")


@dataclass
class ModelRecipe:
    """What is trained: a pair from scratch, or from existing checkpoints.

    Attributes:
        discriminator: stock config as `{model_type: ..., field: value}`, or a JSON file in `configuration/models`.
        generator: likewise; `None` derives it by `generator_width` and `generator_depth`.
        generator_width, generator_depth: fractions of the discriminator's; `None` takes the family's default.
        discriminator_checkpoint, generator_checkpoint: continue from these folders or Hub ids instead.
        attn_implementation: `sdpa` or `eager`; `None` leaves the choice to `transformers`.

    The others are fields of `ElectraRtdConfig`.
    """

    discriminator: dict | str | None = None
    generator: dict | str | None = None
    generator_width: float | None = None
    generator_depth: float | None = None
    discriminator_checkpoint: str | None = None
    generator_checkpoint: str | None = None
    attn_implementation: str | None = None
    mask_probability: float | None = None
    mask_token_probability: float | None = None
    sampling_temperature: float | None = None
    generator_loss_weight: float | None = None
    discriminator_loss_weight: float | None = None
    embedding_sharing: str | None = None

    def __post_init__(self):
        if (self.discriminator is None) == (self.discriminator_checkpoint is None):
            raise ValueError("model: give discriminator (from scratch) or discriminator_checkpoint (continue), one")
        if self.generator_checkpoint is not None and self.discriminator_checkpoint is None:
            raise ValueError("model: generator_checkpoint needs a discriminator_checkpoint beside it")
        if self.generator is not None and (self.generator_width is not None or self.generator_depth is not None):
            raise ValueError("model: generator and generator_width/generator_depth exclude each other")

    @property
    def objective(self) -> dict[str, Any]:
        """The fields of `ElectraRtdConfig` that the recipe sets."""
        names = (
            "mask_probability",
            "mask_token_probability",
            "sampling_temperature",
            "generator_loss_weight",
            "discriminator_loss_weight",
            "embedding_sharing",
        )
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class Recipe:
    """A whole experiment."""

    data: DataRecipe
    model: ModelRecipe
    training: ElectraRtdTrainingArguments
    values: dict[str, dict[str, Any]] = field(default_factory=dict)


_SECTIONS = {"data": DataRecipe, "model": ModelRecipe, "training": ElectraRtdTrainingArguments}


def configuration_folder() -> Path:
    """Where the shipped recipes lie: beside the package in a source tree, in the data folder of an installation.

    Raises:
        ValueError: if they lie in neither.
    """
    candidates = (
        Path(__file__).parents[2] / "configuration",
        Path(sysconfig.get_path("data")) / "share" / "electra-rtd" / "configuration",
    )
    for folder in candidates:
        if (folder / "pretrain").is_dir():
            return folder
    raise ValueError(f"the shipped recipes are in neither of {', '.join(map(str, candidates))}")


def find_recipe(name: str) -> Path:
    """A recipe by path, or a shipped one by name (`tiny`, `tiny.yaml`, `configuration/pretrain/tiny.yaml`).

    Raises:
        ValueError: if there is none, with the nearest shipped name.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = {path.stem: path for path in (configuration_folder() / "pretrain").glob("*.yaml")}
    stem = Path(name).stem
    if stem in shipped and Path(name).parent.as_posix() in (".", "configuration/pretrain"):
        return shipped[stem]
    raise ValueError(f"no recipe {name!r}{nearest(stem, shipped)}")


def read_recipe(name: str, overrides: dict[str, str] | None = None) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        name: as for `find_recipe`.
        overrides: `{field: value}` of any section, values as text; these win over the file.

    Raises:
        ValueError: in one line, for an unknown key, a wrong type or an impossible combination.
    """
    path = find_recipe(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a recipe has the sections {', '.join(_SECTIONS)}")
    for section, content in values.items():
        if section not in _SECTIONS:
            raise ValueError(f"{path}: unknown section {section!r}{nearest(str(section), _SECTIONS)}")
        if not isinstance(content, dict):
            raise ValueError(f"{path}: section {section!r} must hold keys and values")
    merged = {section: dict(values.get(section, {})) for section in _SECTIONS}
    owners = {key: section for section, owner in _SECTIONS.items() for key in _types(owner)}
    for key, text in (overrides or {}).items():
        if key not in owners:
            raise ValueError(f"unknown option --{key.replace('_', '-')}{nearest(key, owners)}")
        merged[owners[key]][key] = yaml.safe_load(text) if text.strip()[:1] in "[{" else text
    return build_recipe(merged)


def build_recipe(values: dict[str, dict[str, Any]]) -> Recipe:
    """Check and build every section from plain values.

    Raises:
        ValueError: see `read_recipe`.
    """
    checked = {section: _checked(section, owner, values.get(section, {})) for section, owner in _SECTIONS.items()}
    model = ModelRecipe(**checked["model"])
    for role in ("discriminator", "generator"):
        if getattr(model, role) is not None:
            model_config(getattr(model, role))
    try:
        training = ElectraRtdTrainingArguments(**checked["training"])
    except (TypeError, ImportError) as error:
        raise ValueError(f"training: {' '.join(str(error).split())}") from None
    return Recipe(DataRecipe(**checked["data"]), model, training, checked)


def model_config(source: dict[str, Any] | str):
    """A stock config from a recipe's dict, or from a JSON file (a path, or a name in `configuration/models`)."""
    if isinstance(source, str):
        path = Path(source) if Path(source).is_file() else configuration_folder() / "models" / Path(source).name
        if not path.is_file():
            shipped = [p.name for p in (configuration_folder() / "models").glob("*.json")]
            raise ValueError(f"no model configuration {source!r}{nearest(Path(source).name, shipped)}")
        source = json.loads(path.read_text(encoding="utf-8"))
    return backbone_config(source)


def _types(owner: type) -> dict[str, Any]:
    hints = typing.get_type_hints(owner)
    return {item.name: hints[item.name] for item in dataclasses.fields(owner) if item.init}


def _checked(section: str, owner: type, values: dict[str, Any]) -> dict[str, Any]:
    allowed = _types(owner)
    checked = {}
    for key, value in values.items():
        if key not in allowed:
            raise ValueError(f"{section}: unknown key {key!r}{nearest(str(key), allowed)}")
        checked[key] = _converted(f"{section}.{key}", value, allowed[key])
    return checked


def _converted(key: str, value: Any, annotation: Any) -> Any:
    """A value as its field's type. YAML 1.1 reads `5e-4` as text, and options are text: both become numbers."""
    origin = typing.get_origin(annotation)
    members = typing.get_args(annotation) if origin in (typing.Union, types.UnionType) else (annotation,)
    kinds = {typing.get_origin(member) or member for member in members}
    if kinds & {Any, object}:
        return value
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
    raise ValueError(f"{key} is {value!r}; it must be {' or '.join(names)}")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
