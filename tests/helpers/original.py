"""A checkpoint as the original ELECTRA code (google-research/electra) leaves it, and its networks in NumPy; both are
written down by hand, as that code builds them, owing nothing to the converter."""

from pathlib import Path

import numpy
from scipy.special import erf

from helpers.tiny import VOCABULARY, tiny_tokenizer


POSITIONS = 64
HEADS, GENERATOR_HEADS = 4, 2
# Width of embeddings, discriminator and generator. The reference projects where two of them differ.
LAYOUTS = {"small": (16, 32, 8), "base": (32, 32, 16)}
LAYERS, GENERATOR_LAYERS = 2, 1


def original_checkpoint(layout: str = "small", sharing: str = "embeddings", seed: int = 0) -> dict[str, numpy.ndarray]:
    """All variables after three steps of training.

    Args:
        sharing: what the networks have in common: `embeddings` (the reference's default), `nothing`
            (untied_generator_embeddings) or `everything` (untied_generator=False).
    """
    embedding, hidden, generator_hidden = LAYOUTS[layout]
    random = numpy.random.default_rng(seed)
    variables: dict[str, numpy.ndarray] = {}

    def add(name: str, *shape: int) -> None:
        variables[name] = random.normal(0, 0.3, shape).astype("<f4")
        if name.endswith("gamma"):
            variables[name] += 1

    def dense(name: str, width: int, units: int) -> None:
        add(f"{name}/kernel", width, units)
        add(f"{name}/bias", units)

    def norm(name: str, width: int) -> None:
        add(f"{name}/LayerNorm/beta", width)
        add(f"{name}/LayerNorm/gamma", width)

    def embeddings(scope: str, width: int) -> None:
        add(f"{scope}/embeddings/word_embeddings", VOCABULARY, width)
        add(f"{scope}/embeddings/token_type_embeddings", 2, width)
        add(f"{scope}/embeddings/position_embeddings", POSITIONS, width)
        norm(f"{scope}/embeddings", width)

    def encoder(scope: str, width: int, layers: int) -> None:
        for number in range(layers):
            layer = f"{scope}/encoder/layer_{number}"
            for name in ("query", "key", "value"):
                dense(f"{layer}/attention/self/{name}", width, width)
            dense(f"{layer}/attention/output/dense", width, width)
            norm(f"{layer}/attention/output", width)
            dense(f"{layer}/intermediate/dense", width, 4 * width)
            dense(f"{layer}/output/dense", 4 * width, width)
            norm(f"{layer}/output", width)

    embeddings("electra", embedding)
    if embedding != hidden:
        dense("electra/embeddings_project", embedding, hidden)
    encoder("electra", hidden, LAYERS)
    generator_embedding = embedding
    if sharing == "nothing":
        generator_embedding = generator_hidden
        embeddings("generator", generator_hidden)
    if sharing == "everything":
        generator_hidden = hidden
    else:
        if generator_embedding != generator_hidden:
            dense("generator/embeddings_project", generator_embedding, generator_hidden)
        encoder("generator", generator_hidden, GENERATOR_LAYERS)
    dense("generator_predictions/dense", generator_hidden, generator_embedding)
    norm("generator_predictions", generator_embedding)
    add("generator_predictions/output_bias", VOCABULARY)
    dense("discriminator_predictions/dense", hidden, hidden)
    dense("discriminator_predictions/dense_1", hidden, 1)
    for name in list(variables):
        for slot in ("adam_m", "adam_v"):
            variables[f"{name}/{slot}"] = numpy.full_like(variables[name], 0.5)
    variables["global_step"] = numpy.array(3, dtype="<i8")
    return variables


def write_vocabulary(folder: Path) -> None:
    words = sorted(tiny_tokenizer().get_vocab().items(), key=lambda item: item[1])
    folder.joinpath("vocab.txt").write_text("".join(f"{word}\n" for word, _ in words), encoding="utf-8")


def discriminator_logits(
    variables: dict[str, numpy.ndarray], ids: numpy.ndarray, mask: numpy.ndarray
) -> numpy.ndarray:
    """`(batch, sequence)`."""
    hidden = _encode(variables, "electra", "electra", HEADS, ids, mask)
    hidden = _gelu(_dense(variables, "discriminator_predictions/dense", hidden))
    return _dense(variables, "discriminator_predictions/dense_1", hidden)[..., 0]


def generator_logits(
    variables: dict[str, numpy.ndarray], ids: numpy.ndarray, mask: numpy.ndarray, sharing: str = "embeddings"
) -> numpy.ndarray:
    """`(batch, sequence, vocabulary)`."""
    encoder = "electra" if sharing == "everything" else "generator"
    embeddings = "generator" if sharing == "nothing" else "electra"
    heads = HEADS if sharing == "everything" else GENERATOR_HEADS
    hidden = _encode(variables, encoder, embeddings, heads, ids, mask)
    hidden = _norm(variables, "generator_predictions", _gelu(_dense(variables, "generator_predictions/dense", hidden)))
    table = variables[f"{embeddings}/embeddings/word_embeddings"].astype(float)
    return hidden @ table.T + variables["generator_predictions/output_bias"]


def _encode(variables, scope: str, embeddings: str, heads: int, ids, mask) -> numpy.ndarray:
    tables = {
        name: variables[f"{embeddings}/embeddings/{name}_embeddings"] for name in ("word", "token_type", "position")
    }
    hidden = tables["word"][ids].astype(float) + tables["token_type"][0] + tables["position"][: ids.shape[1]]
    hidden = _norm(variables, f"{embeddings}/embeddings", hidden)
    if f"{scope}/embeddings_project/kernel" in variables:
        hidden = _dense(variables, f"{scope}/embeddings_project", hidden)
    number = 0
    while f"{scope}/encoder/layer_{number}/output/dense/kernel" in variables:
        layer = f"{scope}/encoder/layer_{number}"
        query, key, value = (
            _dense(variables, f"{layer}/attention/self/{name}", hidden)
            .reshape(*ids.shape, heads, -1)
            .transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / numpy.sqrt(query.shape[-1])
        scores = numpy.exp(scores + (1 - mask[:, None, None, :]) * -10000.0)
        context = (scores / scores.sum(-1, keepdims=True)) @ value
        context = context.transpose(0, 2, 1, 3).reshape(hidden.shape)
        hidden = _norm(
            variables,
            f"{layer}/attention/output",
            _dense(variables, f"{layer}/attention/output/dense", context) + hidden,
        )
        inner = _gelu(_dense(variables, f"{layer}/intermediate/dense", hidden))
        hidden = _norm(variables, f"{layer}/output", _dense(variables, f"{layer}/output/dense", inner) + hidden)
        number += 1
    assert number
    return hidden


def _dense(variables, name: str, hidden: numpy.ndarray) -> numpy.ndarray:
    return hidden @ variables[f"{name}/kernel"].astype(float) + variables[f"{name}/bias"]


def _norm(variables, name: str, hidden: numpy.ndarray) -> numpy.ndarray:
    centred = hidden - hidden.mean(-1, keepdims=True)
    scaled = centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * variables[f"{name}/LayerNorm/gamma"] + variables[f"{name}/LayerNorm/beta"]


def _gelu(hidden: numpy.ndarray) -> numpy.ndarray:
    return hidden * 0.5 * (1 + erf(hidden / numpy.sqrt(2)))
