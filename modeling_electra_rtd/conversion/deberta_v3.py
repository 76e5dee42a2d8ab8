"""The two networks of a DeBERTaV3 release (microsoft/deberta-v3-*), under the names of stock classes and of ours.

The repositories hold the discriminator, under the names of the code that trained it, and in a file next to it the
generator. Both encoders are stock ones. Their heads are not, and `pair_states` says what of them is lost, so that
nobody takes a converted pair's predictions for the published ones.
"""

import copy
import re
from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedConfig

from ..model.backbones import check_sizes


_ENCODER = "deberta."
_WORDS, _POSITIONS = (f"deberta.embeddings.{name}_embeddings.weight" for name in ("word", "position"))
_INNER = "deberta.encoder.layer.0.intermediate.dense.weight"
_DETECTION, _PREDICTION = "mask_predictions.", "lm_predictions.lm_head."
# The published files and the training code spell the last layer differently.
_LAST = re.compile(r"^classif(i)?er\.")
_PREDICTION_NAMES = {
    "bias": "cls.predictions.bias",
    **{
        f"{layer}.{kind}": f"cls.predictions.transform.{layer}.{kind}"
        for layer in ("dense", "LayerNorm")
        for kind in ("weight", "bias")
    },
}


def pair_configs(config: PreTrainedConfig, generator: dict[str, Tensor]) -> tuple[PreTrainedConfig, PreTrainedConfig]:
    """The configs of both networks from the one that is published for the discriminator.

    Args:
        generator: the published weights of the generator, whose shapes say how it differs.

    Raises:
        ValueError: in one line, for weights that are no DeBERTa's, and sizes that no encoder can have.
    """
    check_sizes(config)
    inner_size, hidden_size = _matrix("generator", generator, _INNER)
    layers = {match[1] for name in generator if (match := re.match(r"deberta\.encoder\.layer\.(\d+)\.", name))}
    discriminator_config = copy.deepcopy(config)
    # What `transformers` calls legacy is the same head with an output layer that can be tied.
    discriminator_config.legacy = True
    generator_config = copy.deepcopy(discriminator_config)
    generator_config.intermediate_size, generator_config.hidden_size = inner_size, hidden_size
    generator_config.pooler_hidden_size = generator_config.hidden_size
    generator_config.num_hidden_layers = len(layers)
    head_size = config.hidden_size // config.num_attention_heads
    generator_config.num_attention_heads = max(1, generator_config.hidden_size // head_size)
    return discriminator_config, generator_config


def pair_states(
    discriminator: dict[str, Tensor], generator: dict[str, Tensor], config: PreTrainedConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """The weights of an `ElectraRtdDiscriminator` and of a stock `DebertaV2ForMaskedLM`, in float32.

    Args:
        discriminator, generator: as published.
        config: of the discriminator.

    Returns:
        The discriminator's weights, the generator's, and a line for everything published that they have no place for.
        Without a published detection head the first have none.

    Raises:
        ValueError: in one line, for heads that are not those of DeBERTaV3, and words that are not the config's.
    """
    left_out = []
    first, second = (_encoder_weights(state, config) for state in (discriminator, generator))
    head = {
        _LAST.sub("classifier.", name.removeprefix(_DETECTION)): value.float()
        for name, value in discriminator.items()
        if name.startswith(_DETECTION)
    }
    if head:
        _check_detection_head(head, config.hidden_size)
        first |= _detection_head(head)
        left_out.append(
            "of the detection head: it adds the state of the first token to that of every token, and divides by the "
            "standard deviation; its probabilities are not the published ones until it is trained"
        )
    else:
        left_out.append(f"a detection head: there is none ({_DETECTION}*), so it begins with random weights")
    _, width = _matrix("generator", generator, _WORDS)
    expected = {_WORDS: (config.vocab_size, width), _PREDICTION + "bias": (config.vocab_size,)}
    expected |= {_PREDICTION + name: shape for name, shape in _transform_shapes(width).items()}
    check_shapes("generator", generator, expected)
    for name, ours in _PREDICTION_NAMES.items():
        second[ours] = generator[_PREDICTION + name].float()
    second["cls.predictions.decoder.weight"] = second[_WORDS]
    second["cls.predictions.decoder.bias"] = second["cls.predictions.bias"]
    if not config.position_biased_input:
        left_out.append(
            "the enhanced mask decoder of the generator, which the stock class does not have: its predictions are not "
            "the published ones until it is trained"
        )
    for role, published, converted, named in (
        ("discriminator", discriminator, first, _DETECTION),
        ("generator", generator, second, _PREDICTION),
    ):
        dropped = sorted(name for name in published if name not in converted and not name.startswith(named))
        if dropped:
            left_out.append(f"weights of the {role}: {', '.join(dropped)}")
    return first, second, left_out


def check_shapes(role: str, weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights of which some are missing or of another shape.

    Args:
        role: of the network.
        expected: the shapes that it must have.

    Raises:
        ValueError: in one line, for the first of them.
    """
    for name, shape in expected.items():
        if name not in weights:
            raise ValueError(f"the {role} has no {name}, which that of DeBERTaV3 has")
        found = weights[name].shape
        if found != shape:
            raise ValueError(
                f"the {role}'s {name} has shape {list(found)}, but config.json and the other weights ask for "
                f"{list(shape)}"
            )


def _matrix(role: str, weights: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    found = weights.get(name)
    if found is None:
        raise ValueError(f"the {role} has no {name}; it is no DeBERTa")
    if found.dim() != 2:
        raise ValueError(f"the {role}'s {name} has shape {list(found.shape)}; it must be a matrix")
    return found.shape[0], found.shape[1]


def _transform_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Rename the layer and its norm that stand before the last layer of both heads."""
    vectors = dict.fromkeys(("dense.bias", "LayerNorm.weight", "LayerNorm.bias"), (width,))
    return {"dense.weight": (width, width), **vectors}


def _check_detection_head(head: dict[str, Tensor], width: int) -> None:
    expected = {**_transform_shapes(width), "classifier.weight": (1, width), "classifier.bias": (1,)}
    if head.keys() != expected.keys():
        different = sorted(head.keys() ^ expected.keys())
        raise ValueError(f"the detection head {_DETECTION}* is not that of DeBERTaV3: {', '.join(different)}")
    named = {_DETECTION + name: value for name, value in head.items()}
    check_shapes("discriminator", named, {_DETECTION + name: shape for name, shape in expected.items()})


def _encoder_weights(state: dict[str, Tensor], config: PreTrainedConfig) -> dict[str, Tensor]:
    """What a stock encoder has: not the differences of gradient-disentangled embeddings (`_weight`), which `weight`
    includes, and no table of positions where positions are relative alone."""
    return {
        name: value.float()
        for name, value in state.items()
        if name.startswith(_ENCODER)
        and not name.endswith(("._weight", ".position_ids"))
        and (config.position_biased_input or name != _POSITIONS)
    }


def _detection_head(head: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published head as ELECTRA's two layers.

    It is `classifier(gelu(dense(LayerNorm(hidden + hidden of the first token))))`. Of the layer norm, centring, gain
    and offset are linear, and go into `dense`.
    """
    weight = head["dense.weight"]
    scaled = weight * head["LayerNorm.weight"]
    return {
        "discriminator_predictions.dense.weight": scaled - scaled.mean(dim=1, keepdim=True),
        "discriminator_predictions.dense.bias": head["dense.bias"] + weight @ head["LayerNorm.bias"],
        "discriminator_predictions.dense_prediction.weight": head["classifier.weight"],
        "discriminator_predictions.dense_prediction.bias": head["classifier.bias"],
    }
