"""The trainer's checkpoints: killed at any moment, a complete one is there, and training goes on from it exactly."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import IterableDataset
from helpers.blocks import random_blocks, tiny_arguments, tiny_joint_model, tiny_trainer
from safetensors.torch import load_file

from modeling_electra_rtd.pretraining import checkpointing, checkpoints
from modeling_electra_rtd.pretraining.checkpoints import UNFINISHED, checkpoints_of, newest_complete
from modeling_electra_rtd.pretraining.trainer import ElectraRtdTrainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run with checkpoints 1, 2 and 3, which no test writes into."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    tiny_trainer(folder).train()
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth"])
def test_training_goes_on_from_the_one_before_as_if_never_damaged(name, trained, run):
    damaged = run / "checkpoint-3" / name
    damaged.write_bytes(damaged.read_bytes()[:-9])
    # The damaged one is the newest by number and by time, and not what is kept.
    resumed = tiny_trainer(run, save_total_limit=1)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.run_record()["resumed_from"] == "checkpoint-2"
    assert [path.name for path in checkpoints_of(run)] == ["checkpoint-3"] and newest_complete(run)
    straight, again = (load_file(folder / "checkpoint-3" / "model.safetensors") for folder in (trained, run))
    assert all(torch.equal(straight[key], again[key]) for key in straight)


class Killed(BaseException):
    """The end of a process, as far as a test can end it: nothing is cleaned up."""


@pytest.mark.parametrize("moment", ["before", "manifest", "rename", "rotate", "half deleted"])
def test_a_kill_at_any_moment_leaves_a_complete_checkpoint(moment, trained, tmp_path, monkeypatch):
    run = tmp_path / "run"
    tiny_trainer(run, max_steps=1, save_total_limit=1).train()
    kill = iter([Killed()])

    def killed(*arguments, **options):
        raise next(kill)

    with monkeypatch.context() as patched:
        # A process that is killed cleans nothing up.
        patched.setattr(checkpointing, "discard_unfinished", lambda folder: None)
        if moment == "before":
            patched.setattr(checkpointing, "finish", killed)
        elif moment == "manifest":
            patched.setattr(checkpoints, "write_json", killed)
        elif moment == "rename":
            patched.setattr(checkpoints.os, "replace", killed)
        elif moment == "rotate":
            patched.setattr(checkpointing, "rotate", killed)
        else:
            patched.setattr(checkpoints.shutil, "rmtree", _killed_halfway(checkpoints.shutil.rmtree))
        with pytest.raises(Killed):
            tiny_trainer(run, save_total_limit=1, max_steps=2).train(resume_from_checkpoint=True)
    complete = newest_complete(run)
    assert complete is not None
    assert complete.name == ("checkpoint-1" if moment in ("before", "manifest", "rename") else "checkpoint-2")
    tiny_trainer(run, save_total_limit=1).train(resume_from_checkpoint=True)
    assert [path.name for path in run.iterdir()] == ["checkpoint-3"]
    straight, again = (load_file(folder / "checkpoint-3" / "model.safetensors") for folder in (trained, run))
    assert all(torch.equal(straight[key], again[key]) for key in straight)


def _killed_halfway(rmtree):
    def half(path, **options):
        held = sorted(Path(path).rglob("deleted-*/model.safetensors"))
        if held:
            held[0].unlink()
            raise Killed
        return rmtree(path, **options)

    return half


def test_a_write_that_fails_leaves_nothing_behind(run, monkeypatch):
    before = {path.name for path in run.iterdir()}

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        tiny_trainer(run, max_steps=4).train(resume_from_checkpoint=True)
    assert {path.name for path in run.iterdir()} == before
    assert not (run / UNFINISHED).exists()


def test_the_best_checkpoint_is_kept_and_named_by_its_place(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "save_total_limit": 2}
    settings |= {"metric_for_best_model": "eval_loss", "greater_is_better": True, "learning_rate": 1e-2}
    run = tmp_path / "run"
    rising = tiny_trainer(run, max_steps=4, **settings)
    rising.train()
    best = Path(rising.state.best_model_checkpoint)
    assert best.parent == run and best.is_dir()
    assert best.name == f"checkpoint-{rising.state.best_global_step}"
    kept = checkpoints_of(run)
    assert best in kept and kept[-1].name == "checkpoint-4" and len(kept) <= 2
    state = json.loads((kept[-1] / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(best)


def test_no_step_is_trained_when_all_are_done(trained, run, monkeypatch):
    def refused(*arguments, **options):
        raise AssertionError("a step too many")

    again = tiny_trainer(run)
    monkeypatch.setattr(again, "training_step", refused)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 3
    # The mean loss of no steps is no number.
    assert "train_loss" not in again.state.log_history[-1]
    assert contents(run) == contents(trained)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_resumed_logs_and_saves_as_it_is_told_now(run):
    shutil.rmtree(run / "checkpoint-3")
    longer = tiny_trainer(run, max_steps=6, save_steps=4, logging_steps=2)
    longer.train(resume_from_checkpoint=True)
    assert [path.name for path in checkpoints_of(run)] == [f"checkpoint-{step}" for step in (1, 2, 4, 6)]
    logged = [entry["step"] for entry in longer.state.log_history if "generator_loss" in entry]
    assert logged == [1, 2, 4, 6]


def test_micro_batches_that_no_step_is_taken_with_are_said(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(checkpointing.logger, "warning", lines.append)
    # Three batches of a pass, of which two are a step.
    stream = IterableDataset.from_generator(lambda: iter(random_blocks(6)))
    arguments = tiny_arguments(tmp_path, max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    trainer = ElectraRtdTrainer(model=tiny_joint_model(), args=arguments, train_dataset=stream)
    trainer.train()
    assert trainer.state.global_step == 2
    assert lines and "ends with 1 of the 2 micro-batches of a step; they are not trained on" in lines[0]
