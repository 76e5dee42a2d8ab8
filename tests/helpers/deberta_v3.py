"""A tiny pair under the names that microsoft/deberta-v3-* publishes."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import DebertaV2Config, DebertaV2ForMaskedLM

from helpers.tiny import VOCABULARY, randomize, tiny_tokenizer


WIDTH, LAYERS, GENERATOR_LAYERS = 32, 2, 1


def published_config(**overrides) -> DebertaV2Config:
    """As the published config.json, but for the sizes."""
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return DebertaV2Config(**values | overrides)


def published_pair() -> tuple[dict[str, Tensor], dict[str, Tensor], DebertaV2ForMaskedLM]:
    """Both state dicts in half precision, and the generator as the stock class under which it has these very names."""
    torch.manual_seed(0)
    stock = randomize(
        DebertaV2ForMaskedLM(published_config(num_hidden_layers=GENERATOR_LAYERS, legacy=False)), 1
    ).half()
    generator = stock.state_dict() | {"deberta.embeddings.position_embeddings.weight": torch.randn(64, WIDTH).half()}
    encoder = randomize(DebertaV2ForMaskedLM(published_config(legacy=False)), 2).half().state_dict()
    words = "deberta.embeddings.word_embeddings"
    discriminator = encoder | {
        # Gradient-disentangled embeddings: the sum, and the difference that is already in it.
        f"{words}._weight": encoder[f"{words}.weight"] - generator[f"{words}.weight"],
        "deberta.embeddings.position_embeddings.weight": torch.randn(64, WIDTH).half(),
        "mask_predictions.dense.weight": torch.randn(WIDTH, WIDTH).half(),
        "mask_predictions.dense.bias": torch.randn(WIDTH).half(),
        "mask_predictions.LayerNorm.weight": 1 + torch.randn(WIDTH).half(),
        "mask_predictions.LayerNorm.bias": torch.randn(WIDTH).half(),
        "mask_predictions.classifier.weight": torch.randn(1, WIDTH).half(),
        "mask_predictions.classifier.bias": torch.randn(1).half(),
    }
    return discriminator, generator, stock.float().eval()


def write_deberta(folder: Path, discriminator: dict[str, Tensor], generator: dict[str, Tensor]) -> None:
    """Write a folder as `microsoft/deberta-v3-*` publishes one, with safetensors in the place of its pickles."""
    published_config().save_pretrained(folder)
    for name, state in (("model", discriminator), ("pytorch_model.generator", generator)):
        save_file({key: value.clone() for key, value in state.items()}, folder / f"{name}.safetensors")
    tiny_tokenizer(folder)
