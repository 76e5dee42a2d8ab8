"""A step launches work and never waits for its results: no operator that hands values to Python, or sizes by them."""

import pytest
import torch
from helpers.blocks import tiny_arguments
from helpers.tiny import FAMILIES, tiny_packed, tiny_pair
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_electra_rtd.pretraining.health import RtdTelemetry
from modeling_electra_rtd.pretraining.optimization import create_optimizer


class Waits(TorchDispatchMode):
    """Collects the operators for whose result a device would have to be waited for."""

    _ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "repeat_interleave")

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = [value for value in torch.utils._pytree.tree_leaves(args) if getattr(value, "dtype", 0) == torch.bool]
        if name.startswith(self._ASKING) or (name in ("index", "index_put", "index_put_") and masks):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def step(model, batch, telemetry, temperature):
    counts = model.count_loss_terms(**batch)
    output = model(**batch, sampling_temperature=temperature, loss_normalizers=counts)
    telemetry.add(output, counts)
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_operator_of_a_step_asks_for_values(family):
    model, batch = tiny_pair(family).train(), tiny_packed()
    with Waits() as waits:
        step(model, batch, RtdTelemetry("cpu"), torch.tensor(2.0))
    assert not waits.found
    with Waits() as waits:
        batch["input_ids"][batch["document_ids"] > 0].sum().item()
    assert waits.found == ["index", "_local_scalar_dense"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_is_not_waited_for(family, tmp_path):
    model = tiny_pair(family).train().cuda()
    batch = {name: value.cuda() for name, value in tiny_packed().items()}
    optimizer, telemetry = create_optimizer(model, tiny_arguments(tmp_path)), RtdTelemetry("cuda")
    temperature = torch.tensor(2.0, device="cuda")
    for mode in ("default", "error"):
        # The first step creates the state of the optimizer.
        torch.cuda.set_sync_debug_mode(mode)
        try:
            step(model, batch, telemetry, temperature)
            optimizer.step()
            optimizer.zero_grad()
        finally:
            torch.cuda.set_sync_debug_mode("default")
