"""What changes while a run goes on: the sampling temperature, the share of masked tokens, and the shape of a step.

All of it follows from the number of finished optimizer steps, so a resumed run goes on exactly where it was.
"""

from collections import Counter
from typing import NamedTuple

from torch import Tensor

from ..common.training_arguments import ElectraRtdTrainingArguments, steps_of
from ..data.collator import cut_rows


class StepShape(NamedTuple):
    """What one rank reads in one optimizer step.

    Attributes:
        micro_batches: number of them.
        rows: of a micro-batch.
        length: positions of a row.
    """

    micro_batches: int
    rows: int
    length: int

    @property
    def positions(self) -> int:
        """Positions of all rows together, padding included."""
        return self.micro_batches * self.rows * self.length


def scheduled_value(
    arguments: ElectraRtdTrainingArguments, name: str, final: float, step: int, total_steps: int
) -> float:
    """A field of the objective after `step` optimizer steps: linear from `initial_<name>` to `final` within
    `<name>_decay_steps`, then constant; `final` throughout where no initial value is set.

    Args:
        name: `sampling_temperature` or `mask_probability`.
    """
    initial = getattr(arguments, f"initial_{name}")
    return (
        final
        if initial is None
        else _linear(initial, final, getattr(arguments, f"{name}_decay_steps"), step, total_steps)
    )


def largest_mask_probability(arguments: ElectraRtdTrainingArguments, final: float) -> float:
    """Find the largest mask probability of all steps, which decides how many slots a row has in each of them."""
    return final if arguments.initial_mask_probability is None else max(arguments.initial_mask_probability, final)


def step_shape(arguments: ElectraRtdTrainingArguments, length: int, step: int, total_steps: int) -> StepShape:
    """The shape of the optimizer step that follows `step` finished ones.

    Both warm-ups grow linearly and are rounded down to few shapes, since a compiled model is compiled anew for each:
    the batch to whole micro-batches and below one of them to a half, a quarter, ...; rows are halved, and as many more
    of them as they are shorter keep the positions of a step the same.

    Args:
        length: positions of a row as the data has them.

    Raises:
        ValueError: if halving such rows does not lead to `initial_sequence_length`.
    """
    micro_batches, rows = arguments.gradient_accumulation_steps, arguments.train_batch_size
    if arguments.initial_batch_size is not None:
        wanted = _linear(
            arguments.initial_batch_size / arguments.world_size,
            micro_batches * rows,
            arguments.batch_size_warmup_steps,
            step,
            total_steps,
        )
        micro_batches = max(1, int(wanted // rows))
        while rows > max(1, wanted):
            rows //= 2
    initial = arguments.initial_sequence_length
    if initial is None:
        return StepShape(micro_batches, rows, length)
    pieces = length // initial
    if not pieces or pieces * initial != length or pieces & (pieces - 1):
        raise ValueError(
            f"initial_sequence_length is {initial}; allowed are the {length} positions of the blocks, and a half, a "
            "quarter, ... of them"
        )
    wanted = _linear(initial, length, arguments.sequence_length_warmup_steps, step, total_steps)
    while pieces > 1 and 2 * initial <= wanted:
        initial, pieces = 2 * initial, pieces // 2
    return StepShape(micro_batches, rows * pieces, initial)


def run_shapes(arguments: ElectraRtdTrainingArguments, length: int, total_steps: int) -> Counter[StepShape]:
    """How many steps of a run have which shape."""
    warmups = (
        (arguments.initial_batch_size, arguments.batch_size_warmup_steps),
        (arguments.initial_sequence_length, arguments.sequence_length_warmup_steps),
    )
    ends = [steps_of(duration, total_steps) for initial, duration in warmups if initial is not None]
    end = min(max(ends, default=0), total_steps)
    shapes = Counter(step_shape(arguments, length, step, total_steps) for step in range(end))
    shapes[step_shape(arguments, length, total_steps, total_steps)] += total_steps - end
    return +shapes


def shaped_batches(batches: list[dict[str, Tensor]], shape: StepShape) -> list[dict[str, Tensor]]:
    """The micro-batches of a step, cut from those that were loaded for it.

    There are as many as before: those that the step does without are empty, and come first. What is left out is not
    read later in the epoch, so that the n-th step reads the n-th batch whatever came before it.
    """
    length = batches[0]["input_ids"].shape[1]
    rows = shape.rows * shape.length // length
    empty = max(0, len(batches) - shape.micro_batches)
    kept = [{name: values[:rows] for name, values in batch.items()} for batch in batches[empty:]]
    return [{}] * empty + [cut_rows(batch, shape.length) for batch in kept]


def _linear(initial: float, final: float, duration: float, step: int, total_steps: int) -> float:
    steps = steps_of(duration, total_steps)
    return final if step >= steps else initial + (final - initial) * step / steps
