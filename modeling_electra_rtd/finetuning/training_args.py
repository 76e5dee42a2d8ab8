"""`FinetuningArguments`: `Seq2SeqTrainingArguments` with the reference's fine-tuning recipe as defaults."""

from dataclasses import dataclass, field

import torch
from transformers import Seq2SeqTrainingArguments

from ..common.training_values import check_training_values
from ..model.precision import agree_on_precision, decide_precision


_LEAST = {
    "max_length": 8,
    "max_train_samples": 1,
    "early_stopping_patience": 1,
}


@dataclass
class FinetuningArguments(Seq2SeqTrainingArguments):
    """Arguments of a fine-tuning run. Fields of `TrainingArguments` keep their meaning; some get the reference's
    defaults (google-research/electra, finetune/; ELECTRA paper, table 7, which differs for small: learning rate 3e-4,
    no weight decay).

    Raises:
        ValueError: for values that cannot go together, naming them.
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of the head (large: 5e-5)."})
    layerwise_lr_decay: float = field(
        default=0.8, metadata={"help": "Factor on the learning rate from each layer to the one below (large: 0.9)."}
    )
    last_layer_exponent: int = field(
        default=1,
        metadata={
            "help": "How often the last layer's rate is decayed: 1, as the paper means; 2, as the reference does."
        },
    )
    weight_decay: float = field(default=0.01, metadata={"help": "Decoupled; biases and norms are exempt."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "AdamW epsilon (reference: 1e-6)."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Warm-up in optimizer steps, or as a fraction of all steps when below 1."}
    )
    num_train_epochs: float | None = field(  # type: ignore[assignment]  # None: the task says
        default=None, metadata={"help": "None takes the task's: 3; RTE and STS-B 10; question answering 2."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Positions of an input; None takes the task's: 128; question answering 512."}
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "See TrainingArguments."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "See TrainingArguments."})
    swap_pairs: bool | None = field(
        default=None,
        metadata={"help": "Train on pairs in both orders; None takes the task's (reference: MRPC and STS-B)."},
    )
    from_scratch_seeds: int = field(
        default=1, metadata={"help": "Seeds of the baseline with random weights; 0 leaves it out."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on a random part of this size."})
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this many evaluations without a better result, and keep the best. Off."},
    )
    precision: str = field(
        default="auto",
        metadata={"help": "auto takes the faster of fp32 and bf16, by a measurement; or one of them."},
    )
    # None: nobody has chosen.
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "As precision; True and False win over auto."}
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "None: the model's own. On a CPU sdpa and eager are computed as matrix products."},
    )

    eval_strategy: str = field(default="epoch", metadata={"help": "See TrainingArguments."})
    save_strategy: str = field(default="no", metadata={"help": "See TrainingArguments."})
    # A share of the steps, so that short runs have a curve too and long ones no more than can be seen.
    logging_steps: float = field(default=0.02, metadata={"help": "See TrainingArguments."})
    # Batches of rows of like length: padding is what a classifier would otherwise spend most of its time on.
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "See TrainingArguments."})
    length_column_name: str = field(default="length", metadata={"help": "See TrainingArguments."})
    # Columns that predictions need stay in the features; the collator hands on what the model reads.
    remove_unused_columns: bool = field(default=False, metadata={"help": "See TrainingArguments."})
    # A loss that is not finite must show in the log: it is how a run is known to have failed.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "See TrainingArguments."})
    report_to: str | list[str] = field(default="none", metadata={"help": "See TrainingArguments."})

    def __post_init__(self):
        if self.push_to_hub:
            raise ValueError(
                "push_to_hub is True, but a fine-tuning run trains several models; choose one and upload it with "
                "electra-rtd push FOLDER OWNER/NAME"
            )
        check_training_values(self)
        if not 0 < self.layerwise_lr_decay <= 1:
            raise ValueError(f"layerwise_lr_decay is {self.layerwise_lr_decay}; it must be in (0, 1]")
        if self.last_layer_exponent not in (1, 2):
            raise ValueError(f"last_layer_exponent is {self.last_layer_exponent}; allowed are 1 and 2")
        if self.from_scratch_seeds < 0:
            raise ValueError(f"from_scratch_seeds is {self.from_scratch_seeds}; it must not be negative")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if self.num_train_epochs is not None and self.num_train_epochs <= 0:
            raise ValueError(f"num_train_epochs is {self.num_train_epochs}; it must be above 0")
        if self.early_stopping_patience is not None:
            if self.eval_strategy == "no":
                raise ValueError("early_stopping_patience needs evaluations; set eval_strategy to epoch or steps")
            self.load_best_model_at_end = True
        if self.load_best_model_at_end:
            self.save_strategy, self.save_total_limit = self.eval_strategy, 1
        if not torch.accelerator.is_available():
            self.use_cpu = True
        is_measured = decide_precision(self)
        super().__post_init__()
        if is_measured:
            agree_on_precision(self)
