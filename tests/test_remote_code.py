"""A release brings its code along: with the flag the pair and its pipeline run where this package does not exist."""

import ast
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.release import FLAG_PROCESS, REFUSE, check_what_a_stranger_saw, released, stepped
from helpers.tiny import FAMILIES, tiny_text
from safetensors.torch import load_file
from transformers import (
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ElectraForPreTraining,
)
from transformers.dynamic_module_utils import get_imports

from modeling_electra_rtd import (
    ElectraRtdConfig,
    ElectraRtdDiscriminator,
    ElectraRtdForPreTraining,
    ElectraRtdGenerator,
)
from modeling_electra_rtd.finetuning.kinds.heads import load_with_new_head
from modeling_electra_rtd.inspection.tokens import load_for_inspection
from modeling_electra_rtd.model.checkpoint_layout import holds_pair
from modeling_electra_rtd.release.export import export
from modeling_electra_rtd.release.remote_code import remote_code_files
from modeling_electra_rtd.release.scan import uploadable_files


# A pair that saves its own code leaves out what only the pipeline needs.
ONLY_THE_PIPELINES = {"pipeline_electra_rtd.py", "precision.py", "text_encoding.py", "vocabulary.py"}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """A release of each family, and the pair it was made from."""
    root = tmp_path_factory.mktemp("releases")
    return root, {family: released(root, family) for family in FAMILIES}


@pytest.fixture
def folder(releases, family):
    return releases[0] / family


@pytest.fixture
def pair(releases, family):
    return releases[1][family]


def test_the_files_are_this_packages_and_import_nothing_else(releases):
    names = {path.name for path in (releases[0] / "electra").glob("*.py")}
    assert names == set(remote_code_files())
    for name, path in remote_code_files().items():
        assert (releases[0] / "electra" / name).read_bytes() == path.read_bytes()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert f"{node.module}.py" in names, name
    assert {path.as_posix() for path in uploadable_files(str(releases[0] / "electra"))} > names


