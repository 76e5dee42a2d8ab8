"""The encoder families RTD can pre-train: what their stock `transformers` classes do not say themselves.

Everything else is asked of the stock classes: the attribute an encoder lives under (`base_model_prefix`), the
layers of its masked-LM head (whatever stands next to the encoder in `AutoModelForMaskedLM`, in order), the weights
it ties. A family missing from the table is looked at when it is first used (`derived_backbones`), and refused with
what it lacks rather than trained wrongly.
"""

import copy
import dataclasses
import math
from typing import Any

from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN

from .derived_backbones import derived_backbone
from .gru_encoder import GruEncoderConfig
from .small_encoders import first_row_of_positions
from .stock_models import Backbone, prepare_encoder
from .suggestions import nearest


# Arguments of `from_pretrained` that a checkpoint's config is read with as well.
HUB_ARGUMENTS = (
    *("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download", "proxies"),
    "trust_remote_code",
)

# Their tables of positions begin behind padding's, and their pooler is there for classifiers.
_LIKE_ROBERTA: dict[str, Any] = {"positions_follow_padding": True, "unused": ("pooler",)}

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
    "bert": Backbone(
        layer_class="BertLayer",
        discriminator_architecture="BertModel",
        unused=("pooler",),
        published_special_tokens={30522: (103, (0, 101, 102, 103)), 28996: (103, (0, 101, 102, 103))},
    ),
    "roberta": Backbone(
        layer_class="RobertaLayer",
        discriminator_architecture="RobertaModel",
        published_special_tokens={50265: (50264, (0, 1, 2, 50264))},
        **_LIKE_ROBERTA,
    ),
    "camembert": Backbone(
        layer_class="CamembertLayer",
        discriminator_architecture="CamembertModel",
        published_special_tokens={32005: (32004, (1, 5, 6, 32004))},
        **_LIKE_ROBERTA,
    ),
    "xlm-roberta": Backbone(
        layer_class="XLMRobertaLayer",
        discriminator_architecture="XLMRobertaModel",
        published_special_tokens={250002: (250001, (0, 1, 2, 250001))},
        **_LIKE_ROBERTA,
    ),
    # Projects its embeddings as ELECTRA does, so its generator is ELECTRA's.
    "roformer": Backbone(
        layer_class="RoFormerLayer",
        discriminator_architecture="RoFormerModel",
        rotates_heads=True,
        generator_width=0.25,
        generator_depth=1.0,
        narrows=True,
        leaks={"rotary_value": "values are rotated by where they stand in the row"},
    ),
    # The fields of DeBERTaV3's checkpoints. An `embedding_size` is projected inside the block that would be shared.
    "deberta-v2": Backbone(
        layer_class="DebertaV2Layer",
        discriminator_architecture="DebertaV2Model",
        document_mask="boolean",
        undeclared_fields={
            **{"position_buckets": int, "norm_rel_ebd": str, "share_att_key": bool, "embedding_size": int},
            **{"conv_kernel_size": int, "conv_act": str, "conv_groups": int},
        },
        leaks={"conv_kernel_size": "the convolution reads over the ends of documents"},
        published_special_tokens={128100: (128000, (0, 1, 2, 128000))},
    ),
    "modernbert": Backbone(
        layer_class="ModernBertEncoderLayer",
        discriminator_architecture="ModernBertModel",
        rotates_heads=True,
        published_special_tokens={50368: (50284, (50281, 50282, 50283, 50284))},
    ),
    "nomic_bert": Backbone(
        layer_class="NomicBertLayer",
        discriminator_architecture="NomicBertModel",
        rotates_heads=True,
        published_special_tokens={30528: (103, (0, 101, 102, 103))},
    ),
    # Nothing was published; its generators are sized as ELECTRA's.
    GruEncoderConfig.model_type: Backbone(
        layer_class="GruEncoderLayer",
        discriminator_architecture="GruEncoderModel",
        generator_width=0.25,
        generator_depth=1.0,
        narrows=True,
        document_mask="document_ids",
    ),
}


