"""`--resume` against what began the run: what is refused, what may change, and what equals a run never cut off."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.corpus import SMALL_RUN, write_corpus
from safetensors.torch import load_file

from modeling_electra_rtd.data import shares
from modeling_electra_rtd.data.blocks import prepare_blocks
from modeling_electra_rtd.model import precision
from modeling_electra_rtd.pretraining.recipes import build_recipe
from modeling_electra_rtd.pretraining.run import pretrain


SIZES = {
    "model_type": "electra",
    "embedding_size": 8,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
MODEL = {"discriminator": SIZES, "generator_width": 0.5}
TRAINING = {
    **SMALL_RUN,
    "max_steps": "4",
    "eval_strategy": "no",
    "save_strategy": "steps",
    "save_steps": "2",
    "logging_steps": "3",
    "lr_scheduler_type": "constant",
}


def recipe(folder, data=None, model=None, **training):
    return build_recipe(
        {"data": data, "model": model or MODEL, "training": {"output_dir": str(folder), **TRAINING, **training}}
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def logged(folder: Path) -> list[dict]:
    """What was logged of steps and held-out blocks, without what a clock says."""
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    timed = ("tokens_per_second", "runtime", "_per_second")
    return [
        {name: value for name, value in entry.items() if not name.endswith(timed)}
        for entry in history
        if "train_runtime" not in entry
    ]


def assert_equal(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert logged(one) == logged(other)
    first, second = (json.loads((folder / "run.json").read_text()) for folder in (one, other))
    for name in ("steps", "tokens_seen"):
        assert first[name] == second[name]
    for name, value in first["held_out"].items():
        assert name.endswith(("runtime", "_per_second")) or value == second["held_out"][name], name


@pytest.fixture(scope="module")
def begun(data, tmp_path_factory):
    """A finished run, which no test writes into."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    pretrain(recipe(folder, {"blocks": data[0]}))
    return folder


CHANGES = [
    ({"max_steps": "3"}, {}, "max_steps 4, not 3"),
    ({"learning_rate": "1e-3"}, {}, "learning_rate 0.0005, not 0.001"),
    ({"lr_scheduler_type": "linear"}, {}, "lr_scheduler_type 'constant', not 'linear'"),
    ({"seed": "7"}, {}, "seed 42, not 7"),
    ({"data_seed": "7"}, {}, "data_seed None, not 7"),
    ({"per_device_train_batch_size": "2"}, {}, "per_device_train_batch_size 4, not 2"),
    ({"gradient_accumulation_steps": "2"}, {}, "gradient_accumulation_steps 1, not 2"),
    ({"weight_decay": "0.1"}, {}, "weight_decay 0.01, not 0.1"),
    ({"precision": "bf16"}, {}, "precision 'fp32', not 'bf16'"),
    ({"muon_learning_rate": "0.02"}, {}, "muon_learning_rate None, not 0.02"),
    ({"initial_batch_size": "2"}, {}, "initial_batch_size None, not 2"),
    ({"max_grad_norm": "2", "adam_beta2": "0.98"}, {}, "adam_beta2 0.999, not 0.98; max_grad_norm 1.0, not 2.0"),
    ({}, {"mask_probability": 0.3}, "mask_probability None, not 0.3"),
    ({}, {"objective": "all_tokens_mlm"}, "objective None, not 'all_tokens_mlm'"),
    ({}, {"discriminator_loss_weight": 10.0}, "discriminator_loss_weight None, not 10.0"),
    ({}, {"generator_width": 1.0}, "generator_width 0.5, not 1.0"),
    ({}, {"attn_implementation": "eager"}, "attn_implementation None, not 'eager'"),
    ({}, {"discriminator": {**SIZES, "num_attention_heads": 4}}, "discriminator.num_attention_heads 2, not 4"),
    ({}, {"discriminator": {**SIZES, "hidden_size": 32}}, "discriminator.hidden_size 16, not 32"),
    ({}, {"discriminator": {**SIZES, "hidden_act": "relu"}}, "discriminator.hidden_act None, not 'relu'"),
    ({}, {"discriminator": {**SIZES, "hidden_dropout_prob": 0.3}}, "discriminator.hidden_dropout_prob None, not 0.3"),
]


@pytest.mark.parametrize(("training", "model", "message"), CHANGES, ids=[message for _, _, message in CHANGES])
def test_what_changes_the_run_is_refused_and_nothing_is_overwritten(training, model, message, begun, data):
    before = contents(begun)
    with pytest.raises(ValueError) as caught:
        pretrain(recipe(begun, {"blocks": data[0]}, {**MODEL, **model}, **training), resume=True)
    assert f"{begun} holds a run with {message}; use another --output-dir" == str(caught.value)
    assert contents(begun) == before


