"""What keeping freed memory between CPU steps is worth: the tiny recipe's step with and without it, in alternation.

    python benchmarks/freed_memory.py [--rounds 3] [--steps 12] [--json freed_memory.json]

The setting belongs to a whole process, so every measurement is a process of its own; losses are compared to the bit.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from records import write_record

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.machine import keep_freed_memory
from modeling_electra_rtd.pretraining.optimization import create_optimizer
from modeling_electra_rtd.pretraining.recipes import model_config, read_recipe


VOCAB_SIZE = 30522
SEQUENCE_LENGTH = 128


def measure(keep: bool, steps: int) -> dict:
    """Median seconds of an optimizer step on random tokens, and the losses."""
    if keep and not keep_freed_memory():
        raise SystemExit("the C library does not take the settings")
    recipe = read_recipe("tiny")
    torch.manual_seed(0)
    config = ElectraRtdConfig.from_discriminator(
        model_config({**recipe.model.discriminator, "vocab_size": VOCAB_SIZE, "pad_token_id": 0}),
        recipe.model.generator_width,
        recipe.model.generator_depth,
        mask_token_id=103,
        special_token_ids=[0, 101, 102, 103],
        **recipe.model.objective_fields(),
    )
    config._attn_implementation = recipe.model.attn_implementation
    model = ElectraRtdForPreTraining(config)
    optimizer = create_optimizer(model, recipe.training)
    rows = recipe.training.per_device_train_batch_size
    input_ids = torch.randint(1000, VOCAB_SIZE, (rows, SEQUENCE_LENGTH))
    document_ids = torch.ones_like(input_ids)
    times, losses = [], []
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids, document_ids=document_ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
        losses.append(loss.item())
    # The first steps fill the pools that the rest lives on.
    return {"seconds": statistics.median(times[3:]), "tokens": input_ids.numel(), "losses": losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    parser.add_argument("--measure", choices=("kept", "returned"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure == "kept", arguments.steps)))
        return
    results: dict[str, list[dict]] = {"returned": [], "kept": []}
    for _ in range(arguments.rounds):
        for name, runs in results.items():
            command = [sys.executable, __file__, "--steps", str(arguments.steps), "--measure", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    losses = {tuple(run["losses"]) for runs in results.values() for run in runs}
    medians = {name: statistics.median(run["seconds"] for run in runs) for name, runs in results.items()}
    tokens = results["kept"][0]["tokens"]
    print(f"{'freed memory':<14}{'s/step':>10}{'tokens/s':>12}")
    for name, seconds in medians.items():
        print(f"{name:<14}{seconds:>10.3f}{tokens / seconds:>12,.0f}")
    print(f"ratio {medians['returned'] / medians['kept']:.2f}; losses identical: {len(losses) == 1}")
    write_record(arguments, median_seconds=medians, tokens=tokens, losses_identical=len(losses) == 1)


if __name__ == "__main__":
    main()
