"""A release is stock checkpoints and nothing else; what cannot be released leaves nothing behind."""

import json
import math

import pytest
import torch
from helpers.checkpoints import saved_pair
from helpers.tiny import tiny_config, tiny_pair, tiny_text, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, ElectraForPreTraining

from modeling_electra_rtd.release import export as export_module
from modeling_electra_rtd.release import write as release_module
from modeling_electra_rtd.release.export import export
from modeling_electra_rtd.release.remote_code import remote_code_files
from modeling_electra_rtd.release.verify import probe_ids


@pytest.mark.parametrize(
    ("family", "sharing", "remote_code"),
    [
        ("electra", "tied", False),
        ("modernbert", "none", True),
        pytest.param("modernbert", "tied", False, marks=pytest.mark.slow),
        pytest.param("electra", "none", True, marks=pytest.mark.slow),
    ],
)
def test_a_release_is_two_stock_checkpoints(family, sharing, remote_code, tmp_path):
    model = saved_pair(tmp_path / "checkpoint", family, embedding_sharing=sharing)
    release = tmp_path / "release"
    report = export(str(tmp_path / "checkpoint"), str(release), remote_code=remote_code)
    networks = {"root", "generator", "discriminator"} if family == "electra" else {"root", "generator"}
    assert set(report) == networks
    assert all(not entry["missing"] for entry in report.values())

    stock_files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    code = set(remote_code_files()) if remote_code else set()
    assert {path.name for path in release.iterdir()} == stock_files | code | {"generator", "README.md"}
    assert {path.name for path in (release / "generator").iterdir()} == stock_files
    batch = tiny_text()
    with torch.no_grad():
        encoder, info = AutoModel.from_pretrained(release, output_loading_info=True)
        assert not info["missing_keys"]
        expected = model.encoder(**batch).last_hidden_state
        torch.testing.assert_close(encoder.eval()(**batch).last_hidden_state, expected, atol=1e-6, rtol=1e-6)
        assert report["root"]["sum"] > 0

        generator, info = AutoModelForMaskedLM.from_pretrained(
            release, subfolder="generator", output_loading_info=True
        )
        assert not info["missing_keys"] and not info["unexpected_keys"]
        expected = model.generator(**batch).logits
        torch.testing.assert_close(generator.eval()(**batch).logits, expected, atol=1e-6, rtol=1e-6)

        if family == "electra":
            discriminator, info = ElectraForPreTraining.from_pretrained(release, output_loading_info=True)
            assert not info["missing_keys"] and not info["unexpected_keys"]
            expected = model.discriminate(**batch)
            torch.testing.assert_close(discriminator.eval()(**batch).logits, expected, atol=1e-6, rtol=1e-6)
    for where in ({}, {"subfolder": "generator"}):
        tokenizer = AutoTokenizer.from_pretrained(release, **where)
        assert tokenizer("the cats sat")["input_ids"] == tiny_tokenizer()("the cats sat")["input_ids"]

    assert not [key for key in load_file(release / "model.safetensors") if key.startswith("generator")]
    for path in release.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            assert str(tmp_path).encode() not in content, path.name
            may_name_us = path == release / "README.md" or (remote_code and path.name in {"config.json", *code})
            if not may_name_us or path.parent.name == "generator":
                assert b"electra_rtd" not in content and b"electra-rtd" not in content, path.name
    config = json.loads((release / "config.json").read_text(encoding="utf-8"))
    expected = {"electra": "ElectraForPreTraining", "modernbert": "ModernBertModel"}[family]
    assert (config["model_type"], config["architectures"]) == (family, [expected])
    expected = {"electra": "ElectraForMaskedLM", "modernbert": "ModernBertForMaskedLM"}[family]
    config = json.loads((release / "generator" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [expected]
    # Nothing but the two folders that were asked for, hidden ones included.
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "release"}


def test_what_is_no_joint_checkpoint_is_refused(tmp_path):
    ElectraForPreTraining(tiny_pair("electra").config.discriminator_config).save_pretrained(tmp_path / "plain")
    tiny_tokenizer(tmp_path / "plain")
    with pytest.raises(ValueError, match="not a joint checkpoint"):
        export(str(tmp_path / "plain"), str(tmp_path / "release"))
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(ValueError, match="give its folder"):
        export(str(tmp_path / "file"), str(tmp_path / "release"))
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "file"}


def test_a_taken_folder_is_refused_and_stays_as_it_is(tmp_path):
    saved_pair(tmp_path / "checkpoint")
    taken = tmp_path / "release"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="already exists"):
        export(str(tmp_path / "checkpoint"), str(taken))
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "release"}


def test_a_repository_is_named_by_its_owner_too(tmp_path):
    with pytest.raises(ValueError, match="--repo-id is 'pair'; it must be OWNER/NAME"):
        export(str(tmp_path), str(tmp_path / "release"), repo_id="pair")


def test_a_release_that_differs_is_not_released(tmp_path, monkeypatch):
    saved_pair(tmp_path / "checkpoint")
    save = release_module._save_generator

    def save_another(generator, folder):
        with torch.no_grad():
            generator.generator_lm_head.bias += 0.1
            save(generator, folder)
            generator.generator_lm_head.bias -= 0.1

    monkeypatch.setattr(release_module, "_save_generator", save_another)
    with pytest.raises(RuntimeError, match="differs from the checkpoint: generator"):
        export(str(tmp_path / "checkpoint"), str(tmp_path / "release"))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint"}


def test_weights_that_are_not_finite_are_not_released(tmp_path):
    saved_pair(tmp_path / "checkpoint")
    weights = load_file(tmp_path / "checkpoint" / "model.safetensors")
    name = "discriminator_predictions.dense.bias"
    weights[name][5] = torch.nan
    save_file(weights, tmp_path / "checkpoint" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=f"checkpoint: 1 of the 32 values of {name} are not finite;") as error:
        export(str(tmp_path / "checkpoint"), str(tmp_path / "release"))
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint"}


def test_outputs_that_are_not_finite_are_equal_to_none(tmp_path, monkeypatch):
    model = saved_pair(tmp_path / "checkpoint")
    sums = {name: {"missing": [], "sum": math.nan} for name in ("root", "generator", "discriminator")}
    monkeypatch.setattr(export_module, "stock_outputs", lambda root, predicts: sums)
    with pytest.raises(RuntimeError, match="differs from the checkpoint: root"):
        export(str(tmp_path / "checkpoint"), str(tmp_path / "release"))
    with torch.no_grad():
        # Finite, and too large for its own norm.
        model.generator.generator_predictions.dense.weight.fill_(1e38)
    model.save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"the outputs of the checkpoint are not finite \(generator\)"):
        export(str(tmp_path / "checkpoint"), str(tmp_path / "release"))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint"}


def test_the_probe_holds_no_padding_which_some_encoders_know_by_its_id():
    configs = [tiny_config("roberta", pad_token_id=pad, vocab_size=size) for pad, size in ((0, 150), (1, 10))]
    ids = probe_ids(*configs)
    assert len(ids[0]) == 16 and set(ids[0]) == set(range(2, 10))
    model = tiny_pair("roberta")
    ids = torch.tensor(probe_ids(model.config.discriminator_config))
    stock = AutoModelForMaskedLM.from_config(model.config.generator_config).eval()
    stock.load_state_dict(model.generator.state_dict())
    with torch.no_grad():
        assert torch.equal(model.generator(ids).logits, stock(ids).logits)
