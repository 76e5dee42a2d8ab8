"""The rate of every parameter of a three-layer model against the formula by hand, for every family."""

import runpy
import sys
from pathlib import Path

import pytest
from helpers.tiny import tiny_config
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ElectraForSequenceClassification,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    ModernBertForSequenceClassification,
)

from modeling_electra_rtd.finetuning.layerwise import layerwise_groups, learning_rate_exponents


RATE, DECAY = 0.01, 0.5


def electra(layers: int = 3):
    return ElectraForSequenceClassification(tiny_config("electra", num_hidden_layers=layers, embedding_size=16))


def rates(model, **options) -> dict[str, float]:
    groups = layerwise_groups(model, RATE, DECAY, 0.1, **options)
    by_id = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(by_id)
    return {name: by_id[id(parameter)] for name, parameter in model.named_parameters()}


# Written out, not computed: 0.01 times 0.5 as often as the table in the docstring says.
@pytest.mark.parametrize(
    ("exponent", "head", "layers", "embeddings"),
    [
        (1, 0.01, {0: 0.00125, 1: 0.0025, 2: 0.005}, 0.000625),
        (2, 0.01, {0: 0.000625, 1: 0.00125, 2: 0.0025}, 0.0003125),
    ],
)
def test_every_rate_of_a_three_layer_model(exponent, head, layers, embeddings):
    model = electra()
    found = rates(model, last_layer_exponent=exponent)
    expected = {}
    for name in found:
        if name.startswith("electra.encoder.layer."):
            expected[name] = layers[int(name.split(".")[3])]
        elif name.startswith(("electra.embeddings.", "electra.embeddings_project.")):
            expected[name] = embeddings
        else:
            assert name.startswith("classifier.")
            expected[name] = head
    assert found == pytest.approx(expected)
    assert len(set(found.values())) == 5
    assert "electra.embeddings_project.weight" in found


def test_the_reference_is_one_decay_below_us_everywhere_but_in_the_head():
    ours, reference = rates(electra()), rates(electra(), last_layer_exponent=2)
    for name, rate in ours.items():
        factor = 1 if name.startswith("classifier.") else DECAY
        assert reference[name] == pytest.approx(rate * factor)


def test_what_stands_behind_the_layers_learns_like_the_last():
    model = ModernBertForSequenceClassification(tiny_config("modernbert", num_hidden_layers=3))
    exponents = learning_rate_exponents(model)
    assert exponents["model.final_norm.weight"] == 1
    assert {exponents[name] for name in exponents if name.startswith("model.layers.2.")} == {1}
    assert {exponents[name] for name in exponents if name.startswith("model.layers.0.")} == {3}
    assert {exponents[name] for name in exponents if name.startswith("model.embeddings.")} == {4}
    assert {exponents[name] for name in exponents if not name.startswith("model.")} == {0}


def test_a_family_outside_the_table_of_backbones():
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    exponents = learning_rate_exponents(BertForSequenceClassification(config))
    assert exponents["bert.encoder.layer.1.output.dense.weight"] == 1
    # The pooler, which the reference once had and took out, stands behind the layers.
    assert exponents["bert.pooler.dense.weight"] == 1
    assert exponents["bert.embeddings.word_embeddings.weight"] == 3
    assert exponents["classifier.weight"] == 0


def test_a_pooler_that_is_listed_before_the_layers_stands_behind_them():
    exponents = learning_rate_exponents(AutoModelForSequenceClassification.from_config(tiny_config("nomic_bert")))
    assert exponents["nomic_bert.pooler.dense.weight"] == 1
    assert exponents["nomic_bert.embeddings.word_embeddings.weight"] == 4


def test_biases_and_norms_are_not_decayed():
    model = electra()
    groups = layerwise_groups(model, RATE, DECAY, 0.1)
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        is_exempt = name.endswith("bias") or "LayerNorm" in name
        assert decay[id(parameter)] == (0.0 if is_exempt else 0.1), name


def test_a_decoder_learns_like_the_head():
    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        tiny_config("electra", num_hidden_layers=2), tiny_config("electra", num_hidden_layers=2)
    )
    model = EncoderDecoderModel(config)
    found = rates(model)
    assert found["encoder.encoder.layer.1.output.dense.weight"] == RATE * DECAY
    assert found["encoder.encoder.layer.0.output.dense.weight"] == RATE * DECAY**2
    assert found["encoder.embeddings.word_embeddings.weight"] == RATE * DECAY**3
    assert {rate for name, rate in found.items() if name.startswith("decoder.")} == {RATE}
    assert {group["lr"] for group in layerwise_groups(model, RATE, 1.0, 0.1)} == {RATE}


def test_layers_that_cannot_be_told_are_refused():
    config = AlbertConfig(
        vocab_size=50,
        embedding_size=16,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
    )
    model = AlbertForSequenceClassification(config)
    with pytest.raises(ValueError, match="layerwise_lr_decay.*set layerwise_lr_decay to 1"):
        layerwise_groups(model, RATE, DECAY, 0.1)
    groups = layerwise_groups(model, RATE, 1.0, 0.1)
    assert {group["lr"] for group in groups} == {RATE}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out():
    model = electra()
    model.electra.embeddings.requires_grad_(False)
    groups = layerwise_groups(model, RATE, DECAY, 0.1)
    trained = [parameter for group in groups for parameter in group["params"]]
    assert not any(parameter is model.electra.embeddings.word_embeddings.weight for parameter in trained)
    assert len(trained) == sum(parameter.requires_grad for parameter in model.parameters())


def test_tables_of_relative_positions_learn_like_embeddings():
    config = DebertaV2Config(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
    )
    exponents = learning_rate_exponents(DebertaV2ForSequenceClassification(config))
    assert exponents["deberta.encoder.rel_embeddings.weight"] == 4
    assert exponents["deberta.embeddings.word_embeddings.weight"] == 4
    assert exponents["deberta.encoder.layer.2.output.dense.weight"] == 1


@pytest.mark.parametrize(("exponent", "embeddings"), [("1", 6.25e-4), ("2", 3.125e-4)])
def test_the_script_prints_every_parameter(exponent, embeddings, tmp_path, monkeypatch, capsys):
    model = electra()
    model.save_pretrained(tmp_path)
    script = Path(__file__).parents[1] / "scripts" / "print_learning_rates.py"
    options = ["--learning-rate", "0.01", "--layerwise-lr-decay", "0.5", "--last-layer-exponent", exponent]

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
        return end.value.code

    assert run(str(tmp_path), *options) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    printed = {line[-1]: float(line[0]) for line in words}
    assert printed == pytest.approx(rates(model, last_layer_exponent=int(exponent)))
    assert printed["electra.embeddings.word_embeddings.weight"] == embeddings
    assert run("./nowhere") == 2
    said = capsys.readouterr().err
    assert "no such folder" in said and "Traceback" not in said
