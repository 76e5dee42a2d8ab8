"""Schedules as functions of the step: values and shapes by hand, and a model that has more slots than it fills."""

from collections import Counter

import pytest
import torch
from helpers.blocks import random_blocks, tiny_arguments
from helpers.tiny import tiny_pair, tiny_text, uniforms_for

from modeling_electra_rtd.data.collator import BlockCollator
from modeling_electra_rtd.model.corruption import slots_per_row, split_uniforms
from modeling_electra_rtd.pretraining.schedules import (
    StepShape,
    run_shapes,
    scheduled_value,
    shaped_batches,
    step_shape,
)


def test_values_move_linearly_and_stay(tmp_path):
    arguments = tiny_arguments(
        tmp_path,
        initial_sampling_temperature=5.0,
        sampling_temperature_decay_steps=0.5,
        initial_mask_probability=0.1,
        mask_probability_decay_steps=40,
    )
    temperature = [scheduled_value(arguments, "sampling_temperature", 1.0, step, 100) for step in (0, 25, 50, 100)]
    assert temperature == pytest.approx([5.0, 3.0, 1.0, 1.0])
    probability = [scheduled_value(arguments, "mask_probability", 0.3, step, 100) for step in (0, 20, 40, 100)]
    assert probability == pytest.approx([0.1, 0.2, 0.3, 0.3])
    # Exactly, or a compiled graph and a count of slots would meet two values.
    assert probability[2:] == [0.3, 0.3]
    assert scheduled_value(tiny_arguments(tmp_path), "sampling_temperature", 1.5, 7, 100) == 1.5


def test_a_batch_grows_by_halves_and_then_by_micro_batches(tmp_path):
    arguments = tiny_arguments(
        tmp_path,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=4,
        initial_batch_size=2,
        batch_size_warmup_steps=10,
    )
    # 2 rows and 3 more with every step, rounded down.
    expected = [(1, 2), (1, 4), (1, 8), (1, 8), (1, 8), (2, 8), (2, 8), (2, 8), (3, 8), (3, 8), (4, 8), (4, 8)]
    assert [step_shape(arguments, 32, step, 20) for step in range(12)] == [(*shape, 32) for shape in expected]
    counted = Counter(step_shape(arguments, 32, step, 20) for step in range(20))
    assert run_shapes(arguments, 32, 20) == counted
    assert sum(shape.positions * count for shape, count in counted.items()) == 32 * (
        2 + 4 + 3 * 8 + 3 * 16 + 2 * 24 + 10 * 32
    )


def test_rows_grow_by_doubling_at_constant_positions(tmp_path):
    arguments = tiny_arguments(
        tmp_path, per_device_train_batch_size=4, initial_sequence_length=8, sequence_length_warmup_steps=0.6
    )
    # 8 positions and 2 more with every step, rounded down to 8, 16 or 32.
    expected = [(1, 16, 8)] * 4 + [(1, 8, 16)] * 8 + [(1, 4, 32)] * 8
    assert [step_shape(arguments, 32, step, 20) for step in range(20)] == expected
    assert run_shapes(arguments, 32, 20) == Counter(expected)
    for length in (4, 24, 40):
        with pytest.raises(ValueError, match=f"initial_sequence_length is 8; allowed are the {length} positions"):
            step_shape(arguments, length, 0, 20)


def test_a_run_that_is_all_warm_up_has_no_other_shape(tmp_path):
    arguments = tiny_arguments(tmp_path, initial_batch_size=1, batch_size_warmup_steps=1.0)
    assert run_shapes(arguments, 32, 8) == {(1, 1, 32): 3, (1, 2, 32): 5}
    assert run_shapes(tiny_arguments(tmp_path), 32, 8) == {(1, 4, 32): 8}


def test_micro_batches_that_are_left_out_are_empty_and_first():
    batches = [BlockCollator()(random_blocks(4, seed=seed)) for seed in range(3)]
    shaped = shaped_batches(batches, StepShape(2, 4, 32))
    assert shaped[0] == {} and len(shaped) == 3
    assert all(torch.equal(shaped[n][name], batches[n][name]) for n in (1, 2) for name in batches[n])
    few = shaped_batches(batches, StepShape(1, 4, 16))
    assert few[:2] == [{}, {}]
    assert torch.equal(few[2]["input_ids"], batches[2]["input_ids"][:2].reshape(4, 16))


def test_the_slots_of_a_larger_probability_change_no_loss():
    model, text = tiny_pair("electra"), tiny_text()
    large = uniforms_for(text["input_ids"], 0.5)
    length = text["input_ids"].shape[1]
    slots = slots_per_row(length, 0.15)
    pieces = split_uniforms(large, length)
    own = torch.cat([pieces[0], pieces[1][:, :slots], pieces[2][:, :slots]], dim=1)
    expected = model(**text, corruption_uniforms=own)
    probability = torch.tensor(0.15, dtype=torch.float64)
    found = model(**text, corruption_uniforms=large, mask_probability=probability)
    assert torch.equal(found.corrupted_input_ids, expected.corrupted_input_ids)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=1e-6)
    other = model(**text, corruption_uniforms=large, mask_probability=torch.tensor(0.5, dtype=torch.float64))
    assert other.is_chosen.sum() == model.count_loss_terms(**text, mask_probability=0.5)[0] > found.is_chosen.sum()
