"""The encoder families RTD can pre-train: what their stock `transformers` classes do not say themselves.

Everything else is asked of the stock classes: the attribute an encoder lives under (`base_model_prefix`), the
layers of its masked-LM head (whatever stands beside the encoder in `AutoModelForMaskedLM`, in order), the weights
it ties. A family missing from the table is refused by name rather than trained wrongly.
"""

import copy
import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig


@dataclass(frozen=True)
class Backbone:
    """One family of encoders.

    Attributes:
        layer_class: name of the repeated layer, the unit of FSDP sharding.
        discriminator_architecture: stock class that a release names in `architectures`, and that loads it whole.
        generator_width: default width of a generator, as a fraction of the discriminator's.
        generator_depth: default depth of a generator, as a fraction of the discriminator's.
        narrows: whether a generator may be narrower than the embeddings it shares (needs an embedding projection).
        published_special_tokens: `vocab_size -> (mask_token_id, special_token_ids)` of the vocabularies the family
            was published with, so that a stock config works without its tokenizer at hand.
    """

    layer_class: str
    discriminator_architecture: str
    generator_width: float
    generator_depth: float
    narrows: bool
    published_special_tokens: dict[int, tuple[int, tuple[int, ...]]]


BACKBONES: dict[str, Backbone] = {
    # Generator width 1/4 at full depth: ELECTRA paper, section 3.2 and table 6 (base: 1/3, set by its recipe).
    "electra": Backbone(
        layer_class="ElectraLayer",
        discriminator_architecture="ElectraForPreTraining",
        generator_width=0.25,
        generator_depth=1.0,
        narrows=True,
        published_special_tokens={30522: (103, (0, 101, 102, 103))},
    ),
    # No embedding projection, so the generator keeps the width and is shallower: DeBERTaV3 halves the depth.
    "modernbert": Backbone(
        layer_class="ModernBertEncoderLayer",
        discriminator_architecture="ModernBertModel",
        generator_width=1.0,
        generator_depth=0.5,
        narrows=False,
        published_special_tokens={50368: (50284, (50281, 50282, 50283, 50284))},
    ),
}


def nearest(name: str, allowed: Any) -> str:
    """A suggestion for a misspelt name: `"; did you mean 'hidden_size'?"`, or the allowed names if none is close."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(allowed)}"


def backbone_of(config: PreTrainedConfig) -> Backbone:
    """The table's row for a config.

    Raises:
        ValueError: for a family that is not in the table.
    """
    if config.model_type not in BACKBONES:
        raise ValueError(
            f"model_type {config.model_type!r} has no RTD backbone here{nearest(config.model_type, BACKBONES)}"
        )
    return BACKBONES[config.model_type]


def backbone_config(values: dict[str, Any]) -> PreTrainedConfig:
    """Build a stock config from `{"model_type": ..., field: value}`, refusing what stock configs silently keep.

    Stock configs accept unknown keys and impossible sizes; a typo in a recipe must not train a default model.

    Raises:
        ValueError: naming an unknown `model_type` or field with the nearest valid one, or an impossible size.
    """
    values = dict(values)
    model_type = values.pop("model_type", None)
    if model_type not in BACKBONES:
        raise ValueError(f"model_type {model_type!r} is not a backbone{nearest(str(model_type), BACKBONES)}")
    config_class = CONFIG_MAPPING[model_type]
    fields = {field.name for field in dataclasses.fields(config_class)}
    for key in values:
        if key not in fields:
            raise ValueError(f"unknown {model_type} field {key!r}{nearest(key, fields)}")
    try:
        config = config_class(**values)
    except Exception as error:  # the strict dataclass wraps the reason in several lines; the last one names it
        raise ValueError(f"{model_type} config: {str(error).strip().splitlines()[-1].strip()}") from error
    check_sizes(config)
    return config


def check_sizes(config: PreTrainedConfig) -> None:
    """Refuse sizes that no encoder can have.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least 1")
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"num_attention_heads {config.num_attention_heads} does not divide hidden_size {config.hidden_size}"
        )


def generator_config_for(
    discriminator_config: PreTrainedConfig,
    generator_width: float | None = None,
    generator_depth: float | None = None,
) -> PreTrainedConfig:
    """A generator that shares the discriminator's embeddings: narrower, shallower, or both.

    Args:
        generator_width: fraction of `hidden_size`, `intermediate_size` and `num_attention_heads`; `None` takes the
            family's default from the table.
        generator_depth: fraction of `num_hidden_layers`; `None` takes the family's default.

    Raises:
        ValueError: for fractions outside (0, 1], and for a width the family cannot narrow to.
    """
    backbone = backbone_of(discriminator_config)
    width = backbone.generator_width if generator_width is None else generator_width
    depth = backbone.generator_depth if generator_depth is None else generator_depth
    for name, fraction in (("generator_width", width), ("generator_depth", depth)):
        if not 0 < fraction <= 1:
            raise ValueError(f"{name} is {fraction}; it is a fraction of the discriminator's, in (0, 1]")
    if width != 1 and not backbone.narrows:
        raise ValueError(
            f"generator_width is {width}, but {discriminator_config.model_type} has no embedding projection and "
            "cannot be narrower than the embeddings it shares; use generator_depth"
        )
    config = copy.deepcopy(discriminator_config)
    config.num_attention_heads = max(1, round(config.num_attention_heads * width))
    config.hidden_size = max(config.num_attention_heads, round(config.hidden_size * width))
    config.intermediate_size = max(1, round(config.intermediate_size * width))
    config.num_hidden_layers = max(1, round(config.num_hidden_layers * depth))
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    check_sizes(config)
    return config


# Arguments of `from_pretrained` that a checkpoint's config is read with as well.
HUB_ARGUMENTS = (
    *("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download", "proxies"),
    "trust_remote_code",
)


def config_from(source: PreTrainedConfig | str, **hub_arguments: Any) -> PreTrainedConfig:
    """A config object as it is, or the one of a local folder or Hub id (`revision=`, `subfolder=`, `token=`, ...)."""
    return source if isinstance(source, PreTrainedConfig) else AutoConfig.from_pretrained(source, **hub_arguments)


def hub_arguments_in(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of a call's keyword arguments that a checkpoint's config is read with as well."""
    return {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}
