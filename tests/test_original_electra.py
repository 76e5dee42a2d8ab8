"""Variables of the original code: their names as the code gives them, their values bit for bit in both directions, and
the converted networks against a forward of the original graph in NumPy."""

import numpy
import pytest
import torch
from helpers.original import (
    GENERATOR_HEADS,
    GENERATOR_LAYERS,
    HEADS,
    LAYERS,
    LAYOUTS,
    POSITIONS,
    discriminator_logits,
    generator_logits,
    original_checkpoint,
)
from helpers.tiny import VOCABULARY, tiny_pair, tiny_text, tiny_tokenizer
from transformers import ElectraConfig

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.conversion.original_electra import (
    hyperparameters,
    original_variables,
    pair_config,
    read_pair,
    variable_of,
)
from modeling_electra_rtd.conversion.tensorflow_bundle import TensorBundle, write_bundle


TOLD = {"attention_heads": HEADS, "generator_attention_heads": GENERATOR_HEADS}
NOT_TRAINED = ("adam_m", "adam_v", "global_step")


def written(folder, variables) -> TensorBundle:
    write_bundle(folder / "model.ckpt-3", variables)
    return TensorBundle(folder / "model.ckpt-3")


def converted(folder, variables):
    bundle = written(folder, variables)
    shapes = {name: entry.shape for name, entry in bundle.entries.items()}
    return read_pair(bundle, pair_config(shapes, tiny_tokenizer(), **TOLD))


@pytest.mark.parametrize(
    ("name", "scopes", "variable"),
    [
        (
            "electra.embeddings.word_embeddings.weight",
            ("generator", "electra"),
            ("electra/embeddings/word_embeddings", False),
        ),
        (
            "electra.embeddings.LayerNorm.weight",
            ("generator", "electra"),
            ("electra/embeddings/LayerNorm/gamma", False),
        ),
        (
            "electra.embeddings.LayerNorm.bias",
            ("generator", "generator"),
            ("generator/embeddings/LayerNorm/beta", False),
        ),
        ("electra.embeddings_project.weight", ("generator", "electra"), ("generator/embeddings_project/kernel", True)),
        ("electra.embeddings_project.bias", ("electra", "electra"), ("electra/embeddings_project/bias", False)),
        (
            "electra.encoder.layer.11.attention.self.query.weight",
            ("electra", "electra"),
            ("electra/encoder/layer_11/attention/self/query/kernel", True),
        ),
        (
            "electra.encoder.layer.0.output.LayerNorm.bias",
            ("generator", "electra"),
            ("generator/encoder/layer_0/output/LayerNorm/beta", False),
        ),
        (
            "discriminator_predictions.dense_prediction.weight",
            ("electra", "electra"),
            ("discriminator_predictions/dense_1/kernel", True),
        ),
        (
            "generator_predictions.LayerNorm.weight",
            ("generator", "electra"),
            ("generator_predictions/LayerNorm/gamma", False),
        ),
        ("generator_lm_head.bias", ("generator", "electra"), ("generator_predictions/output_bias", False)),
    ],
)
def test_names(name, scopes, variable):
    assert variable_of(name, *scopes) == variable


