"""Recipes: one YAML names the data, the model and the training of a run, and nothing in it is silently ignored."""

import json
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME

from ..common.recipe_files import checked_sections, configuration_folder, read_sections
from ..common.references import ModelReference, find_model
from ..common.training_arguments import ElectraRtdTrainingArguments
from ..model.backbones import backbone_config, backbone_of, config_from
from ..model.checkpoint_layout import native_config
from ..model.configuration_electra_rtd import OBJECTIVE_FIELDS, VOCABULARY_FIELDS, ElectraRtdConfig
from ..model.encoder_inputs import check_attention
from ..model.rules import CHOICES
from ..model.suggestions import nearest


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
        tokenizer: any name that `find_model` takes; `None` takes the one the blocks were made with.
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


def _recipe_field(name: str) -> tuple[str, Any, None]:
    """A field of `ElectraRtdConfig` as a recipe may set it or leave it alone."""
    kind = Literal[CHOICES[name]] if name in CHOICES else ElectraRtdConfig.__annotations__[name]
    # YAML writes 1 for 1.0.
    return name, (float if kind == float | int else kind) | None, None


# Declared once, in `ElectraRtdConfig`; its other fields say which ids are tokens, and a tokenizer sets them.
_ObjectiveRecipe = make_dataclass(
    "_ObjectiveRecipe", [_recipe_field(name) for name in OBJECTIVE_FIELDS if name not in VOCABULARY_FIELDS]
)


@dataclass
class ModelRecipe(_ObjectiveRecipe):
    """What is trained: a pair from scratch, from existing checkpoints, or a new discriminator next to a generator that
    has learned.

    Attributes:
        discriminator: stock config as `{model_type: ..., field: value}`, a JSON file in `configuration/models`, or
            the config of a model, by any name with a slash that `find_model` takes.
        generator: likewise, next to `discriminator`; `None` derives it by `generator_width` and `generator_depth`.
        generator_width, generator_depth: fractions of the discriminator's; `None` takes the family's default.
        discriminator_checkpoint, generator_checkpoint: continue from these instead; any name that `find_model` takes.
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

    def __post_init__(self):
        check_attention(self.attn_implementation)
        if (self.discriminator is None) == (self.discriminator_checkpoint is None):
            raise ValueError("model: give discriminator (from scratch) or discriminator_checkpoint (continue), one")
        if self.generator is not None and self.generator_checkpoint is not None:
            raise ValueError("model: give generator (from scratch) or generator_checkpoint (continue), one")
        if self.freeze_generator and self.discriminator is not None and self.generator_checkpoint is None:
            raise ValueError("model: freeze_generator needs a generator that has learned; give generator_checkpoint")
        if self.generator is not None and self.discriminator_checkpoint is not None:
            raise ValueError(
                "model: generator goes with discriminator, both from scratch; next to discriminator_checkpoint give "
                "generator_checkpoint, or generator_width and generator_depth"
            )
        if self.generator is not None and (self.generator_width is not None or self.generator_depth is not None):
            raise ValueError("model: generator and generator_width/generator_depth exclude each other")

    def checkpoints(self) -> dict[str, ModelReference]:
        """Those to continue from, by key.

        Raises:
            ValueError: see `find_model`.
        """
        names = ("discriminator_checkpoint", "generator_checkpoint")
        return {name: find_model(getattr(self, name), name) for name in names if getattr(self, name) is not None}

    def objective_fields(self) -> dict[str, Any]:
        """The fields of `ElectraRtdConfig` that the recipe sets."""
        names = [name for name in OBJECTIVE_FIELDS if hasattr(self, name)]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class Recipe:
    """A whole experiment."""

    data: DataRecipe
    model: ModelRecipe
    training: ElectraRtdTrainingArguments
    values: dict[str, dict[str, Any]] = field(default_factory=dict)


_SECTIONS = {"data": DataRecipe, "model": ModelRecipe, "training": ElectraRtdTrainingArguments}


def read_recipe(name: str, overrides: dict[str, str] | None = None) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        name: a path, or the name of a shipped recipe.
        overrides: `{field: value}` of any section, values as text; these win over the file.

    Raises:
        ValueError: in one line, for an unknown key, a wrong type or an impossible combination.
    """
    return _built(read_sections(name, "pretrain", _SECTIONS, overrides))


def build_recipe(values: dict[str, dict[str, Any]]) -> Recipe:
    """Check and build every section from plain values.

    Raises:
        ValueError: see `read_recipe`.
    """
    return _built(checked_sections(values, _SECTIONS))


def _built(values: dict[str, dict[str, Any]]) -> Recipe:
    model = ModelRecipe(**values["model"])
    for role in ("discriminator", "generator"):
        if getattr(model, role) is not None:
            model_config(getattr(model, role))
    if values["training"].get("hub_token") is not None:
        raise ValueError(
            "training.hub_token is set, and a recipe is written into the run's folder; use hf auth login or HF_TOKEN"
        )
    if values["training"].get("resume_from_checkpoint") is not None:
        raise ValueError(
            f"training.resume_from_checkpoint is {values['training']['resume_from_checkpoint']!r}; a run goes on from "
            "its newest complete checkpoint by --resume"
        )
    try:
        training = ElectraRtdTrainingArguments(**values["training"])
    except (TypeError, ImportError) as error:
        raise ValueError(f"training: {' '.join(str(error).split())}") from None
    return Recipe(DataRecipe(**values["data"]), model, training, values)


def model_config(source: dict[str, Any] | str) -> PreTrainedConfig:
    """A stock config from a recipe's dict, from a JSON file (a path, or a name in `configuration/models`), or from a
    model.

    Raises:
        ValueError: for none of them.
    """
    if isinstance(source, str):
        path = Path(source) if Path(source).is_file() else configuration_folder() / "models" / Path(source).name
        if not path.is_file() and "/" in source and not source.endswith(".json"):
            return _config_of(find_model(source))
        if not path.is_file():
            shipped = [p.name for p in (configuration_folder() / "models").glob("*.json")]
            raise ValueError(f"no model configuration {source!r}{nearest(Path(source).name, shipped)}")
        source = json.loads(path.read_text(encoding="utf-8"))
    return backbone_config(source)


def _config_of(model: ModelReference) -> PreTrainedConfig:
    model.require(CONFIG_NAME)
    config = native_config(config_from(model.name, **model.arguments))
    backbone_of(config)
    return config
