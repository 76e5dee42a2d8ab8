"""A run that ends by the clock: schedules follow the time that is spent, and nobody has to guess a number of steps."""

import time
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


# What the progress bar shows of the log.
_SHOWN = ("generator_loss", "discriminator_auc")


def check_fractions(arguments: TrainingArguments) -> None:
    """Refuse schedules that are given in steps.

    Raises:
        ValueError: for a field of this name that is above 1.
    """
    for name, value in vars(arguments).items():
        if name.endswith(("warmup_steps", "decay_steps")) and isinstance(value, int | float) and value > 1:
            raise ValueError(f"{name} is {value}; it must be a fraction, for a run that ends by the clock")


class TimeBudget(TrainerCallback):
    """Stops training when its time is over; until then its position on the clock stands in for the number of steps.

    The first steps of a process are several times as slow as later ones, and other work comes and goes, so steps that
    were counted ahead end too early or too late. A schedule over the clock warms up and decays in full whatever the
    speed. The price is that such a run is not repeatable to the bit.

    Args:
        seconds: from the first step to the last, evaluations on the way included; above 0.
        evaluations: how many, evenly spread; the end is left to the caller.
        show_progress: a bar of seconds, with tokens a second.

    Attributes:
        POSITIONS: of the clock, into which schedules divide the time.
        MOST_STEPS: what `max_steps` has to allow for, since `Trainer` wants a number.

    Raises:
        ValueError: for a time that is not above 0.
    """

    POSITIONS = 10_000
    MOST_STEPS = 10_000_000

    def __init__(self, seconds: float, evaluations: int = 3, show_progress: bool = True):
        if seconds <= 0:
            raise ValueError(f"seconds is {seconds}; it must be above 0")
        self.seconds = seconds
        self._evaluations, self._evaluated = evaluations, 0
        self._show_progress = show_progress
        self._bar: tqdm | None = None
        self._began: float | None = None
        self._spent = 0.0
        self._logged = ""

    @property
    def position(self) -> int:
        """The share of the time that was spent when the present step began, in `POSITIONS`."""
        return min(self.POSITIONS, int(self.POSITIONS * self._spent / self.seconds))

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began, self._spent, self._evaluated = time.perf_counter(), 0.0, 0
        if self._show_progress:
            self._bar = tqdm(
                total=round(self.seconds), unit="s", desc="pre-training", bar_format="{l_bar}{bar}{postfix}"
            )

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Between the optimizer and the schedule, so that the rate of the next step follows the clock as it is.
        self._spent = time.perf_counter() - self._began

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        # Half a step may run over, and half a step may be missing.
        is_over = self._spent + self._spent / state.global_step / 2 >= self.seconds
        control.should_training_stop = control.should_training_stop or is_over
        due = int((self._evaluations + 1) * self._spent / self.seconds)
        if self._evaluated < due and not is_over:
            self._evaluated, control.should_evaluate = due, True
        if self._bar is not None:
            shown = f"{self._spent:.0f} of {self.seconds:.0f} s, step {state.global_step:,}{self._logged}"
            self._bar.set_postfix_str(shown, refresh=False)
            # Which draws the bar where a second has passed, and not with every step.
            self._bar.update(min(round(self._spent), self._bar.total) - self._bar.n)
        return control

    def on_log(self, *args: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if "tokens_per_second" in (logs or {}):
            losses = [f"{name.replace('_', ' ')} {logs[name]:.2f}" for name in _SHOWN if name in logs]
            self._logged = "".join(f", {part}" for part in [f"{logs['tokens_per_second']:,.0f} tokens/s", *losses])

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.close()
