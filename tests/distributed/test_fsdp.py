"""FSDP2 (gloo, two processes) against one process: by torch's `fully_shard`, and by accelerate's own preparation.

`Accelerator` ignores FSDP on a CPU, so the function it calls on a GPU is called here, and this is where sharding meets
the shared embedding block.
"""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny import FAMILIES, tiny_pair, tiny_text
from safetensors.torch import load_file, save_file

from modeling_electra_rtd.model.backbones import backbone_of
from modeling_electra_rtd.model.corruption import number_of_uniforms
from modeling_electra_rtd.pretraining.optimization import ClippedAdamW


pytestmark = pytest.mark.distributed

TESTS = Path(__file__).parents[1]
PROCESSES = 2
ROWS = 4


def batch_of(step: int) -> dict[str, torch.Tensor]:
    batch = tiny_text(ROWS, seed=step)
    count = number_of_uniforms(batch["input_ids"].shape[1], 0.15)
    uniforms = torch.rand(ROWS, count, generator=torch.Generator().manual_seed(step))
    return {**batch, "corruption_uniforms": uniforms}


def train(model, part: slice = slice(None), world: int = 1) -> list[float]:
    """Three AdamW steps on the rows of `part`, whose losses are averaged over `world` processes.

    With clipped updates, which need the mean over a whole tensor, whoever holds its shards.
    """
    optimizer = ClippedAdamW(model.parameters(), lr=1e-2, eps=1e-4)
    losses = []
    for step in range(3):
        batch = batch_of(step)
        uniforms = batch.pop("corruption_uniforms")
        normalizers = model.count_loss_terms(**batch) / world
        batch = {name: value[part] for name, value in batch.items()}
        output = model(**batch, corruption_uniforms=uniforms[part], loss_normalizers=normalizers)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    return losses


def shard_by_torch(model):
    from torch.distributed.fsdp import fully_shard

    config = model.config
    layer_class = backbone_of(config.discriminator_config).layer_class
    layers = [module for module in model.modules() if type(module).__name__ == layer_class]
    assert len(layers) == config.num_hidden_layers + config.generator_config.num_hidden_layers
    for layer in layers:
        fully_shard(layer)
    return fully_shard(model)


def shard_by_accelerate(model):
    """As `configuration/accelerate/fsdp2.yaml` asks for: units of one layer, weights sent from the first process."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    is_main_process = torch.distributed.get_rank() == 0
    if not is_main_process:
        # What arrives must be the first process's weights.
        torch.nn.init.zeros_(model.get_input_embeddings().weight)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        reshard_after_forward=True,
        cpu_ram_efficient_loading=True,
    )
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision="no",
        is_main_process=is_main_process,
        device=torch.device("cpu"),
    )
    return fsdp2_prepare_model(accelerator, model)


def sharded_training(rank: int, folder: str) -> None:
    """One process: the same rows on both ranks, then half of them on each; for both families."""
    from torch.distributed import init_process_group
    from torch.distributed.tensor import DTensor

    init_process_group("gloo", rank=rank, world_size=PROCESSES, timeout=timedelta(seconds=60))
    half = ROWS // PROCESSES
    for family in FAMILIES:
        own_half = slice(rank * half, (rank + 1) * half)
        for name, shard, part, world in (
            ("same", shard_by_torch, slice(None), 1),
            ("halves", shard_by_torch, own_half, PROCESSES),
            ("accelerate", shard_by_accelerate, own_half, PROCESSES),
        ):
            model = shard(tiny_pair(family)).train()

            def assert_sharded_and_tied(model=model):
                assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
                words = model.get_input_embeddings().weight
                assert words.to_local().numel() == words.numel() // PROCESSES
                assert model.generator.get_input_embeddings().weight is words
                assert model.generator.get_output_embeddings().weight is words
                assert sum(parameter is words for parameter in model.parameters()) == 1

            assert_sharded_and_tied()
            losses = train(model, part, world)
            assert_sharded_and_tied()
            weights = {key: parameter.detach().full_tensor() for key, parameter in model.named_parameters()}
            weights["losses"] = torch.tensor(losses)
            save_file(weights, f"{folder}/{family}-{name}-{rank}.safetensors")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fsdp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    children = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        outputs = [child.communicate(timeout=240)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert all(child.returncode == 0 for child in children), "\n".join(outputs)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_sharded_training_equals_one_process(sharded, family):
    model = tiny_pair(family).train()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = torch.tensor(train(model))
    for name in ("same", "halves", "accelerate"):
        found = [load_file(sharded / f"{family}-{name}-{rank}.safetensors") for rank in range(PROCESSES)]
        ranks = torch.stack([weights.pop("losses") for weights in found])
        torch.testing.assert_close(ranks.mean(dim=0), losses, atol=1e-4, rtol=1e-5)
        for key, parameter in model.named_parameters():
            assert torch.equal(found[0][key], found[1][key]), key
            torch.testing.assert_close(found[0][key], parameter.detach(), atol=5e-5, rtol=0)
    assert any((parameter - start[name]).abs().max() > 1e-2 for name, parameter in model.named_parameters())


if __name__ == "__main__":
    sharded_training(int(sys.argv[1]), sys.argv[2])
    # Everything is written. gloo's threads can hang an interpreter that takes itself down in an orderly way.
    os._exit(0)
