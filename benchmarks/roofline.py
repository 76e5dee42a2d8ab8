"""How far a step of pre-training is from the matrix products that it cannot do without.

    python benchmarks/roofline.py --shape small --json roofline.json

The floor is timed, not computed: every matrix product of one uncompiled step, forward and backward, is recorded with
its shapes, strides and types, and all of them are run again one after the other on tensors of their own, and the
optimizer's pass over the weights is added. Floor and step alternate in one process. The profile says where the rest
of the step goes.
"""

import argparse
import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from records import write_record
from torch import Tensor
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from training_steps import LEARNING_RATE, SHAPES, Setting, bf16_here, our_pair, ours


_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}


class ProductRecorder(TorchDispatchMode):
    """Collects the matrix products that run under it, each as a function that runs it again."""

    def __init__(self):
        super().__init__()
        self.products: list[Callable[[], Tensor]] = []
        self.flops = 0
        self._like: dict[tuple, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.overloadpacket.__name__ in _PRODUCTS:
            arguments = tree_map(self._stand_in, args)
            self.products.append(lambda: func(*arguments, **(kwargs or {})))
            left, right = args[-2:]
            self.flops += 2 * left.numel() * right.shape[-1]
        return func(*args, **(kwargs or {}))

    def _stand_in(self, value: Any) -> Any:
        """A tensor of the same layout, which holds no memory of the step."""
        if not isinstance(value, Tensor):
            return value
        key = (value.shape, value.stride(), value.dtype)
        if key not in self._like:
            storage = torch.randn(1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True)))
            self._like[key] = storage.to(value).as_strided(value.shape, value.stride())
        return self._like[key]


def optimizer_pass(setting: Setting) -> Callable[[], None]:
    """The fused optimizer alone on parameters and gradients of the pair's size."""
    parameters = list(our_pair(setting).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return torch.optim.AdamW(parameters, LEARNING_RATE, fused=True).step


def where_it_goes(step: Callable[[], Any], steps: int) -> list[tuple[str, float]]:
    """Milliseconds of a step by kind of work, the largest first."""
    with profile() as profiler:
        for _ in range(steps):
            step()
    milliseconds: Counter[str] = Counter()
    for event in profiler.key_averages():
        milliseconds[_kind(event.key)] += event.self_cpu_time_total / 1e3 / steps
    return milliseconds.most_common()


def _kind(name: str) -> str:
    name = name.removeprefix("aten::")
    if name in _PRODUCTS:
        return "matrix products"
    if "adamw" in name.lower() or "zero_grad" in name:
        return "optimizer"
    if "foreach" in name or "norm" in name.split("_")[-1]:
        return "gradient clipping"
    if "CompiledFxGraph" in name or "cpp_fused" in name:
        return "fused element-wise kernels, softmax, norms, sampling"
    if name in ("copy_", "_to_copy", "to"):
        return "casts and copies"
    return "everything else (Python, autograd, small operators)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--length", type=int, default=128, help="positions of a row")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--uncompiled", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    setting = Setting(
        arguments.shape,
        arguments.batch,
        arguments.length,
        arguments.dropout,
        bf16_here(arguments.device),
        arguments.device,
        not arguments.uncompiled,
    )
    batch = setting.batches(1)[0]
    recorder = ProductRecorder()
    with recorder:
        ours(dataclasses.replace(setting, compiled=False))(batch)
    torch.manual_seed(0)
    step, optimizer = ours(setting), optimizer_pass(setting)

    def products() -> None:
        for product in recorder.products:
            product()

    work = {"step": lambda: step(batch), "matrix products": products, "optimizer": optimizer}
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(3 + arguments.rounds):
        for name, function in work.items():
            started = time.perf_counter()
            function()
            if arguments.device == "cuda":
                torch.cuda.synchronize()
            # The first turns compile and fill memory pools.
            if turn >= 3:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    floor = medians["matrix products"] + medians["optimizer"]
    ratio = statistics.median(
        step / (matrices + update) for step, matrices, update in zip(*(seconds[name] for name in work), strict=True)
    )
    tokens = batch.numel()
    print(f"ELECTRA {arguments.shape}, {arguments.batch} x {arguments.length}, dropout {arguments.dropout}\n")
    print("| | ms | |")
    print("|---|---|---|")
    print(
        f"| {len(recorder.products)} matrix products | {1e3 * medians['matrix products']:.1f} "
        f"| {recorder.flops / 1e9:.1f} GFLOP, {recorder.flops / medians['matrix products'] / 1e9:,.0f} GFLOP/s |"
    )
    print(f"| optimizer | {1e3 * medians['optimizer']:.1f} | |")
    print(f"| floor | {1e3 * floor:.1f} | {tokens / floor:,.0f} tokens/s |")
    print(f"| step | {1e3 * medians['step']:.1f} | {tokens / medians['step']:,.0f} tokens/s |")
    print(f"| **step over floor** | **{ratio:.2f}** | |")
    parts = where_it_goes(work["step"], 3)
    print("\n| of the step, under the profiler | ms |")
    print("|---|---|")
    for name, value in parts:
        print(f"| {name} | {value:.1f} |")
    write_record(
        arguments,
        median_seconds=medians,
        floor_seconds=floor,
        step_over_floor=ratio,
        matrix_flops=recorder.flops,
        profile_milliseconds=dict(parts),
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
