"""scripts/compare_training.py: real runs side by side, equal budgets, and what is skipped, resumed and refused."""

import importlib
import json
from pathlib import Path

import pytest
from corpus_for_tests import SMALL_RUN, make_blocks

from modeling_electra_rtd.cli import main as electra_rtd


MODEL = (
    '{"model_type": "electra", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, '
    '"num_attention_heads": 2}'
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return make_blocks(tmp_path_factory.mktemp("data"))[0]


@pytest.fixture
def script(monkeypatch):
    """The script, whose runs are made in this process: importing the libraries takes most of a short run's time."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    module = importlib.import_module("compare_training")
    module.executed = []

    def execute(command: list[str]) -> None:
        module.executed.append(command)
        assert electra_rtd(command) == 0

    monkeypatch.setattr(module, "execute", execute)
    return module


def command(data: str, folder: Path, *more: str) -> list[str]:
    settings = {**SMALL_RUN, "blocks": data, "max_length": "32", "eval_strategy": "no", "discriminator": MODEL}
    return [
        "tiny",
        "--output-dir",
        str(folder),
        "--set",
        *(f"{name}={value}" for name, value in settings.items()),
        *more,
    ]


def test_variants_are_trained_once_and_compared(script, data, tmp_path, capsys):
    variants = ["--variant", "muon", "--variant", "adamw", "muon_learning_rate=none", "--seeds", "1", "2"]
    assert script.main(command(data, tmp_path, *variants)) == 0
    shown = capsys.readouterr().out
    assert len(script.executed) == 4
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert [(run["variant"], run["seed"]) for run in record["runs"]] == [
        *(("muon", 1), ("adamw", 1)),
        *(("muon", 2), ("adamw", 2)),
    ]
    losses = {}
    for run in record["runs"]:
        own = json.loads((tmp_path / f"{run['variant']}-seed{run['seed']}" / "run.json").read_text())
        assert own["recipe"]["training"]["seed"] == run["seed"] and own["held_out"] == run["held_out"]
        assert own["recipe"]["training"]["muon_learning_rate"] == (None if run["variant"] == "adamw" else 0.02)
        losses.setdefault(run["variant"], []).append(run["held_out"]["eval_generator_loss"])
    lines = {line.split(" | ")[0].strip("| "): line for line in shown.splitlines() if line.startswith("| ")}
    for name, (one, other) in losses.items():
        mean, spread = (one + other) / 2, abs(one - other) / 2**0.5
        assert f"| {mean:,.3f} ± {spread:.3f} |" in lines[name]
    # Again: nothing is trained, and the table is the same. With something else to train, the folder is refused.
    assert script.main(command(data, tmp_path, *variants)) == 0
    assert capsys.readouterr().out == shown[shown.rindex("\n| variant") :] and len(script.executed) == 4
    assert script.main(command(data, tmp_path, "--variant", "muon", "weight_decay=0.5", "--seeds", "1")) == 2
    assert "muon-seed1 holds a run with other settings" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_or_begins_anew(script, data, tmp_path):
    saving = ["--variant", "a", "save_strategy=steps", "save_steps=1", "--seeds", "1"]
    assert script.main(command(data, tmp_path, *saving)) == 0
    run = tmp_path / "a-seed1"
    finished = (run / "run.json").read_text()
    (run / "run.json").unlink()
    (run / "checkpoint-2" / "telemetry.safetensors").unlink()
    assert script.main(command(data, tmp_path, *saving)) == 0
    assert "--resume" in script.executed[-1]
    assert json.loads((run / "run.json").read_text())["held_out"].items() >= {
        (name, value) for name, value in json.loads(finished)["held_out"].items() if "loss" in name
    }
    for checkpoint in run.glob("checkpoint-*/telemetry.safetensors"):
        checkpoint.unlink()
    (run / "run.json").unlink()
    assert script.main(command(data, tmp_path, *saving)) == 0
    assert "--resume" not in script.executed[-1] and (run / "run.json").is_file()


@pytest.mark.parametrize("equal", ["tokens", "flops"])
def test_a_budget_is_that_of_the_first_variant(script, data, equal):
    settings = script.overrides_of(command(data, Path("runs"))[4:])
    half = {"initial_batch_size": "2", "batch_size_warmup_steps": "1000"}
    planned = script.planned_runs("tiny", {"full": {}, "half": half}, {**settings, "max_steps": "40"}, equal)
    (first, full), (second, growing) = planned.values()
    assert first["max_steps"] == "40" and full["steps"] == 40
    assert full["tokens"] == 40 * 4 * 32
    if equal == "tokens":
        assert second["max_steps"] == "80" and growing["tokens"] == full["tokens"]
    else:
        # Half a batch takes half of the FLOPs, but for those of the optimizer.
        step = growing["flops"] / growing["steps"]
        assert 70 < int(second["max_steps"]) <= 80 and abs(growing["flops"] - full["flops"]) <= step / 2


def test_the_nearest_number_of_steps(script):
    assert [script.steps_for(budget, lambda steps: 10 * steps) for budget in (1, 10, 14, 16, 1000)] == [
        1,
        1,
        1,
        2,
        100,
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--variant", "a", "learning_rat=1"], "did you mean 'learning_rate'"),
        (["--variant", "a", "learning_rate"], "'learning_rate' is not FIELD=VALUE"),
        (["--variant", "a", "--variant", "a"], "variant 'a': a name is given once"),
        (["--variant", "../a"], "variant '../a'"),
        (["--variant", "a", "--variant", "b", "max_steps=3", "--equal", "tokens"], "variant 'b' sets max_steps"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_work(script, data, tmp_path, capsys, more, said):
    assert script.main(command(data, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not script.executed and not list(tmp_path.iterdir())
