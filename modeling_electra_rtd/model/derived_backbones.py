"""Encoder families that are not in the table: what RTD needs to know of one is found out on a small model of it.

Two layers of the stock classes, as wide as the real ones, are built with random weights and asked: does the masked-LM
model consist of the encoder and a head that reads its last hidden states, is a packed document read as it is alone,
which weights does a gradient reach. Whoever fails is refused with what is missing. A weight that two layers do not use
is looked for in all of them: many layers may share a few sets of weights.
"""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from .encoder_inputs import DocumentMask, EncoderInputs
from .small_encoders import (
    FIRST_WORD,
    VOCABULARY,
    on_its_own,
    padding_before_positions,
    small_config,
    table_of_positions,
)
from .stock_models import Backbone, masked_lm_head, masked_lm_logits, prepare_encoder


_NEEDED_FIELDS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
# A share of the largest output: the order of additions changes as much, another document far more.
_TOLERANCE = 1e-3
# Found once in a process for what a config says besides its size; or why so many layers do not do.
_derived: dict[tuple[type, str], Backbone | str] = {}


class _WeightOutOfReach(ValueError):
    """So many layers do not use a weight; more may."""


def derived_backbone(config: PreTrainedConfig) -> Backbone:
    """The row a family would have in the table.

    A generator keeps the width and has half the depth; special tokens have to come from a tokenizer.

    Raises:
        ValueError: naming the family and what RTD would need of it.
    """
    classes = _stock_classes(config)
    for layers in (2, config.num_hidden_layers):
        small = small_config(config, layers)
        key = (type(config), small.to_json_string())
        if key not in _derived:
            try:
                with on_its_own("cpu"):
                    _derived[key] = _derive(small, *classes)
            except _WeightOutOfReach as error:
                _derived[key] = str(error)
        found = _derived[key]
        if isinstance(found, Backbone):
            return found
    raise ValueError(found)


def _refused(config: PreTrainedConfig, reason: str) -> ValueError:
    return ValueError(f"model_type {config.model_type!r} cannot be pre-trained with RTD: {reason}")


def _stock_classes(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], type[PreTrainedModel]]:
    if getattr(config, "is_encoder_decoder", False):
        raise _refused(config, "it is an encoder with a decoder, and RTD trains encoders")
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        side = "it reads a text from one side: " if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else ""
        raise _refused(config, f"{side}it has no masked-LM class in transformers, which the generator needs")
    if type(config) not in MODEL_MAPPING:
        raise _refused(config, "it has no AutoModel class in transformers")
    missing = [name for name in _NEEDED_FIELDS if not isinstance(getattr(config, name, None), int)]
    if missing:
        raise _refused(config, f"its config has no {' and no '.join(missing)}")
    encoder_class = MODEL_MAPPING[type(config)]
    if isinstance(encoder_class, tuple):
        raise _refused(config, f"it has several encoders ({', '.join(each.__name__ for each in encoder_class)})")
    for name in ("input_ids", "attention_mask"):
        if name not in inspect.signature(encoder_class.forward).parameters:
            raise _refused(config, f"{encoder_class.__name__} takes no {name}")
    return encoder_class, MODEL_FOR_MASKED_LM_MAPPING[type(config)]


def _derive(
    config: PreTrainedConfig, encoder_class: type[PreTrainedModel], masked_lm_class: type[PreTrainedModel]
) -> Backbone:
    try:
        encoder, masked_lm = (_randomized(each(copy.deepcopy(config))) for each in (encoder_class, masked_lm_class))
    except Exception as error:
        raise _refused(config, f"a model of two layers cannot be built ({_last_line(error)})") from error
    try:
        hidden = encoder(**_text(0, 8)).last_hidden_state
    except Exception as error:
        reason = f"{encoder_class.__name__} does not run on token ids alone ({_last_line(error)})"
        raise _refused(config, reason) from error
    if hidden.shape != (1, 8, config.hidden_size):
        raise _refused(config, f"{encoder_class.__name__} does not return a state of hidden_size for every token")
    _check_head(config, encoder_class, masked_lm)
    layer_class = _layer_class(config, encoder)
    follows_padding, first_row = padding_before_positions(table_of_positions(encoder))
    backbone = {
        "layer_class": layer_class.__name__,
        "discriminator_architecture": encoder_class.__name__,
        "embeddings": _embedding_block(config, encoder, layer_class),
        "positions_follow_padding": follows_padding,
        "first_row": first_row,
        "unused": _without_gradient(config, encoder, hidden),
        "autocast": _computes_under_autocast(encoder),
    }
    document_mask = _document_mask(config, encoder, backbone)
    return Backbone(document_mask=document_mask, **backbone)


@torch.no_grad()
def _randomized(model: PreTrainedModel) -> PreTrainedModel:
    # Biases of zero and norms of one would hide that they are left out.
    for parameter in model.parameters():
        parameter.normal_(std=0.05).add_(float(parameter.ndim == 1))
    return model.eval()


