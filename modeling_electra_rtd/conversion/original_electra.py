"""The variables and hyperparameters of the original ELECTRA code (google-research/electra, TensorFlow 1), and ours.

Both networks of the original read `electra/embeddings`; the discriminator's encoder is `electra/...`, the generator's
`generator/...`. Kernels are stored as (input, output), the transpose of what `torch` stores.
"""

import re
from collections.abc import Iterable, Set
from typing import Any

import numpy
import torch
from transformers import ElectraConfig, PreTrainedTokenizerBase

from ..model.configuration_electra_rtd import ElectraRtdConfig, special_tokens_of
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..release.write import check_finite
from .tensorflow_bundle import TensorBundle


_SLOTS = ("/adam_m", "/adam_v")
_STEP = "global_step"
_DISCRIMINATOR, _GENERATOR = "electra", "generator"
# The output layer of a generator is its word embeddings.
_TIED = "generator_lm_head.weight"
# Width of an attention head, from which the original derives how many there are.
_HEAD_SIZE = 64
# What the generator has variables of its own for (its encoder, its embeddings), as `embedding_sharing` calls it.
_SHARING = {(True, False): "tied", (True, True): "none", (False, False): "all"}
# What the original can train with.
_ALLOWED = {
    "objective": ("rtd",),
    "generator_kind": ("masked_lm",),
    "generator_feedback": ("none",),
    "freeze_generator": (False,),
    "masking_strategy": ("token",),
    "mask_token_probability": (0.85,),
    "embedding_sharing": tuple(_SHARING.values()),
}
# Width and layers, by `model_size`.
_SIZES = {"small": (256, 12), "base": (768, 12), "large": (1024, 24)}


def variable_of(name: str, encoder: str, embeddings: str) -> tuple[str, bool]:
    """What the original calls a weight of `ElectraForPreTraining` or `ElectraForMaskedLM`.

    Args:
        name: in the stock state dict.
        encoder, embeddings: the scope of the network's encoder and of the embeddings it reads: `electra` or
            `generator`.

    Returns:
        The variable's name, and whether it is the transpose of the weight.
    """
    *path, kind = name.split(".")
    if path == ["generator_lm_head"]:
        return "generator_predictions/output_bias", False
    if path[0] == "electra":
        path[0] = embeddings if path[1] == "embeddings" else encoder
    module = path[-1]
    path[-1] = "dense_1" if module == "dense_prediction" else module
    variable = re.sub(r"/layer/(\d+)/", r"/layer_\1/", "/".join(path))
    if module.endswith("_embeddings"):
        return variable, False
    if module == "LayerNorm":
        return f"{variable}/{'gamma' if kind == 'weight' else 'beta'}", False
    return f"{variable}/{'kernel' if kind == 'weight' else 'bias'}", kind == "weight"


def pair_config(
    shapes: dict[str, tuple[int, ...]],
    tokenizer: PreTrainedTokenizerBase | None = None,
    attention_heads: int | None = None,
    generator_attention_heads: int | None = None,
) -> ElectraRtdConfig:
    """The config of a checkpoint, whose sizes all follow from the shapes of its variables but one.

    Args:
        shapes: of all variables.
        attention_heads, generator_attention_heads: `None` takes one for each 64 of the width, as the original does
            unless its `model_hparam_overrides` say otherwise.

    Raises:
        ValueError: in one line, for variables that are no pair of the original's, sizes that do not fit together, or
            tokens that the pair has no embeddings for.
    """
    if any(name.startswith(("generator_ltr/", "generator_rtl/", "cloze_predictions/")) for name in shapes):
        raise ValueError("this is a checkpoint of Electric or of a two-tower generator, which are not converted")
    encoder, embeddings = _generator_scopes(shapes)
    discriminator_config = _network_config(shapes, _DISCRIMINATOR, _DISCRIMINATOR, attention_heads)
    if tokenizer is not None:
        check_tokens(tokenizer, discriminator_config.vocab_size)
    return ElectraRtdConfig(
        discriminator_config=discriminator_config,
        generator_config=_network_config(
            shapes, encoder, embeddings, attention_heads if encoder == _DISCRIMINATOR else generator_attention_heads
        ),
        embedding_sharing=_SHARING[encoder == _GENERATOR, embeddings == _GENERATOR],
        **({} if tokenizer is None else special_tokens_of(tokenizer)),
    )


