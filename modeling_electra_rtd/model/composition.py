"""The configuration of a pair that continues from checkpoints: from their configs alone, before any weights."""

from typing import Any

from transformers import PreTrainedConfig

from .checkpoint_layout import generator_kind_of, role_of
from .configuration_electra_rtd import VOCABULARY_FIELDS, ElectraRtdConfig


def brings_generator(first: PreTrainedConfig, objective: dict[str, Any]) -> bool:
    """Whether a checkpoint to continue from is a pair whose generator is of the kind that the objective needs.

    Args:
        first: config of the checkpoint, a pair's or a stock one.
        objective: fields of `ElectraRtdConfig` that are asked for.
    """
    kind = generator_kind_of(objective)
    return kind is not None and role_of(first) == "pair" and generator_kind_of(first.objective_fields()) == kind


def continued_config(
    first: PreTrainedConfig,
    second: PreTrainedConfig | None = None,
    *,
    embedding_sharing: str | None = None,
    generator_width: float | None = None,
    generator_depth: float | None = None,
    special_tokens: dict[str, Any] | None = None,
    attn_implementation: str | None = None,
    objective: dict[str, Any] | None = None,
) -> ElectraRtdConfig:
    """Compose the configuration of a pair that continues from checkpoints.

    Args:
        first: config of the checkpoint for the discriminator. A pair's brings its generator along, where `second` is
            `None` and `brings_generator` says so.
        second: stock config of the checkpoint for the generator; `None` takes the pair's, or derives one.
        embedding_sharing: `None` takes that of the pair whose generator comes along, and `"tied"` for any other.
        special_tokens: fields that a tokenizer sets (see `special_tokens_of`); `None` takes what `first` says.
        objective: further fields of `ElectraRtdConfig`.

    Raises:
        ValueError: if `freeze_generator` is set without a generator that has learned, and for all that
            `ElectraRtdConfig.from_networks` refuses.
    """
    objective = dict(objective or {})
    if second is None and brings_generator(first, objective):
        second = first.generator_config
        has_learned = True
        embedding_sharing = embedding_sharing or first.embedding_sharing
    else:
        has_learned = second is not None
    if objective.get("freeze_generator") and not has_learned:
        raise ValueError("freeze_generator needs a generator that has learned; give one as generator")
    known = {name: getattr(first, name, None) for name in VOCABULARY_FIELDS}
    return ElectraRtdConfig.from_networks(
        getattr(first, "discriminator_config", first),
        second,
        generator_width,
        generator_depth,
        attn_implementation,
        embedding_sharing=embedding_sharing or "tied",
        **{**known, **(special_tokens or {}), **objective},
    )
