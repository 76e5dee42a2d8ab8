"""scripts/ablation.py: every variant can be planned; two are pre-trained, fine-tuned and set side by side."""

import importlib
import json
from pathlib import Path

import pytest
from helpers.corpus import SMALL_RUN
from safetensors.torch import load_file, save_file

from modeling_electra_rtd.cli.main import main as electra_rtd
from modeling_electra_rtd.pretraining.plan import planned_config
from modeling_electra_rtd.pretraining.recipes import read_recipe


@pytest.fixture
def script(monkeypatch):
    """The script, whose runs are made in this process: importing the libraries takes most of a short run's time."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    module = importlib.import_module("ablation")

    module.executed = []

    def execute(command: list[str]) -> None:
        module.executed.append(command)
        if electra_rtd(command):
            raise ValueError("electra-rtd failed")

    for name in ("ablation", "compare_training"):
        monkeypatch.setattr(importlib.import_module(name), "execute", execute)
    return module


def test_every_variant_changes_what_its_name_says(script, data):
    configs = {}
    for name in script.VARIANTS:
        changes = dict(text.split("=", 1) for text in script.changes_of(name))
        configs[name], _ = planned_config(
            read_recipe(script.RECIPE, {"blocks": data[0], "max_length": "32", **changes})
        )
    fields = {name: config.objective_fields() for name, config in configs.items()}
    assert all(fields[name]["objective"] == name for name in fields if name in script.OBJECTIVES)
    assert {fields[name]["embedding_sharing"] for name in fields} == {"none", "tied", "tied_words", "all", "gdes"}
    assert {fields[name]["generator_kind"] for name in fields} == {"masked_lm", "two_tower", "unigram", "uniform"}
    families = {name: config.discriminator_config.model_type for name, config in configs.items()}
    assert families["electra"] == "electra" and families["bert"] == "bert" and families["gru"] == "gru_encoder"
    assert {config.discriminator_config.hidden_size for config in configs.values()} == {256}


@pytest.fixture
def task_dir(tmp_path) -> str:
    """SST-2 in its official layout, of sixteen examples."""
    task = tmp_path / "sst2"
    task.mkdir()
    lines = [f"{word} {word}\t{label}" for label, word in enumerate(("bad", "good")) for _ in range(8)]
    for split in ("train", "dev"):
        (task / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n", encoding="utf-8")
    return str(task)


def command_for(blocks: str, output_dir: Path | str, variants: list[str], *more: str) -> list[str]:
    small = {**SMALL_RUN, "max_length": "32", "eval_strategy": "no", "save_strategy": "no"}
    command = ["--blocks", blocks, "--output-dir", str(output_dir), "--variants", *variants]
    return [*command, "--set", *(f"{name}={value}" for name, value in small.items()), *more]


@pytest.mark.slow
def test_variants_side_by_side(script, data, task_dir, tmp_path, capsys, monkeypatch):
    runs = tmp_path / "runs"
    task = ["--task", "sst2", "--data-dir", task_dir, "--task-set", "max_steps=1", "disable_tqdm=true"]
    # Left by a run that was stopped before its first result.
    (runs / "mlm-seed42-sst2").mkdir(parents=True)
    assert script.main(command_for(data[0], runs, ["rtd", "mlm"], *task)) == 0
    shown = capsys.readouterr().out
    record = json.loads((runs / script.RECORD).read_text(encoding="utf-8"))
    assert [run["variant"] for run in record["runs"]] == ["rtd", "mlm"]
    rtd, mlm = record["runs"]
    # A step without a generator costs less, so there are more of them for the same FLOPs.
    assert mlm["steps"] > rtd["steps"] and abs(mlm["flops"] - rtd["flops"]) < 0.6 * mlm["flops"] / mlm["steps"]
    assert "eval_generator_loss" in rtd["held_out"] and "eval_generator_loss" not in mlm["held_out"]
    for run in record["runs"]:
        tuned = json.loads((runs / f"{run['variant']}-seed42-sst2" / "record.json").read_text())
        median = tuned["fine_tuned"]["summary"]["validation"]["accuracy"]["median"]
        assert run["held_out"]["task"] == median and f"| {median:.4f} |" in shown
    assert "from_scratch" in rtd["task"] and "from_scratch" not in mlm["task"]

    # The same command, with folders under other names, trains nothing.
    written = {path: path.stat().st_mtime_ns for path in runs.glob("*/**/*.safetensors")}
    monkeypatch.chdir(tmp_path)
    elsewhere = ["--task", "sst2", "--data-dir", "sst2", "--task-set", "max_steps=1"]
    assert script.main(command_for(f"{data[0]}/", "runs", ["rtd", "mlm"], *elsewhere)) == 0
    again = json.loads((runs / script.RECORD).read_text(encoding="utf-8"))
    assert again["runs"] == record["runs"]
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/**/*.safetensors")} == written

    # What is asked for is held against what is there, and what it lacks is trained: a baseline where another variant
    # comes first (whose steps no longer follow from another's FLOPs), and a seed.
    monkeypatch.setitem(SMALL_RUN, "max_steps", str(mlm["steps"]))
    first = command_for(data[0], runs, ["mlm"], "--task", "sst2", "--data-dir", task_dir, "--task-set", "max_steps=1")
    capsys.readouterr()
    assert script.main([*first, "--task-seeds", "2"]) == 0
    (run,) = json.loads((runs / script.RECORD).read_text(encoding="utf-8"))["runs"]
    assert run["task"]["fine_tuned"]["accuracy"]["seeds"] == run["task"]["from_scratch"]["accuracy"]["seeds"] == 2
    assert "sst2 of the first one's encoder from random weights: " in capsys.readouterr().out
    assert script.main([*first[:-1], "max_steps=2", "--task-seeds", "2"]) == 2
    assert "holds a run with max_steps 1, not 2" in capsys.readouterr().err
    weights = runs / "mlm-seed42" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert script.main([*first, "--task-seeds", "2"]) == 2
    assert "holds a run with weights_sha256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--task", "sst"], "did you mean"),
        (["--task", "sst2", "--data-dir", "nowhere"], "nowhere"),
        (["--task", "ax"], "ax"),
        (["--task-set", "max_steps"], "'max_steps' is not FIELD=VALUE"),
        (["--task-set", "learning_rat=1"], "did you mean 'learning_rate'"),
        (["--task-set", "doc_stride=8"], "doc_stride is an option of question_answering; sst2 is classification"),
        (
            ["--task-set", "from_scratch_seeds=2"],
            "from_scratch_seeds is given by --task-seeds",
        ),
        (["--task-set", "seed=2"], "'seed=2': seed is given by --task-seeds"),
        (["--task-seeds", "0"], "--task-seeds is 0; it must be at least 1"),
        (["--set", "seed=7"], "'seed=7': seed is given by --seeds"),
        (["--set", "blocks=other"], "blocks is given twice"),
        (["--blocks", "nope"], "blocks 'nope': no such folder, make it with electra-rtd prepare"),
        (["--seeds", "42", "42"], "--seeds is 42 42; give each seed once"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_trained(
    script, data, task_dir, tmp_path, capsys, more, said
):
    command = command_for(data[0], tmp_path / "runs", ["rtd"], "--task", "sst2", "--data-dir", task_dir, *more)
    assert script.main(command) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not script.executed and not (tmp_path / "runs").exists()


def test_what_is_for_a_task_needs_one(script, data, tmp_path, capsys):
    assert script.main(command_for(data[0], tmp_path / "runs", ["rtd"], "--task-set", "max_steps=1")) == 2
    assert capsys.readouterr().err == "ablation: error: --task-set goes with --task\n"
