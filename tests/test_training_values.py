"""Values that no run can have are refused in one line that names the argument, its value and what is allowed."""

import pytest

from modeling_electra_rtd import ElectraRtdTrainingArguments
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments


CLASSES = [ElectraRtdTrainingArguments, FinetuningArguments]


@pytest.mark.parametrize("arguments", CLASSES)
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("log_level", "loud", "log_level is 'loud'; allowed: critical, debug"),
        ("report_to", "wandb", "report_to is 'wandb', whose package is not installed"),
        ("report_to", ["wandbb"], "report_to is 'wandbb'; did you mean 'wandb'"),
        ("lr_scheduler_type", "linaer", "lr_scheduler_type is 'linaer'; did you mean 'linear'"),
        ("eval_strategy", "stepps", "eval_strategy is 'stepps'; did you mean 'steps'"),
        ("save_strategy", "sometimes", "save_strategy is 'sometimes'; allowed: best, epoch, no, steps"),
        ("per_device_train_batch_size", 0, "per_device_train_batch_size is 0; it must be at least 1"),
        ("gradient_accumulation_steps", -1, "gradient_accumulation_steps is -1; it must be at least 1"),
        ("max_grad_norm", -1.0, "max_grad_norm is -1.0; it must be at least 0"),
        ("save_steps", 0, "save_steps is 0; it must be above 0"),
        ("eval_steps", -1, "eval_steps is -1; it must be above 0"),
        ("logging_steps", 0, "logging_steps is 0; it must be above 0"),
        ("learning_rate", float("nan"), "learning_rate is nan; it must be a finite number"),
        ("learning_rate", 0.0, "learning_rate is 0.0; it must be above 0"),
        ("adam_beta2", 1.0, "adam_beta2 is 1.0; it must be below 1"),
        ("label_smoothing_factor", 2.0, "label_smoothing_factor is 2.0; it must be below 1"),
        ("seed", 2**70, "seed is 1180591620717411303424; it must be below 4294967296"),
        ("seed", -1, "seed is -1; it must be at least 0"),
        ("dataloader_num_workers", 5000, "dataloader_num_workers is 5000; it must be at most 512"),
        ("output_dir", " ", "output_dir is ' '; it must name a folder"),
    ],
)
def test_a_value_is_refused(arguments, name, value, says, tmp_path):
    with pytest.raises(ValueError) as error:
        arguments(**{"output_dir": str(tmp_path), "use_cpu": True, name: value})
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_steps": 0}, "max_steps is 0; it must be at least 1, or -1"),
        ({"max_steps": -5}, "max_steps is -5"),
        ({"max_steps": 10, "warmup_steps": 11}, "warmup_steps is 11; it must be at most max_steps, 10"),
        ({"num_train_epochs": 0}, "num_train_epochs is 0; it must be above 0"),
        ({"max_skipped_steps": 0}, "max_skipped_steps is 0; it must be at least 1"),
    ],
)
def test_lengths_of_a_run_are_refused(values, says, tmp_path):
    with pytest.raises(ValueError) as error:
        ElectraRtdTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **values)
    assert says in str(error.value)


@pytest.mark.parametrize("arguments", CLASSES)
def test_the_defaults_are_allowed(arguments, tmp_path):
    arguments(output_dir=str(tmp_path), use_cpu=True)
