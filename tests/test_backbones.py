"""The table of encoder families, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest
import transformers
from tiny import FAMILIES, tiny_config, tiny_electra_config, tiny_modernbert_config
from transformers import AutoModel, BertConfig, ElectraConfig

from modeling_electra_rtd.backbones import (
    BACKBONES,
    backbone_config,
    backbone_of,
    check_sizes,
    config_from,
    generator_config_for,
    nearest,
)


MODELS = Path(__file__).parents[1] / "configuration" / "models"


def test_the_table_names_what_stock_models_are_made_of():
    assert set(BACKBONES) == set(FAMILIES)
    for family in FAMILIES:
        backbone = backbone_of(tiny_config(family))
        model = AutoModel.from_config(tiny_config(family))
        layers = [module for module in model.modules() if type(module).__name__ == backbone.layer_class]
        assert len(layers) == 3
        # A generator is narrower than its embeddings only where the stock encoder projects them.
        wide = {"embedding_size": 16} if family == "electra" else {}
        assert hasattr(AutoModel.from_config(tiny_config(family, **wide)), "embeddings_project") == backbone.narrows
        assert hasattr(transformers, backbone.discriminator_architecture)


def test_a_family_that_is_not_in_the_table_is_refused_by_name():
    with pytest.raises(ValueError, match="'bert' has no RTD backbone here; .*modernbert"):
        backbone_of(BertConfig())


def test_the_nearest_name_is_suggested():
    assert nearest("hiden_size", ["hidden_size", "vocab_size"]) == "; did you mean 'hidden_size'?"
    assert nearest("xyz", ["b", "a"]) == "; allowed: a, b"


@pytest.mark.parametrize("family", FAMILIES)
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
        ({"hidden_size": 8}, "None is not a backbone; allowed: electra, modernbert"),
        ({"model_type": "electra", "hiden_size": 8}, "electra field 'hiden_size'; did you mean 'hidden_size'?"),
        ({"model_type": "modernbert", "embedding_size": 8}, "unknown modernbert field 'embedding_size'"),
        ({"model_type": "electra", "hidden_size": "wide"}, "electra config: .*hidden_size.*wide"),
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


def test_config_of_an_object_or_a_folder(tmp_path):
    config = tiny_electra_config(hidden_size=48)
    assert config_from(config) is config
    config.save_pretrained(tmp_path)
    assert config_from(str(tmp_path)).hidden_size == 48
