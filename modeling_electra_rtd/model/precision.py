"""The precision of matrix products, decided by a measurement.

A processor says which instructions it has, not which are fast: with AVX-512 alone, and with AVX2, `torch` multiplies
bf16 matrices by converting them, at a third to a tenth of the speed of fp32. So a product of each kind is timed in the
process that will run them.
"""

import functools
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.utils import logging


if TYPE_CHECKING:
    from transformers import TrainingArguments


logger = logging.get_logger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHOICES = ("auto", "fp32", "bf16")
# Autocast pays for the casts around every product, so bf16 has to be ahead by more than what a timing is off by.
LEAD_OF_BF16 = 1.2
# Rows, inputs and outputs of the products that are timed. Those for a CPU take a millisecond in fp32 and 10 in bf16
# where that is slow; those for an accelerator are large enough to fill it.
_ON_CPU, _ELSEWHERE = (512, 256, 512), (4096, 1024, 4096)
_ROUNDS = 4


@functools.cache
def matrix_rates(device_type: str) -> dict[str, float]:
    """How fast this process multiplies matrices, as a linear layer does: floating-point operations a second for `fp32`
    and `bf16`, 0 where a kind of product is not supported.

    Both kinds are timed in alternation and each is as fast as its best turn, so that other work on the machine does
    not decide. That takes a fraction of a second, once for every process and device.

    Args:
        device_type: `cpu`, `cuda` or another type that `torch` knows.
    """
    rows, inputs, outputs = _ON_CPU if device_type == "cpu" else _ELSEWHERE
    seconds = dict.fromkeys(DTYPES, float("inf"))
    operands = {name: _operands(rows, inputs, outputs, dtype, device_type) for name, dtype in DTYPES.items()}
    for turn in range(1 + _ROUNDS):
        for name, pair in operands.items():
            taken = None if pair is None else _seconds(*pair, device_type)
            # The first turn sets the library up.
            if taken is not None and turn:
                seconds[name] = min(seconds[name], taken)
    return {name: 2 * rows * inputs * outputs / taken for name, taken in seconds.items()}


def faster_precision(device_type: str) -> str:
    """`"bf16"` or `"fp32"`, whichever multiplies matrices faster on this device."""
    return faster_of(matrix_rates(device_type))


def faster_of(rates: dict[str, float]) -> str:
    """`faster_precision` for rates that were measured, here or elsewhere."""
    return "bf16" if rates.get("bf16", 0.0) > LEAD_OF_BF16 * rates.get("fp32", 0.0) else "fp32"


def resolve_precision(precision: str | None, bf16: bool | None, fp16: bool, device_type: str) -> str:
    """The precision that a run will have: `"fp32"`, `"bf16"` or `"fp16"`.

    Args:
        precision: one of `CHOICES`; `None` leaves it to the two switches of `transformers`.
        bf16: `None` where it was not asked for or against; `True` and `False` win over `auto`.
        fp16: as in `TrainingArguments`.

    Raises:
        ValueError: for another word, and for a switch that says otherwise than `precision`.
    """
    if precision is not None and precision not in CHOICES:
        raise ValueError(f"precision is {precision!r}; it must be {', '.join(CHOICES[:-1])} or {CHOICES[-1]}")
    if precision in DTYPES and (fp16 or (bf16 is not None and bf16 != (precision == "bf16"))):
        switch = f"fp16 is {fp16}" if fp16 else f"bf16 is {bf16}"
        raise ValueError(f"precision is {precision!r}, but {switch}; it must be left out, or agree")
    if fp16:
        return "fp16"
    if precision in DTYPES:
        chosen = precision
    elif bf16 is not None:
        chosen = "bf16" if bf16 else "fp32"
    else:
        # Without a word, as `transformers` has it.
        return faster_precision(device_type) if precision == "auto" else "fp32"
    warn_of_slower(chosen, device_type)
    return chosen


def decide_precision(arguments: "TrainingArguments") -> bool:
    """Set `precision` and `bf16` of training arguments to what a run will have, before `TrainingArguments` reads them.

    Returns:
        Whether a measurement decided; then `agree_on_precision` has to follow once the processes know each other.

    Raises:
        ValueError: see `resolve_precision`.
    """
    asked, switch = arguments.precision, arguments.bf16
    device_type = "cpu" if arguments.use_cpu or not torch.accelerator.is_available() else _accelerator()
    arguments.precision = resolve_precision(asked, switch, arguments.fp16, device_type)
    arguments.bf16 = arguments.precision == "bf16"
    return asked == "auto" and switch is None and not arguments.fp16


def agree_on_precision(arguments: "TrainingArguments") -> None:
    """Take the first process's decision in all of them: two that share a machine may measure differently."""
    if arguments.world_size == 1:
        return
    decision = [arguments.precision]
    torch.distributed.broadcast_object_list(decision, src=0, device=arguments.device)
    take_precision(arguments, decision[0])


def take_precision(arguments: "TrainingArguments", precision: str) -> None:
    """Give training arguments another precision than the one they were built with, `"fp32"` or `"bf16"`."""
    arguments.precision = precision
    arguments.bf16 = precision == "bf16"
    # TrainingArguments has derived it from its own switch.
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"


def warn_of_slower(precision: str, device_type: str) -> None:
    """Say in one line, once, that the other precision would be faster on this device."""
    rates = matrix_rates(device_type)
    if (faster := faster_of(rates)) != precision:
        logger.warning_once(
            f"precision is {precision} ({rates[precision] / 1e9:,.0f} GFLOP/s in matrix products); {faster} is faster "
            f"on this {device_type} ({rates[faster] / 1e9:,.0f} GFLOP/s), and precision: auto takes it"
        )


def precision_facts(precision: str, device_type: str) -> dict[str, Any]:
    """For a record: the precision that `ran`, and how fast this device multiplies matrices in either of two."""
    rates = {name: round(rate / 1e9, 1) for name, rate in matrix_rates(device_type).items()}
    return {"ran": precision, "product_gflops_per_second": rates}


def _accelerator() -> str:
    return torch.accelerator.current_accelerator().type


def _operands(rows: int, inputs: int, outputs: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor] | None:
    if device == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    try:
        return (
            torch.full((rows, inputs), 0.5, dtype=dtype, device=device),
            torch.full((outputs, inputs), 0.5, dtype=dtype, device=device),
        )
    except (RuntimeError, TypeError):  # a device without the type
        return None


def _seconds(left: Tensor, right: Tensor, device_type: str) -> float | None:
    started = time.perf_counter()
    try:
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            torch.nn.functional.linear(left, right)
    except RuntimeError:  # a type without products
        return None
    if device_type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started