def _text(first: int, length: int) -> dict[str, Tensor]:
    """Tokens that are no special ones."""
    ids = FIRST_WORD + (7 * torch.arange(first, first + length)) % (VOCABULARY - FIRST_WORD)
    return {"input_ids": ids[None], "attention_mask": torch.ones(1, length, dtype=torch.int64)}


def _is_close(found: Tensor, expected: Tensor) -> bool:
    return (found - expected).abs().max().item() <= _TOLERANCE * expected.abs().max().item()


def _check_head(config: PreTrainedConfig, encoder_class: type[PreTrainedModel], model: PreTrainedModel) -> None:
    name, prefix = type(model).__name__, model.base_model_prefix
    encoder = getattr(model, prefix, None)
    if not isinstance(encoder, encoder_class):
        raise _refused(config, f"{name} holds no {encoder_class.__name__} under {prefix!r}")
    text = _text(0, 8)
    with torch.no_grad():
        expected = model(**text).logits
        try:
            found = masked_lm_logits(model, masked_lm_head(model), encoder(**text).last_hidden_state)
        except Exception:  # such a head takes other inputs, or is no chain of layers
            found = None
    if not isinstance(found, Tensor) or found.shape != expected.shape or not _is_close(found, expected):
        raise _refused(config, f"the head of {name} needs more than the last hidden states, layer after layer")


def _layer_class(config: PreTrainedConfig, encoder: PreTrainedModel) -> type[nn.Module]:
    modules = list(encoder.modules())
    layers = [module for module in modules if isinstance(module, GradientCheckpointingLayer)]
    lists = [module for module in modules if isinstance(module, nn.ModuleList) and len(module)]
    if not layers and not lists:
        raise _refused(config, f"{type(encoder).__name__} has no list of layers")
    return type(layers[0] if layers else lists[0][0])


def _embedding_block(config: PreTrainedConfig, encoder: PreTrainedModel, layer_class: type[nn.Module]) -> str:
    words = encoder.get_input_embeddings()
    for name, child in encoder.named_children():
        parts = list(child.modules())
        if any(part is words for part in parts):
            if any(isinstance(part, layer_class) for part in parts):
                break
            return name
    raise _refused(config, f"{type(encoder).__name__} has no block of embeddings apart from its layers")


def _without_gradient(config: PreTrainedConfig, encoder: PreTrainedModel, hidden: Tensor) -> tuple[str, ...]:
    """Children of the encoder no gradient of the last hidden states reaches; parts of a child are refused."""
    (hidden * torch.randn_like(hidden)).sum().backward()
    reached: dict[str, set[bool]] = {}
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            reached.setdefault(name.partition(".")[0], set()).add(parameter.grad is not None)
    for child, answers in reached.items():
        if len(answers) == 2:
            names = [
                name
                for name, parameter in encoder.named_parameters()
                if name.startswith(f"{child}.") and parameter.requires_grad and parameter.grad is None
            ]
            depth = f"with num_hidden_layers {config.num_hidden_layers}"
            reason = f"{depth} no gradient of the last hidden states reaches {names[0]}"
            raise _WeightOutOfReach(_refused(config, reason))
    return tuple(child for child, answers in reached.items() if answers == {False})


@torch.no_grad()
def _computes_under_autocast(encoder: PreTrainedModel) -> bool:
    # DeBERTa masks scores of bf16 with the lowest number of the float32 that it takes them for.
    with torch.autocast("cpu", torch.bfloat16):
        try:
            encoder(**_text(0, 8))
        except RuntimeError:
            return False
    return True


def _document_mask(config: PreTrainedConfig, encoder: PreTrainedModel, backbone: dict[str, Any]) -> DocumentMask:
    """The form of the mask with which two documents in a row are read as they are alone."""
    lengths = (7, 9)
    texts = [_text(3 * length, length) for length in lengths]
    starts = torch.cat([torch.arange(length) for length in lengths] + [torch.zeros(4, dtype=torch.int64)])
    numbers = torch.cat([torch.full((length,), number + 1) for number, length in enumerate(lengths)])
    packed = {
        "input_ids": nn.functional.pad(torch.cat([text["input_ids"] for text in texts], dim=1), (0, 4), value=1),
        "document_ids": nn.functional.pad(numbers, (0, 4))[None],
        "position_ids": starts[None],
    }
    with torch.no_grad():
        alone = torch.cat([encoder(**text).last_hidden_state for text in texts], dim=1)
    for form in ("attention", "boolean"):
        prepared = prepare_encoder(copy.deepcopy(encoder), Backbone(document_mask=form, **backbone))
        try:
            with torch.no_grad():
                together = EncoderInputs().encode(prepared, attention_mask=None, **packed)
        except Exception:  # whatever a class makes of a mask that it does not know
            continue
        if _is_close(together[:, : sum(lengths)], alone):
            return form
    raise _refused(
        config,
        f"{type(encoder).__name__} reads packed documents differently than alone (it would have to take a mask of "
        "(batch, 1, sequence, sequence), and position_ids where positions are not relative)",
    )


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
