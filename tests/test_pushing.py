"""Pushes of a training run, up to the upload: what is handed to it, when, and what becomes of a failure."""

import json
import threading
from pathlib import Path

import pytest
import torch
from helpers.blocks import random_blocks, tiny_arguments, tiny_joint_model
from helpers.tiny import tiny_tokenizer
from huggingface_hub import CommitInfo
from safetensors.torch import load_file
from transformers import ElectraForMaskedLM, ElectraForPreTraining

from modeling_electra_rtd import ElectraRtdForPreTraining, ElectraRtdTrainer
from modeling_electra_rtd.pretraining import pushing as release_pushes
from modeling_electra_rtd.release.remote_code import remote_code_files
from modeling_electra_rtd.release.scan import uploadable_files


class Uploads:
    """Stands for the upload: keeps what it was handed, and does what the test asks for."""

    def __init__(self):
        self.folders: list[set[str]] = []
        self.options: list[dict] = []
        self.cards: list[str] = []
        self.states: list[dict[str, torch.Tensor]] = []
        self.running = self.most_at_once = 0
        self.before = lambda number: None

    def __call__(self, folder: Path, repo_id: str, **options):
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            self.before(len(self.options))
            assert uploadable_files(folder)
            # Stock classes, here without the process of their own.
            stock = ElectraForPreTraining.from_pretrained(folder)
            generator = ElectraForMaskedLM.from_pretrained(folder, subfolder="generator")
            self.states.append({**stock.state_dict(), **{f"g.{k}": v for k, v in generator.state_dict().items()}})
            self.folders.append({p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()})
            self.cards.append((folder / "README.md").read_text(encoding="utf-8"))
            return {"info": CommitInfo("https://huggingface.co/lab/pair/commit/0", "", "", "0" * 40)}
        finally:
            self.options.append({"repo_id": repo_id, **options})
            self.running -= 1


@pytest.fixture
def uploads(monkeypatch) -> Uploads:
    uploads = Uploads()
    monkeypatch.setattr(release_pushes, "push", uploads)

    def known(self, token=None, private=None):
        self.hub_model_id = self.args.hub_model_id

    monkeypatch.setattr(ElectraRtdTrainer, "init_hf_repo", known)
    return uploads


def trainer(folder: Path, **options) -> ElectraRtdTrainer:
    values = {"push_to_hub": True, "hub_model_id": "lab/pair", "hub_always_push": True, "max_steps": 6}
    values |= {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 4}
    return ElectraRtdTrainer(
        model=tiny_joint_model(),
        args=tiny_arguments(folder, **{**values, **options}),
        train_dataset=random_blocks(48),
        eval_dataset=random_blocks(8, seed=1),
        processing_class=tiny_tokenizer(),
    )


def cell(card: str, name: str) -> str:
    return next(line for line in card.splitlines() if line.startswith(f"| {name} |")).split("|")[2].strip()


def test_every_push_is_a_release_of_its_step(uploads, tmp_path):
    started = trainer(tmp_path, save_total_limit=1, hub_token="hf_" + "t" * 34, hub_revision="next", logging_steps=4)
    started.train()
    started.push_to_hub(language="en", license="apache-2.0", tags=["mine"])
    stock = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    expected = {*stock, *(f"generator/{name}" for name in stock), "README.md", "curves.png"} | set(remote_code_files())
    # Nothing is logged before step 4, so that there is nothing to draw before.
    assert uploads.folders == [expected - {"curves.png"}, expected, expected, expected]
    messages = [f"Training in progress, step {step}" for step in (2, 4, 6)] + ["End of training"]
    assert [options["message"] for options in uploads.options] == messages
    assert all(options["revision"] == "next" and options["token"] for options in uploads.options)
    steps = [cell(card, "optimizer steps") for card in uploads.cards]
    assert steps == ["2", "4", "6", "6"]
    # Held-out numbers stand only in the card of the weights that were measured.
    losses = [cell(card, "generator loss, nats") for card in uploads.cards]
    assert [loss == "not measured" for loss in losses] == [True, False, False, False]
    measured = [entry for entry in started.state.log_history if "eval_generator_loss" in entry]
    assert losses[1:] == [f"{measured[i]['eval_generator_loss']:.4f}" for i in (0, 1, 1)] and losses[1] != losses[2]
    # Also what was seen since the last log.
    tokens = [int(cell(card, "tokens seen").replace(",", "")) for card in uploads.cards]
    assert 0 < tokens[0] < tokens[1] < tokens[2]
    assert tokens[1] == next(entry["tokens_seen"] for entry in started.state.log_history if "tokens_seen" in entry)
    assert all(cell(card, "size of the text") == "not measured" for card in uploads.cards)
    assert cell(uploads.cards[0], "`learning_rate`") == "0.001"
    assert "license: apache-2.0" in uploads.cards[-1] and "- mine" in uploads.cards[-1]
    # Four different sets of weights, the last two the same, and the last the trained model's.
    first, second, third, last = uploads.states
    words = "electra.embeddings.word_embeddings.weight"
    assert not torch.equal(first[words], second[words]) and not torch.equal(second[words], third[words])
    assert all(torch.equal(last[name], value) for name, value in third.items())
    state = started.model.state_dict()
    assert all(torch.equal(last[name], state[name]) for name in last if not name.startswith("g."))
    generator = {name.removeprefix("generator."): state[name] for name in state if name.startswith("generator.")}
    assert all(torch.equal(last[f"g.{name}"], value) for name, value in generator.items())
    # And on disk, as without pushing.
    assert ElectraRtdForPreTraining.from_pretrained(tmp_path).config.mask_token_id is not None
    assert not (tmp_path / "README.md").exists()


