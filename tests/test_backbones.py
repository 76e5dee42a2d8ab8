"""The table of encoder families, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import transformers
from helpers.tiny import (
    ALL_FAMILIES,
    DEBERTA_V3,
    OBJECTIVE,
    tiny_config,
    tiny_electra_config,
    tiny_modernbert_config,
    tiny_text,
)
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, ElectraConfig

from modeling_electra_rtd import ElectraRtdConfig
from modeling_electra_rtd.model.backbones import (
    BACKBONES,
    backbone_config,
    backbone_of,
    build_encoder,
    check_row_length,
    check_sizes,
    config_from,
    discriminator_architecture_of,
    generator_config_for,
    longest_row,
)
from modeling_electra_rtd.model.suggestions import nearest


MODELS = Path(__file__).parents[1] / "configuration" / "models"


def test_the_table_names_what_stock_models_are_made_of():
    # The recurrent family, which is no stock one, has tests of its own.
    assert set(BACKBONES) == {*ALL_FAMILIES, "gru_encoder"}
    for family in ALL_FAMILIES:
        backbone = backbone_of(tiny_config(family))
        model = AutoModel.from_config(tiny_config(family))
        layers = [module for module in model.modules() if type(module).__name__ == backbone.layer_class]
        assert len(layers) == 3
        # A generator is narrower than its embeddings only where the stock encoder projects them, behind the block.
        assert hasattr(model, "embeddings_project") == backbone.narrows
        assert hasattr(transformers, backbone.discriminator_architecture)
        if family != "electra":
            assert backbone.discriminator_architecture == type(model).__name__ == discriminator_architecture_of(family)
        assert (getattr(model, "pooler", None) is not None) == (backbone.unused == ("pooler",))
        tables = [m for n, m in model.named_modules() if isinstance(m, nn.Embedding) and n.endswith("n_embeddings")]
        follows = [table.padding_idx is not None for table in tables if table.num_embeddings == 64]
        assert backbone.positions_follow_padding == any(follows)


@pytest.mark.parametrize("family", ["roberta", "camembert", "xlm-roberta"])
def test_the_longest_row_is_what_padding_leaves_of_the_table(family):
    config = tiny_config(family, pad_token_id=1, max_position_embeddings=20)
    assert longest_row(config) == 18
    encoder = AutoModel.from_config(config).eval()
    encoder(torch.full((1, 18), 7))
    with pytest.raises((IndexError, RuntimeError), match="index"):
        encoder(torch.full((1, 19), 7))
    assert longest_row(tiny_config("bert", max_position_embeddings=20)) == 20
    assert longest_row(AutoConfig.for_model("t5")) is None
    assert longest_row(AutoConfig.for_model("xlnet")) is None
    with pytest.raises(ValueError, match=f"pad_token_id is None, and {family} counts positions from it"):
        backbone_of(tiny_config(family, pad_token_id=None))


SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("family", "longest"),
    [
        *(("data2vec-text", 18), ("roberta-prelayernorm", 18), ("xlm-roberta-xl", 18), ("mpnet", 18)),
        *(("bert", 20), ("albert", 20), ("roformer", 20), ("deberta-v2", 20)),
        # RTD cannot pre-train these.
        *(("luke", 18), ("distilbert", 20), ("gpt2", 20)),
    ],
)
def test_rows_are_as_long_as_the_stock_class_has_positions(family, longest):
    config = AutoConfig.for_model(family, vocab_size=99, pad_token_id=1, max_position_embeddings=20, **SIZES)
    assert longest_row(config) == longest
    check_row_length(config, longest)
    of_padding = ", 2 of them padding's" if longest < 20 else ""
    message = f"max_length is {longest + 1}, but the encoder has max_position_embeddings 20{of_padding}$"
    with pytest.raises(ValueError, match=message):
        check_row_length(config, longest + 1)
    encoder = AutoModel.from_config(config).eval()
    encoder(torch.full((1, longest), 7))
    with pytest.raises((IndexError, RuntimeError)):
        encoder(torch.full((1, longest + 1), 7))


@pytest.mark.parametrize("family", ["modernbert", "nomic_bert", "deberta-v2", "gte", "jina_embeddings_v3"])
def test_rows_have_no_end_without_a_table_of_positions(family):
    tokens = {f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "cls", "sep")}
    relative = DEBERTA_V3 if family == "deberta-v2" else {}
    sizes = {"vocab_size": 99, "max_position_embeddings": 20}
    config = AutoConfig.for_model(family, **sizes, **SIZES, **tokens, **relative)
    assert longest_row(config) == 20
    check_row_length(config, 100)
    assert AutoModel.from_config(config)(torch.full((1, 100), 7)).last_hidden_state.isfinite().all()


def test_a_published_vocabulary_brings_its_special_tokens():
    for family, size, mask, special in (
        ("bert", 30522, 103, [0, 101, 102, 103]),
        ("bert", 28996, 103, [0, 101, 102, 103]),
        ("roberta", 50265, 50264, [0, 1, 2, 50264]),
        ("camembert", 32005, 32004, [1, 5, 6, 32004]),
        ("xlm-roberta", 250002, 250001, [0, 1, 2, 250001]),
        ("deberta-v2", 128100, 128000, [0, 1, 2, 128000]),
        ("nomic_bert", 30528, 103, [0, 101, 102, 103]),
    ):
        config = ElectraRtdConfig.from_discriminator(tiny_config(family, vocab_size=size))
        assert (config.mask_token_id, config.special_token_ids) == (mask, special)
    assert ElectraRtdConfig.from_discriminator(tiny_config("roformer")).mask_token_id is None


def test_the_fields_of_a_debertav3_checkpoint_are_fields_of_a_recipe():
    # Stock DebertaV2Config declares none of them, and its model reads them.
    config = backbone_config({"model_type": "deberta-v2", "hidden_size": 32, "num_attention_heads": 4, **DEBERTA_V3})
    encoder = AutoModel.from_config(config).encoder
    assert encoder.rel_embeddings.num_embeddings == 8 and hasattr(encoder, "LayerNorm")
    assert not hasattr(encoder.layer[0].attention.self, "pos_key_proj")


@pytest.mark.parametrize(
    ("family", "field", "message"),
    [
        ("roformer", {"rotary_value": True}, "roformer with rotary_value True cannot keep packed documents apart"),
        ("deberta-v2", {"conv_kernel_size": 3}, "deberta-v2 with conv_kernel_size 3 cannot keep packed documents"),
        ("bert", {"is_decoder": True}, "bert with is_decoder True reads a text from one side"),
    ],
)
def test_what_would_train_wrongly_is_refused(family, field, message):
    config = tiny_config(family, **field)
    with pytest.raises(ValueError, match=message):
        backbone_of(config)
    with pytest.raises(ValueError, match=message):
        build_encoder(config)
    with pytest.raises(ValueError, match=message):
        ElectraRtdConfig(discriminator_config=tiny_config(family), generator_config=config, **OBJECTIVE)
    with pytest.raises(ValueError, match=message):
        backbone_config({"model_type": family, **field})


def test_the_nearest_name_is_suggested():
    assert nearest("hiden_size", ["hidden_size", "vocab_size"]) == "; did you mean 'hidden_size'?"
    assert nearest("xyz", ["b", "a"]) == "; allowed: a, b"


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_config_from_values_is_the_stock_one(family):
    config = tiny_config(family)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values = {
        name: value
        for name, value in values.items()
        if name in ("vocab_size", "hidden_size", "num_attention_heads", "pad_token_id")
    }
    stock = type(config)(**values)
    assert backbone_config({"model_type": family, **values}).to_dict() == stock.to_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "electr"}, "'electr' is not a backbone; did you mean 'electra'?"),
        ({"hidden_size": 8}, "None is not a backbone; allowed: bert, camembert, deberta-v2, electra, gru_encoder, "),
        ({"model_type": "deberta-v2", "position_bucket": 8}, "deberta-v2 field 'position_bucket'; did you mean 'pos"),
        ({"model_type": "deberta-v2", "share_att_key": "yes"}, "share_att_key is 'yes'; it must be of type bool"),
        ({"model_type": "t5"}, "'t5' cannot be pre-trained with RTD: it is an encoder with a decoder"),
        ({"model_type": "electra", "hiden_size": 8}, "electra field 'hiden_size'; did you mean 'hidden_size'?"),
        ({"model_type": "modernbert", "embedding_size": 8}, "unknown modernbert field 'embedding_size'"),
        ({"model_type": "electra", "hidden_size": "wide"}, "electra config: .*hidden_size.*wide"),
        ({"model_type": "esm", "hidden_size": 32}, "vocab_size is None; it must be at least 1"),
        (
            {"model_type": "roformer", "hidden_size": 22, "num_attention_heads": 2},
            "size 22 .*heads 11 wide, and roform",
        ),
        ({"model_type": "modernbert", "hidden_size": 22, "num_attention_heads": 2}, "heads 11 wide.*must be even"),
        ({"model_type": "electra", "num_hidden_layers": 0}, "num_hidden_layers is 0; it must be at least 1"),
        ({"model_type": "electra", "hidden_size": 10, "num_attention_heads": 4}, "num_attention_heads 4 .*size 10"),
        ({"model_type": "modernbert", "hidden_size": 10, "num_attention_heads": 4}, "num_attention_heads.*10"),
    ],
)
def test_impossible_values_are_refused_with_key_and_value(values, message):
    with pytest.raises(ValueError, match=message):
        backbone_config(values)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"])
def test_sizes_below_one_are_refused(name):
    config = tiny_electra_config()
    check_sizes(config)
    setattr(config, name, 0)
    with pytest.raises(ValueError, match=f"{name} is 0"):
        check_sizes(config)


@pytest.mark.parametrize(
    # ELECTRA paper, table 6: the generator of Small is a quarter of it, of Base a third, of Large a quarter.
    ("name", "width", "hidden", "heads", "intermediate", "layers"),
    [
        ("small", 0.25, 64, 1, 256, 12),
        ("base", 1 / 3, 256, 4, 1024, 12),
        ("large", 0.25, 256, 4, 1024, 24),
    ],
)
def test_generators_have_the_papers_sizes(name, width, hidden, heads, intermediate, layers):
    values = json.loads((MODELS / f"{name}.json").read_text(encoding="utf-8"))
    discriminator = backbone_config(values)
    before = discriminator.to_dict()
    generator = generator_config_for(discriminator, generator_width=width)
    found = (generator.hidden_size, generator.num_attention_heads, generator.intermediate_size)
    assert found == (hidden, heads, intermediate)
    assert generator.num_hidden_layers == layers
    assert generator.embedding_size == discriminator.embedding_size
    assert discriminator.to_dict() == before


def test_defaults_are_a_quarter_of_the_width_for_electra_and_half_the_depth_for_modernbert():
    assert generator_config_for(ElectraConfig()).hidden_size == 64
    generator = generator_config_for(tiny_modernbert_config(num_hidden_layers=6))
    assert (generator.hidden_size, generator.num_hidden_layers) == (32, 3)
    # Layer by layer as deep ones begin, not as a config of this depth would be made.
    source = tiny_modernbert_config(num_hidden_layers=6, layer_types=["sliding_attention", "full_attention"] * 3)
    assert generator_config_for(source).layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
    assert AutoModel.from_config(generator_config_for(source)).layers[1].attention_type == "full_attention"


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_by_default_a_generator_is_narrower_where_embeddings_are_projected_and_half_as_deep_elsewhere(family):
    discriminator = tiny_config(family, num_hidden_layers=6)
    generator = generator_config_for(discriminator)
    narrows = family in ("electra", "roformer")
    assert (generator.hidden_size, generator.num_hidden_layers) == ((8, 6) if narrows else (32, 3))
    embeddings = [
        getattr(AutoModel.from_config(config), BACKBONES[family].embeddings).state_dict()
        for config in (discriminator, generator)
    ]
    assert {name: value.shape for name, value in embeddings[0].items()} == {
        name: value.shape for name, value in embeddings[1].items()
    }
    deeper = generator_config_for(discriminator, generator_depth=2 / 3)
    assert deeper.num_hidden_layers == 4
    logits = AutoModelForMaskedLM.from_config(deeper)(**tiny_text()).logits
    assert logits.isfinite().all()


def test_a_block_that_projects_inside_is_shared_only_at_equal_width():
    wide, narrow = (tiny_config("deberta-v2", embedding_size=16, hidden_size=size) for size in (32, 16))
    with pytest.raises(ValueError, match=r"equal embeddings\.LayerNorm\.weight, but .* \(32,\) and .* \(16,\); use"):
        ElectraRtdConfig(discriminator_config=wide, generator_config=narrow, **OBJECTIVE)
    ElectraRtdConfig(discriminator_config=wide, generator_config=narrow, embedding_sharing="none", **OBJECTIVE)


@pytest.mark.parametrize(
    ("family", "fractions", "message"),
    [
        ("electra", {"generator_width": 0}, "generator_width is 0"),
        ("electra", {"generator_width": 1.5}, "generator_width is 1.5"),
        ("electra", {"generator_depth": -0.5}, "generator_depth is -0.5"),
        ("modernbert", {"generator_width": 0.5}, "generator_width is 0.5, but modernbert.*use generator_depth"),
    ],
)
def test_generators_that_cannot_be(family, fractions, message):
    with pytest.raises(ValueError, match=message):
        generator_config_for(tiny_config(family), **fractions)


def test_narrowing_that_its_heads_do_not_divide_is_refused():
    # 0.3 of 40 with 8 heads is 12 with 2; 0.4 of 40 with 8 heads is 16 with 3.
    discriminator = tiny_electra_config(hidden_size=40, num_attention_heads=8)
    assert generator_config_for(discriminator, 0.3).hidden_size == 12
    with pytest.raises(ValueError, match="num_attention_heads 3 does not divide hidden_size 16"):
        generator_config_for(discriminator, 0.4)
    # 0.34 of 32 with 2 heads is 11 with 1.
    rotary = tiny_config("roformer", num_attention_heads=2)
    with pytest.raises(
        ValueError, match="hidden_size 11 with num_attention_heads 1 makes heads 11 wide, and roformer"
    ):
        generator_config_for(rotary, 0.34)
    assert generator_config_for(tiny_electra_config(num_attention_heads=2), 0.34).hidden_size == 11


def test_config_of_an_object_or_a_folder(tmp_path):
    config = tiny_electra_config(hidden_size=48)
    assert config_from(config) is config
    config.save_pretrained(tmp_path)
    assert config_from(str(tmp_path)).hidden_size == 48
