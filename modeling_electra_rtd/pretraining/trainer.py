"""`ElectraRtdTrainer`: `Trainer` where RTD needs more than one averaged loss.

What is added: losses normalised over the whole optimizer step (all micro-batches, all ranks), telemetry averaged over
every step since the last log, held-out evaluation under a fixed corruption, Muon, schedules of the objective and of
the shape of a step. What a run knows of itself is its record.
"""

import contextlib
import time
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import PrinterCallback, ProgressCallback
from transformers.trainer_utils import SchedulerType
from transformers.utils import logging

from ..common.machine import environment
from ..common.training_arguments import ElectraRtdTrainingArguments
from ..data.collator import BlockCollator, IndexedBlocks
from ..data.word_starts import continuing_tokens
from ..model.checkpoint_layout import RTD_KEY
from ..model.cpu_attention import use_cpu_layers
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.precision import precision_facts
from ..model.suggestions import nearest
from .checkpoints import TELEMETRY, newest_complete
from .guarding import GuardedTrainer
from .health import HealthMonitor, RtdTelemetry, counted_tokens, rtd_metrics
from .optimization import create_optimizer
from .schedules import StepShape, largest_mask_probability, scheduled_value, shaped_batches, step_shape
from .time_budget import TimeBudget, check_fractions


logger = logging.get_logger(__name__)


