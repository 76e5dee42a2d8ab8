"""Two gloo processes against one: equal updates on equal corruption, different corruption otherwise, exact resume."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


pytestmark = pytest.mark.distributed

TESTS = Path(__file__).parents[1]


def run(processes: int, folder: Path, **options) -> tuple[dict[str, torch.Tensor], list[dict], list[dict]]:
    """Train by `train_in_processes.py` in real processes; weights, logs, and what each rank drew."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        environment = {
            **os.environ,
            "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
            "OMP_NUM_THREADS": "1",
        }
        if processes > 1:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        command = [sys.executable, str(TESTS / "helpers" / "train_in_processes.py"), str(folder), json.dumps(options)]
        children.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    outputs = [child.communicate(timeout=240)[0] for child in children]
    assert all(child.returncode == 0 for child in children), "\n".join(outputs)
    drawn = [json.loads((folder / f"drawn-{rank}.json").read_text()) for rank in range(processes)]
    return load_file(folder / "weights.safetensors"), json.loads((folder / "log.json").read_text()), drawn


def test_two_processes_equal_one_on_the_same_corruption(tmp_path):
    options = {"max_steps": 3, "fixed_corruption": True, "dropout": 0.0}
    one, one_log, _ = run(1, tmp_path / "one", per_device_train_batch_size=8, **options)
    two, two_log, _ = run(2, tmp_path / "two", per_device_train_batch_size=4, **options)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-6, rtol=0)
    for alone, together in zip(one_log, two_log, strict=True):
        for name in ("loss", "generator_loss", "discriminator_loss", "discriminator_auc", "grad_norm"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4), name
        assert together["tokens_seen"] == alone["tokens_seen"]
    # 11 blocks fill no batch of 4 or 8: what fills them up counts nowhere.
    alone, together = (json.loads((tmp_path / name / "held_out.json").read_text()) for name in ("one", "two"))
    for name in ("loss", "mlm_accuracy", "replaced_rate", "discriminator_auc"):
        assert together[f"eval_{name}"] == pytest.approx(alone[f"eval_{name}"], rel=1e-5), name


def test_ranks_draw_different_corruption_and_resume_bit_for_bit(tmp_path):
    options = {"max_steps": 6, "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 3}
    # From one row a rank to two micro-batches of four.
    options |= {"initial_batch_size": 2, "batch_size_warmup_steps": 5, "initial_sequence_length": 16}
    straight, straight_log, drawn = run(2, tmp_path / "straight", same_rows=True, **options)
    assert drawn[0] != drawn[1]
    run(2, tmp_path / "broken", same_rows=True, **options)
    resumed, resumed_log, _ = run(2, tmp_path / "broken", same_rows=True, resume="checkpoint-3", **options)
    assert straight_log == resumed_log
    rows = [entry["positions_per_step"] // 32 for entry in straight_log]
    assert rows == [2, 4, 4, 8, 8, 16]
    tokens_of_row = straight_log[0]["tokens_seen"] // 2
    assert [entry["tokens_seen"] for entry in straight_log] == [tokens_of_row * sum(rows[: n + 1]) for n in range(6)]
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name
