"""`ElectraRtdConfig`: a discriminator, a generator and the objective between them, validated when built.

On disk it is the discriminator's own config with one more key, `electra_rtd`, so stock `transformers` reads the
folder as the discriminator it holds, and this class reads it back as the pair. In a joint checkpoint, whose one file
holds the weights of both, the key has the generator's config; in a release it names the generator's folder.
"""

import copy
import json
import os
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.utils import CONFIG_NAME, cached_file

from .backbones import (
    HUB_ARGUMENTS,
    backbone_of,
    check_sizes,
    config_from,
    discriminator_architecture_of,
    generator_config_for,
    nearest,
)


# The one key this package adds to a native config.json.
RTD_KEY = "electra_rtd"
# Under it in a release: the folder of the generator.
GENERATOR_SUBFOLDER = "generator_subfolder"
# With it, what `transformers` adds to the config of a checkpoint that brings its code along.
_ADDED_KEYS = (RTD_KEY, "auto_map", "custom_pipelines")

# What transformers itself passes through a config's keyword arguments.
_LIBRARY_KEYS = {
    "transformers_version",
    "torch_dtype",
    "attn_implementation",
    "experts_implementation",
    "output_attentions",
    "name_or_path",
    "num_labels",
}

_OBJECTIVE_FIELDS = (
    "mask_probability",
    "mask_token_probability",
    "sampling_temperature",
    "generator_loss_weight",
    "discriminator_loss_weight",
    "embedding_sharing",
    "mask_token_id",
    "special_token_ids",
)


