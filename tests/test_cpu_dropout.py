"""The masks by their statistics and by hand, forward against backward, and a whole model against the stock one."""

import pytest
import torch
from tiny import FAMILIES, tiny_electra_config, tiny_pair, tiny_text
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import ElectraForCausalLM, ElectraForSequenceClassification

from modeling_electra_rtd import cpu_dropout
from modeling_electra_rtd.cpu_dropout import ATTENTION, CpuDropout, dropout, hashed_counter, use_cpu_dropout


def compiled(function):
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


FORMS = {"uncompiled": lambda function: function, "compiled": compiled}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_share_scale_and_gradient(form, dtype, probability):
    torch.manual_seed(0)
    values = torch.ones(300, 1000, dtype=dtype, requires_grad=True)
    output = FORMS[form](lambda x: dropout(x, probability, True))(values)
    output.sum().backward()
    assert output.dtype == dtype
    kept = output != 0
    # Four standard deviations of a share over 300,000 draws.
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=4 * (0.25 / 300_000) ** 0.5)
    assert output[kept].float().unique().tolist() == pytest.approx([1 / (1 - probability)], rel=1e-2)
    torch.testing.assert_close(values.grad, output.detach())


@pytest.mark.parametrize("form", FORMS)
def test_masks_differ_between_calls_and_come_from_the_seed(form):
    def twice(x):
        return dropout(x, 0.5, True), dropout(x, 0.5, True)

    function, values = FORMS[form](twice), torch.ones(64, 64)
    torch.manual_seed(1)
    first, second = function(values)
    third, _ = function(values)
    torch.manual_seed(1)
    again, _ = function(values)
    assert torch.equal(first, again)
    for one, other in ((first, second), (first, third), (second, third)):
        # Independent masks agree in half of their elements.
        assert ((one != 0) == (other != 0)).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_hash_is_that_of_the_unsigned_arithmetic():
    keys = torch.tensor([-123456789, 987654321], dtype=torch.int32)
    found = hashed_counter(torch.Size([5, 7]), keys).flatten().tolist()
    for number, value in enumerate(found):
        bits = (number - 123456789) % 2**32
        bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) % 2**32
        bits = (((bits ^ (bits >> 13)) ^ 987654321) * 0xC2B2AE35) % 2**32
        assert value % 2**32 == bits ^ (bits >> 16)


def test_hash_has_no_pattern_over_neighbours_and_bits():
    bits = hashed_counter(torch.Size([1 << 16]), torch.tensor([3, 5], dtype=torch.int32))
    ones = torch.stack([(bits >> shift) & 1 for shift in range(32)]).float()
    assert (ones.mean(dim=1) - 0.5).abs().max() < 0.01
    centred = ones - 0.5
    for lag in (1, 2, 64, 128, 256):
        assert (4 * (centred[:, lag:] * centred[:, :-lag]).mean(dim=1)).abs().max() < 0.02


def test_without_training_or_probability_nothing_happens():
    values = torch.randn(3, 4)
    assert torch.equal(dropout(values, 0.5, False), values)
    assert torch.equal(dropout(values, 0.0, True), values)
    assert not dropout(values, 1.0, True).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_what_it_did(family):
    model, batch = tiny_pair(family), tiny_text()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model.discriminate(**batch), model.generator(**batch).logits
        packed = model.discriminate(batch["input_ids"], document_ids=batch["attention_mask"])
    use_cpu_dropout(model)
    assert model.encoder.config._attn_implementation == ATTENTION
    assert model.generator.encoder.config._attn_implementation == ATTENTION
    tokens = batch["attention_mask"].bool()
    with torch.no_grad():
        found = model.discriminate(**batch), model.generator(**batch).logits
        torch.testing.assert_close(
            model.discriminate(batch["input_ids"], document_ids=batch["attention_mask"])[tokens],
            packed[tokens],
            atol=1e-5,
            rtol=1e-5,
        )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[tokens], other[tokens], atol=1e-5, rtol=1e-5)
    assert state.keys() == model.state_dict().keys()


def test_every_dropout_of_a_stock_model_is_replaced_and_nothing_of_it_is_saved(tmp_path):
    torch.manual_seed(0)
    model = ElectraForSequenceClassification(
        tiny_electra_config(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    )
    use_cpu_dropout(model)
    assert not [name for name, module in model.named_modules() if type(module) is nn.Dropout]
    assert [module.p for module in model.modules() if isinstance(module, CpuDropout)].count(0.3) >= 7
    batch = tiny_text()
    model.eval()
    expected = model(**batch).logits
    model.train()
    assert not torch.allclose(model(**batch).logits, expected)
    model.save_pretrained(tmp_path)
    loaded = ElectraForSequenceClassification.from_pretrained(tmp_path).eval()
    assert loaded.config._attn_implementation == "sdpa"
    torch.testing.assert_close(loaded(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_attention_weights_are_dropped():
    model = tiny_pair("electra")
    for layer in model.encoder.encoder.layer:
        layer.attention.self.dropout.p = 0.5
    use_cpu_dropout(model)
    batch = tiny_text()
    model.train()
    torch.manual_seed(0)
    first = model.discriminate(**batch)
    assert not torch.allclose(first, model.discriminate(**batch))


def test_long_rows_go_to_stock_attention(monkeypatch):
    model, batch = tiny_pair("electra"), tiny_text()
    use_cpu_dropout(model)
    with torch.no_grad():
        expected = model.discriminate(**batch)
        monkeypatch.setattr(cpu_dropout, "_LONGEST_ROW", 4)
        monkeypatch.setattr(cpu_dropout, "CpuDropout", None)  # what comes after the products is not reached
        torch.testing.assert_close(model.discriminate(**batch), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("longest_row", [1024, 4])
def test_a_decoder_does_not_see_what_comes(monkeypatch, longest_row):
    monkeypatch.setattr(cpu_dropout, "_LONGEST_ROW", longest_row)
    torch.manual_seed(0)
    model = ElectraForCausalLM(tiny_electra_config(is_decoder=True)).eval()
    batch = tiny_text()
    for inputs in (batch, {"input_ids": batch["input_ids"]}):
        model.set_attn_implementation("eager")
        expected = model(**inputs).logits
        use_cpu_dropout(model)
        torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_recomputed_activations_are_dropped_alike(form):
    def layer(x):
        return dropout(torch.sin(x @ x.T), 0.5, True) @ x

    def checkpointed(x):
        return checkpoint(layer, x, use_reentrant=False)

    torch.compiler.reset()
    values = torch.randn(32, 32)
    gradients = []
    for function in (layer, checkpointed):
        if form == "compiled":
            function = torch.compile(function, backend="aot_eager_decomp_partition")
        leaf = values.clone().requires_grad_()
        torch.manual_seed(0)
        function(leaf).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
