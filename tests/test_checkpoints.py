"""Checkpoints are complete or absent: damage of every file falls back to the one before, and deletion comes last."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.blocks import tiny_trainer
from safetensors.torch import load_file

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.pretraining.checkpoints import (
    CHECKPOINT_MANIFEST,
    checkpoints_of,
    newest_complete,
    problem_of,
)


FILES = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "telemetry.safetensors",
    "config.json",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run with checkpoints 1, 2 and 3, which no test writes into."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    tiny_trainer(folder).train()
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def truncate(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path, other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path: Path, other: Path) -> None:
    path.unlink()


def make_a_folder(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()


def take_that_of_another_step(path: Path, other: Path) -> None:
    shutil.copy(other, path)


DAMAGES = (truncate, empty, zero, flip_a_bit, remove, make_a_folder, take_that_of_another_step)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", [*FILES, CHECKPOINT_MANIFEST])
def test_a_damaged_file_falls_back_to_the_checkpoint_before(name, damage, run, caplog):
    damaged, before = run / "checkpoint-3" / name, run / "checkpoint-2" / name
    was = damaged.read_bytes()
    damage(damaged, before)
    if damaged.is_file() and damaged.read_bytes() == was:
        pytest.skip("the file is the same at every step")
    if name == CHECKPOINT_MANIFEST and damage is remove:
        # As checkpoints of earlier versions are.
        assert newest_complete(run).name == "checkpoint-3"
        assert "holds no checkpoint.json, as checkpoints of earlier versions" in caplog.text
        return
    assert newest_complete(run).name == "checkpoint-2"
    assert f"{run / 'checkpoint-3'} is passed over: " in caplog.text and len(caplog.records) == 1
    reason = caplog.records[0].getMessage()
    assert "\n" not in reason and "checkpoint-3 is passed over: " in reason
    # A list that is changed says so, or says it of what it lists.
    assert name in reason or name == CHECKPOINT_MANIFEST


@pytest.mark.parametrize("damage", [truncate, empty, zero, remove, make_a_folder], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES[:-1])
def test_damage_is_told_without_a_manifest_too(name, damage, run):
    for checkpoint in checkpoints_of(run):
        (checkpoint / CHECKPOINT_MANIFEST).unlink()
    assert newest_complete(run).name == "checkpoint-3"
    damage(run / "checkpoint-3" / name, run / "checkpoint-2" / name)
    assert newest_complete(run).name == "checkpoint-2"


def test_a_checkpoint_of_another_step_or_number_of_files_is_passed_over(run):
    shutil.rmtree(run / "checkpoint-3")
    shutil.copytree(run / "checkpoint-2", run / "checkpoint-30")
    assert problem_of(run / "checkpoint-30") == "it is of step 2"
    (run / "checkpoint-30" / CHECKPOINT_MANIFEST).unlink()
    assert problem_of(run / "checkpoint-30") == "trainer_state.json is of step 2"
    listed = run / "checkpoint-2" / CHECKPOINT_MANIFEST
    manifest = json.loads(listed.read_text())
    manifest["files"].pop("optimizer.pt")
    listed.write_text(json.dumps(manifest))
    assert problem_of(run / "checkpoint-2") == "it is without the optimizer's state (optimizer*)"
    assert newest_complete(run).name == "checkpoint-1"


def test_folders_of_other_names_are_no_checkpoints(run):
    for name in ("checkpoint-new", "checkpoint-3 (copy)", "checkpoint--3", "checkpoint-", "checkpoint-9.tmp"):
        shutil.copytree(run / "checkpoint-1", run / name)
    (run / "checkpoint-7").write_text("a file")
    others = {path.name for path in run.iterdir()} - {"checkpoint-1", "checkpoint-2", "checkpoint-3"}
    assert newest_complete(run).name == "checkpoint-3"
    # Nor are they deleted.
    tiny_trainer(run, max_steps=4, save_total_limit=1).train(resume_from_checkpoint=True)
    assert {path.name for path in run.iterdir()} == others | {"checkpoint-4"}


def test_a_checkpoint_is_a_model_with_its_list(trained):
    checkpoint = trained / "checkpoint-3"
    manifest = json.loads((checkpoint / CHECKPOINT_MANIFEST).read_text())
    names = {path.name for path in checkpoint.iterdir()} - {CHECKPOINT_MANIFEST}
    assert manifest["step"] == 3 and manifest["processes"] == 1 and manifest["files"].keys() == names
    assert all(entry["bytes"] == os.path.getsize(checkpoint / name) for name, entry in manifest["files"].items())
    model = ElectraRtdForPreTraining.from_pretrained(checkpoint)
    state = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