def backbone_of(config: PreTrainedConfig) -> Backbone:
    """The table's row for a config, or the one that a family outside the table would have.

    Raises:
        ValueError: for a family that RTD cannot pre-train, and for a config with which it would train wrongly.
    """
    if getattr(config, "is_decoder", False):
        raise ValueError(f"{config.model_type} with is_decoder True reads a text from one side; set it to False")
    backbone = BACKBONES.get(config.model_type) or derived_backbone(config)
    if backbone.positions_follow_padding and config.pad_token_id is None:
        raise ValueError(f"pad_token_id is None, and {config.model_type} counts positions from it")
    if backbone.first_row and config.pad_token_id != backbone.first_row - 1:
        raise ValueError(
            f"pad_token_id is {config.pad_token_id}, and {config.model_type} takes token {backbone.first_row - 1} for "
            f"padding whatever it is; use a tokenizer whose padding has the id {backbone.first_row - 1}"
        )
    for name, reason in backbone.leaks.items():
        value = getattr(config, name, None)
        if value:
            raise ValueError(
                f"{config.model_type} with {name} {value} cannot keep packed documents apart: {reason}; unset it"
            )
    return backbone


def is_backbone(config: PreTrainedConfig) -> bool:
    """Whether RTD can pre-train a model of this config."""
    try:
        backbone_of(config)
    except ValueError:
        return False
    return True


def discriminator_architecture_of(model_type: str | None) -> str | None:
    """The class a release of a family names, without looking at a model; `None` for an unknown family."""
    if model_type in BACKBONES:
        return BACKBONES[model_type].discriminator_architecture
    config_class = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None
    return getattr(MODEL_MAPPING.get(config_class, None), "__name__", None)


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """The stock encoder of a config, ready for `EncoderInputs.encode`."""
    backbone = backbone_of(config)
    return prepare_encoder(MODEL_MAPPING[type(config)](config), backbone)


def build_masked_lm(config: PreTrainedConfig, with_unused: bool = False) -> PreTrainedModel:
    """The stock masked-LM model of a config, its encoder ready for `EncoderInputs.encode`.

    Args:
        with_unused: its encoder has all that the encoder alone has (see `Backbone.unused`).
    """
    backbone = backbone_of(config)
    model = MODEL_FOR_MASKED_LM_MAPPING[type(config)](config)
    if with_unused and backbone.unused:
        setattr(model, model.base_model_prefix, MODEL_MAPPING[type(config)](config))
        model.tie_weights()
    prepare_encoder(model.base_model, backbone)
    return model


