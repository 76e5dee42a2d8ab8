"""How a batch is shown to an encoder: which positions are tokens, where they stand, and who may attend to whom."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


# How a stock encoder is told which documents share a row.
#   "attention": a mask in the form that the attention functions of `transformers` take: bool, or additive under eager;
#   "boolean": a bool mask, whatever the attention;
#   "document_ids": the numbers themselves, by an argument of that name.
DocumentMask = Literal["attention", "boolean", "document_ids"]


@dataclass(frozen=True)
class InputForm:
    """What an encoder expects of its inputs.

    Attributes:
        document_mask: how packed documents are told apart.
        first_position: `position_ids` of a document's first token; above 0 for tables that begin with padding.
        accepted: which of `position_ids` and `token_type_ids` it takes; an encoder of relative positions needs none.
        autocast: whether it computes under autocast; one that does not stays in the precision of its weights.
    """

    document_mask: DocumentMask = "attention"
    first_position: int = 0
    accepted: tuple[str, ...] = ("position_ids", "token_type_ids")
    autocast: bool = True


def token_mask_of(input_ids: Tensor, attention_mask: Tensor | None, document_ids: Tensor | None) -> Tensor:
    """`(batch, sequence)` bool: positions that are not padding."""
    if document_ids is not None:
        return document_ids > 0
    return torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask > 0


# How an attention implementation wants the mask of local layers, where not in whole rows: a function of `document_ids`
# and of how far a position sees to the left and to the right, which gives `None` for a row that is better whole.
LOCAL_MASKS: dict[str, Callable[[Tensor, int, int], Tensor | None]] = {}

# The attention of `cpu_attention`, which a pair takes by itself on a CPU.
CPU_ATTENTION = "matmul_with_cpu_dropout"
# Attention functions that read a mask of documents as it is made here. flex_attention adds it to the scores, and the
# functions of flash-attention take it for a mask of padding: both let documents see each other.
ATTENTIONS = ["sdpa", "eager", CPU_ATTENTION]

# Which side of a token an encoder reads besides the token itself.
Side = Literal["both", "left", "right"]


def check_attention(attention: str | dict[str, Any] | None) -> None:
    """Refuse an `attn_implementation`, or one of a dict for parts of a model, that is not in `ATTENTIONS`.

    Raises:
        ValueError: in one line.
    """
    if isinstance(attention, dict):
        for value in attention.values():
            check_attention(value)
    elif attention is not None and attention not in ATTENTIONS:
        raise ValueError(f"attn_implementation is {attention!r}; it must be sdpa or eager")


def document_attention_mask(
    document_ids: Tensor,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    form: DocumentMask = "attention",
    context: Side = "both",
) -> Any:
    """The mask that keeps packed documents from seeing each other, in the form the encoder takes.

    Stock encoders take a ready 4-D mask as it is, but never derive one from `position_ids`. Padding (document 0) sees
    padding, so that no row of the softmax is empty.

    Args:
        document_ids: `(batch, sequence)`, 0 for padding.
        dtype: of the attention scores, for the additive form that eager attention adds to them.
        context: one side keeps every token from seeing the other.
        form: `"attention"` or `"boolean"`.

    Returns:
        `(batch, 1, sequence, sequence)`: bool, True where attention is allowed, or additive under eager attention;
        for encoders with local layers a dict of both kinds by layer type, the local ones as `LOCAL_MASKS` has them.

    Raises:
        ValueError: see `check_attention`; an encoder with attention of its own takes a boolean mask whatever the
            config says.
    """
    if form == "attention":
        check_attention(config._attn_implementation)
    # Compiled, every layer compares anew, and half as wide numbers twice as fast.
    document_ids = document_ids.to(torch.int32)
    same_document = (document_ids[:, None, :, None] == document_ids[:, None, None, :]).contiguous()
    if context != "both":
        earlier = torch.ones(same_document.shape[-2:], dtype=torch.bool, device=document_ids.device).tril()
        same_document = same_document & (earlier if context == "left" else earlier.T)

    def in_form(allowed: Tensor) -> Tensor:
        if form == "boolean" or config._attn_implementation != "eager":
            return allowed
        zero = torch.zeros((), dtype=dtype, device=allowed.device)
        return torch.where(allowed, zero, torch.finfo(dtype).min)

    layer_types = set(getattr(config, "layer_types", None) or ())
    if not layer_types:
        return in_form(same_document)
    masks = {"full_attention": in_form(same_document)}
    if "sliding_attention" in layer_types:
        reach, local_mask = config.sliding_window, LOCAL_MASKS.get(config._attn_implementation)
        before, after = (reach * (context in ("both", side)) for side in ("left", "right"))
        local = None if local_mask is None else local_mask(document_ids, before, after)
        if local is None:
            position = torch.arange(document_ids.shape[1], device=document_ids.device)
            near = (position[:, None] - position[None, :]).abs() <= reach
            local = in_form(same_document & near)
        masks["sliding_attention"] = local
    return masks


def positions_from(first: int, position_ids: Tensor | None, token_mask: Tensor) -> Tensor:
    """`(batch, sequence)` positions for a table whose first rows belong to padding.

    Left to itself a stock encoder counts the ids that are not padding's; a generator may sample that very id into a
    text, and every position behind it would be another.

    Args:
        first: position of a first token; padding stands at the one before.
        position_ids: `(batch, sequence)` counted from 0, or `None` to count the tokens of the row.
        token_mask: `(batch, sequence)` bool.
    """
    if position_ids is not None:
        return position_ids + first
    return token_mask.cumsum(dim=1) * token_mask + first - 1


class EncoderInputs(nn.Module):
    """How a batch is shown to an encoder; shared by both networks of a pair, and mixed in before `PreTrainedModel`."""

    def set_attn_implementation(self, attn_implementation: str | dict[str, Any], **kwargs: Any) -> None:
        """As of every model in `transformers`.

        Raises:
            ValueError: see `check_attention`.
        """
        check_attention(attn_implementation)
        super().set_attn_implementation(attn_implementation, **kwargs)

    def encode(
        self,
        encoder: PreTrainedModel,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        document_ids: Tensor | None,
        context: Side = "both",
        inputs_embeds: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor:
        """Last hidden states, `(batch, sequence, hidden_size)`.

        Args:
            encoder: built by `backbones`, which notes on it what it expects (`InputForm`).
            context: one side keeps every token from seeing the other; it wants `document_ids`.
            inputs_embeds: `(batch, sequence, embedding_size)`, read in the place of the ids.
            inputs: `position_ids` counted from 0 in every document, `token_type_ids`.
        """
        form: InputForm = encoder.input_form
        device_type = input_ids.device.type
        if form.first_position:
            token_mask = token_mask_of(input_ids, attention_mask, document_ids)
            inputs["position_ids"] = positions_from(form.first_position, inputs.get("position_ids"), token_mask)
        inputs = {name: inputs[name] for name in form.accepted if inputs.get(name) is not None}
        assert context == "both" or document_ids is not None, "one side is read within documents"
        if document_ids is not None and form.document_mask == "document_ids":
            assert context == "both", "who reads the numbers of documents takes no one-sided mask"
            attention_mask, inputs["document_ids"] = None, document_ids
        elif document_ids is not None:
            autocast = form.autocast and torch.is_autocast_enabled(device_type)
            dtype = torch.get_autocast_dtype(device_type) if autocast else encoder.dtype
            attention_mask = document_attention_mask(document_ids, encoder.config, dtype, form.document_mask, context)
        text = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        with nullcontext() if form.autocast else torch.autocast(device_type, enabled=False):
            return encoder(**text, attention_mask=attention_mask, **inputs).last_hidden_state
