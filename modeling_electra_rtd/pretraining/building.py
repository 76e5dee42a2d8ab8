"""The pair that a recipe names: its configuration, and the model from scratch or from checkpoints."""

from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from ..common.references import ModelReference
from ..model.checkpoint_layout import native_config
from ..model.configuration_electra_rtd import ElectraRtdConfig, special_tokens_of
from ..model.generators import ElectraRtdGenerator
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.vocabulary import vocabulary_size
from .recipes import ModelRecipe, model_config


_NAMED_TOKENS = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep", "mask"))


def build_model(
    recipe: ModelRecipe,
    tokenizer: PreTrainedTokenizerBase,
    checkpoints: dict[str, ModelReference] | None = None,
) -> ElectraRtdForPreTraining:
    """The pair a recipe names: from scratch with the tokenizer's vocabulary, continued from checkpoints, or a new
    discriminator next to a generator that has learned.

    Args:
        checkpoints: what `recipe.checkpoints()` found, for a caller who needs to know it; `None` looks it up.

    Raises:
        ValueError: when the tokenizer has more tokens than the model's vocabulary.
    """
    checkpoints = recipe.checkpoints() if checkpoints is None else checkpoints
    generator = checkpoints.get("generator_checkpoint")
    if generator is not None:
        # Each is of a revision of its own.
        generator = ElectraRtdGenerator.from_pretrained(generator.name, **generator.arguments)
    if recipe.discriminator_checkpoint is not None:
        objective, discriminator = recipe.objective_fields(), checkpoints["discriminator_checkpoint"]
        model = ElectraRtdForPreTraining.from_pair(
            discriminator=discriminator.name,
            generator=generator,
            tokenizer=tokenizer,
            embedding_sharing=objective.pop("embedding_sharing", None),
            generator_width=recipe.generator_width,
            generator_depth=recipe.generator_depth,
            objective=objective,
            **discriminator.arguments,
        )
        if vocabulary_size(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {vocabulary_size(tokenizer)} tokens, but {recipe.discriminator_checkpoint} has a "
                f"vocabulary of {model.config.vocab_size}; continue with the checkpoint's own tokenizer"
            )
        if recipe.attn_implementation is not None:
            model.set_attn_implementation(recipe.attn_implementation)
        return model
    if generator is None:
        return ElectraRtdForPreTraining(pair_config(recipe, tokenizer))
    model = ElectraRtdForPreTraining(pair_config(recipe, tokenizer, generator.config))
    model.load_generator(generator)
    return model


def pair_config(
    recipe: ModelRecipe, tokenizer: PreTrainedTokenizerBase, generator: PreTrainedConfig | None = None
) -> ElectraRtdConfig:
    """The configuration of a pair with a new discriminator, with the vocabulary and special tokens of a tokenizer.

    The size of the embedding table is rounded up to a multiple of 64, which matrix units prefer, unless the recipe
    sets a `vocab_size` that is large enough, or there is a generator already.

    Args:
        generator: of one that has learned.
    """
    token_ids = {name: getattr(tokenizer, name, None) for name in _NAMED_TOKENS}
    return pair_config_of(recipe, vocabulary_size(tokenizer), token_ids, special_tokens_of(tokenizer), generator)


def pair_config_of(
    recipe: ModelRecipe,
    tokens: int,
    token_ids: dict[str, int | None],
    special_tokens: dict[str, Any],
    generator: PreTrainedConfig | None = None,
) -> ElectraRtdConfig:
    """`pair_config` for what is known of a tokenizer.

    Args:
        tokens: number of them.
        token_ids: `pad_token_id` and the like, for the encoders.
        special_tokens: `mask_token_id` and `special_token_ids`, for the objective.
    """
    discriminator = model_config(recipe.discriminator)
    stated = {**_stated(recipe.discriminator), **_stated(recipe.generator)}.get("vocab_size")
    if generator is not None:
        generator = native_config(generator)
        stated = generator.vocab_size
    elif recipe.generator is not None:
        generator = model_config(recipe.generator)
    if stated is not None and stated < tokens:
        raise ValueError(f"vocab_size is {stated}, but the tokenizer has {tokens} tokens")
    for config in (discriminator, generator):
        if config is None:
            continue
        config.vocab_size = stated or -(-tokens // 64) * 64
        for name, token_id in token_ids.items():
            if hasattr(config, name):
                setattr(config, name, token_id)
    return ElectraRtdConfig.from_networks(
        discriminator,
        generator,
        recipe.generator_width,
        recipe.generator_depth,
        recipe.attn_implementation,
        **{**recipe.objective_fields(), **special_tokens},
    )


def _stated(source: dict[str, Any] | str | None) -> dict[str, Any]:
    # A published size in a JSON file is the default of its family, not a demand on the user's tokenizer.
    return source if isinstance(source, dict) else {}
