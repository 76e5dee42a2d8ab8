"""Families outside the table: what is found out about them, and what they are refused for."""

import pytest
import torch
from helpers.tiny import ALL_FAMILIES, OBJECTIVE, PAD, VOCABULARY, randomize, tiny_config, tiny_packed, tiny_text
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining, ElectraRtdGenerator
from modeling_electra_rtd.model import derived_backbones
from modeling_electra_rtd.model.backbones import BACKBONES, backbone_config, backbone_of, discriminator_architecture_of
from modeling_electra_rtd.model.cpu_attention import use_cpu_layers
from modeling_electra_rtd.model.derived_backbones import derived_backbone
from modeling_electra_rtd.model.stock_models import Backbone


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
}
# By family: what differs from the sizes, and what is found out.
FOUND = {
    "eurobert": ({"mask_token_id": 4}, {"layer_class": "EuroBertDecoderLayer", "embeddings": "embed_tokens"}),
    # Its table begins with two rows of padding, and only token 1 is padding to it.
    "mpnet": ({"pad_token_id": 1}, {"layer_class": "MPNetLayer", "first_row": 2, "unused": ("pooler",)}),
    # A field of its config, `temperature`, is elsewhere one of generation.
    "tapas": ({}, {"layer_class": "TapasLayer", "unused": ("pooler",)}),
    "albert": ({"embedding_size": 16}, {"layer_class": "AlbertLayerGroup", "unused": ("pooler",)}),
    "deberta": (
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
        {"layer_class": "DebertaLayer", "document_mask": "boolean", "autocast": False},
    ),
    "megatron-bert": ({}, {"layer_class": "MegatronBertLayer", "unused": ("pooler",)}),
}


def outside_config(family: str) -> PreTrainedConfig:
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if family != "eurobert" else {}
    return AutoConfig.for_model(family, **SIZES | dropout | FOUND[family][0])


@pytest.mark.parametrize("family", FOUND)
def test_what_is_found_out(family):
    assert family not in BACKBONES
    config = outside_config(family)
    architecture = MODEL_MAPPING[type(config)].__name__
    assert derived_backbone(config) == Backbone(discriminator_architecture=architecture, **FOUND[family][1])
    assert discriminator_architecture_of(family) == architecture


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_table_says_what_would_be_found_out(family):
    found = derived_backbone(tiny_config(family))
    # The rest is the literature's: generators, vocabularies, and a stock class for ELECTRA's discriminator.
    names = (
        "layer_class",
        "embeddings",
        "document_mask",
        "positions_follow_padding",
        "first_row",
        "unused",
        "autocast",
    )
    assert [getattr(found, name) for name in names] == [getattr(BACKBONES[family], name) for name in names]


@pytest.mark.parametrize(
    ("family", "pad_token_id"), [("mpnet", 1), *(("data2vec-text", token_id) for token_id in (0, 1, 3, 40, 140))]
)
def test_positions_begin_at_the_row_that_the_stock_class_reads(family, pad_token_id):
    sizes = {"pad_token_id": pad_token_id, "max_position_embeddings": VOCABULARY}
    config = AutoConfig.for_model(family, **SIZES | sizes)
    encoder = AutoModel.from_config(config)
    rows = []
    encoder.embeddings.position_embeddings.register_forward_pre_hook(lambda _, inputs: rows.extend(inputs[0][0]))
    encoder(torch.full((1, 3), 7))
    assert rows[0] == backbone_of(config).first_position(config)


def test_a_class_that_knows_padding_by_an_id_of_its_own_is_refused_another():
    with pytest.raises(ValueError, match="pad_token_id is 0, and mpnet takes token 1 for padding whatever it is; use"):
        backbone_of(AutoConfig.for_model("mpnet", **SIZES | {"pad_token_id": 0}))


@pytest.mark.parametrize(("layers", "groups"), [(4, 4), (4, 3), (6, 2)])
def test_layers_that_share_weights_may_need_to_be_many_to_use_them_all(layers, groups):
    config = outside_config("albert")
    config.num_hidden_layers, config.num_hidden_groups = layers, groups
    assert derived_backbone(config) == derived_backbone(outside_config("albert"))
    pair = ElectraRtdForPreTraining(ElectraRtdConfig.from_discriminator(config, generator_depth=1, **OBJECTIVE))
    pair(**tiny_packed()).loss.backward()
    assert all(parameter.grad is not None for parameter in pair.parameters())


