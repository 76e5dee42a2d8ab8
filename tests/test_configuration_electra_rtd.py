"""One config for two networks: what it refuses, and that it is native on disk and itself when read back."""

import copy
import json
import pickle

import pytest
from helpers.tiny import (
    FAMILIES,
    MASK,
    OBJECTIVE,
    SPECIAL,
    UNK,
    tiny_config,
    tiny_electra_config,
    tiny_modernbert_config,
    tiny_pair,
    tiny_tokenizer,
)
from transformers import AutoConfig, BertTokenizer, ElectraConfig, GPT2Config, ModernBertConfig

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.model.checkpoint_layout import native_config
from modeling_electra_rtd.model.configuration_electra_rtd import special_tokens_of


CHANGED = {
    "mask_probability": 0.25,
    "mask_token_probability": 1.0,
    "sampling_temperature": 0.5,
    "generator_loss_weight": 2.0,
    "discriminator_loss_weight": 25.0,
    "embedding_sharing": "none",
}


def test_defaults_are_the_references():
    config = ElectraRtdConfig(discriminator_config=ElectraConfig())
    found = {name: getattr(config, name) for name in CHANGED}
    assert found == {
        "mask_probability": 0.15,
        "mask_token_probability": 0.85,
        "sampling_temperature": 1.0,
        "generator_loss_weight": 1.0,
        "discriminator_loss_weight": 50.0,
        "embedding_sharing": "tied",
    }
    # The published uncased vocabulary: padding, classifier, separator and mask, but not [UNK], which is 100.
    assert (config.mask_token_id, config.special_token_ids) == (103, [0, 101, 102, 103])
    modern = ElectraRtdConfig(discriminator_config=ModernBertConfig())
    assert (modern.mask_token_id, modern.special_token_ids) == (50284, [50281, 50282, 50283, 50284])


def test_special_tokens_of_another_vocabulary_come_from_its_tokenizer():
    without = ElectraRtdConfig.from_discriminator(tiny_electra_config())
    assert (without.mask_token_id, without.special_token_ids) == (None, None)
    tokenizer = tiny_tokenizer()
    config = ElectraRtdConfig.from_discriminator(tiny_electra_config(), tokenizer=tokenizer)
    assert (config.mask_token_id, config.special_token_ids) == (MASK, SPECIAL)
    assert UNK not in config.special_token_ids and tokenizer.unk_token_id == UNK
    # A published vocabulary with other tokens in its place.
    own = ElectraRtdConfig(discriminator_config=ElectraConfig(), mask_token_id=7, special_token_ids=[9, 7, 7])
    assert (own.mask_token_id, own.special_token_ids) == (7, [7, 9])


def test_a_tokenizer_without_a_mask_token_is_refused():
    tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "a": 2}, mask_token=None)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="has no mask token"):
        special_tokens_of(tokenizer)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask_probabilty": 0.2}, "unknown ElectraRtdConfig key 'mask_probabilty'; did you mean 'mask_probability'?"),
        ({"mask_probability": 0.0}, "mask_probability is 0.0; it must be in"),
        ({"mask_probability": 1.1}, "mask_probability is 1.1"),
        ({"mask_probability": float("nan")}, "mask_probability is nan"),
        ({"mask_token_probability": -0.1}, "mask_token_probability is -0.1"),
        ({"sampling_temperature": 0}, "sampling_temperature is 0; it must be above 0"),
        ({"generator_loss_weight": -1}, "generator_loss_weight is -1; it must not be negative"),
        ({"discriminator_loss_weight": -50.0}, "discriminator_loss_weight is -50.0"),
        ({"special_token_ids": [3, 150]}, r"special token ids \[150\] are outside the vocabulary of 150"),
        ({"mask_token_id": -1}, r"special token ids \[-1\]"),
        ({"generator_config": tiny_electra_config(vocab_size=160)}, "vocab_size 160 differs .*vocab_size 150"),
        ({"generator_config": tiny_electra_config(embedding_size=8)}, "equal embedding_size.*has 16.*generator 8"),
        (
            {"generator_config": tiny_electra_config(max_position_embeddings=32)},
            "equal max_position_embeddings.*64.*32",
        ),
        ({"generator_config": tiny_electra_config(type_vocab_size=1)}, "equal type_vocab_size.*2.*1"),
        ({"generator_config": tiny_modernbert_config()}, "one family, not 'electra' and 'modernbert'"),
        ({"generator_config": tiny_electra_config(num_attention_heads=5)}, "generator: num_attention_heads 5"),
        ({"generator_config": {"hidden_size": 8}}, "generator_config is None; it must be a stock config"),
        ({"generator_config": GPT2Config(vocab_size=150)}, "'gpt2' cannot be pre-trained with RTD: it reads"),
        ({"discriminator_config": None}, "discriminator_config is None"),
        ({"discriminator_config": {"model_type": "elektra"}}, "discriminator_config is 'elektra'"),
        ({"discriminator_config": tiny_electra_config(num_attention_heads=5)}, "num_attention_heads 5 .*size 32"),
    ],
)
def test_impossible_combinations_are_refused_with_key_and_value(values, message):
    with pytest.raises(ValueError, match=message):
        ElectraRtdConfig(**{"discriminator_config": tiny_electra_config(), **values})