@strict
class ElectraRtdConfig(PreTrainedConfig):
    """Configuration of `ElectraRtdForPreTraining`. Attributes it does not have itself are the discriminator's.

    Args:
        discriminator_config: stock config of the encoder that is being pre-trained, or its `dict` with `model_type`.
        generator_config: stock config of the masked-LM generator; `None` derives the family's default. A model that
            is a discriminator alone has `None` here, and its config is written as a stock one.
        mask_probability: share of a row's non-special tokens that are chosen for corruption (ELECTRA paper, table 6:
            0.15; large: 0.25).
        mask_token_probability: probability that a chosen token is shown to the generator as `[MASK]` rather than as
            it is (reference implementation: 0.85; paper text: 1.0).
        sampling_temperature: divides the generator's logits when replacements are drawn.
        generator_loss_weight: weight of the masked-LM loss (1, paper section 3.2).
        discriminator_loss_weight: weight of the replaced-token-detection loss (50, paper section 3.2).
        embedding_sharing: `"tied"` shares the whole embedding block (words, positions, types, layer norm) as the
            reference does; `"none"` keeps two.
        mask_token_id: id of `[MASK]`; `None` takes the id of the family's published vocabulary.
        special_token_ids: ids that are never corrupted (classifier, separator, padding, mask; not `[UNK]`); `None`
            as for `mask_token_id`.

    Raises:
        ValueError: for an unknown key (with the nearest valid one) or an impossible combination.
    """

    # Only a name for error messages and caches: what is written to disk is the discriminator's model_type.
    model_type: ClassVar[str] = "electra_rtd"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "discriminator_config": PreTrainedConfig,
        "generator_config": PreTrainedConfig,
    }
    keys_to_ignore_at_inference: ClassVar[list[str]] = []

    discriminator_config: dict | PreTrainedConfig | None = None
    generator_config: dict | PreTrainedConfig | None = None
    mask_probability: float | int = 0.15
    mask_token_probability: float | int = 0.85
    sampling_temperature: float | int = 1.0
    generator_loss_weight: float | int = 1.0
    discriminator_loss_weight: float | int = 50.0
    embedding_sharing: Literal["tied", "none"] = "tied"
    mask_token_id: int | None = None
    special_token_ids: list[int] | tuple[int, ...] | None = None

    def __post_init__(self, **kwargs: Any):
        allowed = {*self.__dataclass_fields__, *_LIBRARY_KEYS}
        own = ("discriminator_config", "generator_config", *_OBJECTIVE_FIELDS)
        for key in kwargs:
            if key not in allowed and not key.startswith("_"):
                raise ValueError(f"unknown ElectraRtdConfig key {key!r}{nearest(key, own)}")
        self.discriminator_config = _stock_config(self.discriminator_config, "discriminator_config")
        if self.generator_config is None:
            self.generator_config = generator_config_for(self.discriminator_config)
        self.generator_config = _stock_config(self.generator_config, "generator_config")
        published = backbone_of(self.discriminator_config).published_special_tokens
        if self.vocab_size in published:
            mask_token_id, special_token_ids = published[self.vocab_size]
            self.mask_token_id = mask_token_id if self.mask_token_id is None else self.mask_token_id
            self.special_token_ids = special_token_ids if self.special_token_ids is None else self.special_token_ids
        if self.special_token_ids is not None:
            self.special_token_ids = sorted(set(self.special_token_ids))
        if kwargs.get("attn_implementation") is None:
            kwargs["attn_implementation"] = self.discriminator_config._attn_implementation
        super().__post_init__(**kwargs)
        # The strict dataclass runs these again, at this point and when saving, but wraps what they raise.
        self.validate_probabilities()
        self.validate_pair()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "discriminator_config" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.__dict__["discriminator_config"], name)

    def validate_probabilities(self) -> None:
        for name in ("mask_probability", "mask_token_probability"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; it must be in (0, 1]")
        if self.sampling_temperature <= 0:
            raise ValueError(f"sampling_temperature is {self.sampling_temperature}; it must be above 0")
        for name in ("generator_loss_weight", "discriminator_loss_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")

    def validate_pair(self) -> None:
        discriminator, generator = self.discriminator_config, self.generator_config
        if generator is None:
            return
        for role, config in (("discriminator", discriminator), ("generator", generator)):
            try:
                check_sizes(config)
            except ValueError as error:
                raise ValueError(f"{role}: {error}") from None
        if discriminator.vocab_size != generator.vocab_size:
            raise ValueError(
                f"generator vocab_size {generator.vocab_size} differs from discriminator vocab_size "
                f"{discriminator.vocab_size}; a pair reads one vocabulary"
            )
        if self.embedding_sharing == "tied":
            if discriminator.model_type != generator.model_type:
                raise ValueError(
                    f"embedding_sharing 'tied' needs one family, not {discriminator.model_type!r} and "
                    f"{generator.model_type!r}; use 'none'"
                )
            for name in ("embedding_size", "max_position_embeddings", "type_vocab_size"):
                ours, theirs = (_embedding_dimension(config, name) for config in (discriminator, generator))
                if ours != theirs:
                    raise ValueError(
                        f"embedding_sharing 'tied' needs equal {name}, but the discriminator has {ours} and the "
                        f"generator {theirs}; use 'none' or resize one"
                    )
        ids = [*(self.special_token_ids or []), *([] if self.mask_token_id is None else [self.mask_token_id])]
        outside = [token_id for token_id in ids if not 0 <= token_id < discriminator.vocab_size]
        if outside:
            raise ValueError(f"special token ids {outside} are outside the vocabulary of {discriminator.vocab_size}")

    @classmethod
    def from_discriminator(
        cls,
        discriminator: PreTrainedConfig | str,
        generator_width: float | None = None,
        generator_depth: float | None = None,
        tokenizer: Any = None,
        **objective: Any,
    ) -> "ElectraRtdConfig":
        """A pair for an encoder: its config (or folder, or Hub id) and a generator derived from it.

        Args:
            generator_width, generator_depth: fractions of the discriminator's; `None` takes the family's default.
            tokenizer: sets `mask_token_id` and `special_token_ids`; needed for any vocabulary but the family's own.
            objective: any other field of this class, and `revision`, `subfolder`, `token`, ... of `from_pretrained`.
        """
        hub = {name: objective.pop(name) for name in HUB_ARGUMENTS if name in objective}
        discriminator = native_config(config_from(discriminator, **hub))
        pair = {
            "discriminator_config": discriminator,
            "generator_config": generator_config_for(discriminator, generator_width, generator_depth),
        }
        return cls(**pair, **(special_tokens_of(tokenizer) if tokenizer is not None else {}), **objective)

    @classmethod
    def from_native(
        cls, config: PreTrainedConfig, generator_config: PreTrainedConfig | None = None
    ) -> "ElectraRtdConfig":
        """The pair a stock config carries under `electra_rtd` (as stock classes load it), or a default pair.

        Args:
            generator_config: of the generator, where the config says only in which folder it lies.
        """
        if isinstance(config, cls) or hasattr(config, "generator_config"):
            return config
        objective = copy.deepcopy(getattr(config, RTD_KEY, None) or {})
        if objective.pop(GENERATOR_SUBFOLDER, None) is not None:
            objective["generator_config"] = generator_config
        return cls(discriminator_config=native_config(config), **objective)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str, **kwargs: Any) -> tuple[dict, dict]:
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        values, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not values:
            return values, kwargs
        objective = values.pop(RTD_KEY, {})
        if GENERATOR_SUBFOLDER in objective:
            folder = objective.pop(GENERATOR_SUBFOLDER)
            objective["generator_config"] = generator_config_in(pretrained_model_name_or_path, folder, **hub)
        return {"discriminator_config": values, **objective}, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any):
        if "discriminator_config" not in config_dict and "model_type" in config_dict:
            config_dict = dict(config_dict)
            objective = dict(config_dict.pop(RTD_KEY, {}))
            objective.pop(GENERATOR_SUBFOLDER, None)
            config_dict = {"discriminator_config": config_dict, **objective}
        return super().from_dict(config_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return self._on_disk("to_dict")

    def to_diff_dict(self) -> dict[str, Any]:
        return self._on_disk("to_diff_dict")

    def _on_disk(self, to_dict: str) -> dict[str, Any]:
        values = getattr(self.discriminator_config, to_dict)()
        values["architectures"] = [backbone_of(self.discriminator_config).discriminator_architecture]
        dtype = {} if self.dtype is None else {"dtype": str(self.dtype).removeprefix("torch.")}
        if self.generator_config is not None:
            generator = getattr(self.generator_config, to_dict)()
            generator.pop("transformers_version", None)
            values[RTD_KEY] = {"generator_config": generator | dtype, **self.objective()}
            if "auto_map" in self.__dict__:
                values["auto_map"] = self.auto_map
        return values | dtype

    def objective(self) -> dict[str, Any]:
        """The fields that are neither network's."""
        return {name: getattr(self, name) for name in _OBJECTIVE_FIELDS}

    def of_discriminator_alone(self) -> "ElectraRtdConfig":
        """The same without a generator; it shares the discriminator's config."""
        config = copy.copy(self)
        config.generator_config = None
        return config

    def to_json_string(self, use_diff: bool = True) -> str:
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"


def special_tokens_of(tokenizer: Any) -> dict[str, Any]:
    """`mask_token_id` and `special_token_ids` of a tokenizer; `[UNK]` stays a token like any other, as in the
    reference (it stands for a word of the text).

    Raises:
        ValueError: for a tokenizer without a mask token.
    """
    if tokenizer.mask_token_id is None:
        raise ValueError(
            f"tokenizer {tokenizer.name_or_path!r} has no mask token; RTD needs one for its generator: "
            "train one with `electra-rtd tokenizer` or add it with tokenizer.add_special_tokens"
        )
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return {"mask_token_id": tokenizer.mask_token_id, "special_token_ids": sorted(special)}


def native_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a stock config without what this package, and code that travels with a checkpoint, added to it."""
    config = copy.deepcopy(config)
    for name in _ADDED_KEYS:
        config.__dict__.pop(name, None)
    return config


def objective_of(config: PreTrainedConfig | dict[str, Any]) -> dict[str, Any] | None:
    """What the config of a pair says under our key; `None` for any other config.

    Stock classes keep keys that they do not know, so a model that was fine-tuned from a pair by other code has the key
    as well; its architecture is another.
    """
    values = config if isinstance(config, dict) else config.to_dict()
    architecture = discriminator_architecture_of(values.get("model_type"))
    return values.get(RTD_KEY) if values.get("architectures") == [architecture] else None


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
    """A folder below another, in the notation of the Hub."""
    return f"{subfolder}/{folder}" if subfolder else folder


def holds_pair(source: str | os.PathLike, **hub_arguments: Any) -> bool:
    """Whether a folder or Hub id holds a pair: a joint checkpoint, or a release with its generator."""
    if os.path.isdir(source) and not os.path.isfile(os.path.join(source, CONFIG_NAME)):
        return False
    objective = objective_of(PreTrainedConfig.get_config_dict(source, **hub_arguments)[0])
    if objective is None or GENERATOR_SUBFOLDER not in objective:
        return objective is not None
    return generator_config_in(source, objective[GENERATOR_SUBFOLDER], **hub_arguments) is not None


def _stock_config(config: dict | PreTrainedConfig | None, name: str) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        backbone_of(config)
        return native_config(config) if any(hasattr(config, key) for key in _ADDED_KEYS) else config
    if not isinstance(config, dict) or config.get("model_type") not in CONFIG_MAPPING:
        found = config.get("model_type") if isinstance(config, dict) else config
        raise ValueError(f"{name} is {found!r}; it must be a stock config, or its dict with a known model_type")
    values = {key: value for key, value in config.items() if key not in _ADDED_KEYS}
    config = CONFIG_MAPPING[values.pop("model_type")](**values)
    backbone_of(config)
    return config


def _embedding_dimension(config: PreTrainedConfig, name: str) -> int | None:
    if name == "embedding_size":
        # Where the projection is inside the block, the block is as wide as the encoder.
        return getattr(config, name, config.hidden_size) if backbone_of(config).narrows else config.hidden_size
    if name == "max_position_embeddings" and not hasattr(config, "type_vocab_size"):
        return None  # rotary families have no table of positions to share
    return getattr(config, name, None)
