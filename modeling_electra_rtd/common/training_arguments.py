"""`ElectraRtdTrainingArguments`: `TrainingArguments` with the reference's defaults and what RTD adds."""

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy, SchedulerType
from transformers.training_args import OptimizerNames
from transformers.utils import logging

from ..model.precision import agree_on_precision, decide_precision
from .training_values import check_training_values


logger = logging.get_logger(__name__)

# Names of what `optimization` builds.
_ADAMW = (OptimizerNames.ADAMW_TORCH, OptimizerNames.ADAMW_TORCH_FUSED)


@dataclass
class ElectraRtdTrainingArguments(TrainingArguments):
    """Arguments of `ElectraRtdTrainer`. Fields of `TrainingArguments` keep their meaning; some get the reference's
    defaults (ELECTRA paper, table 6, small: learning rate 5e-4, linear warm-up over 10,000 of 1M steps and linear
    decay, weight decay 0.01, AdamW eps 1e-6, gradient clipping at 1.0).

    Raises:
        ValueError: for values that cannot go together, naming them.
    """

    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(
        default=0.01, metadata={"help": "Decoupled weight decay; biases and norms are exempt."}
    )
    adam_epsilon: float = field(default=1e-6, metadata={"help": "AdamW epsilon (reference: 1e-6)."})
    warmup_steps: float = field(
        default=0.01, metadata={"help": "Warm-up in optimizer steps, or as a fraction of all steps when below 1."}
    )
    adam_update_clipping: bool = field(
        default=False,
        metadata={"help": "Shorten AdamW's update of a tensor by max(1, RMS) as StableAdamW (ModernBERT) does."},
    )
    muon_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Train the hidden weight matrices by Muon at this peak rate, the rest by AdamW."},
    )
    muon_momentum: float = field(default=0.95, metadata={"help": "Nesterov momentum of Muon."})
    decay_steps: float = field(
        default=0.2,
        metadata={
            "help": "Length of the decay of lr_scheduler_type=warmup_stable_decay, in steps or as a fraction below 1."
        },
    )
    initial_sampling_temperature: float | None = field(
        default=None,
        metadata={
            "help": "Sampling temperature at the start, falling linearly to the config's: easy replacements wake the "
            "discriminator up."
        },
    )
    sampling_temperature_decay_steps: float = field(
        default=0.7,
        metadata={"help": "Steps over which the sampling temperature falls, or a fraction of all steps up to 1."},
    )
    initial_mask_probability: float | None = field(
        default=None,
        metadata={"help": "Share of chosen tokens at the start, falling or rising linearly to the config's."},
    )
    mask_probability_decay_steps: float = field(
        default=0.7,
        metadata={"help": "Steps over which the mask probability changes, or a fraction of all steps up to 1."},
    )
    initial_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Rows of the first optimizer step, over all devices and micro-batches, growing linearly to the "
            "full batch in whole micro-batches, and below one in halves, quarters, ..."
        },
    )
    batch_size_warmup_steps: float = field(
        default=0.1,
        metadata={"help": "Steps until the batch is full, or a fraction of all steps up to 1."},
    )
    initial_sequence_length: int | None = field(
        default=None,
        metadata={
            "help": "Positions of a row at the start: blocks are cut into halves, quarters, ... of this length or "
            "more, and a step has as many positions as ever."
        },
    )
    sequence_length_warmup_steps: float = field(
        default=0.3,
        metadata={"help": "Steps until rows are as long as the blocks, or a fraction of all steps up to 1."},
    )
    precision: str | None = field(
        default=None,
        metadata={
            "help": "auto takes the faster of fp32 and bf16, by a measurement; or one of them. None leaves it to bf16 "
            "and fp16."
        },
    )
    # None: nobody has chosen.
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "As precision; True and False win over auto."}
    )
    evaluation_blocks: int | None = field(
        default=2048, metadata={"help": "Held-out blocks used at every evaluation; None takes all of them."}
    )
    evaluation_corruption_seed: int = field(
        default=0, metadata={"help": "Seed of the corruption of held-out blocks, the same at every evaluation."}
    )
    max_skipped_steps: int = field(
        default=3,
        metadata={
            "help": "End a run after so many steps in a row that were skipped for gradients that are not finite."
        },
    )
    health_checks: bool = field(default=True, metadata={"help": "Warn in words when training is going wrong."})

    # A non-finite loss is reported instead of averaged away, and no step waits for the device to ask.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "See TrainingArguments."})
    # Every parameter takes part in every step; looking for unused ones costs a pass over the graph.
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "See TrainingArguments."})
    # The columns of blocks are the collator's input, not the model's.
    remove_unused_columns: bool = field(default=False, metadata={"help": "See TrainingArguments."})
    report_to: str | list[str] = field(default="none", metadata={"help": "See TrainingArguments."})

    def __post_init__(self):
        self._check_values()
        # Tokens are counted in any case, and would be a second time.
        self.include_num_input_tokens_seen = "no"
        if self.data_seed is None:
            # The order of the blocks must not depend on a rank's own random state.
            self.data_seed = self.seed
        if not torch.accelerator.is_available():
            # TrainingArguments takes bf16 on a CPU only when it is told that a CPU is meant.
            self.use_cpu = True
        is_measured = decide_precision(self)
        if self.torch_compile and (self.initial_batch_size or self.initial_sequence_length):
            # Each of the few shapes is compiled for itself; the second one would otherwise make all later ones share
            # code for any shape, which the slots of a row do not have.
            os.environ.setdefault("ACCELERATE_DYNAMO_USE_DYNAMIC", "false")
        super().__post_init__()
        if is_measured:
            agree_on_precision(self)
        if self.n_gpu > 1:
            # Trainer would split every batch between them in one process, and the counts of a step with it.
            logger.warning(
                f"{self.n_gpu} GPUs are visible, and one process uses one of them; start one for each by "
                f"torchrun --nproc_per_node {self.n_gpu} or accelerate launch"
            )
            self._n_gpu = 1
        # Blocks are read in whole batches; a batch cut short at the end of an epoch would change shapes under
        # torch.compile and weigh its rows more.
        self.dataloader_drop_last = True
        batch = self.train_batch_size * self.gradient_accumulation_steps * self.world_size
        if self.initial_batch_size is not None and not self.world_size <= self.initial_batch_size <= batch:
            raise ValueError(
                f"initial_batch_size is {self.initial_batch_size}; it must be at least {self.world_size}, a row a "
                f"device, and at most the full batch of {batch}"
            )
        if self.lr_scheduler_type == SchedulerType.WARMUP_STABLE_DECAY and self.max_steps > 0:
            self.get_decay_steps(self.max_steps)

    def _check_values(self) -> None:
        """Refuse values that no run can have, before other values are made of them."""
        check_training_values(self)
        for name in ("muon_learning_rate", "initial_sampling_temperature"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        steps = ["warmup_steps", "decay_steps", "sampling_temperature_decay_steps", "mask_probability_decay_steps"]
        steps += ["batch_size_warmup_steps", "sequence_length_warmup_steps"]
        for name in steps:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(f"max_steps is {self.max_steps}; it must be at least 1, or -1 to go by num_train_epochs")
        if self.max_steps < 0 and self.num_train_epochs <= 0:
            raise ValueError(f"num_train_epochs is {self.num_train_epochs}; it must be above 0")
        if 1 <= self.max_steps < self.warmup_steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be at most max_steps, {self.max_steps}")
        if self.evaluation_blocks is not None and self.evaluation_blocks < 1:
            raise ValueError(f"evaluation_blocks is {self.evaluation_blocks}; it must be at least 1, or null for all")
        if self.initial_mask_probability is not None and not 0 < self.initial_mask_probability <= 1:
            raise ValueError(f"initial_mask_probability is {self.initial_mask_probability}; it must be in (0, 1]")
        if self.initial_sequence_length is not None and self.initial_sequence_length < 1:
            raise ValueError(f"initial_sequence_length is {self.initial_sequence_length}; it must be at least 1")
        if self.max_skipped_steps < 1:
            raise ValueError(f"max_skipped_steps is {self.max_skipped_steps}; it must be at least 1")
        if not 0 <= self.muon_momentum < 1:
            raise ValueError(f"muon_momentum is {self.muon_momentum}; it must be in [0, 1)")
        strategies = [HubStrategy.END.value, HubStrategy.EVERY_SAVE.value]
        strategy = HubStrategy(self.hub_strategy).value
        if self.push_to_hub and strategy not in strategies:
            raise ValueError(
                f"hub_strategy is {strategy!r}, which uploads the state to resume from, and that holds pickles; "
                f"allowed are {' and '.join(strategies)}"
            )
        if OptimizerNames(self.optim) not in _ADAMW or self.optim_args:
            raise ValueError(
                f"optim is {OptimizerNames(self.optim).value!r} and optim_args is {self.optim_args!r}; the optimizer "
                "is AdamW, with Muon for the hidden matrices where muon_learning_rate is set"
            )
        if self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor is {self.label_smoothing_factor}; no loss of RTD has it, allowed is 0"
            )

    def get_decay_steps(self, num_training_steps: int) -> int:
        """Steps of the decay of `warmup_stable_decay`, counted as `get_warmup_steps` counts those of the warm-up.

        Raises:
            ValueError: if the two do not fit.
        """
        decay = int(self.decay_steps) if self.decay_steps >= 1 else round(self.decay_steps * num_training_steps)
        warmup = self.get_warmup_steps(num_training_steps)
        if warmup + decay > num_training_steps:
            raise ValueError(
                f"warmup_steps {warmup} and decay_steps {decay} together exceed the {num_training_steps} steps of the "
                "run"
            )
        return decay


def steps_of(value: float, total_steps: int) -> int:
    """Steps given as a count, or as a fraction of all steps when at most 1 and not a whole number of steps."""
    return round(value * total_steps) if value < 1 or (value == 1 and isinstance(value, float)) else int(value)
