"""The benchmarks of data run, and what they compare are the same tokens and real waits."""

import collections
import json
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.corpus import make_blocks, write_corpus

from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.data.collator import BlockCollator


sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import loading  # noqa: E402
import preparation  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of blocks and of their tokenizer."""
    return make_blocks(tmp_path_factory.mktemp("made"))


@pytest.fixture
def text(tmp_path):
    return [str(Path(write_corpus(tmp_path / "corpus", documents=200, seed=1), "text.txt"))]


def test_contenders_make_the_same_tokens(made, text, tmp_path):
    counts = {}
    for name in ("classic", "datasets.map", "electra-rtd, 1 process"):
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        preparation.CONTENDERS[name](text, made[1], str(folder))
        if name == "classic":
            ids = np.load(folder / "blocks.npy").ravel()
        else:
            found = [path.parent for path in folder.glob("blocks/**/state.json")]
            ids = np.concatenate([np.ravel(datasets.load_from_disk(str(path))["input_ids"][:]) for path in found])
        counts[name] = collections.Counter(ids[ids > 4].tolist())
    ours = counts.pop("electra-rtd, 1 process")
    for count in counts.values():
        # The others drop what does not fill a block at the end.
        assert count.total() > 1000 and not count - ours and (ours - count).total() < preparation.LENGTH
    different, documents = preparation.differing_documents(text, made[1], str(tmp_path))
    assert different == 0 and documents == 200


@pytest.mark.slow
def test_preparation_prints_a_table_and_writes_a_record(made, text, tmp_path, monkeypatch, capsys):
    record = tmp_path / "record.json"
    # A process for each that stays.
    without = [name for name in preparation.CONTENDERS if name != "electra-rtd, 1 process"]
    command = ["--corpus", *text, "--tokenizer", made[1], "--megabytes", "0.01", "0.02", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *command, "--without", *without, "--json", str(record)])
    preparation.main()
    printed = capsys.readouterr().out
    assert "| 0.02 | electra-rtd, 1 process |" in printed and "times the memory for 2.0 times the input" in printed
    written = json.loads(record.read_text())
    assert written["versions"] == environment()["versions"]
    for row in written["rows"]:
        assert row["megabytes"] == pytest.approx(row["input"], rel=0.2)
        assert row["seconds"] > 0 and row["cpu_seconds"] > 0 and row["peak_bytes"] > 1e8


@pytest.mark.slow
def test_waiting_is_found(made, tmp_path, monkeypatch, capsys):
    """A collator that sleeps starves the training by as much as it sleeps."""
    # It would last for the whole process.
    monkeypatch.setattr(loading, "keep_freed_memory", lambda: True)
    record = tmp_path / "record.json"
    command = ["--blocks", made[0], "--steps", "5", "--json", str(record)]
    for name, value in (("per_device_train_batch_size", "2"), ("bf16", "false"), ("torch_compile", "false")):
        command += ["--field", name, value]
    monkeypatch.setattr(sys, "argv", ["benchmark", *command])
    loading.main()
    assert "| prepared blocks |" in capsys.readouterr().out
    row = json.loads(record.read_text())["rows"]["prepared blocks"]
    assert 0 < row["wait_seconds"] < row["step_seconds"] and row["share"] < 0.5
    collate = BlockCollator.__call__

    def sleepy(*arguments):
        time.sleep(0.2)
        return collate(*arguments)

    monkeypatch.setattr(BlockCollator, "__call__", sleepy)
    loading.main()
    slow = json.loads(record.read_text())["rows"]["prepared blocks"]
    assert slow["wait_seconds"] >= 0.2 and slow["share"] > row["share"] and slow["step_seconds"] > 0.2