def test_the_release_runs_without_the_package(releases, tmp_path):
    root, pairs = releases
    sources = {family: str(root / family) for family in FAMILIES}
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    arguments = [str(tmp_path), json.dumps(sources), "{}"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", REFUSE + FLAG_PROCESS, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.strip().splitlines()[-1])
    outputs = load_file(tmp_path / "outputs.safetensors")
    for family in FAMILIES:
        check_what_a_stranger_saw(report[family], outputs, family, pairs[family])
        # What the stranger saved is a joint checkpoint with its code.
        saved = tmp_path / f"{family}-trained"
        assert {path.name for path in saved.glob("*.py")} == set(remote_code_files()) - ONLY_THE_PIPELINES
        ours, info = ElectraRtdForPreTraining.from_pretrained(saved, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        torch.testing.assert_close(stepped(ours).loss, outputs[f"{family} trained"], atol=1e-6, rtol=1e-6)
        # Saved again here, it names no code that is not beside it.
        ours.save_pretrained(tmp_path / "again")
        assert "auto_map" not in (tmp_path / "again" / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_release_is_read_as_the_pair_it_was_made_from(folder, pair, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        loaded, info = ElectraRtdForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()) and not caplog.records
    state = loaded.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in pair.state_dict().items())
    is_tied = pair.config.embedding_sharing == "tied"
    assert (loaded.generator.encoder.embeddings is loaded.encoder.embeddings) == is_tied
    assert torch.equal(loaded.special_token_ids, pair.special_token_ids)
    assert not loaded.training
    torch.testing.assert_close(stepped(loaded).loss, stepped(pair).loss)
    assert (
        loaded.config.objective_fields()
        == pair.config.objective_fields()
        == ElectraRtdConfig.from_pretrained(folder).objective_fields()
    )
    assert ElectraRtdConfig.from_pretrained(folder).generator_config.hidden_size == pair.generator.config.hidden_size
    # Arguments of loading reach both networks.
    half = ElectraRtdForPreTraining.from_pretrained(folder, dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert ElectraRtdForPreTraining.from_pretrained(folder, mask_probability=0.4).config.mask_probability == 0.4
    # Continued, it is a joint checkpoint like any other.
    loaded.save_pretrained(tmp_path / "joint")
    again, info = ElectraRtdForPreTraining.from_pretrained(tmp_path / "joint", output_loading_info=True)
    assert not any(info.values()) and holds_pair(tmp_path / "joint")
    torch.testing.assert_close(stepped(again).loss, stepped(pair).loss)
    assert not list((tmp_path / "joint").glob("*.py"))


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_that_asks_for_a_pair_takes_a_release(folder, pair, tmp_path):
    assert holds_pair(folder) and not holds_pair(folder / "generator")
    with torch.no_grad():
        expected = pair.generator(**tiny_text()).logits
        generator = ElectraRtdGenerator.from_pretrained(folder).eval()
        torch.testing.assert_close(generator(**tiny_text()).logits, expected)
    continued = ElectraRtdForPreTraining.from_pair(folder)
    assert continued.config.embedding_sharing == pair.config.embedding_sharing
    assert all(torch.equal(continued.state_dict()[name], weight) for name, weight in pair.state_dict().items())
    # Of a class of its own, which is not this package's.
    other = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True)
    continued = ElectraRtdForPreTraining.from_pair(other)
    assert type(other) is not ElectraRtdForPreTraining
    assert all(torch.equal(continued.state_dict()[name], weight) for name, weight in pair.state_dict().items())
    model, _ = load_for_inspection(str(folder))
    assert isinstance(model, ElectraRtdForPreTraining)
    export(str(folder), str(tmp_path / "again"))
    first, second = (load_file(place / "generator" / "model.safetensors") for place in (folder, tmp_path / "again"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_lost_its_generator_is_no_pair(folder, family, tmp_path):
    shutil.copytree(folder, tmp_path / "orphan")
    shutil.rmtree(tmp_path / "orphan" / "generator")
    # Stock classes keep keys that they do not know.
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path / "stock-tuned")
    orphans = ["orphan", "stock-tuned"]
    if family == "electra":
        ElectraForPreTraining.from_pretrained(folder).save_pretrained(tmp_path / "resaved")
        ElectraRtdForPreTraining.from_pretrained(folder).save_pretrained(tmp_path / "joint")
        ElectraForPreTraining.from_pretrained(tmp_path / "joint").save_pretrained(tmp_path / "from-joint")
        orphans.append("resaved")
    for name in orphans:
        assert not holds_pair(tmp_path / name), name
    for name in [*orphans, *(["from-joint"] if family == "electra" else [])]:
        with pytest.raises(ValueError, match=r"holds no generator.*from_pair"):
            ElectraRtdForPreTraining.from_pretrained(tmp_path / name)
    # Its discriminator is as good as before.
    assert ElectraRtdDiscriminator.from_pretrained(tmp_path / "orphan").config.generator_config is None


def test_a_tied_release_whose_tables_differ_is_refused(releases, tmp_path):
    shutil.copytree(releases[0] / "electra", tmp_path / "release")
    generator = ElectraRtdGenerator.from_pretrained(releases[0] / "electra")
    with torch.no_grad():
        generator.encoder.embeddings.LayerNorm.bias += 1
    generator.save_pretrained(tmp_path / "release" / "generator")
    with pytest.raises(ValueError, match="embedding_sharing is 'tied'.*other weights"):
        ElectraRtdForPreTraining.from_pretrained(tmp_path / "release")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("auto_class", [AutoModelForSequenceClassification, AutoModelForTokenClassification])
def test_a_fine_tuned_checkpoint_says_nothing_of_the_pair(folder, auto_class, tmp_path):
    load_with_new_head(auto_class, str(folder), num_labels=3).save_pretrained(tmp_path)
    written = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert "electra_rtd" not in written and "auto_map" not in written and not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("source", ["joint", "release"])
def test_a_discriminator_alone_is_saved_as_a_stock_checkpoint(releases, family, source, tmp_path):
    folder = {"joint": releases[0] / f"{family}-joint", "release": releases[0] / family}[source]
    model = ElectraRtdDiscriminator.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    stock = json.loads((releases[0] / family / "config.json").read_text(encoding="utf-8"))
    for key in ("electra_rtd", "auto_map", "custom_pipelines"):
        assert key not in config and stock.pop(key)
    assert config == stock
    again, info = ElectraRtdDiscriminator.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        logits = model(**tiny_text()).logits
        assert torch.equal(again(**tiny_text()).logits, logits)
        if family == "electra":
            found, info = ElectraForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
            assert not any(info.values())
            torch.testing.assert_close(found(**tiny_text()).logits, logits)


def test_files_of_the_flag_do_not_need_the_package_by_name():
    for name, path in remote_code_files().items():
        # What `transformers` checks before it runs a file; an import that may fail is not among it.
        assert "modeling_electra_rtd" not in get_imports(path), name
    assert Path(remote_code_files()["backbones.py"]).parts[-3:-1] == ("modeling_electra_rtd", "model")
