"""The joint model against stock transformers holding the same weights, and against one slow RTD step in Python."""

import itertools
import shutil

import pytest
import torch
from helpers.slow_step import assert_equal_outputs, slow_step
from helpers.tiny import (
    FAMILIES,
    OBJECTIVE,
    PAD,
    SPECIAL,
    VOCABULARY,
    randomize,
    stock_discriminator_logits,
    stock_generator,
    tiny_electra_config,
    tiny_packed,
    tiny_pair,
    tiny_text,
    uniforms_for,
)
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import ElectraForPreTraining, PreTrainedModel

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdDiscriminator, ElectraRtdForPreTraining
from modeling_electra_rtd.model.corruption import number_of_uniforms


# Heads.


@pytest.mark.parametrize("family", FAMILIES)
def test_generator_logits_are_those_of_the_stock_masked_lm(family):
    model, batch = tiny_pair(family, embedding_sharing="none"), tiny_text()
    with torch.no_grad():
        expected = stock_generator(model)(**batch).logits
        torch.testing.assert_close(model.generator(**batch).logits, expected, atol=1e-6, rtol=1e-6)
        positions = torch.tensor([[0, 5, 23], [3, 2, 1], [13, 0, 7]])
        rows = torch.arange(3)[:, None]
        at_positions = model.generator(**batch, positions=positions).logits
        torch.testing.assert_close(at_positions, expected[rows, positions], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_discriminator_logits_are_those_of_the_stock_head(family):
    model, batch = tiny_pair(family), tiny_text()
    with torch.no_grad():
        expected = stock_discriminator_logits(model, **batch)
        torch.testing.assert_close(model.discriminate(**batch), expected, atol=1e-6, rtol=1e-6)


def test_lone_discriminator_has_the_logits_and_loss_of_the_stock_class():
    torch.manual_seed(0)
    stock = randomize(ElectraForPreTraining(tiny_electra_config())).eval()
    ours = ElectraRtdDiscriminator(tiny_electra_config()).eval()
    ours.load_state_dict(stock.state_dict())
    batch = tiny_text()
    labels = torch.arange(72).view(3, 24) % 3 == 0
    with torch.no_grad():
        expected, output = stock(**batch, labels=labels.long()), ours(**batch, labels=labels.long())
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(output.loss, expected.loss, atol=1e-6, rtol=1e-6)


# The step.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sharing", ["tied", "none"])
def test_step_equals_the_slow_one(family, sharing):
    model = tiny_pair(family, embedding_sharing=sharing, mask_probability=0.4, mask_token_probability=0.6)
    batch = tiny_text()
    uniforms = uniforms_for(batch["input_ids"], 0.4)
    expected = slow_step(model, **batch, uniforms=uniforms)
    # Both labels, masked and unmasked choices, and originals that were sampled back or not, all occur.
    assert 0 < expected["is_replaced"].sum() <= expected["is_chosen"].sum() == 9 + 7 + 5
    assert_equal_outputs(model(**batch, corruption_uniforms=uniforms), expected)


def test_step_with_labels_sampled_back_and_correct_guesses():
    # A generator that says what it reads, and reads the text: a sample that is the original is labelled original.
    model = tiny_pair("electra", mask_probability=0.5, mask_token_probability=1e-6, embedding_sharing="none")
    with torch.no_grad():
        model.generator.generator_lm_head.bias.zero_()
        words = torch.randn(VOCABULARY, 16, generator=torch.Generator().manual_seed(2))
        words = 4 * words / words.norm(dim=1, keepdim=True)
        model.generator.electra.embeddings.word_embeddings.weight.copy_(words)
        model.generator.electra.embeddings.position_embeddings.weight.zero_()
        model.generator.electra.embeddings.token_type_embeddings.weight.zero_()
    batch = tiny_text()
    uniforms = uniforms_for(batch["input_ids"], 0.5)
    expected = slow_step(model, **batch, uniforms=uniforms, temperature=1.0)
    assert_equal_outputs(model(**batch, corruption_uniforms=uniforms), expected)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0])
