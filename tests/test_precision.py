"""Precision is decided by how fast products are, not by what a processor claims, and a run says what it took."""

import pytest
import torch
from transformers.utils import logging

from modeling_electra_rtd import ElectraRtdTrainingArguments
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments
from modeling_electra_rtd.model import precision
from modeling_electra_rtd.model.precision import faster_of, matrix_rates, precision_facts, resolve_precision


NATIVE = {"fp32": 150e9, "bf16": 400e9}
# Two cores with AVX-512 and without bf16 units: bf16 matrices are converted first.
CONVERTED = {"fp32": 155e9, "bf16": 55e9}


@pytest.fixture
def rates(monkeypatch):
    """Sets what a measurement would find on this machine."""

    def found(values: dict[str, float]) -> None:
        monkeypatch.setattr(precision, "matrix_rates", lambda device_type: values)

    return found


def said(monkeypatch) -> list[str]:
    lines = []
    monkeypatch.setattr(precision.logger, "warning_once", lines.append)
    return lines


def test_a_measurement_times_both_kinds_and_leaves_random_numbers_and_gradients_alone():
    matrix_rates.cache_clear()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    measured = matrix_rates("cpu")
    assert torch.equal(torch.rand(3), expected) and torch.is_grad_enabled()
    # No processor that runs this is slower than that.
    assert set(measured) == {"fp32", "bf16"} and measured["fp32"] > 1e8 and measured["bf16"] > 1e7
    # Once for a process.
    assert matrix_rates("cpu") is measured


def test_a_kind_of_product_that_a_device_does_not_have_has_no_rate(monkeypatch):
    def linear(left, right):
        if left.dtype == torch.bfloat16:
            raise RuntimeError('"addmm" not implemented for "BFloat16"')
        return left @ right.T

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    matrix_rates.cache_clear()
    try:
        rates = matrix_rates("cpu")
    finally:
        matrix_rates.cache_clear()
    assert rates["bf16"] == 0 and faster_of(rates) == "fp32"


@pytest.mark.parametrize(
    ("measured", "expected"),
    [(NATIVE, "bf16"), (CONVERTED, "fp32"), ({"fp32": 100e9, "bf16": 110e9}, "fp32"), ({"fp32": 100e9}, "fp32")],
)
def test_bf16_is_taken_where_its_products_are_ahead_by_more_than_the_casts_cost(measured, expected, rates):
    rates(measured)
    assert resolve_precision("auto", None, False, "cpu") == expected
    arguments = ElectraRtdTrainingArguments(output_dir="unused", precision="auto")
    assert (arguments.precision, arguments.bf16) == (expected, expected == "bf16")
    assert arguments.mixed_precision == ("bf16" if expected == "bf16" else "no")
    # Fine-tuning measures without being told to; pre-training from Python does as `Trainer` does.
    assert FinetuningArguments(output_dir="unused").bf16 is (expected == "bf16")
    assert ElectraRtdTrainingArguments(output_dir="unused").precision == "fp32"


@pytest.mark.parametrize("arguments_class", [ElectraRtdTrainingArguments, FinetuningArguments])
@pytest.mark.parametrize(
    ("asked", "ran"),
    [
        ({"precision": "bf16"}, "bf16"),
        ({"bf16": True}, "bf16"),
        ({"precision": "fp32"}, "fp32"),
        ({"bf16": False}, "fp32"),
        ({"precision": "auto", "bf16": True}, "bf16"),
        ({"precision": "auto", "bf16": False}, "fp32"),
    ],
)
def test_what_is_asked_for_is_kept_and_the_slower_one_is_said_in_one_line(
    arguments_class, asked, ran, rates, monkeypatch
):
    lines = said(monkeypatch)
    slower = "bf16" if ran == "fp32" else "fp32"
    rates({ran: 55e9, slower: 155e9})
    assert arguments_class(output_dir="unused", **asked).precision == ran
    (line,) = lines
    assert f"precision is {ran} (55 GFLOP/s" in line and f"{slower} is faster" in line and "\n" not in line
    lines.clear()
    rates({ran: 155e9, slower: 55e9})
    arguments = arguments_class(output_dir="unused", **asked)
    assert arguments.bf16 is (ran == "bf16") and not lines


def test_switches_that_contradict_a_precision_are_refused():
    for values, message in (
        ({"precision": "fp32", "bf16": True}, "precision is 'fp32', but bf16 is True"),
        ({"precision": "bf16", "bf16": False}, "precision is 'bf16', but bf16 is False"),
        ({"precision": "bf16", "fp16": True}, "precision is 'bf16', but fp16 is True"),
        ({"precision": "half"}, "precision is 'half'; it must be auto, fp32 or bf16"),
    ):
        with pytest.raises(ValueError, match=message):
            ElectraRtdTrainingArguments(output_dir="unused", **values)


def test_arguments_say_the_same_when_they_are_made_again(rates):
    rates(NATIVE)
    first = ElectraRtdTrainingArguments(output_dir="unused", precision="auto")
    again = ElectraRtdTrainingArguments(output_dir="unused", precision=first.precision, bf16=first.bf16)
    assert (again.precision, again.bf16) == ("bf16", True)
    assert first.to_dict()["precision"] == "bf16"


def test_a_record_holds_what_ran_and_both_rates(rates):
    rates(CONVERTED)
    assert precision_facts("fp32", "cpu") == {
        "ran": "fp32",
        "product_gflops_per_second": {"fp32": 155.0, "bf16": 55.0},
    }


def test_a_measurement_says_nothing(caplog):
    matrix_rates.cache_clear()
    logging.enable_propagation()
    try:
        matrix_rates("cpu")
    finally:
        logging.disable_propagation()
    assert not caplog.records
