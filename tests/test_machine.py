"""What a record says of the machine, and what is switched on for it."""

import os
import platform
import subprocess
from pathlib import Path

import torch
import torch._functorch.config
from torch import nn

from modeling_electra_rtd.common import machine
from modeling_electra_rtd.common.machine import environment, keep_freed_memory, recompute_for_products, tune_cpu_memory


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


def test_recomputing_keeps_less_and_changes_no_gradient():
    layer = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 8))
    inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))

    def step() -> tuple[int, list[torch.Tensor]]:
        kept = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch._dynamo.reset()
        compiled = torch.compile(layer, backend="aot_eager_decomp_partition")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = compiled(inputs).square().mean()
        return sum(kept.values()), torch.autograd.grad(loss, list(layer.parameters()))

    with torch._functorch.config.patch(ban_recompute_materialized_backward=True):
        most, expected = step()
        assert recompute_for_products()
        kept, gradients = step()
    # What GELU and the norm return is gone; what they are given stays.
    assert kept < 0.7 * most
    torch.testing.assert_close(gradients, expected, rtol=0, atol=0)


def test_what_this_machine_cannot_do_is_said_once(monkeypatch):
    lines = []
    monkeypatch.setattr(machine.logger, "warning", lambda line, *args: lines.append(line))
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(machine.torch._functorch, "config", object())
    tune_cpu_memory()
    tune_cpu_memory()
    first, second = lines
    assert "freed memory" in first and "activations" in second
