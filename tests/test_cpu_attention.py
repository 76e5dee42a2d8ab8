"""Models against the stock ones, whole rows against long ones and blocks, and the masks of blocks by hand."""

import pytest
import torch
from helpers.tiny import FAMILIES, tiny_electra_config, tiny_packed, tiny_pair, tiny_text, uniforms_for
from hypothesis import given, settings, strategies
from torch import nn
from transformers import ElectraForCausalLM, ElectraForSequenceClassification

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.model import cpu_attention
from modeling_electra_rtd.model.cpu_attention import ATTENTION, block_mask, use_cpu_layers, use_stock_layers
from modeling_electra_rtd.model.cpu_dropout import CpuDropout


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_what_it_did(family):
    model, batch = tiny_pair(family), tiny_text()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model.discriminate(**batch), model.generator(**batch).logits
        packed = model.discriminate(batch["input_ids"], document_ids=batch["attention_mask"])
    use_cpu_layers(model)
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


@pytest.mark.parametrize("longest_row", [1024, 4])
def test_heads_may_share_keys(monkeypatch, longest_row):
    monkeypatch.setattr(cpu_attention, "_LONGEST_ROW", longest_row)
    model, packed = tiny_pair("eurobert", encoder={"num_attention_heads": 4, "num_key_value_heads": 2}), tiny_packed()
    tokens = packed["document_ids"] > 0
    with torch.no_grad():
        expected = model.discriminate(**packed)
        use_cpu_layers(model)
        torch.testing.assert_close(model.discriminate(**packed)[tokens], expected[tokens], atol=1e-5, rtol=1e-5)


def test_every_dropout_of_a_stock_model_is_replaced_and_nothing_of_it_is_saved(tmp_path):
    torch.manual_seed(0)
    model = ElectraForSequenceClassification(
        tiny_electra_config(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    )
    use_cpu_layers(model)
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
    use_cpu_layers(model)
    batch = tiny_text()
    model.train()
    torch.manual_seed(0)
    first = model.discriminate(**batch)
    assert not torch.allclose(first, model.discriminate(**batch))


def test_long_rows_go_to_stock_attention(monkeypatch):
    model, batch = tiny_pair("electra"), tiny_text()
    use_cpu_layers(model)
    with torch.no_grad():
        expected = model.discriminate(**batch)
        monkeypatch.setattr(cpu_attention, "_LONGEST_ROW", 4)
        monkeypatch.setattr(cpu_attention, "_products", None)
        torch.testing.assert_close(model.discriminate(**batch), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("longest_row", [1024, 4])
def test_a_decoder_does_not_see_what_comes(monkeypatch, longest_row):
    monkeypatch.setattr(cpu_attention, "_LONGEST_ROW", longest_row)
    torch.manual_seed(0)
    model = ElectraForCausalLM(tiny_electra_config(is_decoder=True)).eval()
    batch = tiny_text()
    for inputs in (batch, {"input_ids": batch["input_ids"]}):
        model.set_attn_implementation("eager")
        expected = model(**inputs).logits
        use_cpu_layers(model)
        torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


def test_mask_of_blocks_by_hand():
    # Eleven positions, two documents and padding, in blocks of two that see one position to the left and two right.
    document_ids = torch.tensor([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0]])
    mask = block_mask(document_ids, before=1, after=2)
    assert mask.shape == (1, 1, 6, 2, 6)
    assert mask[0, 0].long().tolist() == [
        # Keys are the two positions before the row, and 0 to 3; then 0 to 5; 2 to 7; 4 to 9; 6 to 11; 8 to 13.
        [[0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]],
        [[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0]],
        [[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]],
        [[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]],
        [[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]],
        # Padding sees itself, and what lies beyond the row sees others there.
        [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]],
    ]
    assert block_mask(document_ids[:, :10], before=1, after=2) is None
    assert block_mask(document_ids, before=0, after=0) is None


def local_pair(length: int, **config):
    """A pair whose local layers see two positions to either side, and a row of packed documents and padding."""
    encoder = {"local_attention": 4, "num_hidden_layers": 3, "global_attn_every_n_layers": 3}
    return tiny_pair("modernbert", encoder=encoder, **config), tiny_packed((5, length - 8), length)


