"""The README's commands and code, executed in its order on a small corpus."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.calibration import measure_little
from helpers.checkpoints import google_like_pair
from helpers.corpus import SMALL_RUN, write_corpus
from transformers import AutoTokenizer

from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.finetuning.report import markdown_table


README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SMALL_MODEL = {
    "model_type": "modernbert",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in code_blocks("bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("electra-rtd ")]


def write_labelled(folder: Path) -> None:
    """MRPC in its official layout, and files of one's own."""
    (folder / "glue" / "MRPC").mkdir(parents=True)
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    rows = "".join(f"{i % 2}\t1\t2\tThe river rises .\tThe river {('falls', 'rises')[i % 2]} .\n" for i in range(20))
    for name in ("train", "dev"):
        (folder / "glue" / "MRPC" / f"{name}.tsv").write_text(header + rows)
        (folder / f"{name}.csv").write_text("text,topic\n" + "The river rises.,water\nThe city grows.,land\n" * 8)
    pair = {"sentence_good": "The river rises.", "sentence_bad": "The rises river.", "field": "syntax"}
    (folder / "blimp.jsonl").write_text(json.dumps(pair) + "\n")


@pytest.fixture(scope="module")
def little_calibration():
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        yield


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, little_calibration) -> Path:
    """A folder in which the README's own-text commands have been run, in order."""
    folder = tmp_path_factory.mktemp("readme")
    write_corpus(folder / "my_corpus", documents=300)
    write_labelled(folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        for _, verb, *rest in commands():
            if verb in ("--help", "demo"):
                # The demo serves until it is stopped: tests/test_demo_app.py.
                continue
            if verb == "tokenizer":
                rest[rest.index("--vocab-size") + 1] = "150"
            if verb == "pretrain":
                options = {**SMALL_RUN, "discriminator": json.dumps(SMALL_MODEL)}
                if rest[0] == "small_from_google":
                    pair = google_like_pair(folder / "google", len(AutoTokenizer.from_pretrained("runs/tokenizer")))
                    options.pop("discriminator")
                    options |= {"discriminator_checkpoint": pair[0], "generator_checkpoint": pair[1]}
                    options["tokenizer"] = "runs/tokenizer"
                rest += [part for name, value in options.items() for part in (f"--{name}", value)]
            if verb == "finetune":
                rest += ["--seeds", "0", "--num-train-epochs", "1", "--max-length", "32"]
            # No Hub in a test: the tokenizer stands in for google/electra-small-discriminator's.
            rest = ["runs/tokenizer" if part.startswith("google/") else part for part in rest]
            assert main([verb, *rest]) == 0, (verb, rest)
    finally:
        os.chdir(before)
    return folder


def run_python(code: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr


def test_the_commands_leave_what_the_readme_says(workplace):
    for name in ("runs/tiny/curves.png", "runs/tiny/run.json", "runs/tiny/recipe.yaml", "runs/continued/run.json"):
        assert (workplace / name).is_file(), name


def test_fine_tuning_leaves_tables(workplace):
    table = (workplace / "runs" / "mrpc" / "table.md").read_text()
    assert table.count("| mrpc | accuracy |") == 1
    assert "| train | accuracy |" in (workplace / "runs" / "topics" / "table.md").read_text()


def test_the_loading_example_needs_only_transformers(workplace):
    (loading,) = [block for block in code_blocks("python") if "AutoModelForSequenceClassification" in block]
    run_python(loading + "\nimport sys; assert 'modeling_electra_rtd' not in sys.modules", workplace)


def test_the_pipeline_example_runs(workplace):
    (detecting,) = [block for block in code_blocks("python") if "replaced-token-detection" in block]
    run_python(detecting + "\nassert detect('A river.')[0]['start'] == 0 and fill('a [MASK]')", workplace)


def test_the_figures_are_those_of_the_records():
    root = Path(__file__).parents[1]
    held_out = json.loads((root / "docs" / "records" / "tiny" / "run.json").read_text())["held_out"]
    assert f"generator loss of {held_out['eval_generator_loss']:.2f} nats" in " ".join(README.split())
    assert f"AUC of {held_out['eval_discriminator_auc']:.3f} on replaced" in " ".join(README.split())
    tasks = ("stsb", "mrpc", "sst2", "ewt_pos", "wnut17", "multi30k_de_en")
    paths = [root / "docs" / "records" / "finetuning" / f"{task}.json" for task in tasks]
    for name, part in (("pre-trained", "fine_tuned"), ("from scratch", "from_scratch")):
        (row,) = [line for line in README.splitlines() if line.startswith(f"| {name} |")]
        shown = [cell.strip() for cell in row.split("|")[2:-1]]
        for cell, path in zip(shown, paths, strict=True):
            record = json.loads(path.read_text())
            median = record[part]["summary"]["validation"][record["headline"]]["median"]
            assert float(cell) == round(median, len(cell.partition(".")[2])), path.stem


def test_the_log_holds_the_table_of_the_records():
    root = Path(__file__).parents[1]
    log = (root / "docs" / "LOG.md").read_text()
    for path in sorted((root / "docs" / "records" / "finetuning").glob("*.json")):
        row = markdown_table([json.loads(path.read_text())]).splitlines()[2]
        assert row in log, path.stem


def test_the_python_example_trains(workplace):
    (training,) = [block for block in code_blocks("python") if "ElectraRtdTrainer(" in block]
    assert 'max_steps=1000, precision="auto"' in training
    small = training.replace('max_steps=1000, precision="auto"', "max_steps=2, per_device_train_batch_size=4")
    run_python(small.replace("num_hidden_layers=6", "num_hidden_layers=1"), workplace)


def test_the_launcher_command_names_what_exists():
    (launch,) = [line for block in code_blocks("bash") for line in block.splitlines() if "accelerate launch" in line]
    root = Path(__file__).parents[1]
    words = shlex.split(launch)
    assert (root / words[words.index("--config_file") + 1]).is_file()
    assert (root / "scripts" / "pretrain.py").is_file()
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / "pretrain.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert "recipe" in done.stdout