def test_temperature_changes_what_is_sampled_and_nothing_else(temperature):
    model, batch = tiny_pair("electra", mask_probability=0.4), tiny_text()
    uniforms = uniforms_for(batch["input_ids"], 0.4)
    plain = model(**batch, corruption_uniforms=uniforms)
    expected = slow_step(model, **batch, uniforms=uniforms, temperature=temperature)
    as_argument = model(**batch, corruption_uniforms=uniforms, sampling_temperature=torch.tensor(temperature))
    model.config.sampling_temperature = temperature
    as_setting = model(**batch, corruption_uniforms=uniforms)
    for output in (as_argument, as_setting):
        # P_g stays the probability at temperature 1.
        assert_equal_outputs(output, expected)
        assert torch.equal(output.generator_loss, plain.generator_loss)
        assert torch.equal(output.is_chosen, plain.is_chosen)
        assert not torch.equal(output.corrupted_input_ids, plain.corrupted_input_ids)


def test_weights_of_the_two_losses():
    model = tiny_pair("electra", generator_loss_weight=3, discriminator_loss_weight=7)
    output = model(**tiny_text())
    expected = 3 * output.generator_loss + 7 * output.discriminator_loss
    torch.testing.assert_close(output.loss.detach(), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_in_two_parts_is_corrupted_alike_and_sums_to_the_whole(family):
    model, batch = tiny_pair(family), tiny_text(4)
    uniforms = uniforms_for(batch["input_ids"])
    whole = model(**batch, corruption_uniforms=uniforms)
    counts = model.count_loss_terms(**batch)
    assert torch.equal(counts, whole.loss_terms)
    parts = [
        model(
            **{name: value[rows] for name, value in batch.items()},
            corruption_uniforms=uniforms[rows],
            loss_normalizers=counts,
        )
        for rows in (slice(0, 1), slice(1, 4))
    ]
    for name in ("loss", "generator_loss", "discriminator_loss", "loss_terms"):
        torch.testing.assert_close(parts[0][name] + parts[1][name], whole[name], atol=1e-5, rtol=1e-6)
    for name in ("corrupted_input_ids", "is_chosen", "is_replaced", "generator_is_correct"):
        assert torch.equal(torch.cat([part[name] for part in parts]), whole[name]), name


def test_corruption_comes_from_the_global_generator():
    model, batch = tiny_pair("electra"), tiny_text()
    torch.manual_seed(4)
    first = model(**batch)
    second = model(**batch)
    torch.manual_seed(4)
    drawn = torch.rand(3, number_of_uniforms(24, 0.15))
    assert not torch.equal(first.is_chosen, second.is_chosen)
    assert torch.equal(model(**batch, corruption_uniforms=drawn).loss, first.loss)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("all_rows", [False, True])
def test_rows_without_candidates_contribute_nothing(family, all_rows):
    model, batch = tiny_pair(family), tiny_text()
    empty = slice(None) if all_rows else slice(1, 2)
    batch["input_ids"][empty] = torch.where(batch["attention_mask"][empty] > 0, torch.tensor(SPECIAL[1]), PAD)
    uniforms = uniforms_for(batch["input_ids"])
    output = model(**batch, corruption_uniforms=uniforms)
    assert_equal_outputs(output, slow_step(model, **batch, uniforms=uniforms))
    assert not output.is_chosen[empty].any() and output.is_chosen.any() != all_rows
    assert torch.equal(output.corrupted_input_ids[empty], batch["input_ids"][empty])
    assert output.generator_loss.item() == 0 or not all_rows
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("form", ["attention_mask", "document_ids"])
def test_a_row_of_padding_changes_nothing(family, attention, form):
    model = tiny_pair(family)
    model.set_attn_implementation(attention)
    batch = tiny_text(2)
    if form == "document_ids":
        batch["document_ids"] = batch.pop("attention_mask")
    uniforms = uniforms_for(torch.zeros(3, 24))
    expected = model(**batch, corruption_uniforms=uniforms[:2])
    padded = {name: torch.cat([value, torch.zeros_like(value[:1])]) for name, value in batch.items()}
    output = model(**padded, corruption_uniforms=uniforms)
    torch.testing.assert_close(output.loss, expected.loss)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_unknown_special_tokens_are_an_error():
    model = ElectraRtdForPreTraining(ElectraRtdConfig.from_discriminator(tiny_electra_config()))
    with pytest.raises(ValueError, match="vocabulary of 150.*tokenizer="):
        model(torch.ones(1, 8, dtype=torch.long))


# Gradients.


def touched(model: PreTrainedModel) -> set[str]:
    """Parameters with a gradient anywhere."""
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sharing", ["tied", "none"])
def test_each_loss_reaches_what_it_should(family, sharing):
    model, batch = tiny_pair(family, embedding_sharing=sharing), tiny_text()
    prefix = model.base_model_prefix
    own = {name for name, _ in model.named_parameters() if not name.startswith("generator.")}
    embeddings = {name for name in own if name.startswith(f"{prefix}.embeddings.")}
    generators = {name for name, _ in model.named_parameters()} - own
    assert embeddings and generators

    model.config.generator_loss_weight = 0
    model(**batch).loss.backward()
    # A key's bias moves all scores of a query alike, so its gradient is 0 but for rounding.
    assert own - touched(model) <= {name for name in own if name.endswith("key.bias")}
    assert not touched(model) & generators

    model.zero_grad()
    model.config.generator_loss_weight, model.config.discriminator_loss_weight = 1, 0
    model(**batch).loss.backward()
    if sharing == "tied":
        assert touched(model) & own == embeddings
    else:
        assert not touched(model) & own
        assert any(".embeddings." in name for name in touched(model))
    assert generators - touched(model) <= {name for name in generators if name.endswith("key.bias")}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["gradient_checkpointing_enable", "activation_checkpointing_enable"])
