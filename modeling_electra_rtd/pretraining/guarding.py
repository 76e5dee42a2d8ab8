"""A trainer that neither loses work nor trains on garbage: broken steps, full memory, dead workers, signals."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import ExportableState
from transformers.utils import logging

from ..common.stopping import StopRequest, TrainingFault
from .checkpointing import CheckpointedTrainer


logger = logging.get_logger(__name__)

# Below the folder of a run: batches of steps whose gradients were not finite.
BROKEN_BATCHES = "broken-batches"
# The number of such steps whose batches are kept.
_MOST_KEPT = 10


class BrokenSteps(TrainerCallback, ExportableState):
    """Counts the optimizer steps that were skipped because their gradients were not finite.

    Attributes:
        skipped: in all.
        in_a_row: of them, those directly before the present step.
    """

    def __init__(self, skipped: int = 0, in_a_row: int = 0):
        self.skipped = skipped
        self.in_a_row = in_a_row

    def state(self) -> dict[str, Any]:
        counts = {"skipped": self.skipped, "in_a_row": self.in_a_row}
        return {"args": counts, "attributes": dict(counts)}


class _Stopping(TrainerCallback):
    """Saves and ends a run after the step in which it is asked to stop."""

    def __init__(self, is_asked: Callable[[], bool]):
        self._is_asked = is_asked

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self._is_asked():
            control.should_save = control.should_training_stop = True
        return control


class GuardedTrainer(CheckpointedTrainer):
    """Skips optimizer steps whose gradients are not finite and stops after `max_skipped_steps` of them in a row; saves
    and ends when it is asked to stop; goes on without a tracker that fails; says in one line what would fit when
    memory does not suffice.

    Attributes:
        stop_request: the signal that ended the run before its last step, if one did.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.stop_request = StopRequest()
        self._broken_steps = BrokenSteps()
        self._micro_batches: list[dict[str, Tensor]] = []
        self._loss_before: Tensor | None = None
        self.add_callback(self._broken_steps)
        self.add_callback(_Stopping(self._is_asked_to_stop))
        self._shield_trackers()

    @property
    def skipped_steps(self) -> int:
        """Optimizer steps that were skipped so far."""
        return self._broken_steps.skipped

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`.

        Raises:
            TrainingFault: in one line, where the run cannot go on.
        """
        self.stop_request = StopRequest()
        try:
            with self.stop_request.listening():
                output = super().train(*args, **kwargs)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise TrainingFault(self._out_of_memory()) from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise TrainingFault(self._out_of_memory()) from error
            if re.search(r"DataLoader worker.*(exited unexpectedly|is killed)", str(error), re.DOTALL):
                raise TrainingFault(
                    f"step {self.state.global_step + 1}: a process that loads batches was killed (out of memory?); "
                    f"dataloader_num_workers is {self.args.dataloader_num_workers}, and 0 loads them in this process; "
                    "--resume goes on from the last checkpoint"
                ) from error
            raise
        if self.state.global_step >= self.state.max_steps:
            # There is nothing left to stop.
            self.stop_request = StopRequest()
        return output

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        begin = super()._init_training_state(*args, **kwargs)
        saved = self.state.stateful_callbacks.get(BrokenSteps.__name__)
        if isinstance(saved, dict):
            # Trainer restores no states of callbacks by itself.
            vars(self._broken_steps).update(saved["attributes"])
        return begin

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | None]:
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._micro_batches, self._loss_before = batches, self._tr_loss.clone()
        self._note_counts()
        return batches, count

    def _note_counts(self) -> None:
        """Remember what a step adds to, so that a skipped one leaves no trace; called before each."""

    def _forget_counts(self) -> None:
        """Go back to what `_note_counts` remembered."""

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        counts = self._broken_steps
        # The one moment of a step at which an accelerator is waited for. Ranks agree, as their gradients are the same.
        if bool(torch.isfinite(torch.as_tensor(grad_norm))):
            counts.in_a_row = 0
            return grad_norm
        loss = float(self._tr_loss - self._loss_before)
        counts.skipped += 1
        counts.in_a_row += 1
        # Without gradients an optimizer leaves weights and state as they are.
        model.zero_grad(set_to_none=True)
        self._tr_loss.copy_(self._loss_before)
        self._forget_counts()
        step = self.state.global_step + 1
        kept = self._keep_batches(step) if counts.skipped <= _MOST_KEPT else None
        where = f"; its batch is in {kept}" if kept is not None else ""
        logger.warning(f"step {step} is skipped: its gradients are not finite (loss {loss:g}){where}")
        limit = self.args.max_skipped_steps
        if counts.in_a_row >= limit:
            raise TrainingFault(
                f"step {step}: gradients were not finite {limit} times in a row (loss {loss:g}), and the weights are "
                f"those of before; lower learning_rate (it is {self.args.learning_rate:g}), keep max_grad_norm at 1.0 "
                "or lengthen warmup_steps, or resume from an earlier checkpoint; max_skipped_steps allows more"
            )
        return None

    def _keep_batches(self, step: int) -> Path:
        """Write the batches of a step, as the model was given them, for whoever looks for the cause."""
        folder = Path(self.args.output_dir) / BROKEN_BATCHES
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step-{step}-rank-{self.args.process_index}.safetensors"
        tensors = {
            f"{number}.{name}": value.detach().cpu().contiguous()
            for number, batch in enumerate(self._micro_batches)
            for name, value in batch.items()
            if isinstance(value, Tensor)
        }
        save_file(tensors, path, {"step": str(step), "seed": str(self.args.seed)})
        return path

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        broken = [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
        if broken:
            raise TrainingFault(
                f"step {self.state.global_step}: {len(broken)} weights are not finite, {broken[0]} first; nothing is "
                f"saved of them. Lower learning_rate (it is {self.args.learning_rate:g}) and resume from the last "
                "checkpoint, or begin again"
            )
        super()._save_checkpoint(model, trial)

    def _is_asked_to_stop(self) -> bool:
        if self.accelerator.num_processes == 1:
            return bool(self.stop_request)
        # A signal reaches ranks at different moments, and all have to save after the same step.
        number = torch.tensor([self.stop_request.signal_number or 0], device=self.args.device)
        number = int(self.accelerator.gather(number).max())
        if number and not self.stop_request:
            self.stop_request.signal_number = number
        return number > 0

    def _out_of_memory(self) -> str:
        rows, steps = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        smaller = (
            f"per_device_train_batch_size {rows // 2} with gradient_accumulation_steps {2 * steps} trains the same "
            "with half the activations"
            if rows > 1
            else "shorter blocks (max_length) need fewer activations"
        )
        return (
            f"step {self.state.global_step + 1}: out of memory with per_device_train_batch_size {rows}; {smaller}; "
            "activation_checkpointing or electra-rtd plan may help"
        )

    def _shield_trackers(self) -> None:
        """Let a tracker that fails cost a warning and its own reports, not the run."""
        trackers = tuple(get_reporting_integration_callbacks(self.args.report_to))
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, trackers):
                events = (name for name in dir(TrainerCallback) if name.startswith("on_"))
                for event in events:
                    setattr(callback, event, self._shielded(callback, getattr(callback, event)))

    def _shielded(self, callback: TrainerCallback, event: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(event)
        def shielded(*args: Any, **kwargs: Any) -> Any:
            try:
                return event(*args, **kwargs)
            except Exception as error:  # a client of any vendor, with exceptions of its own
                name = type(callback).__name__.removesuffix("Callback")
                reason = " ".join(str(error).split())
                logger.warning_once(f"{name} failed ({reason}); training goes on without what it would have reported")
                return None

        return shielded
