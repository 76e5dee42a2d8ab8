"""The README: its length, its commands and code, executed in its order on a small corpus, and its figures."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.documentation import (
    ROOT,
    blocks_of,
    check_setup,
    command_lines,
    run_command,
    smaller_python,
    write_materials,
)

from modeling_electra_rtd.finetuning.report import markdown_table


README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks_of(ROOT / "README.md")


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("materials")
    write_materials(folder)
    return folder


@pytest.fixture(scope="module")
def workplace(materials, tmp_path_factory) -> Path:
    """A folder in which the README's commands have been run, in order."""
    folder = shutil.copytree(materials, tmp_path_factory.mktemp("readme"), dirs_exist_ok=True)
    shutil.rmtree(folder / "runs")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for block in BLOCKS:
            for words in command_lines(block) if block.language == "bash" else []:
                run_command(words, block.place)
    finally:
        os.chdir(before)
    return folder


def run_python(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_short():
    assert len(README.splitlines()) <= 120
    assert not [line for line in README.splitlines() if len(line) > 119]
    assert len(re.findall(r"^\|(?: ?-+ ?\|)+$", README, re.MULTILINE)) == 1, "one table"


def test_nothing_in_it_is_left_out():
    assert [block.not_run for block in BLOCKS] == [None] * len(BLOCKS)
    verbs = [words[1] for block in BLOCKS if block.language == "bash" for words in command_lines(block)]
    assert verbs == ["install", "quickstart", "test", "prepare", "pretrain", "export"]


def test_its_line_of_pip_finds_what_it_needs(tmp_path):
    # On a copy, because a build leaves its folders next to what it builds.
    lines = [words for block in BLOCKS if block.language == "bash" for words in command_lines(block)]
    (install,) = [words for words in lines if words[0] == "pip"]
    check_setup(install, "README.md")
    for name in ("modeling_electra_rtd", "configuration", "model_cards"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    offline = ["--dry-run", "--no-build-isolation", "--no-index", "--no-deps", "--ignore-installed"]
    done = subprocess.run(
        [sys.executable, "-m", *install, *offline], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Would install electra-rtd-" in done.stdout


def test_the_commands_leave_what_the_readme_says(workplace):
    for name in ("google/curves.png", "google/run.json", "release/README.md", "release/generator/config.json"):
        assert (workplace / "runs" / name).is_file(), name


def test_the_loading_example_needs_only_transformers(workplace):
    (loading,) = [block.code for block in BLOCKS if "AutoModelForSequenceClassification" in block.code]
    # The checkpoint before the export loads as the discriminator.
    check = """
import sys
for name in ("runs/release", "runs/google"):
    loaded, info = AutoModelForSequenceClassification.from_pretrained(name, output_loading_info=True)
    assert all(key.startswith("classifier.") for key in info["missing_keys"]), info
assert "modeling_electra_rtd" not in sys.modules
"""
    run_python(loading + check, workplace)


def test_the_python_example_continues_a_checkpoint(materials, tmp_path):
    folder = shutil.copytree(materials, tmp_path / "python")
    shutil.rmtree(folder / "runs")
    (training,) = [block for block in BLOCKS if "ElectraRtdTrainer(" in block.code]
    assert "max_steps=1000" in training.code
    check = """
import torch
from transformers import ElectraForPreTraining
before, after = (ElectraForPreTraining.from_pretrained(name) for name in (discriminator, "runs/continued"))
moved = [not torch.equal(one, other) for one, other in zip(before.parameters(), after.parameters(), strict=True)]
assert all(moved), "nothing was trained"
AutoTokenizer.from_pretrained("runs/continued")
"""
    run_python(smaller_python(training) + check, folder)


def test_its_links_lead_to_files():
    for page in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
        missing = [link for link in links if not (ROOT / link).exists()]
        assert not missing, page


def test_the_figures_are_those_of_the_records():
    held_out = json.loads((ROOT / "docs" / "records" / "tiny" / "run.json").read_text())["held_out"]
    assert f"generator loss of {held_out['eval_generator_loss']:.2f} nats" in " ".join(README.split())
    assert f"AUC of {held_out['eval_discriminator_auc']:.3f} on replaced" in " ".join(README.split())
    tasks = ("stsb", "mrpc", "sst2", "ewt_pos", "wnut17", "multi30k_de_en")
    paths = [ROOT / "docs" / "records" / "finetuning" / f"{task}.json" for task in tasks]
    for name, part in (("pre-trained", "fine_tuned"), ("from scratch", "from_scratch")):
        (row,) = [line for line in README.splitlines() if line.startswith(f"| {name} |")]
        shown = [cell.strip() for cell in row.split("|")[2:-1]]
        for cell, path in zip(shown, paths, strict=True):
            record = json.loads(path.read_text())
            median = record[part]["summary"]["validation"][record["headline"]]["median"]
            assert float(cell) == round(median, len(cell.partition(".")[2])), path.stem


def test_the_log_holds_the_table_of_the_records():
    log = (ROOT / "docs" / "log" / "finetuning.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs" / "records" / "finetuning").glob("*.json")):
        row = markdown_table([json.loads(path.read_text())]).splitlines()[2]
        assert row in log, path.stem
