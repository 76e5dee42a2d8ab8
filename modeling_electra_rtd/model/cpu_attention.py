"""Attention for a CPU: whole rows as two matrix products, local layers in blocks that see their neighbours.

Stock attention knows a local layer by its mask alone and computes whole rows for it, nine tenths of which the mask
discards at 2,048 positions and a reach of 64. Here such a layer costs the same for every token, however long the row.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .cpu_dropout import CpuDropout
from .cpu_dropout import dropout as dropped_out
from .encoder_inputs import CPU_ATTENTION as ATTENTION
from .encoder_inputs import LOCAL_MASKS


# Positions up to which the scores of a whole row are kept for the backward pass. That is faster at any length, by 2.3
# at 128 and 1.2 at 2,048, but beyond this it takes gigabytes.
_LONGEST_ROW = 1024
# Blocks of a row from which on they are faster: each has copies of the keys of three. A step is as fast with 4 as with
# whole rows, 1.15 times as fast with 8 and 1.7 times with 32.
_FEWEST_BLOCKS = 6


def use_cpu_layers(model: nn.Module) -> None:
    """Give a model the dropout of `cpu_dropout` and the attention of this module. Its parameters, their names and what
    is saved stay as they are, and away from a CPU it computes what it did.

    Attention is replaced where it is `sdpa` or `eager`; an encoder with attention of its own keeps it.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, CpuDropout(child.p).train(child.training))
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    if model.config._attn_implementation in ("sdpa", "eager") and all(
        part._can_set_attn_implementation() for part in parts
    ):
        model.set_attn_implementation(ATTENTION)


def use_stock_layers(model: nn.Module) -> None:
    """Give a model back the dropout of `torch` and the `sdpa` of `transformers`: the reverse of `use_cpu_layers`."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is CpuDropout:
                setattr(module, name, nn.Dropout(child.p).train(child.training))
    if model.config._attn_implementation == ATTENTION:
        model.set_attn_implementation("sdpa")


def block_mask(document_ids: Tensor, before: int, after: int) -> Tensor | None:
    """Who may attend to whom in a local layer, for blocks of neighbours: as many positions each as the farther one of
    both sides, and shown those of the blocks next to it.

    Args:
        document_ids: `(batch, sequence)`; positions of one number may see each other.
        before, after: how far a position sees to either side.

    Returns:
        `(batch, 1, blocks, reach, 3 * reach)` bool, True where attention is allowed; its number of dimensions tells it
        from the mask of whole rows. `None` for a row of so few blocks that its whole is faster, and away from a CPU.
    """
    length, reach = document_ids.shape[1], max(before, after)
    if not reach or length <= (_FEWEST_BLOCKS - 1) * reach or not _is_on_cpu(document_ids):
        return None
    count = -(-length // reach)
    # Beyond the row lies a document of its own, so that no row of the softmax is empty.
    ids = nn.functional.pad(document_ids, (reach, (count + 1) * reach - length), value=-1)
    own, near = ids[:, reach:-reach].unflatten(1, (count, reach)), _with_neighbours(ids.unflatten(1, (-1, reach)))
    position = torch.arange(3 * reach, dtype=document_ids.dtype, device=document_ids.device)
    distance = position - position[reach : 2 * reach, None]
    seen = (distance >= -before) & (distance <= after)
    return ((own[..., :, None] == near[..., None, :]) & seen)[:, None].contiguous()


def _with_neighbours(blocks: Tensor, dim: int = 1) -> Tensor:
    """Each block but the outer two, between the ones next to it: `dim` counts blocks, the next one what is in them."""
    count = blocks.shape[dim] - 2
    return torch.cat([blocks.narrow(dim, first, count) for first in range(3)], dim=dim + 1)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention as two matrix products, in the signature of `transformers`; stock `sdpa` for long rows and away from a
    CPU.

    Args:
        query, key, value: `(batch, heads, sequence, head_size)`; the heads of keys and values may be fewer, each for
            a group of the queries'.
        attention_mask: bool, True where attention is allowed, broadcastable to `(batch, heads, sequence, sequence)`;
            or a `block_mask`.

    Returns:
        `(batch, sequence, heads, head_size)`, and the weights where those of whole rows were computed.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    dropout = dropout if module.training else 0.0
    in_blocks = attention_mask is not None and attention_mask.dim() == 5
    length = query.shape[2]
    if not _is_on_cpu(query) or (length > _LONGEST_ROW and not dropout and not in_blocks):
        kwargs |= {"scaling": scaling, "dropout": dropout, "is_causal": False}  # the mask says it where it is so
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if not in_blocks:
        output, weights = _products(query, key, value, attention_mask, scaling, dropout)
        return output.transpose(1, 2).contiguous(), weights
    count, reach = attention_mask.shape[2:4]
    rest = count * reach - length
    query = nn.functional.pad(query, (0, 0, 0, rest)).unflatten(2, (count, reach))
    key, value = (
        _with_neighbours(nn.functional.pad(states, (0, 0, reach, reach + rest)).unflatten(2, (-1, reach)), dim=2)
        for states in (key, value)
    )
    output, _ = _products(query, key, value, attention_mask, scaling, dropout)
    return output.flatten(2, 3)[:, :, :length].transpose(1, 2).contiguous(), None


def _is_on_cpu(values: Tensor) -> bool:
    return values.device.type == "cpu"


def _products(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, scaling: float, dropout: float
) -> tuple[Tensor, Tensor]:
    """What queries read from values, and the weights of it; `(..., positions, head_size)` each."""
    scores = query @ key.transpose(-1, -2) * scaling
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    weights = dropped_out(weights, dropout, True)
    return weights @ value, weights


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    # Stock sdpa takes no mask for "causal", of which matrix products know nothing.
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask)
LOCAL_MASKS[ATTENTION] = block_mask
