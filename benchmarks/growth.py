"""How a step grows with batch and length, and how well `electra-rtd plan` saw it coming.

    electra-rtd plan --calibrate machine.json
    python benchmarks/growth.py --calibration machine.json --json growth.json

Every batch and length runs in a process of its own, uncompiled unless `--compiled`. Lengths grow at constant tokens.
The generator's share of the FLOPs stands beside that of the time, operator by operator. At the end two processes on
two cores (gloo) against one on one core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from records import write_record
from torch import nn
from training_steps import MODERN, SHAPES, Setting, Worker, bf16_here, our_pair

from modeling_electra_rtd import ElectraRtdForPreTraining, ElectraRtdTrainingArguments
from modeling_electra_rtd.common.machine import tune_cpu_memory
from modeling_electra_rtd.pretraining.calibration import Calibration, calibrate, load_calibration
from modeling_electra_rtd.pretraining.optimization import create_optimizer
from modeling_electra_rtd.pretraining.step_cost import (
    BETWEEN,
    DISCRIMINATOR,
    GENERATOR,
    OPTIMIZER,
    OperatorCounter,
    Step,
    StepCost,
    count_step,
)


WARM_UP, TURNS = 2, 5


def run_of(setting: Setting) -> ElectraRtdTrainingArguments:
    return ElectraRtdTrainingArguments(
        output_dir=os.devnull,
        use_cpu=setting.device == "cpu",
        per_device_train_batch_size=setting.batch,
        bf16=setting.bf16,
    )


def counted(setting: Setting) -> StepCost:
    """The step of a setting, counted."""
    return count_step(
        lambda: ElectraRtdForPreTraining(setting.pair_config()), run_of(setting), setting.length, setting.device
    )


def growth(setting: Setting, calibration: Calibration | None, steps: int) -> dict[str, Any]:
    """One batch and length: measured and, where the machine was calibrated, predicted."""
    cost = counted(setting)
    rates = None if calibration is None else calibration.rates["bf16" if setting.bf16 else "fp32"]
    worker = Worker("electra-rtd", setting)
    worker.run(WARM_UP)
    measured = worker.run(steps)
    worker.stop()
    seconds = statistics.median(measured["seconds"])
    predicted = None if rates is None else rates.seconds(cost, setting.compiled)
    memory = None if rates is None else rates.resident(cost, setting.compiled)
    return {
        "batch": setting.batch,
        "length": setting.length,
        "flops": cost.flops(),
        "seconds": seconds,
        "predicted_seconds": predicted,
        "peak_bytes": measured["peak_bytes"],
        "predicted_peak_bytes": memory,
    }


def shares(setting: Setting) -> dict[str, Any]:
    """The generator's share of FLOPs, and of the seconds of an uncompiled step's operators."""
    cost = counted(setting)
    step = Step(our_pair(setting), run_of(setting), setting.length)
    step()
    with OperatorCounter(timed=True) as counter, counter.parts(step.model):
        step()
    seconds = dict.fromkeys((GENERATOR, DISCRIMINATOR, OPTIMIZER, BETWEEN), 0.0)
    for operator, taken in counter.seconds.items():
        seconds[operator.part] += taken
    networks = seconds[GENERATOR] + seconds[DISCRIMINATOR]
    return {
        "shape": setting.shape,
        "counted_share": cost.flops(GENERATOR) / cost.flops(),
        "measured_share": seconds[GENERATOR] / networks,
        "seconds": seconds,
    }


def distributed(setting: Setting, steps: int) -> list[list[float]]:
    """Seconds of steps of rank 0 while the others wait, and of all ranks, gradients averaged; in turns, because a
    machine is not equally fast at all times."""
    torch.set_num_threads(1)
    tune_cpu_memory()
    torch.distributed.init_process_group("gloo")
    model = our_pair(setting)
    parallel = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = create_optimizer(model, run_of(setting))
    batch = setting.batches(1)[0]
    alone, together = ((torch.compile(each) if setting.compiled else each) for each in (model, parallel))

    def step(network: nn.Module) -> None:
        with setting.autocast():
            loss = network(batch, document_ids=torch.ones_like(batch)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds: dict[nn.Module, list[float]] = {alone: [], together: []}
    for turn in range(1 + TURNS):
        for network, taken in seconds.items():
            torch.distributed.barrier()
            if network is alone and torch.distributed.get_rank():
                continue
            for _ in range(steps if turn else WARM_UP):
                started = time.perf_counter()
                step(network)
                if turn:
                    taken.append(time.perf_counter() - started)
    torch.distributed.destroy_process_group()
    return list(seconds.values())


def processes(count: int, setting: Setting, steps: int) -> dict[int, float]:
    """Tokens a second of one process, and of `count`, with one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "seconds.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        command += [__file__, "--rank-of", json.dumps(vars(setting)), "--steps", str(steps), "--json", str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        alone, together = map(statistics.median, json.loads(answer.read_text(encoding="utf-8")))
        tokens = setting.batch * setting.length
        return {1: tokens / alone, count: count * tokens / together}


