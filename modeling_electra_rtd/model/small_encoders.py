"""Small models of stock classes, on which one sees what the fields of a config do not say."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel


VOCABULARY = 64
# Ids from here on are no special tokens.
FIRST_WORD = VOCABULARY // 2
# Stands for any `pad_token_id`, so that a table that follows it is told from one that begins at a row of its own.
PADDING = 3
# A prime that no width and no number of buckets is, nor a multiple of it: the table with so many rows is of positions.
POSITIONS = 1009
# By what a config says besides its size.
_encoders: dict[tuple[type, str], PreTrainedModel] = {}


def small_config(config: PreTrainedConfig, layers: int = 2) -> PreTrainedConfig:
    """A few layers (as many as show every type of layer once), few tokens, `POSITIONS`; everything else as it is."""
    small = copy.deepcopy(config)
    # What a CPU has, whatever the real model will use.
    small._attn_implementation = None
    types = getattr(config, "layer_types", None) or []
    small.num_hidden_layers = max([min(layers, config.num_hidden_layers), *(types.index(t) + 1 for t in set(types))])
    if types:
        small.layer_types = types[: small.num_hidden_layers]
    small.vocab_size = VOCABULARY
    for name, value in vars(small).copy().items():
        if name == "pad_token_id":
            small.pad_token_id = PADDING
        elif name.endswith("_token_id") and isinstance(value, int) and value >= FIRST_WORD:
            setattr(small, name, 1)
    if getattr(config, "max_position_embeddings", None) is not None:
        small.max_position_embeddings = POSITIONS
    return small


@contextmanager
def on_its_own(device: str) -> Iterator[None]:
    """Float32 on a device, whatever the caller is loading or counting; its random numbers stay."""
    dtype = torch.get_default_dtype()
    with unset_fake_temporarily(), torch.device(device), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(0)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def small_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """The stock encoder of `small_config`, without weights; to be looked at and left as it is."""
    small = small_config(config)
    key = (type(config), small.to_json_string())
    if key not in _encoders:
        with on_its_own("meta"):
            _encoders[key] = MODEL_MAPPING[type(config)](small)
    return _encoders[key]


def table_of_positions(encoder: PreTrainedModel) -> nn.Embedding | None:
    """The table that a small encoder looks positions up in; `None` where they are rotations or distances."""
    tables = (module for module in encoder.modules() if isinstance(module, nn.Embedding))
    return next((table for table in tables if table.num_embeddings == POSITIONS), None)


def padding_before_positions(table: nn.Embedding | None) -> tuple[bool, int]:
    """Whether a small encoder's table begins with `pad_token_id + 1` rows for padding, and with how many it begins
    whatever that id is."""
    if table is None or table.padding_idx is None:
        return False, 0
    follows = table.padding_idx == PADDING
    return follows, 0 if follows else table.padding_idx + 1


def first_row_of_positions(config: PreTrainedConfig) -> int | None:
    """The row that a text's first token reads of the table of positions; `None` without such a table. Any config."""
    try:
        table = table_of_positions(small_encoder(config))
    except Exception:  # whatever keeps a class, which RTD need not be able to pre-train, from being built so
        return None
    follows, rows = padding_before_positions(table)
    if table is None:
        return None
    return (config.pad_token_id or 0) + 1 if follows else rows