@pytest.mark.parametrize("values", [{"mask_probability": "0.15"}, {"embedding_sharing": "tide"}])
def test_wrong_types_are_refused_with_the_key(values):
    with pytest.raises(Exception, match=next(iter(values))):
        ElectraRtdConfig(discriminator_config=tiny_electra_config(), **values)


def test_different_tables_are_possible_when_they_are_not_shared():
    generator = tiny_electra_config(embedding_size=8, max_position_embeddings=32)
    config = ElectraRtdConfig(
        discriminator_config=tiny_electra_config(), generator_config=generator, embedding_sharing="none"
    )
    assert config.generator_config.embedding_size == 8
    # Rotary positions have no table.
    modern = ElectraRtdConfig(
        discriminator_config=tiny_modernbert_config(),
        generator_config=tiny_modernbert_config(max_position_embeddings=32),
    )
    assert modern.generator_config.max_position_embeddings == 32


def test_what_is_not_its_own_is_the_discriminators():
    config = ElectraRtdConfig.from_discriminator(tiny_electra_config(hidden_size=48))
    assert config.hidden_size == 48 and config.vocab_size == 150
    config.discriminator_config.vocab_size = 151
    assert config.vocab_size == 151
    with pytest.raises(AttributeError, match="hiden_size"):
        config.hiden_size  # noqa: B018


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objective", [{}, CHANGED], ids=["default", "changed"])
def test_on_disk_it_is_native_and_read_back_the_same(family, objective, tmp_path):
    config = ElectraRtdConfig.from_discriminator(
        tiny_config(family, hidden_size=64), generator_depth=2 / 3, **OBJECTIVE | objective
    )
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written["model_type"] == family
    expected = {"electra": "ElectraForPreTraining", "modernbert": "ModernBertModel"}[family]
    assert written["architectures"] == [expected]
    assert written["hidden_size"] == 64
    assert "auto_map" not in written and "modeling_electra_rtd" not in json.dumps(written)

    # What a process without this package reads: the discriminator.
    stock = AutoConfig.from_pretrained(tmp_path)
    assert type(stock) is type(tiny_config(family))
    discriminator = {**config.discriminator_config.to_dict(), "architectures": [expected]}
    found = native_config(stock).to_dict()
    found.pop("_name_or_path", None)
    discriminator.pop("_name_or_path", None)
    assert found == discriminator

    # What this package reads, by either way: the pair.
    read, info = ElectraRtdConfig.from_pretrained(tmp_path, return_unused_kwargs=True)
    assert not info
    for other in (read, ElectraRtdConfig.from_native(stock)):
        assert type(other) is ElectraRtdConfig
        # `to_dict` says where a config was read from; what is written does not.
        assert other.to_json_string() == config.to_json_string() and str(tmp_path) not in other.to_json_string()
        assert other.to_json_string() == config.to_json_string()
        assert other.generator_config.to_dict() == config.generator_config.to_dict()
        assert other.generator_config.num_hidden_layers == 2
        for name, value in {**OBJECTIVE, **objective}.items():
            assert getattr(other, name) == value


