"""A command that is asked to stop exits with the shell's code and leaves nothing half-written; one user a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.cli import MODEL
from helpers.corpus import SMALL_RUN, write_corpus
from safetensors.torch import load_file

from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.common.locks import sole_user
from modeling_electra_rtd.common.stopping import Stopped, terminated_as_interrupted


def options(data, folder: Path, **more: str) -> list[str]:
    values = {
        **SMALL_RUN,
        "max_length": "32",
        "blocks": data[0],
        "output_dir": str(folder),
        "discriminator": MODEL,
        "lr_scheduler_type": "constant",
        "save_strategy": "steps",
        "eval_strategy": "no",
        **more,
    }
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def started(*argv: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "modeling_electra_rtd.cli", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_saves_exits_with_143_and_the_same_command_goes_on(data, tmp_path):
    run = ["pretrain", "tiny", *options(data, tmp_path / "run", max_steps="200", save_steps="5")]
    process = started(*run)
    wait_for(tmp_path / "run" / "checkpoint-5", process)
    # Who begins beside it is told so at once, and changes nothing.
    assert main([*run, "--resume"]) == 2
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors[-2000:]
    last = [line for line in errors.splitlines() if line.startswith("electra-rtd: stopped by SIGTERM after step ")]
    assert len(last) == 1 and "Traceback" not in errors
    step = int(last[0].split(" after step ")[1].split()[0])
    assert (tmp_path / "run" / f"checkpoint-{step}" / "checkpoint.json").is_file()
    assert not (tmp_path / "run" / "run.json").exists()
    assert main([*run, "--resume"]) == 0
    assert main(["pretrain", "tiny", *options(data, tmp_path / "whole", max_steps="200", save_steps="5")]) == 0
    ended, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert ended.keys() == expected.keys() and all(torch.equal(ended[name], expected[name]) for name in ended)
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["steps"] == 200 and record["resumed_from"] == f"checkpoint-{step}"


def test_sigterm_leaves_nothing_of_what_was_begun(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=20_000)
    process = started("tokenizer", "--corpus", str(corpus), "--output-dir", str(tmp_path / "made"))
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".made-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (143, 0), errors[-2000:]
    if process.returncode == 143:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]
        assert "electra-rtd: stopped by SIGTERM" in errors


def test_sigterm_is_an_exception_while_a_command_runs():
    with pytest.raises(Stopped) as stopped, terminated_as_interrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert stopped.value.exit_code == 143


def test_a_folder_has_one_living_user(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from modeling_electra_rtd.common.locks import sole_user\n"
        f"with sole_user(Path({str(tmp_path)!r})):\n    print('held', flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="is used by another process that is alive"), sole_user(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    # A process that has died holds nothing, and no file is left to clean away.
    with sole_user(tmp_path):
        assert not list(tmp_path.iterdir())
