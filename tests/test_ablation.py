"""scripts/ablation.py: every variant can be planned; two are pre-trained, fine-tuned and set side by side."""

import importlib
import json
from pathlib import Path

import pytest
from corpus_for_tests import SMALL_RUN

from modeling_electra_rtd.cli import main as electra_rtd
from modeling_electra_rtd.pretraining.plan import planned_config
from modeling_electra_rtd.pretraining.recipes import read_recipe


@pytest.fixture
def script(monkeypatch):
    """The script, whose runs are made in this process: importing the libraries takes most of a short run's time."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    module = importlib.import_module("ablation")

    def execute(command: list[str]) -> None:
        assert electra_rtd(command) == 0

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


def test_variants_side_by_side(script, data, tmp_path, capsys):
    task = tmp_path / "sst2"
    task.mkdir()
    lines = [f"{word} {word}\t{label}" for label, word in enumerate(("bad", "good")) for _ in range(8)]
    for split in ("train", "dev"):
        (task / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n", encoding="utf-8")
    small = {**SMALL_RUN, "max_length": "32", "eval_strategy": "no", "save_strategy": "no"}
    command = ["--blocks", data[0], "--output-dir", str(tmp_path / "runs"), "--variants", "rtd", "mlm"]
    command += ["--set", *(f"{name}={value}" for name, value in small.items())]
    command += ["--task", "sst2", "--data-dir", str(task), "--task-set", "max_steps=1"]
    assert script.main(command) == 0
    shown = capsys.readouterr().out
    record = json.loads((tmp_path / "runs" / script.RECORD).read_text(encoding="utf-8"))
    assert [run["variant"] for run in record["runs"]] == ["rtd", "mlm"]
    rtd, mlm = record["runs"]
    # A step without a generator costs less, so there are more of them for the same FLOPs.
    assert mlm["steps"] > rtd["steps"] and abs(mlm["flops"] - rtd["flops"]) < 0.6 * mlm["flops"] / mlm["steps"]
    assert "eval_generator_loss" in rtd["held_out"] and "eval_generator_loss" not in mlm["held_out"]
    for run in record["runs"]:
        tuned = json.loads((tmp_path / "runs" / f"{run['variant']}-seed42-sst2" / "record.json").read_text())
        median = tuned["fine_tuned"]["summary"]["validation"]["accuracy"]["median"]
        assert run["held_out"]["task"] == median and f"| {median:.4f} |" in shown
    assert "from_scratch" in rtd["task"] and "from_scratch" not in mlm["task"]