@pytest.mark.parametrize("sharing", ["embeddings", "nothing", "everything"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_networks_compute_what_the_original_graph_does(layout, sharing, tmp_path):
    variables = original_checkpoint(layout, sharing)
    model, left_out = converted(tmp_path, variables)
    batch = tiny_text()
    ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
    is_token = batch["attention_mask"].bool()
    with torch.no_grad():
        detected, predicted = model.discriminate(**batch), model.generator(**batch).logits
    expected = torch.from_numpy(discriminator_logits(variables, ids, mask)).float()
    torch.testing.assert_close(detected[is_token], expected[is_token], atol=1e-4, rtol=1e-4)
    assert detected[is_token].std() > 0.1
    expected = torch.from_numpy(generator_logits(variables, ids, mask, sharing)).float()
    torch.testing.assert_close(predicted[is_token], expected[is_token], atol=1e-4, rtol=1e-4)

    trained = [name for name in variables if not name.endswith(NOT_TRAINED)]
    assert left_out[0] == f"{2 * len(trained)} slots of its optimizer (adam_m, adam_v)"
    assert left_out[1] == "global_step, which is 3"
    assert len(left_out) == 2
    assert model.config.embedding_sharing == {"embeddings": "tied", "nothing": "none", "everything": "all"}[sharing]


@pytest.mark.parametrize("sharing", ["embeddings", "nothing", "everything"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back_bit_for_bit(layout, sharing, tmp_path):
    variables = original_checkpoint(layout, sharing)
    bundle = written(tmp_path, variables)
    # With heads as the original derives them, for it can build no others for a generator.
    config = pair_config({name: entry.shape for name, entry in bundle.entries.items()})
    model, _ = read_pair(bundle, config)
    back = original_variables(model)
    assert back.keys() == variables.keys()
    for name, value in variables.items():
        if name.endswith(NOT_TRAINED):
            # An optimizer that has not begun.
            assert back[name].dtype == value.dtype and back[name].shape == value.shape and not back[name].any()
        else:
            assert back[name].dtype == numpy.float32
            assert back[name].tobytes() == value.tobytes(), name


def test_sizes_follow_from_shapes(tmp_path):
    bundle = written(tmp_path, original_checkpoint("small"))
    config = pair_config({name: entry.shape for name, entry in bundle.entries.items()}, tiny_tokenizer(), **TOLD)
    embedding, hidden, generator_hidden = LAYOUTS["small"]
    networks = {
        "discriminator_config": (hidden, 4 * hidden, LAYERS, HEADS),
        "generator_config": (generator_hidden, 4 * generator_hidden, GENERATOR_LAYERS, GENERATOR_HEADS),
    }
    for name, sizes in networks.items():
        found = getattr(config, name)
        assert sizes == (
            found.hidden_size,
            found.intermediate_size,
            found.num_hidden_layers,
            found.num_attention_heads,
        )
        assert (found.embedding_size, found.vocab_size) == (embedding, VOCABULARY)
        assert (found.max_position_embeddings, found.type_vocab_size) == (POSITIONS, 2)
        assert (found.hidden_act, found.layer_norm_eps) == ("gelu", 1e-12)
    assert config.embedding_sharing == "tied" and config.mask_token_id == tiny_tokenizer().mask_token_id


@pytest.mark.parametrize(
    ("hidden", "generator_hidden", "heads"), [(256, 64, (4, 1)), (768, 256, (12, 4)), (1024, 256, (16, 4))]
)
def test_published_sizes_have_a_head_for_each_64_of_the_width(hidden, generator_hidden, heads):
    shapes = {f"electra/embeddings/{name}_embeddings": (rows, 128) for name, rows in SIZES_OF_TABLES.items()}
    for scope, width in (("electra", hidden), ("generator", generator_hidden)):
        shapes |= {f"{scope}/encoder/layer_{n}/intermediate/dense/kernel": (width, 4 * width) for n in range(12)}
    config = pair_config(shapes)
    found = (config.discriminator_config.num_attention_heads, config.generator_config.num_attention_heads)
    assert found == heads
    assert config.generator_config.num_hidden_layers == 12 and config.mask_token_id == 103


SIZES_OF_TABLES = {"word": 30522, "position": 512, "token_type": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator_ltr/encoder/layer_0/output/dense/bias": 4}, "Electric"),
        ({"electra/embeddings/word_embeddings": None}, "word_embeddings is missing"),
        ({"electra/embeddings/position_embeddings": 4}, r"position_embeddings has shape \[4\]; it must be a matrix"),
        ({"discriminator_predictions/dense_1/bias": None}, "has no variable discriminator_predictions/dense_1/bias"),
        ({"generator/encoder/layer_0/output/dense/bias": 5}, r"has shape \[5\], which does not fit .* is \[8\]"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_line(change, message, tmp_path):
    variables = original_checkpoint()
    for name, size in change.items():
        variables.pop(name, None)
        if size is not None:
            variables[name] = numpy.zeros(size, dtype="<f4")
    with pytest.raises(ValueError, match=message) as error:
        converted(tmp_path, variables)
    assert "\n" not in str(error.value)


def test_variables_without_a_place_are_named(tmp_path):
    variables = original_checkpoint() | {"task_specific/mnli/kernel": numpy.zeros(1, "<f4")}
    _, left_out = converted(tmp_path, variables)
    assert left_out[2:] == ["variables that are no pair's: task_specific/mnli/kernel"]


@pytest.mark.parametrize(
    ("encoder", "objective", "message"),
    [
        ({}, {}, "no such generator: intermediate_size is 16, allowed is 32"),
        ({"layer_norm_eps": 1e-5}, {}, "no such discriminator: layer_norm_eps is 1e-05, allowed is 1e-12"),
        ({"hidden_act": "relu"}, {}, "no such discriminator: hidden_act is 'relu', allowed is 'gelu'"),
        (
            {"intermediate_size": 128},
            {"embedding_sharing": "none"},
            "no such generator: embedding_size is 16, allowed is 8",
        ),
    ],
)
def test_pairs_that_the_original_cannot_build_are_refused(encoder, objective, message):
    with pytest.raises(ValueError, match=message):
        original_variables(tiny_pair("electra", encoder=encoder, **objective))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"embedding_sharing": "gdes"}, "no embedding_sharing 'gdes'; allowed: 'tied', 'none', 'all'"),
        ({"objective": "rtd_15"}, "no objective 'rtd_15'; allowed: 'rtd'"),
        ({"generator_kind": "uniform"}, "no generator_kind 'uniform'; allowed: 'masked_lm'"),
        ({"mask_token_probability": 1.0}, "no mask_token_probability 1.0; allowed: 0.85"),
    ],
)
def test_objectives_that_the_original_does_not_have_are_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        original_variables(tiny_pair("electra", **objective))


def test_other_families_are_refused():
    with pytest.raises(ValueError, match="no such discriminator: model_type is 'modernbert', allowed is 'electra'"):
        original_variables(tiny_pair("modernbert"))


def test_hyperparameters_of_a_published_size():
    discriminator = ElectraConfig(hidden_size=768, embedding_size=768, num_attention_heads=12, intermediate_size=3072)
    generator = ElectraConfig(hidden_size=256, embedding_size=768, num_attention_heads=4, intermediate_size=1024)
    config = ElectraRtdConfig(discriminator_config=discriminator, generator_config=generator, mask_probability=0.25)
    values = hyperparameters(config)
    # As util/training_utils.py and run_pretraining.py of the original compute with them.
    assert (values["model_size"], values["model_hparam_overrides"]) == ("base", {})
    assert values["embedding_size"] == 768 and values["vocab_size"] == 30522
    assert (
        int(round(768 * values["generator_hidden_size"])) == 256 and int(round(12 * values["generator_layers"])) == 12
    )
    assert values["mask_prob"] == 0.25
    assert (values["untied_generator"], values["untied_generator_embeddings"]) == (True, False)


def test_hyperparameters_of_another_size():
    values = hyperparameters(tiny_pair("electra").config)
    assert values["model_size"] == "small"
    assert values["model_hparam_overrides"] == {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def test_bf16_weights_are_written_exactly():
    config = tiny_pair("electra", encoder={"intermediate_size": 128}).config
    model = ElectraRtdForPreTraining(config).bfloat16()
    value = original_variables(model)["generator/encoder/layer_0/output/dense/kernel"]
    weight = model.generator.electra.encoder.layer[0].output.dense.weight
    assert value.dtype == numpy.float32 and torch.equal(torch.from_numpy(value.T.copy()).bfloat16(), weight)