def test_other_blocks_and_another_number_of_processes_are_refused(begun, data, tmp_path):
    before = contents(begun)
    # The same tokenizer and other text.
    other = str(tmp_path / "blocks")
    text = write_corpus(tmp_path / "text", seed=5)
    prepare_blocks([text], data[1], other, max_length=32, validation_fraction=0.2, num_proc=1, progress=False)
    with pytest.raises(ValueError, match="holds a run with data.blocks.fingerprint '.*', not '.*use another"):
        pretrain(recipe(begun, {"blocks": other}), resume=True)
    with pytest.raises(ValueError, match="holds a run with data.source 'blocks', not 'corpus'; use another"):
        streamed = {"corpus": [text], "tokenizer": data[1], "max_length": 32}
        pretrain(recipe(begun, streamed), resume=True)
    asked = json.loads((begun / "asked.json").read_text())
    moved = tmp_path / "run"
    shutil.copytree(begun, moved)
    (moved / "asked.json").write_text(json.dumps({**asked, "processes": 2}))
    with pytest.raises(ValueError, match="holds a run with processes 2, not 1; use another"):
        pretrain(recipe(moved, {"blocks": data[0]}), resume=True)
    # A run of an earlier version says it by its random states.
    (moved / "asked.json").unlink()
    for checkpoint in moved.glob("checkpoint-*"):
        (checkpoint / "checkpoint.json").unlink()
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / "rng_state_0.pth")
        (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_1.pth")
    with pytest.raises(ValueError, match="holds a run with processes 2, not 1; use another"):
        pretrain(recipe(moved, {"blocks": data[0]}), resume=True)
    assert contents(begun) == before


def test_the_same_run_by_other_words_is_the_same(begun, data, tmp_path):
    run, blocks = tmp_path / "elsewhere", tmp_path / "blocks"
    shutil.copytree(begun, run)
    shutil.copytree(data[0], blocks)
    model = {**MODEL, "discriminator": {**SIZES, "hidden_dropout_prob": 0.1}, "sampling_temperature": 1.0}
    settings = {"weight_decay": "0.01", "precision": "fp32", "data_seed": "42"}
    record = pretrain(recipe(run, {"blocks": str(blocks), "max_length": 32}, model, **settings), resume=True)
    assert record["resumed_with"] == []
    assert_equal(begun, run)


@pytest.mark.parametrize("kept", ["checkpoint-2", "checkpoint-4"])
@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_a_run_resumed_at_any_moment_ends_as_if_never_cut_off(kept, schedule, data, tmp_path):
    settings = {"lr_scheduler_type": schedule, "eval_strategy": "steps", "eval_steps": "2"}
    pretrain(recipe(tmp_path / "straight", {"blocks": data[0]}, **settings))
    # Killed between its last checkpoint and its record, or after an earlier one.
    killed = tmp_path / "killed"
    for name in ("asked.json", "recipe.yaml"):
        killed.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "straight" / name, killed)
    shutil.copytree(tmp_path / "straight" / kept, killed / kept)
    record = pretrain(recipe(killed, {"blocks": data[0]}, **settings), resume=True)
    assert record["steps"] == 4 and record["resumed_from"] == kept
    assert {path.name for path in killed.glob("checkpoint-*")} == {kept, "checkpoint-4"}
    assert_equal(tmp_path / "straight", killed)
    # And once more, finished.
    assert pretrain(recipe(killed, {"blocks": data[0]}, **settings), resume=True)["steps"] == 4
    assert_equal(tmp_path / "straight", killed)


