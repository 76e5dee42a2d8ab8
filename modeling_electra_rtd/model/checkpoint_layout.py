"""How a pair lies on disk: the stock config of its discriminator with one more key, `electra_rtd`.

In a joint checkpoint, whose one file holds the weights of both networks, the key has the generator's config; in a
release it names the generator's folder, or says that there is none: only a masked-LM generator is a stock checkpoint.
Stock `transformers` reads either as the discriminator it holds.
"""

import copy
import os
from typing import Any, Literal

from transformers import CONFIG_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, PreTrainedConfig
from transformers.utils import CONFIG_NAME, cached_file

from .backbones import config_from, discriminator_architecture_of
from .objectives import OBJECTIVES


# The one key this package adds to a native config.json.
RTD_KEY = "electra_rtd"
# Under it in a release: the folder of the generator; `None` where it has left its generator behind, or never had one.
GENERATOR_SUBFOLDER = "generator_subfolder"
# With it, what `transformers` adds to the config of a checkpoint that brings its code along.
ADDED_KEYS = (RTD_KEY, "auto_map", "custom_pipelines")


def native_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a stock config without what this package, and code that travels with a checkpoint, added to it."""
    config = copy.deepcopy(config)
    for name in ADDED_KEYS:
        config.__dict__.pop(name, None)
    return config


def role_of(config: PreTrainedConfig) -> Literal["pair", "discriminator", "stock"]:
    """Tell whose config this is: a pair's, that of a discriminator which has left its generator, or any other model's.

    Code that came with a checkpoint has classes of its own for the first two, so the fields decide, not the class.
    """
    if not hasattr(config, "generator_config"):
        return "stock"
    return "discriminator" if config.is_alone else "pair"


def objective_of(config: PreTrainedConfig | dict[str, Any]) -> dict[str, Any] | None:
    """What the config of a pair says under our key; `None` for any other config.

    Stock classes keep keys that they do not know, so a model that was fine-tuned from a pair by other code has the key
    as well; its architecture is another.
    """
    values = config if isinstance(config, dict) else config.to_dict()
    fields, model_type = values.get(RTD_KEY), values.get("model_type")
    if fields is None or model_type not in CONFIG_MAPPING:
        return None
    architecture = root_architecture(model_type, fields.get("objective", "rtd"))
    return fields if values.get("architectures") == [architecture] else None


def root_architecture(model_type: str, objective: str) -> str | None:
    """The stock class that loads the root of a checkpoint whole, as `architectures` names it."""
    if OBJECTIVES[objective].detection_loss_positions is not None:
        return discriminator_architecture_of(model_type)
    return getattr(MODEL_FOR_MASKED_LM_MAPPING.get(CONFIG_MAPPING[model_type], None), "__name__", None)


def is_joint(fields: dict[str, Any] | None) -> bool:
    """Whether a checkpoint whose config says this under our key holds all that was trained in one file."""
    return fields is not None and GENERATOR_SUBFOLDER not in fields


def generator_kind_of(fields: dict[str, Any]) -> str | None:
    """The kind of generator of a pair whose config says this under our key; `None` without one."""
    objective = OBJECTIVES.get(fields.get("objective", "rtd"))
    return fields.get("generator_kind", "masked_lm") if objective is not None and objective.corrupts else None


def generates_by_masked_lm(fields: dict[str, Any]) -> bool:
    """Whether a pair whose config says this under our key has a masked-LM generator."""
    return generator_kind_of(fields) == "masked_lm"


def lacks_generator(fields: dict[str, Any]) -> bool:
    """Whether a release whose config says this under our key has left behind a generator that has learned; a table can
    be made again."""
    return not is_joint(fields) and fields[GENERATOR_SUBFOLDER] is None and fields.get("generator_kind") == "two_tower"


def generator_config_in(
    source: str | os.PathLike, folder: str, subfolder: str = "", **hub_arguments: Any
) -> PreTrainedConfig | None:
    """The config of the generator of a release; `None` where the folder is missing.

    Args:
        folder: what the release says under `generator_subfolder`.
        subfolder: of the release itself.
    """
    place = joined(subfolder, folder)
    found = cached_file(
        source, CONFIG_NAME, subfolder=place, _raise_exceptions_for_missing_entries=False, **hub_arguments
    )
    return None if found is None else native_config(config_from(source, subfolder=place, **hub_arguments))


def joined(subfolder: str | None, folder: str) -> str:
    """Name a folder below another, in the notation of the Hub.

    Raises:
        ValueError: for a name that leads out of the other.
    """
    if folder.startswith(("/", "\\", "~")) or ":" in folder or ".." in folder.replace("\\", "/").split("/"):
        raise ValueError(f"{GENERATOR_SUBFOLDER} is {folder!r}; it must name a folder within the release")
    return f"{subfolder}/{folder}" if subfolder else folder


def holds_pair(source: str | os.PathLike, **hub_arguments: Any) -> bool:
    """Whether a folder or Hub id holds a pair: a joint checkpoint, or a release with its generator."""
    if os.path.isdir(source) and not os.path.isfile(os.path.join(source, CONFIG_NAME)):
        return False
    objective = objective_of(PreTrainedConfig.get_config_dict(source, **hub_arguments)[0])
    if objective is None or lacks_generator(objective):
        return False
    folder = objective.get(GENERATOR_SUBFOLDER)
    return folder is None or generator_config_in(source, folder, **hub_arguments) is not None
