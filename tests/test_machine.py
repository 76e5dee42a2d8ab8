"""What a record says of the machine, and what is switched on for it."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from modeling_electra_rtd.machine import environment, keep_freed_memory


def test_a_record_names_hardware_versions_and_commit():
    record = environment()
    assert record["device"] and record["cpu_cores"] <= os.cpu_count()
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["python"] == platform.python_version()
    root = Path(__file__).parents[1]
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    assert record["commit"] == (done.stdout.strip() or None)


def test_keeping_freed_memory_changes_no_result():
    inputs = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    before = inputs @ inputs
    keep_freed_memory()
    assert torch.equal(inputs @ inputs, before)