def test_pushing_does_not_change_the_training(uploads, tmp_path):
    logs = []
    for name, options in {"pushed": {}, "kept": {"push_to_hub": False}}.items():
        started = trainer(tmp_path / name, **options)
        started.train()
        kept = ("loss", "grad_norm", "eval_loss", "step")
        logs.append([[entry.get(key) for key in kept] for entry in started.state.log_history[:-1]])
    assert logs[0] == logs[1] and len(uploads.options) == 3


@pytest.mark.parametrize("is_always", [True, False])
def test_pushes_do_not_overlap(is_always, uploads, tmp_path):
    end_of_training = threading.Event()
    uploads.before = lambda number: end_of_training.wait(60)
    started = trainer(tmp_path, hub_always_push=is_always)

    def release_them():
        # Called when training waits for what is still under way.
        end_of_training.set()
        ElectraRtdTrainer._finish_current_push(started)

    started._finish_current_push = release_them
    started.train()
    assert uploads.most_at_once == 1
    assert len(uploads.options) == (3 if is_always else 1)


@pytest.mark.parametrize("error", [ValueError("the Hub failed (HTTP 500);\nnothing was changed"), KeyError("bug")])
def test_a_failure_in_the_middle_is_a_warning(error, uploads, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(release_pushes.logger, "warning", warnings.append)

    def fail(number):
        if number == 1:
            raise error

    uploads.before = fail
    started = trainer(tmp_path)
    started.train()
    assert started.state.global_step == 6 and len(uploads.options) == 3 and len(uploads.cards) == 2
    (warning,) = warnings
    assert warning.startswith("The push of step 4 failed, and training goes on: ") and "\n" not in warning


def test_a_disk_that_is_full_does_not_stop_training_either(uploads, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(release_pushes.logger, "warning", warnings.append)

    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(release_pushes, "write_carded_release", full)
    started = trainer(tmp_path)
    started.train()
    assert started.state.global_step == 6 and len(warnings) == 3 and not uploads.options


def test_the_last_failure_raises_when_the_model_is_on_disk(uploads, tmp_path):
    started = trainer(tmp_path, hub_strategy="end")
    started.train()
    assert not uploads.options

    def fail(number):
        raise ValueError("refused")

    uploads.before = fail
    with pytest.raises(ValueError, match="refused"):
        started.save_model()
    saved = load_file(tmp_path / "model.safetensors")
    assert torch.equal(
        saved["discriminator_predictions.dense.weight"], started.model.discriminator_predictions.dense.weight
    )
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "electra"


def test_other_ranks_push_nothing(uploads, tmp_path, monkeypatch):
    started = trainer(tmp_path)
    monkeypatch.setattr(started, "is_world_process_zero", lambda: False)
    started.train()
    assert started.push_to_hub() is None and not uploads.options


def test_sharded_weights_are_not_pushed_as_none(uploads, tmp_path, monkeypatch):
    started = trainer(tmp_path)
    monkeypatch.setattr(started, "_save", lambda *_, **__: None)
    with pytest.raises(ValueError, match="FULL_STATE_DICT"):
        started.push_to_hub()


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_state_to_resume_from_is_not_uploaded(strategy, tmp_path):
    with pytest.raises(ValueError, match=f"hub_strategy is '{strategy}'.*pickles; allowed are end and every_save"):
        tiny_arguments(tmp_path, push_to_hub=True, hub_strategy=strategy)
    tiny_arguments(tmp_path, hub_strategy=strategy)
