"""Pairs, texts and a tokenizer small enough to check by hand, in every family of the table of backbones."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForMaskedLM,
    BertTokenizer,
    ElectraConfig,
    ElectraForPreTraining,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.model.corruption import number_of_uniforms
from modeling_electra_rtd.model.cpu_attention import use_stock_layers


# The two that differ most stand for all where a test is not about what a family does its own way.
FAMILIES = ("electra", "modernbert")
ALL_FAMILIES = (
    *FAMILIES,
    *("bert", "roberta", "camembert", "xlm-roberta", "roformer", "deberta-v2", "nomic_bert"),
)
# Attention of their own, whatever is asked for.
OWN_ATTENTION = ("roformer", "deberta-v2")
VOCABULARY = 150
PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = [PAD, CLS, SEP, MASK]
OBJECTIVE = {"mask_token_id": MASK, "special_token_ids": SPECIAL}
WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "##s", "dog", "<b>", "&", "<", ">", "b", ".")


def tiny_electra_config(**overrides: Any) -> ElectraConfig:
    values = {
        "vocab_size": VOCABULARY,
        "embedding_size": 16,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": PAD,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return ElectraConfig(**values | overrides)


def tiny_modernbert_config(**overrides: Any) -> ModernBertConfig:
    """Local layers see two tokens to each side."""
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "local_attention": 4,
        "pad_token_id": PAD,
        "bos_token_id": CLS,
        "cls_token_id": CLS,
        "eos_token_id": SEP,
        "sep_token_id": SEP,
    }
    return ModernBertConfig(**values | overrides)


# Of a DeBERTaV3 checkpoint, with few buckets.
DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_OF_A_FAMILY: dict[str, dict[str, Any]] = {"roformer": {"embedding_size": 16}, "deberta-v2": DEBERTA_V3}


def tiny_config(family: str, **overrides: Any) -> PreTrainedConfig:
    if family in FAMILIES:
        return {"electra": tiny_electra_config, "modernbert": tiny_modernbert_config}[family](**overrides)
    values = tiny_electra_config().to_dict()
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names += ("max_position_embeddings", "pad_token_id", "hidden_dropout_prob", "attention_probs_dropout_prob")
    values = {name: values[name] for name in names}
    return CONFIG_MAPPING[family](**values | _OF_A_FAMILY.get(family, {}) | overrides)


@torch.no_grad()
def randomize(model: PreTrainedModel, seed: int = 0, scale: float = 0.2) -> PreTrainedModel:
    """Move every parameter away from its start: zero biases and unit norms would hide that they are left out."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model


def tiny_pair(family: str, seed: int = 0, encoder: dict[str, Any] | None = None, **objective: Any):
    """A pair without dropout, in evaluation mode, whose outputs differ visibly between tokens; with stock layers, so
    that what stock classes compute is expected of it to the bit."""
    torch.manual_seed(seed)
    config = ElectraRtdConfig.from_discriminator(tiny_config(family, **(encoder or {})), **OBJECTIVE | objective)
    pair = randomize(ElectraRtdForPreTraining(config), seed).eval()
    use_stock_layers(pair)
    return pair


def tiny_text(rows: int = 3, length: int = 24, seed: int = 0) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of rows that get shorter, each `[CLS] words [SEP]` and padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL) + 1, VOCABULARY, (rows, length), generator=generator)
    lengths = [length - 5 * row for row in range(rows)]
    for row, size in enumerate(lengths):
        ids[row, 0], ids[row, size - 1], ids[row, size:] = CLS, SEP, PAD
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def tiny_packed(sizes: tuple[int, ...] = (9, 11), length: int = 24, seed: int = 0) -> dict[str, torch.Tensor]:
    """One row that holds several documents and padding, as packing makes it."""
    ids = torch.full((1, length), PAD)
    document_ids, position_ids = torch.zeros_like(ids), torch.zeros_like(ids)
    start = 0
    for number, size in enumerate(sizes, start=1):
        document = slice(start, start + size)
        ids[0, document] = tiny_text(1, size, seed + number)["input_ids"][0]
        document_ids[0, document] = number
        position_ids[0, document] = torch.arange(size)
        start += size
    return {"input_ids": ids, "document_ids": document_ids, "position_ids": position_ids}


def tiny_tokenizer(folder: Path | None = None) -> BertTokenizer:
    """A WordPiece tokenizer of the tiny vocabulary, written into `folder`."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokens += [f"w{number}" for number in range(VOCABULARY - len(tokens))]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}, model_max_length=64)
    if folder is not None:
        tokenizer.save_pretrained(folder)
    return tokenizer


def uniforms_for(input_ids: torch.Tensor, probability: float = 0.15, seed: int = 0) -> torch.Tensor:
    count = number_of_uniforms(input_ids.shape[1], probability)
    return torch.rand(len(input_ids), count, generator=torch.Generator().manual_seed(seed))


def stock_discriminator_logits(model: ElectraRtdForPreTraining, input_ids, attention_mask=None) -> torch.Tensor:
    """ELECTRA by its stock class; other families by their stock encoder and ELECTRA's head, written out."""
    others = ("generator.", "feedback.")
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(others)}
    config = copy.deepcopy(model.config.discriminator_config)
    if config.model_type == "electra":
        stock = ElectraForPreTraining(config).eval()
        stock.load_state_dict(state)
        return stock(input_ids, attention_mask=attention_mask).logits
    head = {name: state.pop(name) for name in list(state) if name.startswith("discriminator_predictions.")}
    stock = AutoModel.from_config(config).eval()
    prefix = stock.base_model_prefix + "."
    stock.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    hidden = stock(input_ids, attention_mask=attention_mask).last_hidden_state
    dense, last = "discriminator_predictions.dense.", "discriminator_predictions.dense_prediction."
    activation = ACT2FN[getattr(config, "hidden_act", None) or config.hidden_activation]
    hidden = activation(hidden @ head[dense + "weight"].T + head[dense + "bias"])
    return (hidden @ head[last + "weight"].T + head[last + "bias"]).squeeze(-1)


def stock_generator(model: ElectraRtdForPreTraining) -> PreTrainedModel:
    """The stock masked-LM model with the pair's weights; a key too many or too few is an error."""
    stock = AutoModelForMaskedLM.from_config(copy.deepcopy(model.generator.config))
    stock.load_state_dict(model.generator.state_dict())
    return stock.eval()


def assert_tied(model: ElectraRtdForPreTraining) -> None:
    ours = dict(model.encoder.embeddings.named_parameters())
    theirs = dict(model.generator.encoder.embeddings.named_parameters())
    expected = {"electra": 5, "modernbert": 2}[model.config.discriminator_config.model_type]
    assert len(ours) == expected and ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    words = model.get_input_embeddings().weight
    assert model.generator.get_input_embeddings().weight is words
    assert model.generator.get_output_embeddings().weight is words
    # One parameter for the optimiser, under one name.
    assert sum(p is words for p in model.parameters()) == 1
