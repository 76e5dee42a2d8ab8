"""`ElectraRtdConfig`: a discriminator, a generator and the objective between them, validated when built.

On disk it is the discriminator's own config with one more key (see `checkpoint_layout`).
"""

import copy
import json
import os
from typing import Any, ClassVar, get_origin

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save

from .backbones import HUB_ARGUMENTS, backbone_of, check_generator_size, config_from, generator_config_for
from .checkpoint_layout import (
    ADDED_KEYS,
    GENERATOR_SUBFOLDER,
    RTD_KEY,
    generates_by_masked_lm,
    generator_config_in,
    native_config,
    role_of,
    root_architecture,
)
from .encoder_inputs import check_attention
from .objectives import OBJECTIVES, Objective
from .rules import check_choices, check_combination, check_numbers, check_pair
from .suggestions import nearest


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


@strict
class ElectraRtdConfig(PreTrainedConfig):
    """Configuration of `ElectraRtdForPreTraining`. Attributes it does not have itself are the discriminator's.

    Args:
        discriminator_config: stock config of the encoder that is being pre-trained, or its `dict` with `model_type`.
        generator_config: stock config of the masked-LM generator; `None` derives the family's default. A model that
            is a discriminator alone has `None` here, and its config is written as a stock one. Without a generator
            that learns (`objective="mlm"`, noise from a table) it is `None` as well.
        objective: what the discriminator learns, see `objectives`; `"rtd"` is ELECTRA's.
        generator_kind: `"masked_lm"` fills `[MASK]`s; `"two_tower"` reads the text from both sides of every token
            (Electric, section 2.3); `"unigram"` draws tokens as often as the text has them, `"uniform"` all alike.
        generator_feedback: what the generator learns from the discriminator's verdict besides maximum likelihood
            (`"none"`, the paper's choice): `"reinforce"` by policy gradient (ELECTRA paper, appendix F),
            `"gumbel_softmax"` through straight-through samples with the gradient reversed (AMOS); see `feedback`.
        freeze_generator: the generator is used as it is loaded (Fast-ELECTRA); for `from_pair`.
        masking_strategy: `"token"` chooses single tokens, `"whole_word"` all tokens of a word, `"span"` runs of words.
        mask_probability: share of a row's non-special tokens that are chosen for corruption (ELECTRA paper, table 6:
            0.15; large: 0.25).
        mask_token_probability: probability that a chosen token is shown to the generator as `[MASK]` rather than as
            it is (reference implementation: 0.85; paper text: 1.0).
        sampling_temperature: divides the generator's logits when replacements are drawn.
        disallow_correct: never draw the text's own token.
        generator_loss_weight: weight of the masked-LM loss (1, paper section 3.2).
        discriminator_loss_weight: weight of the replaced-token-detection loss (50, paper section 3.2).
        masked_lm_loss_weight: weight of the discriminator's own masked-LM loss, where the objective has one.
        generator_feedback_weight: weight of the policy's and its baseline's loss (`"reinforce"`), or what multiplies
            the reversed gradient of the weighted losses (`"gumbel_softmax"`; 1, AMOS).
        embedding_sharing: see `embedding_sharing`; `"tied"` shares the whole embedding block as the reference does.
        mask_token_id: id of `[MASK]`; `None` takes the id of the family's published vocabulary.
        special_token_ids: ids that are never corrupted and never drawn (classifier, separator, padding, mask; not
            `[UNK]`); `None` as for `mask_token_id`.
        number_of_tokens: of the tokenizer; rows of the vocabulary from here on are never drawn. `None` takes all rows
            for tokens.

    Raises:
        ValueError: for an unknown key (with the nearest valid one), an impossible combination, or an
            `attn_implementation` other than `sdpa` and `eager` (and the pair's own on a CPU).
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
    objective: str = "rtd"
    generator_kind: str = "masked_lm"
    generator_feedback: str = "none"
    freeze_generator: bool = False
    masking_strategy: str = "token"
    mask_probability: float | int = 0.15
    mask_token_probability: float | int = 0.85
    sampling_temperature: float | int = 1.0
    disallow_correct: bool = False
    generator_loss_weight: float | int = 1.0
    discriminator_loss_weight: float | int = 50.0
    masked_lm_loss_weight: float | int = 1.0
    generator_feedback_weight: float | int = 1.0
    embedding_sharing: str = "tied"
    mask_token_id: int | None = None
    special_token_ids: list[int] | tuple[int, ...] | None = None
    number_of_tokens: int | None = None

    def __post_init__(self, **kwargs: Any):
        allowed = {*self.__dataclass_fields__, *_LIBRARY_KEYS}
        own = ("discriminator_config", "generator_config", *OBJECTIVE_FIELDS)
        for key in kwargs:
            if key not in allowed and not key.startswith("_"):
                raise ValueError(f"unknown ElectraRtdConfig key {key!r}{nearest(key, own)}")
        self.discriminator_config = _stock_config(self.discriminator_config, "discriminator_config")
        check_choices(self)
        check_combination(self)
        if self.has_generator_network:
            if self.generator_config is None:
                size = (1, 1) if self.embedding_sharing == "all" else (None, None)
                self.generator_config = generator_config_for(self.discriminator_config, *size)
            self.generator_config = _stock_config(self.generator_config, "generator_config")
            # It is about to get that of the discriminator.
            check_attention(self.generator_config._attn_implementation)
        elif self.generator_config is not None:
            raise ValueError(
                f"{self._without_network()} has no generator that learns, but generator_config is set (in a recipe "
                "by generator, generator_width, generator_depth or generator_checkpoint)"
            )
        else:
            # There is nothing to share with.
            self.embedding_sharing = "none"
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
        if not self.has_generator_network:
            # The base class fills in a config that is missing.
            self.generator_config = None
        # The strict dataclass runs these again, at this point and when saving, but wraps what they raise.
        self.validate_probabilities()
        self.validate_pair()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "discriminator_config" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.__dict__["discriminator_config"], name)

    @PreTrainedConfig._attn_implementation.setter
    def _attn_implementation(self, value: str | dict[str, Any] | None) -> None:
        check_attention(value)
        PreTrainedConfig._attn_implementation.fset(self, value)

    def _get_generation_parameters(self) -> dict[str, Any]:
        # The discriminator's config declares these fields; asked of this one, they would be attributes, not fields.
        return self.discriminator_config._get_generation_parameters()

    def validate_probabilities(self) -> None:
        check_numbers(self)

    def validate_pair(self) -> None:
        check_pair(self)

    def _without_network(self) -> str:
        if not self.objective_spec.corrupts:
            return f"objective {self.objective!r}"
        return f"generator_kind {self.generator_kind!r}"

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
            tokenizer: sets `mask_token_id`, `special_token_ids` and `number_of_tokens`; needed for any vocabulary but
                the family's own.
            objective: any other field of this class, and `revision`, `subfolder`, `token`, ... of `from_pretrained`.
        """
        hub = {name: objective.pop(name) for name in HUB_ARGUMENTS if name in objective}
        discriminator = config_from(discriminator, **hub)
        special_tokens = special_tokens_of(tokenizer) if tokenizer is not None else {}
        return cls.from_networks(
            discriminator,
            generator_width=generator_width,
            generator_depth=generator_depth,
            **{**special_tokens, **objective},
        )

    @classmethod
    def from_networks(
        cls,
        discriminator: PreTrainedConfig,
        generator: PreTrainedConfig | None = None,
        generator_width: float | None = None,
        generator_depth: float | None = None,
        attn_implementation: str | None = None,
        **fields: Any,
    ) -> "ElectraRtdConfig":
        """Compose a pair of the configs of its networks.

        Args:
            discriminator, generator: stock configs. Without a generator one is derived where the objective needs it:
                by `generator_width` and `generator_depth` if one of them is given, otherwise by the family's default.
            generator_width, generator_depth: fractions of the discriminator's sizes, which a given generator must
                have.
            fields: any other field of this class.

        Raises:
            ValueError: if the generator has other sizes than asked for, and for all that this class refuses.
        """
        discriminator = native_config(discriminator)
        if generator is not None:
            generator = native_config(generator)
            check_generator_size(generator, discriminator, generator_width, generator_depth)
        elif generator_width is not None or generator_depth is not None:
            generator = generator_config_for(discriminator, generator_width, generator_depth)
        config = cls(discriminator_config=discriminator, generator_config=generator, **fields)
        if attn_implementation is not None:
            config._attn_implementation = attn_implementation
        return config

    @classmethod
    def from_native(
        cls, config: PreTrainedConfig, generator_config: PreTrainedConfig | None = None
    ) -> "ElectraRtdConfig":
        """The pair a stock config carries under `electra_rtd` (as stock classes load it), or a default pair.

        Args:
            generator_config: of the generator, where the config says only in which folder it lies.
        """
        if role_of(config) != "stock":
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
            if folder is not None:
                objective["generator_config"] = generator_config_in(pretrained_model_name_or_path, folder, **hub)
        return {"discriminator_config": values, **objective}, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any):
        if "discriminator_config" not in config_dict and "model_type" in config_dict:
            config_dict = dict(config_dict)
            objective = dict(config_dict.pop(RTD_KEY, {}))
            objective.pop(GENERATOR_SUBFOLDER, None)
            config_dict = {"discriminator_config": config_dict, **objective}
        # The base class sets what it is given on a config that is built, and so behind the checks.
        given = {name: kwargs.pop(name) for name in OBJECTIVE_FIELDS if name in kwargs}
        return super().from_dict({**config_dict, **given}, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return self._on_disk("to_dict")

    def to_diff_dict(self) -> dict[str, Any]:
        return self._on_disk("to_diff_dict")

    def _on_disk(self, to_dict: str) -> dict[str, Any]:
        values = getattr(self.discriminator_config, to_dict)()
        values["architectures"] = [root_architecture(self.discriminator_config.model_type, self.objective)]
        dtype = {} if self.dtype is None else {"dtype": str(self.dtype).removeprefix("torch.")}
        if not self.is_alone:
            values[RTD_KEY] = {"generator_config": None, **self.objective_fields()}
            if self.generator_config is not None:
                generator = getattr(self.generator_config, to_dict)()
                for key in ("transformers_version", "auto_map"):
                    generator.pop(key, None)
                values[RTD_KEY]["generator_config"] = generator | dtype
            if "auto_map" in self.__dict__:
                values["auto_map"] = {**values.get("auto_map", {}), **self.auto_map}
        return values | dtype

    @property
    def objective_spec(self) -> Objective:
        """What the discriminator learns: the class that `objective` names."""
        return OBJECTIVES[self.objective]

    @property
    def joins_words(self) -> bool:
        """Whether words are joined into spans."""
        return self.masking_strategy == "span"

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of every loss by its name in the output."""
        names = ("generator_loss", "discriminator_loss", "masked_lm_loss")
        weights = {name: getattr(self, f"{name}_weight") for name in names}
        return weights | {"generator_feedback_loss": self.generator_feedback_weight}

    @property
    def has_generator_network(self) -> bool:
        """Whether the noise comes from a network; masked LM has no noise, and tables are no network."""
        return self.objective_spec.corrupts and self.generator_kind in ("masked_lm", "two_tower")

    @property
    def has_masked_lm_generator(self) -> bool:
        """Whether the generator is a network that stock classes load on its own."""
        return generates_by_masked_lm(self.objective_fields())

    @property
    def is_alone(self) -> bool:
        """Whether this is the config of a discriminator that has left its generator."""
        return self.__dict__.get("_is_alone", False)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        super().save_pretrained(save_directory, **kwargs)
        for config in (self.discriminator_config, self.generator_config):
            # A family that stock classes do not know brings its code along, here as where it is saved by itself.
            if config is not None and config._auto_class is not None:
                custom_object_save(config, save_directory)

    def objective_fields(self) -> dict[str, Any]:
        """The fields that are neither network's."""
        return {name: getattr(self, name) for name in OBJECTIVE_FIELDS}

    def of_discriminator_alone(self) -> "ElectraRtdConfig":
        """The same without a generator; it shares the discriminator's config."""
        config = copy.copy(self)
        config.generator_config, config._is_alone = None, True
        return config

    def to_json_string(self, use_diff: bool = True) -> str:
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"


# What a config knows of its vocabulary.
VOCABULARY_FIELDS = ("mask_token_id", "special_token_ids", "number_of_tokens")

# The fields that are neither network's: all that the class declares itself but the two configs.
OBJECTIVE_FIELDS = tuple(
    name
    for name, kind in ElectraRtdConfig.__annotations__.items()
    if get_origin(kind) is not ClassVar and name not in ("discriminator_config", "generator_config")
)


def special_tokens_of(tokenizer: Any) -> dict[str, Any]:
    """`mask_token_id`, `special_token_ids` and `number_of_tokens` of a tokenizer; `[UNK]` stays a token like any
    other, as in the reference (it stands for a word of the text).

    Raises:
        ValueError: for a tokenizer without a mask token.
    """
    if tokenizer.mask_token_id is None:
        raise ValueError(
            f"tokenizer {tokenizer.name_or_path!r} has no mask token; RTD needs one for its generator: "
            "train one with `electra-rtd tokenizer` or add it with tokenizer.add_special_tokens"
        )
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return {
        "mask_token_id": tokenizer.mask_token_id,
        "special_token_ids": sorted(special),
        # Ids may have gaps: their number may be below the largest of them.
        "number_of_tokens": max(tokenizer.get_vocab().values()) + 1,
    }


def _stock_config(config: dict | PreTrainedConfig | None, name: str) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        backbone_of(config)
        return native_config(config) if any(hasattr(config, key) for key in ADDED_KEYS) else config
    if not isinstance(config, dict) or config.get("model_type") not in CONFIG_MAPPING:
        found = config.get("model_type") if isinstance(config, dict) else config
        raise ValueError(f"{name} is {found!r}; it must be a stock config, or its dict with a known model_type")
    values = {key: value for key, value in config.items() if key not in ADDED_KEYS}
    config = CONFIG_MAPPING[values.pop("model_type")](**values)
    backbone_of(config)
    return config
