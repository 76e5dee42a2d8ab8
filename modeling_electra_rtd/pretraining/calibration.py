"""How fast a machine is: measured once, in seconds, to predict steps of other shapes, batches and lengths.

A calibration times matrix products and two small real steps, operator by operator. What it holds is seconds per FLOP
and per byte, so that it can be stored and used on another machine for the one it was taken on.
"""

import dataclasses
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..common.machine import environment, has_compiler, peak_resident_bytes, tune_cpu_memory
from ..common.training_arguments import ElectraRtdTrainingArguments
from ..model.backbones import backbone_config
from ..model.configuration_electra_rtd import ElectraRtdConfig
from ..model.cpu_attention import use_cpu_layers
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.precision import DTYPES, faster_of, faster_precision
from .step_cost import Operator, OperatorCounter, Step, StepCost, count_step


LENGTH, ROWS, FEW_ROWS = 128, 32, 8
WARM_UP, TURNS = 2, 3
# Bytes.
TINY = 4096
_COMMON = {"vocab_size": 30522, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
_SPECIAL_TOKENS = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
_FAMILIES: tuple[dict[str, Any], ...] = (
    {"model_type": "electra", "intermediate_size": 1024, **_COMMON},
    {"model_type": "modernbert", "intermediate_size": 512, **_COMMON, **_SPECIAL_TOKENS},
)
# With few layers the logits would be most of what is alive, and gaps and compiled steps unlike those of a real run.
_DEEP = {**_FAMILIES[0], "num_hidden_layers": 12}
# (matrices, rows, inner, columns): hidden layers of several widths, the vocabulary, attention of several lengths.
_PRODUCTS = (
    (1, 4096, 64, 256),
    (1, 4096, 256, 64),
    (1, 4096, 256, 256),
    (1, 4096, 256, 1024),
    (1, 4096, 1024, 256),
    (1, 256, 4096, 1024),
    (1, 1024, 768, 3072),
    (1, 640, 128, 30522),
    (1, 30522, 640, 128),
    (128, 128, 64, 128),
    (128, 128, 128, 64),
    (128, 128, 16, 128),
    (16, 512, 64, 512),
    (16, 512, 512, 64),
)
_ATTENTION_LENGTHS = (512, 1536)


@dataclass(frozen=True)
class Rates:
    """The rates of one precision.

    Attributes:
        products: `mm` (one matrix), `bmm` (many), `attention` and `attention backward` (fused) -> seconds per FLOP and
            per byte, which add up.
        operators: ATen name -> seconds per byte that it moves; `""` for names that are not in it.
        call: seconds of a call besides those.
        resident_per_live: memory that a process takes for a byte of live tensors; allocators leave gaps.
        compiled_share: what `torch.compile` leaves of the time outside of matrix products; `None`: not measured.
        compiled_resident_per_live: memory that a compiled step's process takes for a byte that the same step
            uncompiled has alive besides weights and optimizer.
        compiler_bytes: memory of the compiler itself, whatever it compiles, and for each of a step's calls.
    """

    products: dict[str, tuple[float, float]]
    operators: dict[str, float]
    call: float
    resident_per_live: float
    compiled_share: float | None = None
    compiled_resident_per_live: float | None = None
    compiler_bytes: tuple[float, float] | None = None

    def seconds(self, cost: StepCost, compiled: bool = False) -> float | None:
        """Predict the seconds of an optimizer step; `None` if compiled steps were not measured."""
        if compiled and self.compiled_share is None:
            return None
        products = self.product_seconds(cost)
        rest = sum(self._seconds_of(operator) * n for operator, n in cost.calls.items() if not operator.flops)
        rest += self.call * cost.calls.total()
        return products + rest * (self.compiled_share if compiled else 1.0)

    def product_seconds(self, cost: StepCost) -> float:
        """Predict the seconds of the matrix products of a step."""
        return sum(self._seconds_of(operator) * n for operator, n in cost.calls.items() if operator.flops)

    def resident(self, cost: StepCost, compiled: bool = False) -> float | None:
        """Bytes at the peak of a step, above the imported libraries; `None` if compiled steps were not measured."""
        if not compiled:
            return self.resident_per_live * cost.memory.peak
        if self.compiled_resident_per_live is None:
            return None
        compiler, per_call = self.compiler_bytes
        passing = self.compiled_resident_per_live * cost.memory.passing
        return compiler + per_call * cost.calls.total() + self.resident_per_live * cost.memory.lasting + passing

    def _seconds_of(self, operator: Operator) -> float:
        if operator.flops:
            per_flop, per_byte = self.products[_kind(operator.name)]
            return per_flop * operator.flops + per_byte * operator.bytes_moved
        return self.operators.get(operator.name, self.operators[""]) * operator.bytes_moved


@dataclass(frozen=True)
class Calibration:
    """What was measured on one machine.

    Attributes:
        device_type: `cpu` or `cuda`.
        rates: `fp32` and `bf16`, those that were measured.
        environment: hardware, versions and commit (`machine.environment`).
    """

    device_type: str
    rates: dict[str, Rates]
    environment: dict[str, Any]

    @property
    def faster_precision(self) -> str:
        """What `precision: auto` takes on that machine, as far as it was measured."""
        return faster_of({name: 1 / max(rates.products["mm"][0], 1e-30) for name, rates in self.rates.items()})


def calibrate(precisions: Iterable[str] | None = None, compiled: bool = True) -> Calibration:
    """Measure this machine, every precision in a process of its own, since a process keeps what memory it took.

    Args:
        precisions: keys of `precision.DTYPES`; `None` takes fp32, and bf16 where it is faster: elsewhere measuring it
            takes several times as long, and nobody trains in it.
        compiled: measure compiled steps too, which takes minutes for the compiler.
    """
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    if precisions is None:
        precisions = list(DTYPES) if faster_precision(device_type) == "bf16" else ["fp32"]
    rates = {}
    for precision in precisions:
        rates[precision] = _in_own_process(_measured_rates, device_type, precision)
        if compiled and (device_type != "cpu" or has_compiler()):
            measured = partial(_in_own_process, _measured_compiled, device_type, precision)
            shallow, deep = measured(_FAMILIES[0], ROWS), measured(_DEEP, FEW_ROWS)
            larger = measured(_DEEP, ROWS, rates[precision])
            rates[precision] = with_compiled_steps(rates[precision], shallow, deep, larger)
    return Calibration(device_type, rates, environment())


def save_calibration(calibration: Calibration, file: str) -> None:
    """Write a calibration as JSON."""
    Path(file).write_text(json.dumps(dataclasses.asdict(calibration), indent=2) + "\n", encoding="utf-8")


def load_calibration(file: str) -> Calibration:
    """Read a calibration, also one of another machine.

    Raises:
        ValueError: if the file is not a calibration.
    """
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))
        rates = {}
        for precision, content in values["rates"].items():
            content["products"] = {kind: (float(one), float(two)) for kind, (one, two) in content["products"].items()}
            if content["compiler_bytes"] is not None:
                compiler, per_call = content["compiler_bytes"]
                content["compiler_bytes"] = float(compiler), float(per_call)
            rates[precision] = Rates(**content)
        return Calibration(values["device_type"], rates, values["environment"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} is no calibration (from electra-rtd plan --calibrate): {error!r}") from None


def fitted(timed: Iterable[tuple[float, float, float]]) -> tuple[float, float]:
    """Seconds per FLOP and per byte, neither negative, by least squares of relative errors.

    Args:
        timed: FLOPs, bytes and seconds of calls; or any two amounts, and what they take together.
    """
    rows = torch.tensor(list(timed), dtype=torch.float64)
    # Divided by what is fitted: every call counts alike, however long it takes.
    flops, moved = (rows[:, column] / rows[:, 2] for column in (0, 1))
    both = torch.linalg.lstsq(torch.stack([flops, moved], dim=1), torch.ones(len(rows), 1, dtype=torch.float64))
    per_flop, per_byte = both.solution[:, 0].tolist()
    if per_byte < 0:
        return (flops.sum() / (flops**2).sum()).item(), 0.0
    if per_flop < 0:
        return 0.0, (moved.sum() / (moved**2).sum()).item()
    return per_flop, per_byte


def share_left(ratio: float, products: float, rest: float) -> float:
    """What of `rest` a compiled step takes, if it takes `ratio` of the whole and its products as long as before."""
    # On a machine with other work, all of a step may have looked like matrix products.
    return max(0.0, ratio * (products + rest) - products) / rest if rest else 1.0


def _kind(name: str) -> str:
    if "attention" in name:
        return "attention backward" if "backward" in name else "attention"
    return "mm" if name in ("mm", "addmm") else "bmm"


def _in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _small_run(device_type: str, precision: str, rows: int) -> ElectraRtdTrainingArguments:
    return ElectraRtdTrainingArguments(
        output_dir=os.devnull,
        use_cpu=device_type == "cpu",
        per_device_train_batch_size=rows,
        bf16=precision == "bf16",
    )


def _build(family: dict[str, Any]) -> ElectraRtdForPreTraining:
    pair = ElectraRtdConfig.from_discriminator(
        backbone_config(family), mask_token_id=103, special_token_ids=[0, 101, 102, 103]
    )
    return ElectraRtdForPreTraining(pair)


def _small_step(
    family: dict[str, Any], device_type: str, precision: str, rows: int | None = None, compiled: bool = False
) -> Step:
    model = _build(family).to(device_type).train()
    if device_type == "cpu":
        use_cpu_layers(model)
    run = _small_run(device_type, precision, rows or ROWS)
    return Step(model, run, LENGTH, torch.compile(model) if compiled else None)


def _counted(family: dict[str, Any], device_type: str, precision: str, rows: int | None = None) -> StepCost:
    run = _small_run(device_type, precision, rows or ROWS)
    return count_step(lambda: _build(family), run, LENGTH, device_type)


def _gaps(device_type: str, precision: str) -> float:
    """Memory that a process takes for a byte of live tensors; the process must be new."""
    # Counting imports what a step needs, too.
    counted = _counted(_DEEP, device_type, precision)
    before = _resident(device_type)
    step = _small_step(_DEEP, device_type, precision)
    for _ in range(TURNS):
        step()
    return (_resident(device_type) - before) / counted.memory.peak


def _measured_rates(device_type: str, precision: str) -> Rates:
    if device_type == "cpu":
        tune_cpu_memory()
    resident_per_live = _gaps(device_type, precision)
    counted = _counted(_FAMILIES[0], device_type, precision)
    calls: Counter[Operator] = Counter()
    seconds: Counter[Operator] = Counter()
    measured = None
    for family in _FAMILIES:
        step = _small_step(family, device_type, precision)
        plain = _median_seconds(step, device_type)
        measured = measured or plain
        with OperatorCounter(timed=True) as counter, counter.parts(step.model):
            for _ in range(TURNS):
                step()
        calls += counter.calls
        seconds += counter.seconds
        del step
    timed: dict[str, list[tuple[float, float, float]]] = {}
    for operator, taken in seconds.items():
        if operator.flops:
            row = (operator.flops, operator.bytes_moved, taken / calls[operator])
            timed.setdefault(_kind(operator.name), []).append(row)
    for operator, taken in _timed_products(device_type, DTYPES[precision]):
        timed.setdefault(_kind(operator.name), []).append((operator.flops, operator.bytes_moved, taken))
    # What a call costs whatever it moves, as those show that move next to nothing.
    call = statistics.median(seconds[operator] / n for operator, n in calls.items() if operator.bytes_moved < TINY)
    moved_by_name: Counter[str] = Counter()
    seconds_by_name: Counter[str] = Counter()
    for operator, taken in seconds.items():
        if not operator.flops and operator.bytes_moved >= TINY:
            for name in (operator.name, ""):
                moved_by_name[name] += operator.bytes_moved * calls[operator]
                seconds_by_name[name] += max(0.0, taken - call * calls[operator])
    rates = Rates(
        products={kind: fitted(rows) for kind, rows in timed.items()},
        operators={name: seconds_by_name[name] / moved for name, moved in moved_by_name.items()},
        call=call,
        resident_per_live=resident_per_live,
    )
    # Timing operators one by one slows them down, and leaves out Python and autograd, which pass between them.
    products = rates.product_seconds(counted)
    scale = max(0.0, measured - products) / (rates.seconds(counted) - products)
    return dataclasses.replace(
        rates, call=scale * call, operators={name: scale * rate for name, rate in rates.operators.items()}
    )


@dataclass(frozen=True)
class CompiledStep:
    """What was measured of a compiled step.

    Attributes:
        cost: of the same step uncompiled.
        resident: bytes that its process took besides the imported libraries.
        share: `compiled_share` by this step; `None` where it was not timed.
    """

    cost: StepCost
    resident: float
    share: float | None = None


def with_compiled_steps(rates: Rates, shallow: CompiledStep, deep: CompiledStep, larger: CompiledStep) -> Rates:
    """Rates that know compiled steps too.

    Args:
        shallow, deep: two depths, which tell the memory of the compiler by the calls of a step.
        larger: `deep` with more rows, which tells the memory of tensors, and what compiling leaves of the time.
    """
    per_live = (larger.resident - deep.resident) / (larger.cost.memory.passing - deep.cost.memory.passing)
    # Nothing where another peak of the process has hidden both.
    rates = dataclasses.replace(
        rates,
        compiled_share=larger.share,
        compiled_resident_per_live=max(0.0, per_live),
        compiler_bytes=(0.0, 0.0),
    )
    compiler = [(step, step.resident - rates.resident(step.cost, compiled=True)) for step in (shallow, deep)]
    taken = [(1.0, step.cost.calls.total(), max(1.0, left)) for step, left in compiler]
    return dataclasses.replace(rates, compiler_bytes=fitted(taken))


def _measured_compiled(
    device_type: str, precision: str, family: dict[str, Any], rows: int, rates: Rates | None = None
) -> CompiledStep:
    """Measure a compiled step, with `rates` its time as well; the process must be new."""
    if device_type == "cpu":
        tune_cpu_memory()
    cost = _counted(family, device_type, precision, rows)
    before = _resident(device_type)
    step = _small_step(family, device_type, precision, rows, compiled=True)
    for _ in range(TURNS):
        step()
    # Before there is a second step, whose memory is not the compiled one's.
    resident = _resident(device_type) - before
    if rates is None:
        return CompiledStep(cost, resident)
    plain = _small_step(family, device_type, precision, rows)
    # In turns: minutes apart, a machine is not equally fast.
    ratio = statistics.median(
        _median_seconds(step, device_type) / _median_seconds(plain, device_type) for _ in range(TURNS)
    )
    products = rates.product_seconds(cost)
    return CompiledStep(cost, resident, share_left(ratio, products, rates.seconds(cost) - products))


def _timed_products(device_type: str, dtype: torch.dtype) -> Iterator[tuple[Operator, float]]:
    """Matrix products and fused attention, with the seconds of each."""

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device_type).to(dtype)

    work = []
    for matrices, rows, inner, columns in _PRODUCTS:
        one, other = random(matrices, rows, inner), random(matrices, inner, columns)
        work.append(partial(torch.matmul, *((one, other) if matrices > 1 else (one[0], other[0]))))
    for length in _ATTENTION_LENGTHS:
        states = [random(1, 4, length, 64).requires_grad_() for _ in range(3)]
        same_document = torch.ones(1, 1, length, length, dtype=torch.bool, device=device_type)
        work.append(partial(_attend, *states, same_document))
    for function in work:
        function()
        with OperatorCounter(timed=True) as counter:
            for _ in range(TURNS):
                function()
        for operator, taken in counter.seconds.items():
            if operator.flops:
                yield operator, taken / counter.calls[operator]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> None:
    functional.scaled_dot_product_attention(query, key, value, mask).sum().backward()


def _median_seconds(function: Callable[[], Any], device_type: str) -> float:
    seconds = []
    for turn in range(WARM_UP + TURNS):
        started = time.perf_counter()
        function()
        if device_type == "cuda":
            torch.cuda.synchronize()
        if turn >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _resident(device_type: str) -> int:
    """The most memory that this process has taken so far, in bytes."""
    if device_type == "cuda":
        return torch.cuda.max_memory_reserved()
    return peak_resident_bytes()