def read_pair(bundle: TensorBundle, config: ElectraRtdConfig) -> tuple[ElectraRtdForPreTraining, list[str]]:
    """A pair with the weights of a checkpoint.

    Args:
        config: what `pair_config` makes of its shapes.

    Returns:
        The pair, and a line for everything in the checkpoint that it has no place for.

    Raises:
        ValueError: in one line, for a variable that is missing, damaged, not finite, or of another shape than it must
            be.
    """
    model = ElectraRtdForPreTraining(config)
    scopes = _generator_scopes(bundle.entries)
    state: dict[str, torch.Tensor] = {}
    # Shared ones are read once.
    values: dict[str, torch.Tensor] = {}
    for name, weight in model.state_dict().items():
        variable, is_transposed = _variable_in_pair(name, *scopes)
        if variable not in bundle.entries:
            raise ValueError(f"{bundle.prefix} has no variable {variable}, which a pair of the original has")
        if variable not in values:
            value = bundle.read(variable)
            values[variable] = torch.from_numpy((value.T if is_transposed else value).copy())
        state[name] = values[variable]
        if state[name].shape != weight.shape:
            raise ValueError(
                f"{bundle.prefix}: {variable} has shape {list(bundle.entries[variable].shape)}, which does not fit "
                f"the other variables; {name} is {list(weight.shape)}"
            )
    check_finite(bundle.prefix, values)
    model.load_state_dict(state)
    return model.eval(), _left_out(bundle, values.keys())


def original_variables(model: ElectraRtdForPreTraining) -> dict[str, numpy.ndarray]:
    """The variables of a pair as the original's training expects them, with an optimizer that has not yet begun.

    Its `Saver` restores every variable of the graph, the optimizer's too: without them it would refuse.

    Raises:
        ValueError: in one line, for a pair that the original cannot build.
    """
    config: Any = model.config
    _check_representable(config)
    scopes = next(owned for owned, sharing in _SHARING.items() if sharing == config.embedding_sharing)
    encoder, embeddings = (_GENERATOR if owned else _DISCRIMINATOR for owned in scopes)
    variables: dict[str, numpy.ndarray] = {}
    for name, weight in model.state_dict().items():
        variable, is_transposed = _variable_in_pair(name, encoder, embeddings)
        if variable in variables:
            continue
        value = weight.detach().float().cpu().numpy()
        value = variables[variable] = value.T if is_transposed else value
        variables |= {variable + slot: numpy.zeros(value.shape, dtype=numpy.float32) for slot in _SLOTS}
    variables[_STEP] = numpy.array(0, dtype=numpy.int64)
    return variables