def test_weights_that_no_layer_uses_are_refused_whatever_was_found_of_deeper_models():
    config = outside_config("albert")
    config.num_hidden_layers = config.num_hidden_groups = 4
    derived_backbone(config)
    refused = "with num_hidden_layers 2 no gradient of the last hidden states reaches encoder.albert_layer_groups.1"
    with pytest.raises(ValueError, match=f"generator_depth 0.5: model_type 'albert' .*{refused}"):
        ElectraRtdConfig.from_discriminator(config, **OBJECTIVE)
    config.num_hidden_layers = 2
    for _ in range(2):
        with pytest.raises(ValueError, match=f"'albert' cannot be pre-trained with RTD: {refused}"):
            derived_backbone(config)


@pytest.mark.parametrize("family", FOUND)
def test_a_family_outside_the_table_is_pretrained_saved_and_read_back(family, tmp_path):
    torch.manual_seed(0)
    config = ElectraRtdConfig.from_discriminator(outside_config(family), **OBJECTIVE)
    assert config.generator_config.num_hidden_layers == 2
    pair = randomize(ElectraRtdForPreTraining(config)).eval()
    packed, batch = tiny_packed(), tiny_text()
    with torch.no_grad():
        together = pair.discriminate(**packed)
        start = 0
        for size in (9, 11):
            document = slice(start, start + size)
            ids = packed["input_ids"][:, document]
            alone = pair.discriminator_predictions(pair.encoder(ids).last_hidden_state)
            torch.testing.assert_close(together[:, document], alone, atol=1e-5, rtol=1e-5)
            start += size
        stock = AutoModelForMaskedLM.from_config(config.generator_config).eval()
        stock.load_state_dict(pair.generator.state_dict())
        assert torch.equal(pair.generator(batch["input_ids"]).logits, stock(batch["input_ids"]).logits)
    pair(**packed).loss.backward()
    assert all(parameter.grad is not None for parameter in pair.parameters())
    assert pair.generator.get_input_embeddings() is pair.get_input_embeddings()
    pair.save_pretrained(tmp_path)
    encoder, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    with torch.no_grad():
        expected = pair.encoder(batch["input_ids"]).last_hidden_state
        torch.testing.assert_close(encoder(batch["input_ids"]).last_hidden_state, expected)
    loaded, info = ElectraRtdForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert all(torch.equal(value, pair.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("family", FOUND)
def test_a_family_outside_the_table_takes_a_step_as_the_trainer_runs_it(family):
    torch.manual_seed(0)
    pair = ElectraRtdForPreTraining(ElectraRtdConfig.from_discriminator(outside_config(family), **OBJECTIVE)).eval()
    packed = tiny_packed()
    tokens = packed["document_ids"] > 0
    with torch.no_grad():
        expected = pair.discriminate(**packed)
    use_cpu_layers(pair)
    with torch.autocast("cpu", torch.bfloat16):
        found = pair.discriminate(**packed)
        pair(**packed).loss.backward()
    # Three digits of bf16, of the largest score.
    difference = (found - expected)[tokens].abs().max()
    assert difference <= 0.02 * expected[tokens].abs().max()
    assert all(parameter.grad is not None for parameter in pair.parameters())


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        (
            "gpt2",
            "'gpt2' cannot be pre-trained with RTD: it reads a text from one side: it has no masked-LM class",
        ),
        ("bart", "'bart' cannot be pre-trained with RTD: it is an encoder with a decoder"),
        ("vit", "'vit' cannot be pre-trained with RTD: it has no masked-LM class in transformers"),
        ("fnet", "its config has no num_attention_heads"),
        ("funnel", "it has several encoders"),
        ("xlm", "the head of XLMWithLMHeadModel needs more than the last hidden states"),
        ("convbert", "ConvBertModel reads packed documents differently than alone"),
    ],
)
def test_a_family_is_refused_with_what_is_missing(model_type, message):
    small = {
        "convbert": {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 32},
        "xlm": {"emb_dim": 32, "n_heads": 4},
    }.get(model_type, {})
    with pytest.raises(ValueError, match=message):
        backbone_config({"model_type": model_type, **small})


class AverageConfig(PreTrainedConfig):
    """Of the encoder below, which adds to every token the mean of its document."""

    model_type = "average"
    vocab_size: int = VOCABULARY
    hidden_size: int = 8
    num_hidden_layers: int = 2
    num_attention_heads: int = 1
    tie_word_embeddings: bool = True


class AverageLayer(GradientCheckpointingLayer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden, document_ids):
        same = (document_ids[:, :, None] == document_ids[:, None, :]).float()
        return hidden + self.dense(same @ hidden / same.sum(dim=2, keepdim=True))


