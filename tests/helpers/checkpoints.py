"""Checkpoints on disk: of a tiny pair, and stock ones as others publish them."""

from pathlib import Path

import torch
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from helpers.tiny import tiny_pair, tiny_tokenizer
from modeling_electra_rtd import ElectraRtdForPreTraining


def saved_pair(folder, family: str = "electra", **objective) -> ElectraRtdForPreTraining:
    model = tiny_pair(family, **objective)
    model.save_pretrained(folder)
    tiny_tokenizer(folder)
    return model


def google_like_pair(folder: Path, vocab_size: int) -> tuple[str, str]:
    """Two stock checkpoints whose embedding tables differ."""
    sizes = {
        "vocab_size": vocab_size,
        "embedding_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    ElectraForPreTraining(ElectraConfig(hidden_size=32, **sizes)).save_pretrained(folder / "discriminator")
    ElectraForMaskedLM(ElectraConfig(hidden_size=16, **sizes)).save_pretrained(folder / "generator")
    return str(folder / "discriminator"), str(folder / "generator")