class ElectraRtdTrainer(GuardedTrainer):
    """Pre-trains an `ElectraRtdForPreTraining` on blocks.

    Args:
        model: the pair.
        args: `ElectraRtdTrainingArguments`.
        train_dataset, eval_dataset: blocks (`data.blocks.load_blocks`), a stream of them, or anything that yields
            their columns. Batches hold `input_ids` and `document_ids`; corruption happens in the model.
        data_collator: `None` for a `BlockCollator`. One with a `corruption_seed` fixes every block's corruption.
        processing_class: the tokenizer, saved with every checkpoint.
        time_budget: ends the run by the clock, over which its schedules then run; `None` goes by `max_steps`.

    Attributes:
        run_facts: what only the caller knows of the run, by the keys of `run_record`, which it goes into.
    """

    # compute_loss divides by the counts of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: ElectraRtdForPreTraining,
        args: ElectraRtdTrainingArguments,
        data_collator: Any = None,
        time_budget: TimeBudget | None = None,
        **kwargs: Any,
    ):
        temperature = args.initial_sampling_temperature
        if model.config.objective_spec.needs_noise_everywhere and temperature not in (None, 1):
            raise ValueError(
                f"initial_sampling_temperature is {temperature}, but objective {model.config.objective!r} needs "
                "samples of the very noise it knows; set it to 1"
            )
        if model.config.objective_spec.needs_noise_everywhere and args.initial_mask_probability == 1:
            raise ValueError(
                f"initial_mask_probability is {args.initial_mask_probability}, but objective "
                f"{model.config.objective!r} needs tokens of the text as well as the noise; set it below 1"
            )
        if args.device.type == "cpu":
            use_cpu_layers(model)
        self._pad_token_id = model.config.pad_token_id or 0
        # Where words start is known by the tokenizer alone.
        self._continues_word = None
        if model.config.masking_strategy != "token" and kwargs.get("processing_class") is not None:
            self._continues_word = continuing_tokens(kwargs["processing_class"])
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or BlockCollator(self._pad_token_id, continues_word=self._continues_word),
            **kwargs,
        )
        self._time_budget = time_budget
        if time_budget is not None:
            check_fractions(args)
            # Whose bars and lines are of steps; the budget has its own.
            for shown in (ProgressCallback, PrinterCallback):
                self.remove_callback(shown)
            self.add_callback(time_budget)
        # Batches carry no labels, and yet the model returns a loss.
        self.label_names = []
        self.can_return_loss = True
        self._positions_of_losses = model.positions_of_losses()
        self._train_telemetry = RtdTelemetry(self.args.device, self._positions_of_losses)
        self._evaluation_telemetry = RtdTelemetry(self.args.device, self._positions_of_losses)
        self._check_best_metric()
        self._health = HealthMonitor(model.config.vocab_size)
        self._last_log_time: float | None = None
        self.run_facts: dict[str, Any] = {}
        self._train_began: float | None = None
        self._training_seconds: float | None = None
        self._resumed_from: str | None = None
        # The step of the newest evaluation, and what it measured.
        self._held_out: tuple[int, dict[str, float]] | None = None
        self._tokens_since_log = 0
        self._unlogged: Tensor | None = None
        self._counted_before: Tensor | None = None
        # The shape of the newest optimizer step, where batch or rows grow.
        self._step_shape: StepShape | None = None

    def _check_best_metric(self) -> None:
        """Refuse a metric that no evaluation has, before a step is taken for it."""
        name = self.args.metric_for_best_model
        if name is None or isinstance(self.eval_dataset, dict):
            return
        measured = ["loss", *rtd_metrics(self._evaluation_telemetry.packed(), self._positions_of_losses)]
        if name.removeprefix("eval_") not in measured:
            raise ValueError(f"metric_for_best_model is {name!r}{nearest(name.removeprefix('eval_'), measured)}")

    @property
    def _pair(self) -> ElectraRtdForPreTraining:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = create_optimizer(self.model if model is None else model, self.args)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        is_there = self.lr_scheduler is not None
        if self.args.lr_scheduler_type == SchedulerType.WARMUP_STABLE_DECAY:
            defaults = {
                "num_decay_steps": self.args.get_decay_steps(num_training_steps),
                "decay_type": "1-sqrt",
            }
            self.args.lr_scheduler_kwargs = {**defaults, **(self.args.lr_scheduler_kwargs or {})}
        budget = self._time_budget
        try:
            scheduler = super().create_scheduler(
                num_training_steps if budget is None else TimeBudget.POSITIONS, optimizer
            )
        except TypeError as error:
            raise ValueError(
                f"lr_scheduler_kwargs is {self.args.lr_scheduler_kwargs}; it must hold what "
                f"{SchedulerType(self.args.lr_scheduler_type).value} takes ({error})"
            ) from None
        if budget is None or is_there:
            return scheduler
        scheduler.lr_lambdas = [lambda _, rate=rate: rate(budget.position) for rate in scheduler.lr_lambdas]
        return scheduler

    def get_eval_dataloader(self, eval_dataset: Any = None):
        """Held-out blocks with the corruption that `evaluation_corruption_seed` gives each of them."""
        blocks = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(blocks, str):
            # Several are evaluated by their names, one after another.
            blocks = self.eval_dataset[blocks]
        if blocks is None:
            raise ValueError("evaluation needs an eval_dataset")
        limit = self.args.evaluation_blocks
        if limit is not None and limit < len(blocks):
            # Evenly spread: neighbouring blocks come from one document.
            blocks = torch.utils.data.Subset(IndexedBlocks(blocks), [i * len(blocks) // limit for i in range(limit)])
        else:
            blocks = IndexedBlocks(blocks)
        collator = BlockCollator(
            pad_token_id=self._pad_token_id,
            corruption_seed=self.args.evaluation_corruption_seed,
            number_of_uniforms=self._pair.number_of_uniforms,
            continues_word=self._continues_word,
        )
        # Training drops the rows that do not fill a batch; held-out ones all count.
        with _replaced(self, data_collator=collator), _replaced(self.args, dataloader_drop_last=False):
            return super().get_eval_dataloader(blocks)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any):
        # Trainer seeds all ranks alike, which would give them the same corruption and dropout. Resuming overwrites
        # this with the state saved for each rank.
        set_seed(self.args.seed, device_specific=True)
        self._train_telemetry.reset()
        self._last_log_time = time.perf_counter()
        if resume_from_checkpoint is True:
            resume_from_checkpoint = newest_complete(Path(self.args.output_dir))
            if resume_from_checkpoint is None:
                raise ValueError(f"nothing to resume: {self.args.output_dir} holds no complete checkpoint")
            resume_from_checkpoint = str(resume_from_checkpoint)
        if resume_from_checkpoint and self.is_world_process_zero():
            pending = Path(resume_from_checkpoint) / TELEMETRY
            if pending.is_file():
                self._train_telemetry.load(load_file(pending)["sums"])
        self._resumed_from = Path(resume_from_checkpoint).name if resume_from_checkpoint else None
        self._train_began, self._training_seconds = time.perf_counter(), None
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        self._training_seconds = time.perf_counter() - self._train_began
        self._tokens_since_log = counted_tokens(self._reduced(self._train_telemetry))
        if self.args.load_best_model_at_end:
            # What was measured last was measured on other weights.
            self._held_out = None
        return output

    def run_record(self) -> dict[str, Any]:
        """What is known of the run so far, as `run.json` and the model card hold it.

        Returns:
            Among others `steps`, `tokens_seen` over all ranks, `training_seconds` since the last start, and
            `held_out`, the metrics of the newest evaluation if it was one of the present weights.
        """
        seconds = self._training_seconds
        if seconds is None and self._train_began is not None:
            seconds = time.perf_counter() - self._train_began
        training = self.args.to_dict()
        limit = self.args.evaluation_blocks
        if limit is not None and isinstance(self.eval_dataset, Sized) and not isinstance(self.eval_dataset, dict):
            training["evaluation_blocks"] = min(limit, len(self.eval_dataset))
        is_present = self._held_out is not None and self._held_out[0] == self.state.global_step
        return {
            "recipe": {"training": training, "model": self._pair.config.to_dict()[RTD_KEY]},
            "steps": self.state.global_step,
            "skipped_steps": self.skipped_steps,
            "tokens_seen": self.state.num_input_tokens_seen + self._tokens_since_log,
            "resumed_from": self._resumed_from,
            "training_seconds": None if seconds is None else round(seconds, 1),
            "parameters": self._pair.parameter_counts(),
            "held_out": self._held_out[1] if is_present else {"epoch": self.state.epoch},
            "processes": self.args.world_size,
            "precision": precision_facts(self.args.precision, self.args.device.type),
            **environment(),
            **self.run_facts,
        }

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | None]:
        """The micro-batches of one optimizer step, and the terms of the losses in them over all ranks, `(3,)`."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        if self.args.initial_batch_size is not None or self.args.initial_sequence_length is not None:
            length = batches[0]["input_ids"].shape[1]
            shape = step_shape(self.args, length, *self._position())
            # The last step of an epoch may have fewer micro-batches.
            self._step_shape = shape._replace(micro_batches=min(shape.micro_batches, len(batches)))
            batches = shaped_batches(batches, self._step_shape)
        probability = self._scheduled("mask_probability")
        counts = sum(
            self._pair.count_loss_terms(**batch, mask_probability=probability) for batch in batches if batch
        ).to(device)
        if self.accelerator.num_processes > 1:
            counts = self.accelerator.reduce(counts, reduction="sum")
        return batches, counts

    def _note_counts(self) -> None:
        self._counted_before = self._train_telemetry.packed()

    def _forget_counts(self) -> None:
        self._train_telemetry.load(self._counted_before)

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | None = None):
        if not inputs:
            # A micro-batch that a step of a smaller batch does without.
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        training = model.training
        # Held-out corruption is drawn at temperature 1, so that curves of different schedules compare.
        temperature = self._scheduled("sampling_temperature") if training else 1.0
        if not training:
            inputs = self._read_once(inputs)
        elif self.args.initial_mask_probability is not None:
            inputs = {**self._scheduled_corruption(inputs["input_ids"]), **inputs}
        output = model(
            **inputs,
            sampling_temperature=torch.tensor(temperature, device=self.args.device),
            loss_normalizers=num_items_in_batch,
        )
        telemetry = self._train_telemetry if training else self._evaluation_telemetry
        telemetry.add(output, num_items_in_batch)
        # Gradients are averaged over ranks, while the loss is already divided by the counts of all of them.
        ranks = self.accelerator.num_processes if num_items_in_batch is not None else 1
        loss = output.loss * ranks
        return (loss, output) if return_outputs else loss

    def _read_once(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Held-out rows without those that only fill the last batches up, so that every rank has as many: those become
        padding, and count nowhere."""
        loader = self.accelerator.gradient_state
        if self.accelerator.num_processes == 1 or not loader.end_of_dataloader or loader.remainder <= 0:
            return inputs
        documents = inputs["document_ids"]
        kept = loader.remainder - self.accelerator.process_index * len(documents)
        is_kept = torch.arange(len(documents), device=documents.device) < kept
        return {**inputs, "document_ids": documents * is_kept[:, None]}

    def _scheduled(self, name: str) -> float:
        """A field of the objective as its schedule has it at the present step."""
        final = getattr(self._pair.config, name)
        return scheduled_value(self.args, name, final, *self._position())

    def _position(self) -> tuple[int, int]:
        """Where schedules stand, and where they end: in optimizer steps, or on the clock."""
        if self._time_budget is not None:
            return self._time_budget.position, TimeBudget.POSITIONS
        return self.state.global_step, self.state.max_steps

    def _scheduled_corruption(self, input_ids: Tensor) -> dict[str, Tensor]:
        """The present mask probability, and uniforms with the slots of the largest, so that shapes stay the same."""
        rows, length = input_ids.shape
        largest = largest_mask_probability(self.args, self._pair.config.mask_probability)
        count = self._pair.number_of_uniforms(length, largest)
        dtype = torch.float32 if input_ids.device.type == "mps" else torch.float64
        return {
            "mask_probability": torch.tensor(
                self._scheduled("mask_probability"), dtype=dtype, device=input_ids.device
            ),
            "corruption_uniforms": torch.rand(rows, count, device=input_ids.device),
        }

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            packed = self._reduced(self._train_telemetry)
            metrics = rtd_metrics(packed, self._positions_of_losses)
            now, tokens = time.perf_counter(), counted_tokens(packed)
            self._train_telemetry.reset()
            self.state.num_input_tokens_seen += tokens
            self._tokens_since_log = 0
            if tokens:
                logs["loss"] = self._weighted(metrics)
                logs.update(metrics)
                logs["tokens_per_second"] = tokens / max(now - self._last_log_time, 1e-9)
            else:
                # All steps since the last log were skipped.
                del logs["loss"]
            logs["tokens_seen"] = self.state.num_input_tokens_seen
            for name in ("sampling_temperature", "mask_probability"):
                if getattr(self.args, f"initial_{name}") is not None:
                    logs[name] = self._scheduled(name)
            if self.skipped_steps:
                logs["skipped_steps"] = self.skipped_steps
            if self._step_shape is not None:
                logs["positions_per_step"] = self._step_shape.positions * self.args.world_size
                logs["sequence_length"] = self._step_shape.length
            self._last_log_time = now
            if self.args.health_checks and self.is_world_process_zero():
                position, end = self._position()
                warmed_up = position > self.args.get_warmup_steps(end)
                for warning in self._health.check(logs, self.state.global_step, warmed_up):
                    logger.warning(warning)
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        started = time.perf_counter()
        # Evaluating more or less often must not change what is trained: data loaders draw a seed when they start.
        with torch.random.fork_rng(devices=devices):
            metrics = super().evaluate(*args, **kwargs)
        if self._last_log_time is not None:
            self._last_log_time += time.perf_counter() - started
        self._held_out = self.state.global_step, metrics
        return metrics

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        self._evaluation_telemetry.reset()
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = rtd_metrics(self._reduced(self._evaluation_telemetry), self._positions_of_losses)
        output.metrics[f"{prefix}_loss"] = self._weighted(metrics)
        output.metrics.update({f"{prefix}_{name}": value for name, value in metrics.items()})
        return output

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._unlogged = self._reduced(self._train_telemetry)
        self._tokens_since_log = counted_tokens(self._unlogged)
        started = time.perf_counter()
        super()._save_checkpoint(model, trial)
        self._last_log_time += time.perf_counter() - started

    def _write_beside(self, folder: Path) -> None:
        # What was counted since the last log, so that a resumed run logs the same averages.
        save_file({"sums": self._unlogged.cpu()}, folder / TELEMETRY)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # A tied weight is saved once, under the name of its source.
        tied = self._pair.all_tied_weights_keys
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _weighted(self, metrics: dict[str, float]) -> float:
        return sum(self._pair.config.loss_weights[name] * metrics[name] for name in self._positions_of_losses)

    def _reduced(self, telemetry: RtdTelemetry) -> Tensor:
        packed = telemetry.packed()
        return self.accelerator.reduce(packed, reduction="sum") if self.accelerator.num_processes > 1 else packed


@contextlib.contextmanager
def _replaced(target: Any, **attributes: Any) -> Iterator[None]:
    """Give an object other attributes for a while."""
    kept = {name: getattr(target, name) for name in attributes}
    vars(target).update(attributes)
    try:
        yield
    finally:
        vars(target).update(kept)
