"""Layer-wise learning-rate decay: the nearer a layer is to the text, the slower it learns."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def learning_rate_exponents(model: PreTrainedModel, last_layer_exponent: int = 1) -> dict[str, int]:
    """How often `layerwise_lr_decay` multiplies the learning rate of each parameter.

    With n layers: the head 0, the last layer `last_layer_exponent` (call it e), layer i counted from 0
    e + n - 1 - i, embeddings and their projection e + n. What an encoder holds behind its layers (a final norm, a
    pooler) learns like the last layer, tables of relative positions like the embeddings. A decoder, most of which is
    new, learns like the head.

    The reference means e = 1, and by an off-by-one that its author confirmed does e = 2 (google-research/electra,
    issues 51 and 64): everything below the head learns `layerwise_lr_decay` times slower than written.

    Args:
        model: a stock model with a head or a decoder; the layers of its encoder are the `num_hidden_layers` modules of
            one `ModuleList`.
        last_layer_exponent: 1, what the paper means; 2, what the reference implementation does.

    Raises:
        ValueError: for a model whose layers cannot be told, such as one that shares them.
    """
    is_with_decoder = getattr(model.config, "is_encoder_decoder", False)
    encoder = model.get_encoder() if is_with_decoder else model.base_model
    # No stack has no layers, so a config that does not say how many matches none.
    depth: int = getattr(encoder.config, "num_hidden_layers", 0) or -1
    stacks = [name for name, part in encoder.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    if encoder is model or len(stacks) != 1:
        raise ValueError(
            f"layerwise_lr_decay: {type(model).__name__} has {len(stacks)} stacks of layers and needs one; set "
            "layerwise_lr_decay to 1"
        )
    prefix = "encoder." if is_with_decoder else f"{model.base_model_prefix}."
    stack = f"{prefix}{stacks[0]}."
    # Tables that an encoder keeps next to its layers, such as relative positions, are read by all of them.
    tables = {f"{prefix}{name}." for name, part in encoder.named_modules() if isinstance(part, nn.Embedding)}
    exponents, is_behind = {}, False
    for name, _ in model.named_parameters():
        if name.startswith(stack):
            layer = int(name.removeprefix(stack).partition(".")[0])
            exponents[name] = last_layer_exponent + depth - 1 - layer
            is_behind = True
        elif name.startswith(prefix):
            is_table = f"{name.rpartition('.')[0]}." in tables
            # A pooler reads the last layer wherever a class lists it.
            is_last = (is_behind and not is_table) or name.startswith(f"{prefix}pooler.")
            exponents[name] = last_layer_exponent if is_last else last_layer_exponent + depth
        else:
            exponents[name] = 0
    return exponents


def layerwise_groups(
    model: PreTrainedModel,
    learning_rate: float,
    layerwise_lr_decay: float,
    weight_decay: float,
    last_layer_exponent: int = 1,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, one for each learning rate with and without weight decay.

    As in the reference, biases and norms are not decayed and embeddings are. A decay of 1 gives every parameter the
    same rate and takes any model.

    Raises:
        ValueError: see `learning_rate_exponents`.
    """
    names = [name for name, _ in model.named_parameters()]
    flat = dict.fromkeys(names, 0)
    exponents = flat if layerwise_lr_decay == 1 else learning_rate_exponents(model, last_layer_exponent)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_decayed = parameter.ndim >= 2
        group = groups.setdefault(
            (exponents[name], is_decayed),
            {
                "params": [],
                "lr": learning_rate * layerwise_lr_decay ** exponents[name],
                "weight_decay": weight_decay if is_decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())