def hyperparameters(config: ElectraRtdConfig) -> dict[str, Any]:
    """What the original's `--hparams` has to say to build a pair of these sizes with this objective."""
    discriminator: Any = config.discriminator_config
    generator: Any = config.generator_config
    width, layers = discriminator.hidden_size, discriminator.num_hidden_layers
    size = next((name for name, values in _SIZES.items() if values == (width, layers)), "small")
    derived = {
        "hidden_size": _SIZES[size][0],
        "num_hidden_layers": _SIZES[size][1],
        "num_attention_heads": max(1, width // _HEAD_SIZE),
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    return {
        "model_size": size,
        "model_hparam_overrides": {
            name: getattr(discriminator, name)
            for name, value in derived.items()
            if getattr(discriminator, name) != value
        },
        "embedding_size": discriminator.embedding_size,
        "vocab_size": discriminator.vocab_size,
        "generator_hidden_size": generator.hidden_size / width,
        "generator_layers": generator.num_hidden_layers / layers,
        "untied_generator": config.embedding_sharing != "all",
        "untied_generator_embeddings": config.embedding_sharing == "none",
        "disallow_correct": config.disallow_correct,
        "mask_prob": config.mask_probability,
        "temperature": config.sampling_temperature,
        "gen_weight": config.generator_loss_weight,
        "disc_weight": config.discriminator_loss_weight,
    }


def _variable_in_pair(name: str, encoder: str, embeddings: str) -> tuple[str, bool]:
    """As `variable_of`, for a name in the state dict of a pair whose generator has these scopes."""
    own = name.removeprefix("generator.")
    if own == name:
        return variable_of(name, _DISCRIMINATOR, _DISCRIMINATOR)
    return variable_of("electra.embeddings.word_embeddings.weight" if own == _TIED else own, encoder, embeddings)


def _generator_scopes(variables: Iterable[str]) -> tuple[str, str]:
    """Scope of the generator's encoder and of its embeddings: what it has no variables of, it shares."""
    parts = {name.split("/")[1] for name in variables if name.startswith(f"{_GENERATOR}/")}
    if "encoder" not in parts:
        return _DISCRIMINATOR, _DISCRIMINATOR
    return _GENERATOR, _GENERATOR if "embeddings" in parts else _DISCRIMINATOR


def _network_config(
    shapes: dict[str, tuple[int, ...]], encoder: str, embeddings: str, attention_heads: int | None
) -> ElectraConfig:
    def matrix(variable: str) -> tuple[int, int]:
        shape = shapes.get(variable, ())
        if len(shape) != 2:
            found = f"has shape {list(shape)}" if variable in shapes else "is missing"
            raise ValueError(f"this is no ELECTRA pair: {variable} {found}; it must be a matrix")
        return shape

    vocab_size, embedding_size = matrix(f"{embeddings}/embeddings/word_embeddings")
    hidden_size, intermediate_size = matrix(f"{encoder}/encoder/layer_0/intermediate/dense/kernel")
    layers = {match[1] for match in (re.match(rf"{encoder}/encoder/layer_(\d+)/", name) for name in shapes) if match}
    return ElectraConfig(
        vocab_size=vocab_size,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, hidden_size // _HEAD_SIZE) if attention_heads is None else attention_heads,
        max_position_embeddings=matrix(f"{embeddings}/embeddings/position_embeddings")[0],
        type_vocab_size=matrix(f"{embeddings}/embeddings/token_type_embeddings")[0],
    )


def check_tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """
    Raises:
        ValueError: for a tokenizer with ids that a model of `vocab_size` has no embeddings for.
    """
    beyond = [token for token, token_id in tokenizer.get_vocab().items() if token_id >= vocab_size]
    if beyond:
        more = f" and {len(beyond) - 8:,} more" if len(beyond) > 8 else ""
        raise ValueError(
            f"the tokenizer has {len(tokenizer):,} tokens, but the model {vocab_size:,}, so none for "
            f"{', '.join(sorted(beyond)[:8])}{more}; name the vocabulary it was trained with by --tokenizer"
        )


def _left_out(bundle: TensorBundle, used: Set[str]) -> list[str]:
    slots = [name for name in bundle.entries if name.endswith(_SLOTS)]
    lines = [f"{len(slots):,} slots of its optimizer (adam_m, adam_v)"] if slots else []
    if _STEP in bundle.entries:
        step = bundle.read(_STEP)
        if step.size != 1:
            raise ValueError(f"{bundle.prefix}: {_STEP} has shape {list(step.shape)}; it must be a single number")
        lines.append(f"{_STEP}, which is {step.item():,}")
    others = sorted(bundle.entries.keys() - used - {*slots, _STEP})
    if others:
        more = f" and {len(others) - 8:,} more" if len(others) > 8 else ""
        lines.append(f"variables that are no pair's: {', '.join(others[:8])}{more}")
    return lines


def _check_representable(config: ElectraRtdConfig) -> None:
    for name, values in _ALLOWED.items():
        found = getattr(config, name)
        if found not in values:
            raise ValueError(f"the original code has no {name} {found!r}; allowed: {', '.join(map(repr, values))}")
    discriminator: Any = config.discriminator_config
    generator: Any = config.generator_config
    same = {"model_type": "electra", "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0}
    # As it derives a generator; one that is the discriminator's own encoder has that one's sizes.
    derived = {
        "num_attention_heads": max(1, generator.hidden_size // _HEAD_SIZE),
        "intermediate_size": 4 * generator.hidden_size,
        "max_position_embeddings": getattr(discriminator, "max_position_embeddings", None),
        "type_vocab_size": getattr(discriminator, "type_vocab_size", None),
    }
    if config.embedding_sharing == "none":
        derived["embedding_size"] = generator.hidden_size
    for role, network, fields in (
        ("discriminator", discriminator, same),
        ("generator", generator, same | ({} if config.embedding_sharing == "all" else derived)),
    ):
        for name, value in fields.items():
            found = getattr(network, name, None)
            if found != value:
                raise ValueError(f"the original code builds no such {role}: {name} is {found!r}, allowed is {value!r}")