def test_what_a_family_declares_is_saved_though_elsewhere_it_is_of_generation(tmp_path):
    config = ElectraRtdConfig.from_discriminator(tiny_config("tapas", temperature=2.0), **OBJECTIVE)
    config.save_pretrained(tmp_path)
    assert ElectraRtdConfig.from_pretrained(tmp_path).discriminator_config.temperature == 2.0
    # Where the stock class refuses to save it, so does the pair.
    stray = tiny_config("bert")
    stray.temperature = 2.0
    for refuses in (stray, ElectraRtdConfig.from_discriminator(stray, **OBJECTIVE)):
        with pytest.raises(ValueError, match="Some generation parameters are set in the model config"):
            refuses.save_pretrained(tmp_path)


def test_objective_can_be_overridden_when_loading(tmp_path):
    ElectraRtdConfig.from_discriminator(tiny_electra_config(), **OBJECTIVE).save_pretrained(tmp_path)
    config = ElectraRtdConfig.from_pretrained(tmp_path, mask_probability=0.3)
    assert (config.mask_probability, config.mask_token_id) == (0.3, MASK)


@pytest.mark.parametrize("family", FAMILIES)
def test_dicts_copies_and_pickles(family):
    config = ElectraRtdConfig.from_discriminator(tiny_config(family), **OBJECTIVE, mask_probability=0.3)
    copies = {
        "dict": ElectraRtdConfig.from_dict(config.to_dict()),
        "deep copy": copy.deepcopy(config),
        "pickle": pickle.loads(pickle.dumps(config)),
    }
    for name, other in copies.items():
        assert other.to_dict() == config.to_dict(), name
        other.discriminator_config.hidden_size = 999
        assert config.hidden_size == 32, name


def test_from_native_takes_pairs_as_they_are_and_makes_default_ones():
    config = ElectraRtdConfig.from_discriminator(tiny_electra_config())
    assert ElectraRtdConfig.from_native(config) is config
    default = ElectraRtdConfig.from_native(tiny_electra_config())
    assert default.to_dict() == config.to_dict()


def test_native_config_is_a_copy_without_our_key(tmp_path):
    ElectraRtdConfig.from_discriminator(tiny_electra_config()).save_pretrained(tmp_path)
    stock = AutoConfig.from_pretrained(tmp_path)
    assert not hasattr(native_config(stock), "electra_rtd")
    assert hasattr(stock, "electra_rtd")
    # A pair made from a joint folder is a pair of its encoder, not a pair of a pair.
    again = ElectraRtdConfig.from_discriminator(str(tmp_path))
    assert not hasattr(again.discriminator_config, "electra_rtd")
    assert not hasattr(again.generator_config, "electra_rtd")


def test_a_discriminator_lies_where_the_arguments_of_from_pretrained_say(tmp_path):
    tiny_electra_config(num_hidden_layers=2).save_pretrained(tmp_path / "inner")
    config = ElectraRtdConfig.from_discriminator(str(tmp_path), subfolder="inner", **OBJECTIVE)
    assert config.num_hidden_layers == 2 and config.mask_token_id == OBJECTIVE["mask_token_id"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"objective": "rtdd"}, "objective is 'rtdd'"),
        ({"mask_probability": 7.0}, "mask_probability is 7.0"),
        ({"objective": "electric"}, "needs a noise"),
        ({"freeze_generator": True}, "freeze_generator with embedding_sharing 'tied'"),
        ({"embedding_sharing": "all"}, "needs equal"),
    ],
)
def test_what_is_given_when_loading_is_checked(given, named, tmp_path):
    tiny_pair("electra").save_pretrained(tmp_path)
    for load in (ElectraRtdConfig.from_pretrained, ElectraRtdForPreTraining.from_pretrained):
        with pytest.raises(ValueError, match=named):
            load(tmp_path, **given)