def print_growth(rows: list[dict[str, Any]]) -> None:
    print("| batch | length | GFLOP | s/step | predicted | error | tokens/s | peak MB | predicted | error |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [row["batch"], row["length"], f"{row['flops'] / 1e9:,.0f}", f"{row['seconds']:.3f}"]
        for name, form, scale in (("seconds", ".3f", 1), ("peak_bytes", ",.0f", 1e6)):
            predicted = row[f"predicted_{name}"]
            if name == "peak_bytes":
                cells += [f"{row['batch'] * row['length'] / row['seconds']:,.0f}", f"{row[name] / scale:{form}}"]
            if predicted is None:
                cells += ["not measured", ""]
            else:
                cells += [f"{predicted / scale:{form}}", f"{predicted / row[name] - 1:+.0%}"]
        print(f"| {' | '.join(map(str, cells))} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=[*SHAPES, MODERN], default="small")
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 32, 128], help="rows, of 128 positions")
    parser.add_argument("--lengths", type=int, nargs="*", default=[128, 512, 2048], help="at constant tokens")
    parser.add_argument("--tokens", type=int, default=4096, help="of a step of every length")
    parser.add_argument("--share-shapes", nargs="*", choices=SHAPES, default=["tiny", "small", "base"])
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--fp32", action="store_true", help="by default what recipes take here")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--steps", type=int, default=3, help="of every measurement")
    parser.add_argument("--process-batch", type=int, default=32, help="rows of a process")
    parser.add_argument("--without-processes", action="store_true", help="leave out two processes against one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--calibration", metavar="FILE", help="of this machine; by default it is measured")
    parser.add_argument(
        "--without-predictions", action="store_true", help="leave out calibration, which takes minutes"
    )
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    parser.add_argument("--rank-of", metavar="SETTING", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank_of:
        seconds = distributed(Setting(**json.loads(arguments.rank_of)), arguments.steps)
        if os.environ["RANK"] == "0":
            Path(arguments.json).write_text(json.dumps(seconds), encoding="utf-8")
        return
    bf16 = bf16_here(arguments.device) and not arguments.fp32

    def setting(batch: int, length: int = 128, shape: str = arguments.shape) -> Setting:
        return Setting(shape, batch, length, arguments.dropout, bf16, arguments.device, arguments.compiled)

    if arguments.without_predictions:
        calibration = None
    elif arguments.calibration:
        calibration = load_calibration(arguments.calibration)
    else:
        calibration = calibrate(["bf16" if bf16 else "fp32"], compiled=arguments.compiled)
    record: dict[str, Any] = {}
    print(f"{arguments.shape}, dropout {arguments.dropout}, {'bf16' if bf16 else 'fp32'}\n")
    settings = {
        "batches": [setting(batch) for batch in arguments.batches],
        "lengths": [setting(max(1, arguments.tokens // length), length) for length in arguments.lengths],
    }
    for name, chosen in settings.items():
        record[name] = [growth(each, calibration, arguments.steps) for each in chosen]
        if chosen:
            print_growth(record[name])
    record["shares"] = [shares(setting(8, shape=shape)) for shape in arguments.share_shapes]
    if record["shares"]:
        print("| shape | generator's share of FLOPs | of the time of both networks |")
        print("|---|---|---|")
    for row in record["shares"]:
        print(f"| {row['shape']} | {row['counted_share']:.1%} | {row['measured_share']:.1%} |")
    if not arguments.without_processes and arguments.device == "cpu":
        rates = processes(2, setting(arguments.process_batch), arguments.steps)
        record["processes"] = {"tokens_per_second": rates, "ratio": rates[2] / rates[1]}
        print("\n| processes, one thread each | tokens/s | |")
        print("|---|---|---|")
        for count, rate in rates.items():
            print(f"| {count} | {rate:,.0f} | {rate / rates[1]:.2f} |")
    write_record(arguments, **record)


if __name__ == "__main__":
    main()
