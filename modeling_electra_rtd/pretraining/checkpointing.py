"""A `Trainer` whose checkpoints are complete or absent, and which goes on from one exactly where it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.trainer import TRAINER_STATE_NAME, has_length
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .checkpoints import UNFINISHED, discard_unfinished, finish, new_unfinished, rotate
from .pushing import ReleasePushes


logger = logging.get_logger(__name__)


class CheckpointedTrainer(ReleasePushes):
    """Writes checkpoints as `checkpoints` has them, and makes good where `Trainer` resumes inexactly: it trains a step
    although all are done, and takes a stream that has begun again to be in its first pass.
    """

    # Where the checkpoint is written that is being saved.
    _unfinished: Path | None = None

    def _write_beside(self, folder: Path) -> None:
        """Write what else belongs to a checkpoint; called in one process for each folder."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        output_dir, step = Path(self._get_output_dir(trial)), self.state.global_step
        name = f"{PREFIX_CHECKPOINT_DIR}-{step}"
        self._unfinished = new_unfinished(output_dir) if self.args.should_save else output_dir / UNFINISHED
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            # The state of each rank is in it.
            self.accelerator.wait_for_everyone()
            unfinished, self._unfinished = self._unfinished / name, None
            best = output_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
            if self.state.best_global_step == step or best.is_dir():
                # Trainer has named it by where it is written.
                self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                self.state.save_to_json(str(unfinished / TRAINER_STATE_NAME))
                self._write_beside(unfinished)
                checkpoint = finish(unfinished, output_dir, step, self.args.world_size)
                rotate(output_dir, checkpoint, self.args.save_total_limit, self.state.best_model_checkpoint)
        except BaseException:
            self._unfinished = None
            if self.args.should_save:
                discard_unfinished(output_dir)
            raise
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        # Trainer writes a checkpoint, and deletes others, below the folder that it is told here.
        return super()._get_output_dir(trial) if self._unfinished is None else str(self._unfinished)

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        """The passes over the data that are done, and the batches of the present one."""
        done, batches = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        # Trainer takes over how often the run logged, evaluated and saved when the checkpoint was written.
        self.state.compute_steps(self.args, max_steps)
        if resume_from_checkpoint is None or has_length(self.train_dataset) or self.args.ignore_data_skip:
            return done, batches
        # Nobody knows how long a pass over a stream is, so Trainer counts all steps as of the first. Its state holds
        # the passes and, in parts of the steps of the run as it then was, the steps of the present one.
        state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
        done = int(state.epoch)
        steps = round((state.epoch - done) * state.max_steps)
        return done, steps * self.args.gradient_accumulation_steps

    def _run_epoch(self, **arguments: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            # Trainer would do a step before it looks.
            self._load_rng_state(arguments["resume_from_checkpoint"])
            self.control.should_training_stop = True
            return
        super()._run_epoch(**arguments)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | None]:
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if len(batches) < num_batches and not has_length(self.train_dataset):
            # At the end of a pass over a stream Trainer takes no step with them, and would leave their gradients to
            # the first step of the next pass.
            if batches:
                logger.warning(
                    f"step {self.state.global_step}: the pass over the stream ends with {len(batches)} of the "
                    f"{num_batches} micro-batches of a step; they are not trained on"
                )
            return [], None
        return batches, count

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.state.global_step == getattr(self, "_initial_global_step", None):
            # The mean loss of no steps.
            logs.pop("train_loss", None)
        super().log(logs, start_time)
