"""DeBERTaV3's published names: the generator against the stock class that has them, the detection head against the
published formula where the two agree, and everything lost by its name."""

import pytest
import torch
from helpers.deberta_v3 import GENERATOR_LAYERS, LAYERS, WIDTH, published_config, published_pair
from helpers.tiny import tiny_text
from torch.nn import functional
from transformers import DebertaV2ForMaskedLM, DebertaV2Model, ElectraConfig
from transformers.models.electra.modeling_electra import ElectraDiscriminatorPredictions

from modeling_electra_rtd.conversion.deberta_v3 import pair_configs, pair_states


def published_head(state, hidden):
    """`replaced_token_detection_model.py` of the DeBERTa repository."""
    state = {name.removeprefix("mask_predictions."): value.float() for name, value in state.items()}
    hidden = functional.layer_norm(
        hidden[:, :1] + hidden, (WIDTH,), state["LayerNorm.weight"], state["LayerNorm.bias"], 1e-7
    )
    hidden = functional.gelu(functional.linear(hidden, state["dense.weight"], state["dense.bias"]))
    return functional.linear(hidden, state["classifier.weight"], state["classifier.bias"]).squeeze(-1)


def converted_head(state) -> ElectraDiscriminatorPredictions:
    head = ElectraDiscriminatorPredictions(ElectraConfig(hidden_size=WIDTH, hidden_act="gelu"))
    prefix = "discriminator_predictions."
    head.load_state_dict({n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)})
    return head


def test_the_generator_computes_what_the_stock_class_of_its_names_does():
    discriminator, generator, stock = published_pair()
    config, generator_config = pair_configs(published_config(), generator)
    _, state, _ = pair_states(discriminator, generator, config)
    model = DebertaV2ForMaskedLM(generator_config).eval()
    model.load_state_dict(state)
    model.tie_weights()
    batch = tiny_text()
    with torch.no_grad():
        expected, found = stock(**batch).logits, model(**batch).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_encoder_of_the_discriminator_is_stock():
    discriminator, generator, _ = published_pair()
    config, _ = pair_configs(published_config(), generator)
    state, _, _ = pair_states(discriminator, generator, config)
    encoder = {name.removeprefix("deberta."): value for name, value in state.items() if name.startswith("deberta.")}
    DebertaV2Model(config).load_state_dict(encoder)
    for name, value in encoder.items():
        assert value.dtype == torch.float32 and torch.equal(value, discriminator[f"deberta.{name}"].float())
    # The published sum, not the difference that is in it.
    assert not [name for name in state if name.endswith("._weight")]


def test_the_head_is_the_published_one_where_both_can_be_the_same():
    discriminator, generator, _ = published_pair()
    head = converted_head(pair_states(discriminator, generator, published_config())[0])
    hidden = torch.randn(2, 5, WIDTH)
    # Nothing is added where the first token is zero, and nothing divided where the standard deviation is one.
    hidden = (hidden - hidden.mean(-1, keepdim=True)) / hidden.std(-1, keepdim=True, unbiased=False) + 3
    hidden[:, 0] = 0
    expected = published_head(discriminator, hidden)
    with torch.no_grad():
        torch.testing.assert_close(head(hidden)[:, 1:], expected[:, 1:], atol=1e-4, rtol=1e-4)
        # And what is lost is no trifle.
        hidden[:, 0] = torch.randn(WIDTH)
        assert (head(hidden) - published_head(discriminator, hidden)).abs().max() > 0.1


def test_what_is_lost_is_named():
    discriminator, generator, _ = published_pair()
    config, generator_config = pair_configs(published_config(), generator)
    lines = pair_states(discriminator, generator, config)[2]
    assert lines[0].startswith("of the detection head: it adds the state of the first token")
    assert lines[1].startswith("the enhanced mask decoder of the generator")
    positions = "deberta.embeddings.position_embeddings.weight"
    theirs = [
        f"lm_predictions.lm_head.{name}" for name in ("LayerNorm.bias", "LayerNorm.weight", "bias", "dense.bias")
    ]
    assert lines[2] == "weights of the discriminator: " + ", ".join(
        [positions, "deberta.embeddings.word_embeddings._weight", *theirs, "lm_predictions.lm_head.dense.weight"]
    )
    assert lines[3:] == [f"weights of the generator: {positions}"]
    assert (config.num_hidden_layers, generator_config.num_hidden_layers) == (LAYERS, GENERATOR_LAYERS)
    assert (config.legacy, generator_config.num_attention_heads) == (True, config.num_attention_heads)


def test_the_spelling_of_the_training_code():
    discriminator, generator, _ = published_pair()
    expected = pair_states(discriminator, generator, published_config())[0]
    discriminator = {name.replace(".classifier.", ".classifer."): value for name, value in discriminator.items()}
    found = pair_states(discriminator, generator, published_config())[0]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_positions_that_are_part_of_the_input_stay():
    discriminator, generator, _ = published_pair()
    states = pair_states(discriminator, generator, published_config(position_biased_input=True))
    assert all("deberta.embeddings.position_embeddings.weight" in state for state in states[:2])
    assert not [line for line in states[2] if "mask decoder" in line]


def test_other_heads_are_refused_and_a_missing_one_is_named():
    discriminator, generator, _ = published_pair()
    config = published_config()
    without = {name: value for name, value in discriminator.items() if not name.startswith("mask_predictions.")}
    state, _, lines = pair_states(without, generator, config)
    assert not [name for name in state if name.startswith("discriminator_predictions.")]
    assert lines[0] == "a detection head: there is none (mask_predictions.*), so it begins with random weights"
    without = {name: value for name, value in discriminator.items() if "predictions.LayerNorm" not in name}
    with pytest.raises(ValueError, match="is not that of DeBERTaV3: LayerNorm.bias, LayerNorm.weight"):
        pair_states(without, generator, config)
    without = {name: value for name, value in generator.items() if name != "lm_predictions.lm_head.bias"}
    with pytest.raises(ValueError, match="the generator has no lm_predictions.lm_head.bias"):
        pair_states(discriminator, without, config)
    with pytest.raises(ValueError, match="it is no DeBERTa"):
        pair_configs(config, {})
