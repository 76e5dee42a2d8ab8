"""Which checkpoints give an encoder to a head, and which are refused."""

import logging

import pytest
import torch
from helpers.release import quick_export
from helpers.tiny import randomize, tiny_config, tiny_pair, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    ElectraForMaskedLM,
    ElectraForPreTraining,
)

from modeling_electra_rtd.finetuning.kinds.heads import fresh, load_with_new_head


@pytest.mark.parametrize("family", ["electra", "modernbert"])
def test_a_joint_checkpoint_and_its_release_give_the_same_encoder(family, tmp_path, caplog):
    pair = tiny_pair(family)
    pair.save_pretrained(tmp_path / "joint")
    tiny_tokenizer(tmp_path / "joint")
    quick_export(str(tmp_path / "joint"), str(tmp_path / "release"))
    with caplog.at_level(logging.WARNING):
        models = [
            load_with_new_head(AutoModelForSequenceClassification, str(tmp_path / name), num_labels=3)
            for name in ("joint", "release")
        ]
    assert not caplog.records
    states = [model.base_model.state_dict() for model in models]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], weight) for name, weight in states[1].items())
    assert models[0].num_labels == 3
    with pytest.raises(ValueError, match="is a generator; fine-tune the discriminator"):
        load_with_new_head(AutoModel, str(tmp_path / "release" / "generator"))


def test_a_head_of_another_task_is_replaced(tmp_path):
    first = AutoModelForSequenceClassification.from_config(tiny_config("electra", num_labels=2))
    first.save_pretrained(tmp_path)
    second = load_with_new_head(AutoModelForSequenceClassification, str(tmp_path), num_labels=5)
    assert second.classifier.out_proj.weight.shape[0] == 5
    words = [model.electra.embeddings.word_embeddings.weight for model in (first, second)]
    assert torch.equal(*words)


def test_what_is_refused(tmp_path):
    ElectraForMaskedLM(tiny_config("electra")).save_pretrained(tmp_path / "lone")
    with pytest.raises(ValueError, match=r"is a generator \(ElectraForMaskedLM\)"):
        load_with_new_head(AutoModel, str(tmp_path / "lone"))
    with pytest.raises(ValueError, match="no such folder"):
        load_with_new_head(AutoModel, str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_with_new_head(AutoModel, str(tmp_path / "empty"))
    ElectraForPreTraining(tiny_config("electra")).save_pretrained(tmp_path / "cut")
    path = tmp_path / "cut" / "model.safetensors"
    weights = {name: weight for name, weight in load_file(path).items() if ".layer.1." not in name}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights of the encoder are missing"):
        load_with_new_head(AutoModelForTokenClassification, str(tmp_path / "cut"))


def test_fresh_weights_are_the_seeds():
    config = tiny_config("electra", num_labels=2)
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(fresh(AutoModelForSequenceClassification, config).classifier.dense.weight)
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize("family", ["electra", "modernbert"])
@pytest.mark.parametrize("auto_class", [AutoModelForSequenceClassification, AutoModelForTokenClassification])
def test_a_head_of_the_same_kind_is_new_for_every_seed(family, auto_class, tmp_path):
    first = randomize(auto_class.from_config(tiny_config(family, num_labels=2)))
    first.save_pretrained(tmp_path)
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(load_with_new_head(auto_class, str(tmp_path), num_labels=2).state_dict())
    prefix = f"{first.base_model_prefix}."
    for name, weight in first.state_dict().items():
        found = [state[name] for state in states]
        if name.startswith(prefix):
            assert torch.equal(found[0], weight) and torch.equal(found[1], weight), name
        elif weight.ndim == 2:
            assert not torch.equal(found[0], weight) and not torch.equal(found[0], found[1]), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_trained_in_full(dtype, tmp_path):
    ElectraForPreTraining(tiny_config("electra")).to(dtype).save_pretrained(tmp_path)
    model = load_with_new_head(AutoModelForSequenceClassification, str(tmp_path))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load_with_new_head(AutoModel, str(tmp_path)).parameters()} == {
        torch.float32
    }
    again = fresh(AutoModelForSequenceClassification, model.config)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForSequenceClassification])
def test_a_pooler_counts_as_head(auto_class, tmp_path):
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    source = BertForMaskedLM(config)
    source.save_pretrained(tmp_path)
    model = load_with_new_head(auto_class, str(tmp_path))
    layer = source.bert.encoder.layer[1].output.dense.weight
    assert torch.equal(model.base_model.encoder.layer[1].output.dense.weight, layer)
