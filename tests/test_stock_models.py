"""Every family against its stock classes: heads, weights that nothing reaches, and what lies on disk."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny import (
    ALL_FAMILIES,
    FAMILIES,
    OBJECTIVE,
    randomize,
    tiny_config,
    tiny_packed,
    tiny_pair,
    tiny_text,
    uniforms_for,
)
from safetensors.torch import load_file
from torch import nn
from transformers import (
    MODEL_FOR_PRETRAINING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ElectraConfig,
)

from modeling_electra_rtd import (
    ElectraRtdConfig,
    ElectraRtdDiscriminator,
    ElectraRtdForPreTraining,
    ElectraRtdGenerator,
)
from modeling_electra_rtd.model.cpu_attention import use_cpu_layers
from modeling_electra_rtd.model.stock_models import hidden_activation, masked_lm_head
from modeling_electra_rtd.release.write import write_release


@pytest.mark.parametrize("family", [*ALL_FAMILIES, "deberta-v2 not legacy"])
def test_logits_are_those_of_the_stock_masked_lm_model(family):
    legacy = {"legacy": False} if family.endswith("not legacy") else {}
    config, batch = tiny_config(family.partition(" ")[0], **legacy), tiny_text()
    model = randomize(ElectraRtdGenerator(config)).eval()
    stock = AutoModelForMaskedLM.from_config(copy.deepcopy(config)).eval()
    stock.load_state_dict(model.state_dict())
    tokens = batch["attention_mask"].bool()
    positions = torch.tensor([[3, 1], [0, 5], [2, 2]])
    with torch.no_grad():
        expected = stock(**batch).logits
        assert torch.equal(model(**batch).logits[tokens], expected[tokens])
        at_positions = model(**batch, positions=positions).logits
    expected = expected.gather(1, positions[..., None].expand(-1, -1, expected.shape[-1]))
    torch.testing.assert_close(at_positions, expected, atol=1e-5, rtol=1e-5)


def test_the_heads_of_debertav2():
    heads = [masked_lm_head(ElectraRtdGenerator(tiny_config("deberta-v2", legacy=legacy))) for legacy in (True, False)]
    assert heads == [(("cls", False),), (("lm_predictions", True),)]


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


def reached(model: ElectraRtdForPreTraining) -> dict[str, bool]:
    model.zero_grad()
    model.train()(**tiny_packed()).loss.backward()
    model.eval()
    return {name: parameter.grad is not None for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_pair_is_native_on_disk_and_trains_whole(family, tmp_path):
    pair, batch = tiny_pair(family), tiny_text()
    tokens = batch["attention_mask"].bool()
    # Data parallelism waits for the gradient of every parameter, weight decay shrinks those that never get one.
    assert all(reached(pair).values())
    pair.save_pretrained(tmp_path / "joint")
    write_release(pair, None, new_folder(tmp_path / "release"))
    with torch.no_grad():
        hidden, logits = pair.encoder(**batch).last_hidden_state, pair.generator(**batch).logits
    # By these names the trainer loads what it resumes from.
    assert set(load_file(tmp_path / "joint" / "model.safetensors")) <= pair.state_dict().keys()
    for place in ("joint", "release"):
        encoder, info = AutoModel.from_pretrained(tmp_path / place, output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"]
        assert type(encoder) is type(pair.encoder)
        with torch.no_grad():
            assert torch.equal(encoder(**batch).last_hidden_state[tokens], hidden[tokens])
    generator, info = AutoModelForMaskedLM.from_pretrained(
        tmp_path / "release", subfolder="generator", output_loading_info=True
    )
    assert not any(info.values())
    with torch.no_grad():
        torch.testing.assert_close(generator(**batch).logits[tokens], logits[tokens])
    # Loaded, it trains whole as well, although loading makes every parameter trainable.
    for place in ("joint", "release"):
        loaded, info = ElectraRtdForPreTraining.from_pretrained(tmp_path / place, output_loading_info=True)
        assert not any(info.values()) and all(reached(loaded).values())
        assert pair.state_dict().keys() == loaded.state_dict().keys()
        uniforms = uniforms_for(batch["input_ids"])
        with torch.no_grad():
            found, expected = (each(**batch, corruption_uniforms=uniforms) for each in (loaded, pair))
        assert torch.equal(found.corrupted_input_ids, expected.corrupted_input_ids)
        torch.testing.assert_close(found.loss, expected.loss)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_an_encoder_that_others_pretrained_is_continued(family, tmp_path):
    torch.manual_seed(0)
    published = randomize(AutoModelForMaskedLM.from_config(tiny_config(family)))
    published.save_pretrained(tmp_path)
    pair = ElectraRtdForPreTraining.from_pair(str(tmp_path), objective=OBJECTIVE).eval()
    batch = tiny_text()
    with torch.no_grad():
        expected = published.base_model.eval()(**batch).last_hidden_state
        tokens = batch["attention_mask"].bool()
        torch.testing.assert_close(pair.encoder(**batch).last_hidden_state[tokens], expected[tokens])
    assert all(reached(pair).values())
    config = ElectraRtdConfig.from_discriminator(str(tmp_path), **OBJECTIVE)
    assert config.discriminator_config.to_diff_dict() == pair.config.discriminator_config.to_diff_dict()


def test_a_pooler_is_kept_as_it_is_and_found_by_stock_classes(tmp_path):
    pair = tiny_pair("bert")
    pooler = {name: value.clone() for name, value in pair.encoder.pooler.state_dict().items()}
    assert pooler.keys() == {"dense.weight", "dense.bias"} and not list(pair.encoder.pooler.parameters())
    optimizer = torch.optim.AdamW(pair.parameters(), lr=1.0, weight_decay=0.5)
    reached(pair)
    optimizer.step()
    pair.save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {name.partition(".")[0] for name in info["missing_keys"]} == {"classifier"}
    assert all(torch.equal(value, pooler[name]) for name, value in model.bert.pooler.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.bert.pooler.parameters())
    # The pooler of a checkpoint that has one comes along.
    again = ElectraRtdDiscriminator.from_pretrained(tmp_path)
    assert all(torch.equal(value, pooler[name]) for name, value in again.encoder.pooler.state_dict().items())


@pytest.mark.parametrize(
    "more", [{"embedding_sharing": "all"}, {"embedding_sharing": "gdes"}, {"objective": "rtd_mlm"}], ids=str
)
@pytest.mark.parametrize("family", ["bert", "roformer", "deberta-v2"])
def test_what_no_gradient_reaches_is_there_however_much_is_shared(family, more, tmp_path):
    size = (1, 1) if more.get("embedding_sharing") == "all" else ()
    torch.manual_seed(0)
    config = ElectraRtdConfig.from_discriminator(tiny_config(family), *size, **OBJECTIVE, **more)
    pair = randomize(ElectraRtdForPreTraining(config)).eval()
    assert all(reached(pair).values())
    pair.save_pretrained(tmp_path)
    encoder, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    batch = tiny_text()
    with torch.no_grad():
        expected, found = (each(**batch).last_hidden_state for each in (pair.encoder, encoder))
    tokens = batch["attention_mask"].bool()
    torch.testing.assert_close(found[tokens], expected[tokens])
    loaded, info = ElectraRtdForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()) and all(reached(loaded).values())
    state = pair.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "roberta", "camembert", "deberta-v2"])
def test_the_stock_class_for_pre_training_is_not_the_discriminator(family, tmp_path):
    """What docs/how-to/sharing.md says: without the flag these names load other heads than the release has."""
    write_release(tiny_pair(family), None, tmp_path)
    model, info = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    head = {name.partition(".")[0] for name, _ in model.named_children()} - {model.base_model_prefix}
    assert head and head <= {name.partition(".")[0] for name in info["missing_keys"]}


@pytest.fixture
def code_of_releases(monkeypatch):
    """What a release brings along is forgotten again: other tests see to it that none is run unasked."""
    monkeypatch.setattr(MODEL_FOR_PRETRAINING_MAPPING, "_extra_content", {})
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


@pytest.mark.parametrize("family", [family for family in ALL_FAMILIES if family not in FAMILIES])
def test_with_the_flag_a_release_is_the_pair(family, code_of_releases, tmp_path):
    # ELECTRA and ModernBERT, where the package is missing: test_remote_code.py.
    pair, batch = tiny_pair(family), tiny_text()
    write_release(pair, None, new_folder(tmp_path / "release"))
    uniforms = uniforms_for(batch["input_ids"])
    name = type(pair.config.discriminator_config).__name__.replace("Config", "RtdForPreTraining")
    with torch.no_grad():
        expected = pair(**batch, corruption_uniforms=uniforms).loss
    for place in ("release", "again"):
        found, info = AutoModelForPreTraining.from_pretrained(
            tmp_path / place, trust_remote_code=True, output_loading_info=True
        )
        assert type(found).__name__ == name and type(found).__module__.startswith("transformers_modules.")
        assert not any(info.values())
        with torch.no_grad():
            torch.testing.assert_close(found(**batch, corruption_uniforms=uniforms).loss, expected)
        found.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_release_is_fine_tuned_by_its_stock_class(family, tmp_path):
    write_release(tiny_pair(family), None, tmp_path)
    torch.manual_seed(0)
    model, info = AutoModelForTokenClassification.from_pretrained(
        tmp_path, num_labels=2, output_loading_info=True, dtype=torch.float32
    )
    assert {name.partition(".")[0] for name in info["missing_keys"]} <= {"classifier", "head"}
    batch = tiny_text()
    labels = (batch["input_ids"] % 2).masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], losses


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_family_learns_with_the_dropout_of_a_cpu(family):
    name = "attention_dropout" if family == "modernbert" else "attention_probs_dropout_prob"
    pair = tiny_pair(family, encoder={name: 0.1}, mask_probability=0.3)
    batch = tiny_packed()
    use_cpu_layers(pair)
    tokens = batch["document_ids"] > 0
    plain = tiny_pair(family, encoder={name: 0.1}, mask_probability=0.3)
    with torch.no_grad():
        found, expected = pair.discriminate(**batch), plain.discriminate(**batch)
    torch.testing.assert_close(found[tokens], expected[tokens], atol=1e-5, rtol=1e-5)
    torch.manual_seed(0)
    pair = ElectraRtdForPreTraining(pair.config).train()
    use_cpu_layers(pair)
    optimizer = torch.optim.AdamW(pair.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        output = pair(**batch, corruption_uniforms=uniforms_for(batch["input_ids"], 0.3))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3]), losses


@pytest.mark.parametrize("family", ["roberta", "deberta-v2"])
def test_compiles_as_one_graph(family):
    # ELECTRA and ModernBERT: test_modeling_electra_rtd.py. The others are made of the same parts.
    batch, model = tiny_packed(), tiny_pair(family)
    uniforms = uniforms_for(batch["input_ids"])
    with torch.no_grad():
        expected = model(**batch, corruption_uniforms=uniforms)
        torch._dynamo.reset()
        found = torch.compile(model, fullgraph=True, backend="eager")(**batch, corruption_uniforms=uniforms)
    assert torch.equal(found.corrupted_input_ids, expected.corrupted_input_ids)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-4, rtol=1e-5)


def test_the_activation_has_many_names():
    assert hidden_activation(ElectraConfig(hidden_act="relu")) == "relu"
    assert hidden_activation(tiny_config("modernbert", hidden_activation="silu")) == "silu"
    assert hidden_activation(tiny_config("nomic_bert")) == "silu"
    for model_type, name in (("distilbert", "activation"), ("xlm", "gelu_activation")):
        config = AutoConfig.for_model(model_type, **{name: True if model_type == "xlm" else "silu"})
        assert hidden_activation(config) == ("gelu" if model_type == "xlm" else "silu")


def test_a_head_of_one_layer_or_several_is_read_off_the_stock_model():
    model = nn.Module()
    model.base_model_prefix = "encoder"
    for name, layer in (("encoder", nn.Identity()), ("transform", nn.Linear(2, 3)), ("decoder", nn.Linear(3, 4))):
        model.add_module(name, layer)
    assert masked_lm_head(model) == (("transform", False), ("decoder", False))
