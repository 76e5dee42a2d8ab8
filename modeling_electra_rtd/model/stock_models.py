"""Stock models as parts of a pair: what their classes do not say themselves, and what is done to them once built."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.utils import logging

from .encoder_inputs import DocumentMask, InputForm


@dataclass(frozen=True)
class Backbone:
    """One family of encoders.

    Attributes:
        layer_class: name of the repeated layer, the unit of FSDP sharding.
        discriminator_architecture: stock class that a release names in `architectures`, and that loads it whole.
        generator_width: default width of a generator, as a fraction of the discriminator's.
        generator_depth: default depth of a generator, as a fraction of the discriminator's.
        narrows: whether a generator may be narrower than the embeddings it shares (needs an embedding projection
            behind the block that is shared).
        embeddings: name of the encoder's child that two networks can share.
        document_mask: see `encoder_inputs.DocumentMask`.
        positions_follow_padding: whether the table of positions begins with `pad_token_id + 1` rows for padding.
        first_row: the row of the table of positions that a first token reads, where `pad_token_id` does not say it.
        rotates_heads: whether positions turn pairs of a head's numbers, so that its width must be even.
        unused: children of the encoder that its last hidden states do not come from.
        autocast: whether the stock encoder computes under autocast.
        undeclared_fields: fields that the stock model reads from a config which does not declare them, by type.
        leaks: fields with which packed documents would not be read as they are alone, and why.
        published_special_tokens: `vocab_size -> (mask_token_id, special_token_ids)` of the vocabularies the family
            was published with, so that a stock config works without its tokenizer at hand.
    """

    layer_class: str
    discriminator_architecture: str
    # Where embeddings cannot be narrowed the generator keeps the width and is shallower: DeBERTaV3 halves the depth.
    generator_width: float = 1.0
    generator_depth: float = 0.5
    narrows: bool = False
    embeddings: str = "embeddings"
    document_mask: DocumentMask = "attention"
    positions_follow_padding: bool = False
    first_row: int = 0
    rotates_heads: bool = False
    unused: tuple[str, ...] = ()
    autocast: bool = True
    undeclared_fields: dict[str, type] = field(default_factory=dict)
    leaks: dict[str, str] = field(default_factory=dict)
    published_special_tokens: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)

    def first_position(self, config: PreTrainedConfig) -> int:
        """The position of a text's first token."""
        return config.pad_token_id + 1 if self.positions_follow_padding else self.first_row


def prepare_encoder(encoder: PreTrainedModel, backbone: Backbone) -> PreTrainedModel:
    """Make a stock encoder, in place, one that `EncoderInputs.encode` can show a batch to and that trains whole.

    What no gradient reaches (a pooler, a table of sines) becomes buffers: saved and loaded under the same names, so
    that stock classes find it, but no parameters, which data parallelism would wait for and weight decay shrink.
    Freezing would not do: loading makes every parameter trainable again.
    """
    arguments = inspect.signature(encoder.forward).parameters
    takes_any = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    accepted = tuple(name for name in InputForm.accepted if takes_any or name in arguments)
    first_position = backbone.first_position(encoder.config)
    encoder.input_form = InputForm(backbone.document_mask, first_position, accepted, backbone.autocast)
    embeddings = getattr(encoder, backbone.embeddings)
    if "mask" in inspect.signature(embeddings.forward).parameters:
        embeddings.register_forward_pre_hook(_without_document_mask, with_kwargs=True)
    unused = [getattr(encoder, name, None) for name in backbone.unused]
    unused = {module for part in unused if part is not None for module in part.modules()}
    for module in set(encoder.modules()) - set(embeddings.modules()):
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and (module in unused or not parameter.requires_grad):
                del module._parameters[name]
                module.register_buffer(name, parameter.detach())
    return encoder


def _without_document_mask(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    # Such embeddings set padding to zero and know only masks of (batch, sequence). Nobody attends to padding.
    mask = kwargs.get("mask")
    return args, kwargs if mask is None or mask.dim() == 2 else {**kwargs, "mask": None}


def masked_lm_head(model: PreTrainedModel) -> tuple[tuple[str, bool], ...]:
    """The head of a stock masked-LM model: whatever stands next to its encoder, in order, by name; and whether it is
    called with the word embeddings as well."""
    return tuple(
        (name, "word_embeddings" in inspect.signature(layer.forward).parameters)
        for name, layer in model.named_children()
        if name != model.base_model_prefix
    )


def masked_lm_logits(model: nn.Module, head: tuple[tuple[str, bool], ...], hidden: Tensor) -> Tensor:
    """Apply a head to hidden states, `(..., hidden_size)` -> `(..., vocab_size)`.

    Args:
        model: holds the layers under their names.
        head: see `masked_lm_head`.
    """
    for name, takes_words in head:
        words = (model.get_input_embeddings(),) if takes_words else ()
        hidden = getattr(model, name)(hidden, *words)
    return hidden


def hidden_activation(config: PreTrainedConfig) -> str:
    """The activation of an encoder's layers, under whichever name; ELECTRA's for one that does not say."""
    names = ("hidden_act", "hidden_activation", "activation_function", "activation")
    stated = [getattr(config, name, None) for name in names]
    return next((name for name in stated if isinstance(name, str) and name in ACT2FN), "gelu")


@contextmanager
def without_loading_reports() -> Iterator[None]:
    """Load here without the table of missing and unexpected weights, where the caller looks at them itself."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
