"""What a pair may be: the values of its fields, and which of them go together, with the reason where they do not.

Every check takes an `ElectraRtdConfig` and raises `ValueError`. The config calls all but the last while it is built.
"""

from typing import Any

from transformers import PreTrainedConfig

from .backbones import backbone_of, check_row_length, check_sizes
from .checkpoint_layout import ADDED_KEYS
from .objectives import OBJECTIVES
from .small_encoders import small_encoder, table_of_positions
from .suggestions import nearest


CHOICES = {
    "objective": tuple(OBJECTIVES),
    "generator_kind": ("masked_lm", "two_tower", "unigram", "uniform"),
    "generator_feedback": ("none", "reinforce", "gumbel_softmax"),
    "masking_strategy": ("token", "whole_word", "span"),
    "embedding_sharing": ("none", "tied", "tied_words", "all", "gdes"),
}

# What may differ between two configs of networks that are one.
_NOT_A_SIZE = (*ADDED_KEYS, "architectures", "dtype", "transformers_version", "_name_or_path")


def check_choices(pair: Any) -> None:
    """Refuse unknown values."""
    for name, allowed in CHOICES.items():
        if getattr(pair, name) not in allowed:
            raise ValueError(f"{name} is {getattr(pair, name)!r}{nearest(str(getattr(pair, name)), allowed)}")


def check_combination(pair: Any) -> None:
    """Refuse choices that make no sense together, before there is a generator."""
    kind, sharing, feedback = pair.generator_kind, pair.embedding_sharing, pair.generator_feedback
    reason = None
    if not pair.objective_spec.corrupts and kind != "masked_lm":
        reason = f"generator_kind {kind!r} without a generator"
    elif not pair.objective_spec.corrupts and pair.disallow_correct:
        reason = "disallow_correct: nothing is drawn without a generator"
    elif pair.objective_spec.needs_noise_everywhere and kind == "masked_lm":
        raise ValueError(
            f"objective {pair.objective!r} needs a noise that knows the probability of every token, and a masked-LM "
            "generator knows only those behind [MASK]; use generator_kind 'two_tower', 'unigram' or 'uniform'"
        )
    elif pair.objective_spec.needs_noise_everywhere and pair.disallow_correct:
        reason = "disallow_correct: noise-contrastive estimation needs samples of the very noise it knows"
    elif pair.objective_spec.needs_noise_everywhere and pair.sampling_temperature != 1:
        reason = (
            f"sampling_temperature {pair.sampling_temperature}: noise-contrastive estimation needs samples of the "
            "very noise it knows"
        )
    elif pair.objective_spec.needs_noise_everywhere and pair.mask_probability == 1:
        reason = "mask_probability 1: noise-contrastive estimation needs tokens of the text as well as the noise"
    elif not pair.has_generator_network and sharing not in ("tied", "none"):
        reason = f"embedding_sharing {sharing!r} without a second network"
    elif kind == "two_tower" and sharing == "all":
        reason = "embedding_sharing 'all' with two towers, which read the text in one direction each"
    elif feedback != "none" and (pair.objective not in ("rtd", "rtd_mlm") or kind != "masked_lm"):
        reason = f"generator_feedback {feedback!r}, which is a masked-LM generator's from replaced-token detection"
    elif feedback != "none" and pair.freeze_generator:
        reason = f"generator_feedback {feedback!r} to a frozen generator"
    elif pair.freeze_generator and not pair.has_generator_network:
        reason = "freeze_generator without a generator that could learn"
    elif pair.freeze_generator and sharing not in ("none", "gdes"):
        reason = (
            f"freeze_generator with embedding_sharing {sharing!r}, whose tables the discriminator trains; use "
            "'none' or 'gdes'"
        )
    elif sharing in ("all", "gdes") and pair.objective_spec.has_masked_lm_head:
        # "all" would train one head twice; "gdes" splits the very table that the head reads out.
        reason = f"embedding_sharing {sharing!r}, because its discriminator has a masked-LM head; use 'tied'"
    if reason is not None:
        raise ValueError(f"objective {pair.objective!r} cannot go with {reason}")


