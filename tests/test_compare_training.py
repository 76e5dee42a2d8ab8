"""scripts/compare_training.py: real runs side by side, equal budgets, and what is skipped, resumed and refused."""

import importlib
import json
import os
from pathlib import Path

import pytest
from helpers.corpus import SMALL_RUN

from modeling_electra_rtd.cli.main import main as electra_rtd


MODEL = (
    '{"model_type": "electra", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, '
    '"num_attention_heads": 2}'
)


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


def settings(data: str, **changes: str) -> list[str]:
    values = {
        **SMALL_RUN,
        "blocks": data,
        "max_length": "32",
        "eval_strategy": "no",
        "discriminator": MODEL,
        **changes,
    }
    return [f"{name}={value}" for name, value in values.items()]


@pytest.mark.slow
def test_variants_are_trained_once_compared_and_gone_on_with(script, data, tmp_path, capsys, monkeypatch):
    variants = ["--variant", "muon", "--variant", "adamw", "muon_learning_rate=none", "--seeds", "1"]
    changes = settings(data[0], save_strategy="steps", save_steps="1")
    comparison = ["tiny", "--output-dir", str(tmp_path), *variants, "--set", *changes]
    assert script.main(comparison) == 0
    shown = capsys.readouterr().out
    assert len(script.executed) == 2
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert [(run["variant"], run["seed"]) for run in record["runs"]] == [("muon", 1), ("adamw", 1)]
    for run in record["runs"]:
        own = json.loads((tmp_path / f"{run['variant']}-seed1" / "run.json").read_text())
        assert own["recipe"]["training"]["seed"] == 1 and own["held_out"] == run["held_out"]
        assert own["recipe"]["training"]["muon_learning_rate"] == (None if run["variant"] == "adamw" else 0.02)
    printed = shown[shown.rindex("\n| variant") :]
    assert printed.startswith("\n" + script.table(record["runs"]))
    # A finished run is taken as it is, and one with other settings is refused.
    own = json.loads((tmp_path / "muon-seed1" / "run.json").read_text())
    muon, values = tmp_path / "muon-seed1", {**script.overrides_of(changes), "seed": "1"}
    assert script.trained("tiny", values, muon) == own
    assert len(script.executed) == 2
    with pytest.raises(ValueError, match=r"muon-seed1 holds a run with other settings \(training.seed\); use another"):
        script.trained("tiny", {**values, "seed": "2"}, muon)
    # Nor does another name of a folder make it another.
    monkeypatch.chdir(tmp_path)
    assert script.trained("tiny", {**values, "blocks": f"{data[0]}/"}, Path("muon-seed1")) == own
    assert script.trained("tiny", {**values, "blocks": os.path.relpath(data[0])}, muon) == own
    # One run that was stopped after its first checkpoint, and one that was stopped before it.
    for name, kept in (("muon", ["checkpoint-1"]), ("adamw", [])):
        run = tmp_path / f"{name}-seed1"
        (run / "run.json").unlink()
        for complete in run.glob("checkpoint-*/telemetry.safetensors"):
            if complete.parent.name not in kept:
                complete.unlink()
    with pytest.raises(ValueError, match=r"holds a run with other settings \(training.learning_rate\)"):
        script.trained("tiny", {**values, "learning_rate": "0.1"}, muon)
    assert script.main(comparison) == 0
    assert ["--resume" in executed for executed in script.executed[2:]] == [True, True]
    for before, after in zip(
        record["runs"], json.loads((tmp_path / "comparison.json").read_text())["runs"], strict=True
    ):
        for name in ("eval_generator_loss", "eval_discriminator_loss"):
            assert after["held_out"][name] == before["held_out"][name]


def test_a_line_is_the_mean_of_its_seeds(script):
    def run(variant: str, loss: float, seconds: float, auc: float | None) -> dict:
        held_out = {"eval_generator_loss": loss, "eval_discriminator_loss": 0.25}
        held_out |= {} if auc is None else {"eval_discriminator_auc": auc}
        sizes = {"steps": 1200, "tokens_seen": 2_500_000, "flops": 3e15}
        return {"variant": variant, **sizes, "held_out": held_out, "training_seconds": seconds}

    runs = [run("a", 5.0, 10.0, 0.6), run("b", 4.0, 9.0, None), run("a", 6.0, 20.0, 0.7)]
    assert script.table(runs).splitlines()[2:] == [
        "| a | 2 | 1,200 | 2.50 ± 0.00 | 3e+15 | 5.500 ± 0.707 | 0.2500 ± 0.0000 | 0.650 ± 0.071 | 15 ± 7 |",
        "| b | 1 | 1,200 | 2.50 | 3e+15 | 4.000 | 0.2500 | - | 9 |",
    ]


@pytest.mark.parametrize("equal", ["tokens", "flops"])
def test_a_budget_is_that_of_the_first_variant(script, data, equal):
    common = {**script.overrides_of(settings(data[0])), "max_steps": "40"}
    half = {"initial_batch_size": "2", "batch_size_warmup_steps": "1000"}
    planned = script.planned_runs("tiny", {"full": {}, "half": half}, common, equal)
    (first, full), (second, growing) = planned.values()
    assert first["max_steps"] == "40" and full["steps"] == 40
    assert full["tokens"] == 40 * 4 * 32
    if equal == "tokens":
        assert second["max_steps"] == "80" and growing["tokens"] == full["tokens"]
    else:
        # Half a batch takes half of the FLOPs, but for those of the optimizer.
        step = growing["flops"] / growing["steps"]
        assert 40 < int(second["max_steps"]) < 80 and abs(growing["flops"] - full["flops"]) <= step / 2


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
        (["--variant", "a", "seed=7"], "'seed=7': seed is given by --seeds"),
        (["--variant", "a", "output_dir=b"], "'output_dir=b': output_dir is given by --output-dir"),
        (["--variant", "a", "max_steps=3", "max_steps=4"], "max_steps is given twice, as '3' and as '4'"),
        (["--variant", "a", "--seeds", "42", "1", "42"], "--seeds is 42 1 42; give each seed once"),
        (["--variant", "a", "blocks=nope"], "blocks 'nope': no such folder"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_work(script, data, tmp_path, capsys, more, said):
    assert script.main(["tiny", "--output-dir", str(tmp_path), *more, "--set", *settings(data[0])]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not script.executed and not list(tmp_path.iterdir())
