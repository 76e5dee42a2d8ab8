"""Defaults of the reference, and values that are refused when the arguments are built."""

import logging

import pytest
from helpers.blocks import tiny_arguments
from transformers import TrainingArguments

from modeling_electra_rtd import ElectraRtdTrainingArguments
from modeling_electra_rtd.common.training_arguments import steps_of


def test_the_defaults_are_the_reference_small(tmp_path):
    arguments = ElectraRtdTrainingArguments(output_dir=str(tmp_path))
    assert arguments.learning_rate == 5e-4
    assert arguments.weight_decay == 0.01
    assert arguments.adam_epsilon == 1e-6
    assert arguments.max_grad_norm == 1.0
    assert arguments.get_warmup_steps(1_000_000) == 10_000
    assert arguments.data_seed == arguments.seed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"muon_learning_rate": -1.0}, "muon_learning_rate is -1.0"),
        ({"initial_sampling_temperature": 0.0}, "initial_sampling_temperature is 0.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"muon_momentum": 1.0}, "muon_momentum is 1.0"),
        ({"initial_mask_probability": 1.5}, "initial_mask_probability is 1.5"),
        ({"mask_probability_decay_steps": -1}, "mask_probability_decay_steps is -1"),
        ({"initial_sequence_length": 0}, "initial_sequence_length is 0"),
        ({"initial_batch_size": 0}, "initial_batch_size is 0; it must be at least 1"),
        ({"initial_batch_size": 9, "gradient_accumulation_steps": 2}, "at most the full batch of 8"),
        ({"evaluation_blocks": 0}, "evaluation_blocks is 0"),
        ({"optim": "adafactor"}, "optim is 'adafactor'"),
        ({"optim_args": "beta=1"}, "optim_args is 'beta=1'"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is 0.1"),
        (
            {"lr_scheduler_type": "warmup_stable_decay", "max_steps": 10, "warmup_steps": 6, "decay_steps": 5},
            "together exceed the 10 steps",
        ),
    ],
)
def test_impossible_values_are_named(tmp_path, change, named):
    with pytest.raises(ValueError, match=named):
        tiny_arguments(tmp_path, **change)


def test_fractions_and_counts_of_steps():
    assert [steps_of(value, 200) for value in (0.25, 0, 1.0, 1, 50)] == [50, 0, 200, 1, 50]


def test_a_decay_of_one_step_is_one_step(tmp_path):
    shape = {"lr_scheduler_type": "warmup_stable_decay", "max_steps": 4, "warmup_steps": 1.0, "decay_steps": 1.0}
    arguments = tiny_arguments(tmp_path, **shape)
    assert (arguments.get_warmup_steps(4), arguments.get_decay_steps(4)) == (1, 1)
    with pytest.raises(ValueError, match="decay_steps 1 together exceed the 1 steps"):
        arguments.get_decay_steps(1)


def test_one_process_uses_one_of_several_gpus(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda arguments: getattr(arguments, "_n_gpu", 2) or 2))
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level("WARNING"):
        arguments = tiny_arguments(tmp_path)
    assert arguments.n_gpu == 1 and "torchrun --nproc_per_node 2" in caplog.text