class AverageModel(PreTrainedModel):
    config_class = AverageConfig
    base_model_prefix = "average"

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([AverageLayer(config) for _ in range(config.num_hidden_layers)])
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, input_ids, attention_mask=None, document_ids=None):
        hidden = self.embeddings(input_ids)
        if document_ids is None:
            document_ids = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        for layer in self.layers:
            hidden = layer(hidden, document_ids)
        return BaseModelOutput(last_hidden_state=hidden)


class AverageForMaskedLM(PreTrainedModel):
    config_class = AverageConfig
    base_model_prefix = "average"
    _tied_weights_keys = {"decoder.weight": "average.embeddings.weight"}
    scale = 1.0

    def __init__(self, config):
        super().__init__(config)
        self.average = AverageModel(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self):
        return self.decoder

    def forward(self, input_ids, attention_mask=None):
        logits = self.decoder(self.average(input_ids, attention_mask).last_hidden_state)
        return MaskedLMOutput(logits=self.scale * logits)


@pytest.fixture
def average(monkeypatch):
    """The encoder above, registered as anybody registers one."""
    AutoConfig.register("average", AverageConfig, exist_ok=True)
    AutoModel.register(AverageConfig, AverageModel, exist_ok=True)
    AutoModelForMaskedLM.register(AverageConfig, AverageForMaskedLM, exist_ok=True)
    monkeypatch.setattr(derived_backbones, "_derived", {})
    return AverageConfig()


def test_an_encoder_of_ones_own_takes_a_row_of_the_table(average, monkeypatch, tmp_path):
    # It knows no mask of pairs of positions, so it is refused until its row says how it tells documents apart.
    with pytest.raises(ValueError, match="'average' cannot be .*AverageModel reads packed documents differently"):
        ElectraRtdConfig.from_discriminator(average, **OBJECTIVE)
    row = Backbone(layer_class="AverageLayer", discriminator_architecture="AverageModel", document_mask="document_ids")
    monkeypatch.setitem(BACKBONES, "average", row)
    pair = randomize(ElectraRtdForPreTraining(ElectraRtdConfig.from_discriminator(average, **OBJECTIVE)))
    packed = tiny_packed()
    with torch.no_grad():
        hidden = pair.encode(pair.encoder, packed["input_ids"], None, packed["document_ids"])
        torch.testing.assert_close(hidden[:, :9], pair.encoder(packed["input_ids"][:, :9]).last_hidden_state)
    pair(**packed).loss.backward()
    pair.save_pretrained(tmp_path)
    _, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    loaded, info = ElectraRtdForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()) and type(loaded.generator) is ElectraRtdGenerator


def test_a_head_that_is_more_than_its_layers_is_refused(average, monkeypatch):
    monkeypatch.setattr(AverageForMaskedLM, "scale", 2.0)
    with pytest.raises(ValueError, match="the head of AverageForMaskedLM needs more than the last hidden states"):
        backbone_of(average)


def test_a_model_without_its_encoder_is_refused(average, monkeypatch):
    monkeypatch.setattr(AverageForMaskedLM, "base_model_prefix", "model")
    with pytest.raises(ValueError, match="AverageForMaskedLM holds no AverageModel under 'model'"):
        backbone_of(average)


def test_a_weight_that_is_used_in_part_of_a_block_is_refused(average, monkeypatch):
    built = AverageModel.__init__

    def with_one_more(self, config):
        built(self, config)
        self.layers[0].unused = nn.Linear(2, 2)

    monkeypatch.setattr(AverageModel, "__init__", with_one_more)
    with pytest.raises(ValueError, match="no gradient of the last hidden states reaches layers.0.unused.weight"):
        backbone_of(average)


def test_finding_out_leaves_no_trace(average, monkeypatch):
    config = outside_config("megatron-bert")
    expected = derived_backbone(config)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for surroundings in (torch.device("meta"), FakeTensorMode(), torch.no_grad()):
        derived_backbones._derived.clear()
        with surroundings:
            assert derived_backbone(config) == expected
    assert torch.equal(torch.get_rng_state(), state)
    # Found out once, whatever the size of the network or the vocabulary.
    monkeypatch.setattr(derived_backbones, "_derive", None)
    config.vocab_size, config.num_hidden_layers = 7000, 9
    config._attn_implementation = "flash_attention_2"
    assert derived_backbone(config) == expected
    assert MODEL_FOR_MASKED_LM_MAPPING[type(config)].__name__ == "MegatronBertForMaskedLM"
