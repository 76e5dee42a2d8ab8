"""Checks of single training arguments, pre-training's and fine-tuning's: one line that names key, value and range."""

import math
from enum import Enum
from typing import Any

from transformers import SchedulerType, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy
from transformers.training_args import OptimizerNames, trainer_log_levels

from ..model.suggestions import nearest


# The least value that is allowed.
_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_grad_norm": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "dataloader_num_workers": 0,
    "save_total_limit": 0,
    "seed": 0,
    "data_seed": 0,
    "label_smoothing_factor": 0,
}
# Values that have to be above 0.
_POSITIVE = ("learning_rate", "adam_epsilon", "save_steps", "eval_steps", "logging_steps")
# Ends of half-open ranges [0, end).
_BELOW = {"adam_beta1": 1, "adam_beta2": 1, "label_smoothing_factor": 1, "seed": 2**32, "data_seed": 2**32}
_MOST_WORKERS = 512
_CHOICES: dict[str, type[Enum]] = {
    "lr_scheduler_type": SchedulerType,
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    "optim": OptimizerNames,
    "hub_strategy": HubStrategy,
}


def check_training_values(arguments: TrainingArguments) -> None:
    """Refuse values that no run can have; called before `TrainingArguments` makes other values of them.

    Raises:
        ValueError: in one line, naming the argument, its value and what is allowed.
    """
    for name, least in _LEAST.items():
        value = _number(arguments, name)
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    for name in _POSITIVE:
        value = _number(arguments, name)
        if value is not None and value <= 0:
            raise ValueError(f"{name} is {value}; it must be above 0")
    for name, end in _BELOW.items():
        value = _number(arguments, name)
        if value is not None and value >= end:
            raise ValueError(f"{name} is {value}; it must be below {end}")
    if arguments.dataloader_num_workers > _MOST_WORKERS:
        raise ValueError(
            f"dataloader_num_workers is {arguments.dataloader_num_workers}; it must be at most {_MOST_WORKERS}"
        )
    for name, choices in _CHOICES.items():
        value = getattr(arguments, name)
        allowed = [choice.value for choice in choices]
        if not isinstance(value, choices) and value not in allowed:
            raise ValueError(f"{name} is {value!r}{nearest(str(value), allowed)}")
    for name in ("log_level", "log_level_replica"):
        value = getattr(arguments, name)
        if value not in trainer_log_levels and value not in trainer_log_levels.values():
            raise ValueError(f"{name} is {value!r}{nearest(str(value), trainer_log_levels)}")
    if arguments.output_dir is not None and not str(arguments.output_dir).strip():
        raise ValueError(f"output_dir is {arguments.output_dir!r}; it must name a folder")
    _check_trackers(arguments.report_to)


def _number(arguments: TrainingArguments, name: str) -> float | None:
    """The value of an argument; `None` where it is not set, or is another thing than a number."""
    value: Any = getattr(arguments, name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number")
    return value


def _check_trackers(report_to: str | list[str] | None) -> None:
    names = [report_to] if isinstance(report_to, str) else list(report_to or [])
    for name in names:
        if name in ("all", "none"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"report_to is {name!r}{nearest(name, [*INTEGRATION_TO_CALLBACK, 'all', 'none'])}")
        if name not in get_available_reporting_integrations():
            raise ValueError(f"report_to is {name!r}, whose package is not installed; pip install {name}, or none")
