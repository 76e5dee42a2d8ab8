"""Fine-tuning by two gloo processes against one: the same weights, and one record of them."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.finetuning import checkpoint
from helpers.tiny import WORDS
from safetensors.torch import load_file


pytestmark = pytest.mark.distributed

ROOT = Path(__file__).parents[2]


def finetune(processes: int, model: str, data_dir: Path, folder: Path, rows: int) -> str:
    """What a run of two tasks prints."""
    launcher = [] if processes == 1 else ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command = [sys.executable, *launcher, "-m", "modeling_electra_rtd.cli", "finetune", "--task", "cola", "sst2"]
    command += ["--model", model, "--data-dir", str(data_dir), "--output-dir", str(folder), "--seeds", "0"]
    command += ["--from-scratch-seeds", "0", "--num-train-epochs", "2", "--per-device-train-batch-size", str(rows)]
    command += ["--bf16", "false", "--use-cpu", "--disable-tqdm"]
    command += ["--learning-rate", "1e-2", "--save-strategy", "epoch"]
    # Batches of like length are others where a process has fewer rows.
    command += ["--train-sampling-strategy", "sequential"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_two_processes_equal_one_and_write_once(tmp_path):
    model = checkpoint(tmp_path / "model")
    generator = random.Random(0)
    for task in ("CoLA", "SST-2"):
        (tmp_path / "data" / task).mkdir(parents=True)
        for split, count in (("train", 32), ("dev", 13)):
            texts = [" ".join(generator.choices(WORDS[:9], k=generator.randint(2, 12))) for _ in range(count)]
            if task == "CoLA":
                lines = [f"x\t{'cat' in text:d}\t\t{text}\n" for text in texts]
            else:
                lines = ["sentence\tlabel\n", *(f"{text}\t{'dog' in text:d}\n" for text in texts)]
            (tmp_path / "data" / task / f"{split}.tsv").write_text("".join(lines))
    finetune(1, model, tmp_path / "data", tmp_path / "one", 8)
    printed = finetune(2, model, tmp_path / "data", tmp_path / "two", 4)
    written = [{path.relative_to(tmp_path / run) for path in (tmp_path / run).rglob("*")} for run in ("one", "two")]
    assert written[0] == written[1]
    for task in ("cola", "sst2"):
        assert printed.count(f"{task}, seed 0: 32 training rows") == 1
        one, two = (load_file(tmp_path / run / task / "seed-0" / "model.safetensors") for run in ("one", "two"))
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, atol=2e-5, rtol=0)
        records = [json.loads((tmp_path / run / task / "record.json").read_text()) for run in ("one", "two")]
        assert records[0]["fine_tuned"]["summary"] == records[1]["fine_tuned"]["summary"]