def longest_row(config: PreTrainedConfig) -> int | None:
    """Positions a row may have by `max_position_embeddings`, those of padding taken off; `None` where there is no
    such field, or none that says anything. Any config."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 1:
        return None
    return positions - (first_row_of_positions(config) or 0)


def check_row_length(config: PreTrainedConfig, length: int) -> None:
    """Refuse rows that an encoder has no positions for; where no table is looked up they have no end.

    Raises:
        ValueError: naming both lengths.
    """
    behind = first_row_of_positions(config)
    if behind is not None and length + behind > config.max_position_embeddings:
        of_padding = f", {behind} of them padding's" if behind else ""
        raise ValueError(
            f"max_length is {length}, but the encoder has max_position_embeddings "
            f"{config.max_position_embeddings}{of_padding}"
        )


def backbone_config(values: dict[str, Any]) -> PreTrainedConfig:
    """Build a stock config from `{"model_type": ..., field: value}`, refusing what stock configs silently keep.

    Stock configs accept unknown keys and impossible sizes; a typo in a recipe must not train a default model.

    Raises:
        ValueError: naming an unknown `model_type` or field with the nearest valid one, or an impossible size.
    """
    values = dict(values)
    model_type = values.pop("model_type", None)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"model_type {model_type!r} is not a backbone{nearest(str(model_type), BACKBONES)}")
    config_class = CONFIG_MAPPING[model_type]
    undeclared = BACKBONES[model_type].undeclared_fields if model_type in BACKBONES else {}
    fields = {*(field.name for field in dataclasses.fields(config_class)), *undeclared}
    for key, value in values.items():
        if key not in fields:
            raise ValueError(f"unknown {model_type} field {key!r}{nearest(key, fields)}")
        if key in undeclared and type(value) is not undeclared[key]:
            raise ValueError(f"{model_type} field {key} is {value!r}; it must be of type {undeclared[key].__name__}")
    try:
        config = config_class(**values)
    except Exception as error:  # the strict dataclass wraps the reason in several lines; the last one names it
        raise ValueError(f"{model_type} config: {str(error).strip().splitlines()[-1].strip()}") from error
    check_sizes(config)
    backbone_of(config)
    return config


_AT_LEAST_ONE = ("embedding_size", "max_position_embeddings", "local_attention", "global_attn_every_n_layers")
_ABOVE_ZERO = ("layer_norm_eps", "norm_eps", "layer_norm_epsilon", "rms_norm_eps", "initializer_range")
_SHARES = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "embedding_dropout", "mlp_dropout"),
    *("classifier_dropout", "summary_last_dropout"),
)


def check_sizes(config: PreTrainedConfig) -> None:
    """Refuse sizes that no encoder can have.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        # Not every family has all of them, and one has no default.
        value = getattr(config, name, 1)
        if value is None or value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    for name in _AT_LEAST_ONE:
        value = getattr(config, name, None)
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    for name in _ABOVE_ZERO:
        value = getattr(config, name, None)
        if isinstance(value, int | float) and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; it must be a finite number above 0")
    for name in _SHARES:
        value = getattr(config, name, None)
        if isinstance(value, int | float) and not 0 <= value < 1:
            raise ValueError(f"{name} is {value}; it must be in [0, 1)")
    for name in ("hidden_act", "hidden_activation"):
        value = getattr(config, name, None)
        if isinstance(value, str) and value not in ACT2FN:
            raise ValueError(f"{name} is {value!r}{nearest(value, ACT2FN)}")
    for name in ("num_attention_heads", "num_directions"):
        parts = getattr(config, name, 1)
        if getattr(config, "hidden_size", 0) % parts:
            raise ValueError(f"{name} {parts} does not divide hidden_size {config.hidden_size}")
    if config.model_type in BACKBONES and BACKBONES[config.model_type].rotates_heads:
        width = config.hidden_size // config.num_attention_heads
        if width % 2:
            raise ValueError(
                f"hidden_size {config.hidden_size} with num_attention_heads {config.num_attention_heads} makes heads "
                f"{width} wide, and {config.model_type} turns pairs of their numbers; the width must be even"
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
        ValueError: for fractions outside (0, 1], and for a size the family cannot have.
    """
    backbone = backbone_of(discriminator_config)
    width = backbone.generator_width if generator_width is None else generator_width
    depth = backbone.generator_depth if generator_depth is None else generator_depth
    for name, fraction in (("generator_width", width), ("generator_depth", depth)):
        if not 0 < fraction <= 1:
            raise ValueError(f"{name} is {fraction}; it is a fraction of the discriminator's, in (0, 1]")
    if width != 1 and not backbone.narrows:
        raise ValueError(
            f"generator_width is {width}, but {discriminator_config.model_type} has no embedding projection behind "
            "the embeddings it shares and cannot be narrower; use generator_depth"
        )
    config = copy.deepcopy(discriminator_config)
    for name in ("num_attention_heads", "hidden_size", "intermediate_size"):
        if width != 1 and hasattr(config, name):
            setattr(config, name, max(1, round(getattr(config, name) * width)))
    config.hidden_size = max(getattr(config, "num_attention_heads", 1), config.hidden_size)
    config.num_hidden_layers = max(1, round(config.num_hidden_layers * depth))
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    check_sizes(config)
    try:
        backbone_of(config)
    except ValueError as error:
        raise ValueError(f"generator_depth {depth:g}: {error}") from None
    return config


def check_generator_size(
    config: PreTrainedConfig,
    discriminator_config: PreTrainedConfig,
    generator_width: float | None,
    generator_depth: float | None,
) -> None:
    """Refuse a generator that has learned already and is not of the size that is asked for.

    Args:
        generator_width, generator_depth: as of `generator_config_for`; `None` asks for nothing.

    Raises:
        ValueError: naming both sizes.
    """
    asked = {
        "generator_width": (generator_width, "hidden_size"),
        "generator_depth": (generator_depth, "num_hidden_layers"),
    }
    for name, (fraction, field) in asked.items():
        if fraction is None:
            continue
        size = getattr(generator_config_for(discriminator_config, **{name: fraction}), field)
        if getattr(config, field) != size:
            raise ValueError(
                f"{name} is {fraction}, a {field} of {size}, but the generator to continue with has "
                f"{getattr(config, field)}; leave {name} out (in a recipe: none)"
            )


def config_from(source: PreTrainedConfig | str, **hub_arguments: Any) -> PreTrainedConfig:
    """A config object as it is, or the one of a local folder or Hub id (`revision=`, `subfolder=`, `token=`, ...)."""
    return source if isinstance(source, PreTrainedConfig) else AutoConfig.from_pretrained(source, **hub_arguments)


def hub_arguments_in(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of a call's keyword arguments that a checkpoint's config is read with as well."""
    return {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}