@settings(max_examples=20, deadline=None)
@given(length=strategies.integers(14, 30))
def test_blocks_compute_what_whole_rows_do(length):
    model, packed = local_pair(length, discriminator_loss_weight=1.0)
    uniforms = uniforms_for(packed["input_ids"], model.config.mask_probability)
    found = {}
    for attention in ("sdpa", ATTENTION):
        model.set_attn_implementation(attention)
        model.zero_grad()
        output = model(**packed, corruption_uniforms=uniforms)
        output.loss.backward()
        found[attention] = [output.loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]
    for stock, blocks in zip(*found.values(), strict=True):
        torch.testing.assert_close(blocks, stock, atol=1e-5, rtol=1e-4)


def test_scores_of_local_layers_grow_with_the_row_and_not_with_its_square():
    def largest(length: int) -> dict[bool, int]:
        """Elements of the largest scores, of local layers and of the others."""
        sizes = {True: 0, False: 0}

        def products(query, key, *rest):
            output, weights = stock(query, key, *rest)
            local = query.dim() == 5
            sizes[local] = max(sizes[local], weights.numel())
            return output, weights

        model, packed = local_pair(length)
        use_cpu_layers(model)
        stock = cpu_attention._products
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(cpu_attention, "_products", products)
            model.discriminate(**packed)
        return sizes

    short, long = largest(12), largest(24)
    assert long[True] == 2 * short[True] > 0
    assert long[False] == 4 * short[False] > 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_blocks_keep_to_the_side_that_is_read(side):
    model, packed = local_pair(20)
    use_cpu_layers(model)
    ids, documents = packed["input_ids"], packed["document_ids"]
    changed = ids.clone()
    changed[0, 8] = 7 if ids[0, 8] != 7 else 8
    with torch.no_grad():
        before, after = (model.encode(model.encoder, text, None, documents, context=side) for text in (ids, changed))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-6
    # The second document begins at 5 and ends at 16.
    expected = range(8, 17) if side == "left" else range(5, 9)
    assert moved.nonzero().flatten().tolist() == list(expected)


@pytest.mark.slow
def test_blocks_compile_to_the_same_gradients():
    model, packed = local_pair(20)
    use_cpu_layers(model)
    uniforms = uniforms_for(packed["input_ids"], model.config.mask_probability)
    torch.compiler.reset()
    gradients = []
    for step in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        step(**packed, corruption_uniforms=uniforms).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_new_or_loaded_pair_has_them_without_being_asked_and_stock_ones_when_they_are_named(tmp_path):
    assert not torch.accelerator.is_available(), "elsewhere a pair is left as it is"
    config = tiny_pair("electra", encoder={"hidden_dropout_prob": 0.1}).config
    config._attn_implementation = None
    pair = ElectraRtdForPreTraining(config)
    pair.save_pretrained(tmp_path)
    assert ATTENTION not in (tmp_path / "config.json").read_text()
    for fast in (pair, ElectraRtdForPreTraining(pair.config), ElectraRtdForPreTraining.from_pretrained(tmp_path)):
        for network in (fast.encoder, fast.generator.encoder):
            assert network.config._attn_implementation == ATTENTION
        assert not [name for name, module in fast.named_modules() if type(module) is nn.Dropout]
    for name in ("sdpa", "eager"):
        stock = ElectraRtdForPreTraining.from_pretrained(tmp_path, attn_implementation=name)
        assert stock.encoder.config._attn_implementation == name
        assert not [name for name, module in stock.named_modules() if type(module) is CpuDropout]
    use_stock_layers(pair)
    assert pair.encoder.config._attn_implementation == "sdpa"
    assert not [name for name, module in pair.named_modules() if type(module) is CpuDropout]


def test_away_from_a_cpu_stock_attention_computes():
    states = [torch.empty(2, 4, 8, 16, device="meta") for _ in range(3)]
    module = nn.Module()
    output, weights = cpu_attention._attention(
        module, *states, torch.ones(2, 1, 8, 8, dtype=torch.bool, device="meta")
    )
    assert output.shape == (2, 8, 4, 16) and weights is None
    assert block_mask(torch.ones(1, 512, dtype=torch.int64, device="meta"), 8, 8) is None