def test_activation_checkpointing_changes_no_gradient(family, method):
    batch = tiny_packed()
    gradients = []
    for checkpointing in (False, True):
        dropout = {"hidden_dropout_prob": 0.1} if family == "electra" else {"mlp_dropout": 0.1}
        model = tiny_pair(family, encoder=dropout).train()
        layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
        if checkpointing:
            getattr(model, method)()
        assert {layer.gradient_checkpointing for layer in layers} == {checkpointing} and len(layers) >= 4
        torch.manual_seed(9)
        output = model(**batch)
        output.loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()} | {"loss": output.loss.detach()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, atol=0, rtol=0)


# Compiled, and what it allocates.


class LargestOutput(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(output):
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return output


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["packed", "padded"])
def test_no_tensor_is_as_large_as_the_logits_of_all_positions(family, form):
    model = tiny_pair(family).train()
    batch = tiny_text(4, 24)
    if form == "packed":
        batch["document_ids"] = batch.pop("attention_mask")
    with LargestOutput() as largest:
        model(**batch).loss.backward()
    every_position = 4 * 24 * VOCABULARY
    # The generator's logits at the chosen ones, sampling included, are the largest: 4 slots a row.
    assert 4 * 4 * VOCABULARY <= largest.numel < every_position
    with LargestOutput() as largest:
        model.generator(**batch)
    assert largest.numel >= every_position


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["packed", pytest.param("padded", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_as_one_graph(family, form, backend):
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor needs a C++ compiler on a CPU")
    batch = tiny_packed() if form == "packed" else tiny_text()
    uniforms = uniforms_for(batch["input_ids"])
    model = tiny_pair(family).train()
    expected = model(**batch, corruption_uniforms=uniforms)
    expected.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    output = compiled(**batch, corruption_uniforms=uniforms, sampling_temperature=torch.tensor(1.0))
    output.loss.backward()
    assert torch.equal(output.corrupted_input_ids, expected.corrupted_input_ids)
    torch.testing.assert_close(output.loss, expected.loss, atol=1e-4, rtol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-3, rtol=1e-4)
    # Without numbers given, the corruption is drawn inside the graph.
    assert compiled(**batch).loss.isfinite()


def test_a_fresh_model_is_initialised_as_stock_ones_are():
    torch.manual_seed(0)
    config = ElectraRtdConfig.from_discriminator(tiny_electra_config(hidden_size=64), **OBJECTIVE)
    model = ElectraRtdForPreTraining(config)
    for name, parameter in itertools.chain(model.named_parameters()):
        if "LayerNorm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif parameter.numel() > 500:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name
    assert (model.get_input_embeddings().weight[PAD] == 0).all()
