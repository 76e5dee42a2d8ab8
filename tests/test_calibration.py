"""Rates are fitted to what was timed, predict by plain arithmetic, and travel as JSON."""

import dataclasses
import json
from collections import Counter

import pytest
import torch
from helpers.calibration import RATES, measure_little
from helpers.step_cost import pair, run

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.pretraining import calibration
from modeling_electra_rtd.pretraining.calibration import (
    Calibration,
    CompiledStep,
    Rates,
    fitted,
    load_calibration,
    save_calibration,
    share_left,
    with_compiled_steps,
)
from modeling_electra_rtd.pretraining.step_cost import DISCRIMINATOR, GENERATOR, Memory, Operator, StepCost, count_step


COST = StepCost(
    calls=Counter(
        {
            Operator("addmm", GENERATOR, "float32", 100, 40): 2,
            Operator("bmm", DISCRIMINATOR, "float32", 10, 4): 1,
            Operator("_scaled_dot_product_flash_attention_for_cpu", DISCRIMINATOR, "float32", 5, 1): 1,
            Operator("_scaled_dot_product_flash_attention_for_cpu_backward", DISCRIMINATOR, "float32", 5, 1): 1,
            Operator("gelu", DISCRIMINATOR, "float32", 0, 8): 3,
            Operator("unheard_of", GENERATOR, "float32", 0, 5): 1,
        }
    ),
    memory=Memory(weights=200, gradients=200, optimizer=400, activations=900, peak=2000),
    parameters={},
)


def test_a_prediction_is_the_sum_of_its_calls():
    products = 2 * (200 + 20) + 30 + 35 + 45
    rest = 3 * 2 + 5 + 9 * 10
    assert RATES.seconds(COST) == products + rest
    assert RATES.seconds(COST, compiled=True) == products + rest / 2
    assert RATES.resident(COST) == 3000
    assert RATES.resident(COST, compiled=True) == 100 + 9 * 4 + 1.5 * 600 + 0.25 * 1400


def test_what_was_not_measured_is_not_predicted():
    plain = Rates({}, {"": 1.0}, 0.0, 1.0)
    assert plain.seconds(COST, compiled=True) is None and plain.resident(COST, compiled=True) is None


def test_fits_find_the_rates_and_none_below_zero():
    shapes = [(1e9, 1e6), (1e8, 1e7), (1e7, 2e6), (5e9, 1e8)]
    per_flop, per_byte = fitted((flops, moved, 2e-12 * flops + 3e-10 * moved) for flops, moved in shapes)
    assert (per_flop, per_byte) == (pytest.approx(2e-12), pytest.approx(3e-10))
    per_flop, per_byte = fitted((flops, moved, 2e-12 * flops) for flops, moved in [*shapes, (1e6, 1e6)])
    assert per_flop == pytest.approx(2e-12) and 0 <= per_byte < 1e-15
    # Seconds that fall with the bytes.
    per_flop, per_byte = fitted([(1e9, 1e6, 1.0), (1e9, 1e8, 0.5), (1e9, 2e8, 0.25)])
    assert per_flop > 0 and per_byte == 0


def test_what_compiling_leaves_is_a_share_of_what_is_no_product():
    assert share_left(1.0, products=6.0, rest=4.0) == 1.0
    assert share_left(0.8, products=6.0, rest=4.0) == pytest.approx(0.5)
    # Faster than its products alone, and a step that is nothing else.
    assert share_left(0.5, products=6.0, rest=4.0) == 0.0
    assert share_left(0.5, products=6.0, rest=0.0) == 1.0


def test_a_calibration_comes_back_from_its_file(tmp_path):
    file = tmp_path / "machine.json"
    saved = Calibration("cpu", {"fp32": RATES}, environment())
    save_calibration(saved, str(file))
    assert load_calibration(str(file)) == saved
    for content in (
        "{}",
        "[]",
        "not JSON",
        json.dumps({"device_type": "cpu", "rates": {"fp32": {}}, "environment": {}}),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match="machine.json is no calibration"):
            load_calibration(str(file))


def test_a_measured_machine_takes_time_for_everything(monkeypatch):
    measure_little(monkeypatch)
    rates = calibration._measured_rates("cpu", "fp32")
    assert set(rates.products) == {"mm", "bmm", "attention", "attention backward"}
    assert all(sum(pair) > 0 for pair in rates.products.values())
    assert {"gelu", "native_layer_norm", "_fused_adamw_", ""} <= set(rates.operators)
    one, four = (
        count_step(lambda: ElectraRtdForPreTraining(pair("electra")), run(rows), 32, "cpu") for rows in (16, 64)
    )
    assert rates.seconds(one) < rates.seconds(four) < 4 * rates.seconds(one)


def test_memory_of_compiled_steps_is_what_two_depths_and_two_batches_took():
    def measured(calls: int, peak: int, share: float | None = None) -> CompiledStep:
        cost = StepCost(
            calls=Counter({Operator("gelu", DISCRIMINATOR, "float32", 0, 8): calls}),
            memory=dataclasses.replace(COST.memory, peak=peak),
            parameters={},
        )
        return CompiledStep(cost, RATES.resident(cost, compiled=True), share)

    steps = measured(20, 1000), measured(120, 3000), measured(120, 9000, 0.6)
    plain = dataclasses.replace(RATES, compiled_share=None, compiled_resident_per_live=None, compiler_bytes=None)
    fitted_rates = with_compiled_steps(plain, *steps)
    assert fitted_rates.compiled_share == 0.6
    assert fitted_rates.compiled_resident_per_live == pytest.approx(0.25)
    assert fitted_rates.compiler_bytes == pytest.approx((100.0, 4.0))


@pytest.mark.slow
def test_compiled_steps_are_measured(monkeypatch):
    measure_little(monkeypatch)
    monkeypatch.setattr(calibration, "has_compiler", lambda: True)
    monkeypatch.setattr(calibration, "_DEEP", {**calibration._FAMILIES[0], "num_hidden_layers": 4})
    # A compiler that leaves a step as it is; the real one takes a minute.
    monkeypatch.setattr(torch, "compile", lambda model: model)
    rates = calibration.calibrate(["fp32"]).rates["fp32"]
    # Its memory is that of the tests before it.
    assert rates.compiled_share >= 0 and min(rates.compiler_bytes) >= 0 and rates.compiled_resident_per_live >= 0
    assert rates.resident(COST, compiled=True) > 0