def test_what_may_change_changes_nothing_and_is_written_down(begun, data, tmp_path):
    settings = {"logging_steps": "3", "save_steps": "1", "save_total_limit": "2", "dataloader_num_workers": "1"}
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    shutil.rmtree(run / "checkpoint-4")
    changed = {
        "save_steps": [2, 1],
        "save_total_limit": [None, 2],
        "dataloader_num_workers": [0, 1],
    }
    record = pretrain(recipe(run, {"blocks": data[0]}, **settings), resume=True)
    assert record["resumed_with"] == [{"from": "checkpoint-2", "changed": changed}]
    assert {path.name for path in run.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-4"}
    assert_equal(begun, run)
    # More steps under a constant rate; what began it is then what it was asked for last.
    longer = {**settings, "max_steps": "6"}
    record = pretrain(recipe(run, {"blocks": data[0]}, **longer), resume=True)
    assert record["steps"] == 6
    assert record["resumed_with"][1] == {"from": "checkpoint-4", "changed": {"max_steps": [4, 6]}}
    assert json.loads((run / "run.json").read_text())["resumed_with"] == record["resumed_with"]
    pretrain(recipe(tmp_path / "straight", {"blocks": data[0]}, max_steps="6"))
    straight, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "run"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    with pytest.raises(ValueError, match="with max_steps 6, not 4; use another"):
        pretrain(recipe(run, {"blocks": data[0]}, **settings), resume=True)


@pytest.mark.parametrize(
    "schedule",
    [
        {"lr_scheduler_type": "linear"},
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": "0.1"},
        {"initial_sampling_temperature": "2", "sampling_temperature_decay_steps": "0.5"},
    ],
)
def test_more_steps_are_refused_where_a_schedule_hangs_on_their_number(schedule, data, tmp_path):
    settings = {**schedule, "max_steps": "1", "save_steps": "1"}
    pretrain(recipe(tmp_path / "run", {"blocks": data[0]}, **settings))
    with pytest.raises(ValueError, match="with max_steps 1, not 2; use another"):
        pretrain(recipe(tmp_path / "run", {"blocks": data[0]}, **{**settings, "max_steps": "2"}), resume=True)


def test_auto_precision_stays_what_ran_first(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(precision, "faster_precision", lambda device_type: "bf16")
    settings = {"precision": "auto", "max_steps": "2", "save_steps": "1"}
    pretrain(recipe(tmp_path / "run", {"blocks": data[0]}, **settings))
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / "checkpoint-2")
    monkeypatch.setattr(precision, "faster_precision", lambda device_type: "fp32")
    record = pretrain(recipe(tmp_path / "elsewhere", {"blocks": data[0]}, **settings), resume=True)
    assert record["precision"]["ran"] == "bf16"
    assert_equal(tmp_path / "run", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="with precision 'bf16', not 'fp32'"):
        pretrain(recipe(tmp_path / "run", {"blocks": data[0]}, **{**settings, "precision": "fp32"}), resume=True)


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("accumulation", ["1", "2"])
def test_a_stream_past_its_first_pass_is_resumed_exactly(workers, accumulation, data, tmp_path, monkeypatch):
    monkeypatch.setattr(shares, "SHARE_BYTES", 400)
    corpus = write_corpus(tmp_path / "corpus", documents=24)
    # Some 12 blocks: three batches of 4 a pass.
    source = {"corpus": [corpus], "tokenizer": data[1], "max_length": 64}
    settings = {"max_steps": "9", "save_steps": "1", "dataloader_num_workers": workers}
    settings |= {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": "2"}
    straight = tmp_path / "straight"
    pretrain(recipe(straight, source, **settings))
    states = [json.loads((path / "trainer_state.json").read_text()) for path in straight.glob("checkpoint-*")]
    passes = {state["global_step"]: int(state["epoch"]) for state in states}
    assert max(passes.values()) >= 1
    for step in {max(passes) - 2, min(step for step in passes if passes[step])}:
        killed = tmp_path / f"killed-{step}"
        shutil.copytree(straight, killed)
        for path in killed.glob("checkpoint-*"):
            if int(path.name.rpartition("-")[2]) > step:
                shutil.rmtree(path)
        assert pretrain(recipe(killed, source, **settings), resume=True)["resumed_from"] == f"checkpoint-{step}"
        assert_equal(straight, killed)


def test_a_stream_of_other_text_or_other_workers_is_refused(data, tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    source = {"corpus": [corpus], "tokenizer": data[1], "max_length": 32}
    settings = {"max_steps": "1", "save_steps": "1"}
    pretrain(recipe(tmp_path / "run", source, **settings))
    with pytest.raises(ValueError, match="with dataloader_num_workers 0, not 2; use another"):
        pretrain(recipe(tmp_path / "run", source, **settings, dataloader_num_workers="2"), resume=True)
    # As long as before, and one letter is another.
    text = Path(corpus) / "text.txt"
    text.write_text(text.read_text().replace("The river", "The rivet", 1))
    with pytest.raises(
        ValueError, match=r"with data\.corpus\.file_0 'text\.txt, .*' *, not 'text\.txt, .*use another"
    ):
        pretrain(recipe(tmp_path / "run", source, **settings), resume=True)
    with pytest.raises(ValueError, match="with data.documents 'blank_line', not 'line'"):
        pretrain(recipe(tmp_path / "run", {**source, "documents": "line"}, **settings), resume=True)


def test_a_run_of_an_earlier_version_is_compared_by_its_recipe(begun, data, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    (run / "asked.json").unlink()
    for checkpoint in run.glob("checkpoint-*"):
        (checkpoint / "checkpoint.json").unlink()
    with pytest.raises(ValueError, match="with seed None, not 3; use another"):
        pretrain(recipe(run, {"blocks": data[0]}, seed="3"), resume=True)
    record = pretrain(recipe(run, {"blocks": data[0]}, logging_steps="1"), resume=True)
    assert record["resumed_with"] == [{"from": "checkpoint-4", "changed": {"logging_steps": [3, 1]}}]
    assert (run / "asked.json").is_file()
    first, second = (load_file(folder / "model.safetensors") for folder in (begun, run))
    assert all(torch.equal(first[name], second[name]) for name in first)
