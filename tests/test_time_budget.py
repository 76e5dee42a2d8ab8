"""A run by the clock: schedules reach their ends when the time does, whatever a step takes."""

import itertools

import pytest
from helpers.blocks import random_blocks, tiny_arguments, tiny_joint_model

from modeling_electra_rtd.data.collator import IndexedBlocks
from modeling_electra_rtd.pretraining import time_budget
from modeling_electra_rtd.pretraining.time_budget import TimeBudget
from modeling_electra_rtd.pretraining.trainer import ElectraRtdTrainer


def timed_run(tmp_path, monkeypatch, seconds: float, steps_take: list[float], **arguments) -> ElectraRtdTrainer:
    """Train by a clock that is looked at once as training begins and once after every step."""
    moments = itertools.accumulate([0.0, *steps_take], initial=0.0)
    next(moments)
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: next(moments))
    values = {"max_steps": TimeBudget.MOST_STEPS, "warmup_steps": 0.2, **arguments}
    blocks = random_blocks(16)
    trainer = ElectraRtdTrainer(
        model=tiny_joint_model(),
        args=tiny_arguments(tmp_path, **values),
        train_dataset=IndexedBlocks(blocks),
        eval_dataset=blocks[:4],
        time_budget=TimeBudget(seconds, show_progress=False),
    )
    # Of the trainer's own: it looks at the clock for its log.
    monkeypatch.setattr("modeling_electra_rtd.pretraining.trainer.time", _Clock)
    trainer.train()
    return trainer


class _Clock:
    @staticmethod
    def perf_counter() -> float:
        return 0.0


@pytest.mark.parametrize(
    "steps_take", [[1.0] * 40, [5.0, *[1.0] * 40], [0.5] * 80], ids=["even", "slow start", "fast"]
)
def test_rates_warm_up_and_fall_to_nothing_within_the_time(tmp_path, monkeypatch, steps_take):
    trainer = timed_run(
        tmp_path, monkeypatch, 20.0, steps_take, initial_sampling_temperature=5.0, sampling_temperature_decay_steps=0.5
    )
    steps = trainer.state.global_step
    assert steps == next(n for n in range(1, 99) if sum(steps_take[:n]) * (1 + 0.5 / n) >= 20)
    logs = [entry for entry in trainer.state.log_history if "generator_loss" in entry]
    for number, entry in enumerate(logs):
        # A log stands behind its step, where the clock has moved on; the rate of the next step was set before that.
        before, behind = (sum(steps_take[:n]) / 20 for n in (number, number + 1))
        assert entry["sampling_temperature"] == pytest.approx(max(1.0, 5 - 4 * behind / 0.5), abs=0.01)
        expected = before / 0.2 if before < 0.2 else (1 - before) / 0.8
        assert entry["learning_rate"] == pytest.approx(1e-3 * expected, abs=2e-6)
    assert logs[-1]["learning_rate"] < 1e-4
    evaluated = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
    quarters = [next(n for n in range(1, 99) if sum(steps_take[:n]) >= quarter) for quarter in (5, 10, 15)]
    assert evaluated == quarters


def test_schedules_in_steps_are_refused(tmp_path, monkeypatch):
    for name in ("warmup_steps", "sampling_temperature_decay_steps"):
        with pytest.raises(ValueError, match=f"{name} is 100; .* a fraction"):
            timed_run(tmp_path, monkeypatch, 20.0, [1.0] * 40, **{name: 100, "initial_sampling_temperature": 2.0})


def test_a_time_that_is_no_time_is_refused():
    with pytest.raises(ValueError, match="seconds is 0; it must be above 0"):
        TimeBudget(0)