def check_numbers(pair: Any) -> None:
    """Refuse probabilities, temperatures and weights that are out of range."""
    for name in ("mask_probability", "mask_token_probability"):
        value = getattr(pair, name)
        if not 0 < value <= 1:
            raise ValueError(f"{name} is {value}; it must be in (0, 1]")
    if pair.number_of_tokens is not None and pair.number_of_tokens < 1:
        raise ValueError(f"number_of_tokens is {pair.number_of_tokens}; it must be at least 1")
    if pair.sampling_temperature <= 0:
        raise ValueError(f"sampling_temperature is {pair.sampling_temperature}; it must be above 0")
    weights = ("generator_loss", "discriminator_loss", "masked_lm_loss", "generator_feedback")
    for name in (f"{weight}_weight" for weight in weights):
        if getattr(pair, name) < 0:
            raise ValueError(f"{name} is {getattr(pair, name)}; it must not be negative")


def check_pair(pair: Any) -> None:
    """Refuse two networks that cannot be one pair, and special tokens that are not in their vocabulary."""
    discriminator, generator = pair.discriminator_config, pair.generator_config
    for role, config in (("discriminator", discriminator), ("generator", generator)):
        try:
            if config is not None:
                check_sizes(config)
        except ValueError as error:
            raise ValueError(f"{role}: {error}") from None
    if not pair.is_alone:
        _check_special_tokens(pair)
    if generator is None:
        return
    if pair.generator_kind == "two_tower" and backbone_of(generator).document_mask == "document_ids":
        raise ValueError(f"generator_kind 'two_tower' needs one-sided masks, and {generator.model_type} takes none")
    _check_sharing(pair)
    if discriminator.vocab_size != generator.vocab_size:
        raise ValueError(
            f"generator vocab_size {generator.vocab_size} differs from discriminator vocab_size "
            f"{discriminator.vocab_size}; a pair reads one vocabulary"
        )


def check_rows(pair: Any, length: int) -> None:
    """Refuse rows of so many positions if one of the networks has not as many."""
    for config in (pair.discriminator_config, pair.generator_config):
        if config is not None:
            check_row_length(config, length)


def _check_special_tokens(pair: Any) -> None:
    vocab_size = pair.discriminator_config.vocab_size
    ids = [*(pair.special_token_ids or []), *([] if pair.mask_token_id is None else [pair.mask_token_id])]
    outside = [token_id for token_id in ids if not 0 <= token_id < vocab_size]
    if outside:
        raise ValueError(f"special token ids {outside} are outside the vocabulary of {vocab_size}")
    tokens = min(pair.number_of_tokens or vocab_size, vocab_size)
    drawable = tokens - sum(token_id < tokens for token_id in pair.special_token_ids or [])
    # With disallow_correct there must be one besides the text's own.
    needed = 2 if pair.disallow_correct else 1
    if pair.objective_spec.corrupts and drawable < needed:
        raise ValueError(
            f"number_of_tokens is {pair.number_of_tokens} in a vocabulary of {vocab_size}; it must leave {needed} or "
            "more tokens that are not special"
        )


def _check_sharing(pair: Any) -> None:
    discriminator, generator = pair.discriminator_config, pair.generator_config
    sharing = pair.embedding_sharing
    if sharing in ("tied", "all") and discriminator.model_type != generator.model_type:
        raise ValueError(
            f"embedding_sharing {sharing!r} needs one family, not {discriminator.model_type!r} and "
            f"{generator.model_type!r}; use 'tied_words', 'gdes' or 'none'"
        )
    ours, theirs = (_shared_sizes(config, sharing) for config in (discriminator, generator))
    for name in theirs if sharing == "all" else {**theirs, **ours}:
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"embedding_sharing {sharing!r} needs equal {name}, but the discriminator has {ours.get(name)} and "
                f"the generator {theirs.get(name)}; use 'none' or resize one"
            )


def _shared_sizes(config: PreTrainedConfig, sharing: str) -> dict[str, Any]:
    """By name, what has to be equal in two networks that share. Which field says how wide the words are, and what else
    lies in the block of embeddings, is each family's own, so the stock encoder is asked."""
    if sharing == "none":
        return {}
    if sharing == "all":
        return {name: value for name, value in config.to_dict().items() if name not in _NOT_A_SIZE}
    encoder = small_encoder(config)
    sizes = {"embedding_size": encoder.get_input_embeddings().weight.shape[-1]}
    if sharing == "tied":
        name = backbone_of(config).embeddings
        block = getattr(encoder, name)
        if table_of_positions(encoder) in block.modules():
            sizes["max_position_embeddings"] = config.max_position_embeddings
        sizes["type_vocab_size"] = getattr(config, "type_vocab_size", None)
        sizes |= {f"{name}.{weight}": tuple(value.shape) for weight, value in block.state_dict().items()}
    return sizes
