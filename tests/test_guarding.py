"""Broken steps leave no trace, and end a run at last; signals save; a tracker that fails costs its reports alone."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from helpers.blocks import tiny_trainer
from safetensors.torch import load_file
from transformers import TrainerCallback

from modeling_electra_rtd.common import training_values
from modeling_electra_rtd.common.stopping import TrainingFault
from modeling_electra_rtd.pretraining.guarding import BROKEN_BATCHES, GuardedTrainer


class Breaks(TrainerCallback):
    """Writes a value that is not finite into the gradients of some steps."""

    def __init__(self, trainer, steps, value=float("nan")):
        self.trainer, self.steps, self.value = trainer, steps, value
        step = trainer.training_step

        def broken(model, inputs, count=None):
            loss = step(model, inputs, count)
            if trainer.state.global_step + 1 in steps:
                next(model.parameters()).grad.view(-1)[0] = value
            return loss

        trainer.training_step = broken


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("clipping", [1.0, 0.0])
def test_a_broken_step_is_skipped_and_counted(value, clipping, tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=3, max_grad_norm=clipping, logging_steps=1)
    seen = {}
    Breaks(trainer, {2}, value)

    class Records(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen[state.global_step] = weights(trainer.model)

    trainer.add_callback(Records())
    trainer.train()
    assert all(torch.equal(seen[1][name], seen[2][name]) for name in seen[1])
    assert not all(torch.equal(seen[2][name], seen[3][name]) for name in seen[2])
    assert all(weight.isfinite().all() for weight in seen[3].values())
    assert trainer.skipped_steps == 1 and trainer.run_record()["skipped_steps"] == 1
    logs = [entry for entry in trainer.state.log_history if "tokens_seen" in entry]
    assert [entry.get("skipped_steps") for entry in logs] == [None, 1, 1]
    # Nothing was counted of the broken step.
    assert logs[1]["tokens_seen"] == logs[0]["tokens_seen"] and not {"loss", "grad_norm"} & logs[1].keys()
    (kept,) = (tmp_path / BROKEN_BATCHES).iterdir()
    assert kept.name == "step-2-rank-0.safetensors" and {"0.input_ids", "0.document_ids"} <= set(load_file(kept))


def test_several_in_a_row_end_the_run_in_one_line(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=6, max_skipped_steps=2)
    before = None
    Breaks(trainer, {2, 4, 5})
    with pytest.raises(
        TrainingFault, match=r"step 5: gradients were not finite 2 times in a row .*lower learning_rate"
    ):
        trainer.train()
    assert before is None and trainer.skipped_steps == 3
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


def test_a_learning_rate_that_breaks_the_weights_saves_none_of_them(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=8, learning_rate=1e38, warmup_steps=0, save_steps=1)
    with pytest.raises(TrainingFault, match="learning_rate"):
        trainer.train()
    for checkpoint in tmp_path.glob("checkpoint-*"):
        assert all(weight.isfinite().all() for weight in load_file(checkpoint / "model.safetensors").values())


def test_the_count_outlives_a_resume(tmp_path):
    first = tiny_trainer(tmp_path, max_steps=2, save_steps=2)
    Breaks(first, {1})
    first.train()
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["stateful_callbacks"]["BrokenSteps"]["args"] == {"skipped": 1, "in_a_row": 0}
    second = tiny_trainer(tmp_path, max_steps=3, save_steps=2)
    second.train(resume_from_checkpoint=True)
    assert second.skipped_steps == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_after_the_step_and_ends_the_run(number, tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=5, save_strategy="no")
    before = signal.getsignal(number)

    class Sends(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 1:
                os.kill(os.getpid(), number)

    trainer.add_callback(Sends())
    trainer.train()
    assert trainer.stop_request.signal_number == number and trainer.state.global_step == 2
    assert [path.name for path in Path(tmp_path).glob("checkpoint-*")] == ["checkpoint-2"]
    assert signal.getsignal(number) is before
    whole = tiny_trainer(tmp_path / "whole", max_steps=5, save_strategy="no")
    whole.train()
    resumed = tiny_trainer(tmp_path, max_steps=5, save_strategy="no")
    resumed.train(resume_from_checkpoint=True)
    assert not resumed.stop_request
    assert all(
        torch.equal(value, whole.model.state_dict()[name]) for name, value in resumed.model.state_dict().items()
    )


def test_a_second_signal_ends_it_at_once(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=5)

    class Sends(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.add_callback(Sends())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


def test_a_tracker_that_fails_costs_its_reports_alone(tmp_path, monkeypatch, caplog):
    from transformers.integrations import integration_utils

    events = []

    class Fails(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            events.append("begin")
            raise ConnectionError("no\nanswer")

        on_log = on_save = on_step_end = on_train_end = on_train_begin

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Fails)
    monkeypatch.setattr(training_values, "get_available_reporting_integrations", lambda: ["tensorboard"])
    trainer = tiny_trainer(tmp_path, max_steps=2, report_to=["tensorboard"], logging_steps=1)
    trainer.train()
    assert trainer.state.global_step == 2 and len(events) > 3


@pytest.mark.parametrize(
    ("error", "rows", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "per_device_train_batch_size 1 with gradient_accumulation"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "shorter blocks"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), 1, "dataloader_num_workers is 0"),
    ],
)
def test_faults_of_the_machine_say_what_to_change(error, rows, says, tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=2, per_device_train_batch_size=rows)

    def fails(*arguments, **more):
        raise error

    trainer.training_step = fails
    with pytest.raises(TrainingFault, match=says):
        trainer.train()


def test_other_errors_stay_what_they_are(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=2)
    assert isinstance(trainer, GuardedTrainer)

    def fails(*arguments, **more):
        raise RuntimeError("ours")

    trainer.training_step = fails
    with pytest.raises(RuntimeError, match="ours") as found:
        trainer.train()
    assert not isinstance(found.value, TrainingFault)
