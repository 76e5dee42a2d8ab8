"""A calibration in seconds: little work, in this process."""

import pytest

from modeling_electra_rtd.pretraining import calibration


RATES = calibration.Rates(
    products={"mm": (2.0, 0.5), "bmm": (3.0, 0.0), "attention": (7.0, 0.0), "attention backward": (9.0, 0.0)},
    operators={"gelu": 0.25, "": 1.0},
    call=10.0,
    resident_per_live=1.5,
    compiled_share=0.5,
    compiled_resident_per_live=0.25,
    compiler_bytes=(100.0, 4.0),
)


def measure_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a calibration measure small things only, and no compiled steps, which take the compiler a minute."""
    families = tuple({**family, "vocab_size": 1000} for family in calibration._FAMILIES)
    monkeypatch.setattr(calibration, "_FAMILIES", families)
    monkeypatch.setattr(calibration, "_DEEP", families[0])
    monkeypatch.setattr(calibration, "ROWS", 4)
    monkeypatch.setattr(calibration, "FEW_ROWS", 2)
    monkeypatch.setattr(calibration, "_PRODUCTS", ((1, 64, 64, 64), (1, 256, 64, 128), (8, 32, 16, 32)))
    monkeypatch.setattr(calibration, "_ATTENTION_LENGTHS", (64, 128))
    monkeypatch.setattr(calibration, "has_compiler", lambda: False)
    # Both last for a whole process, which here goes on to other tests.
    monkeypatch.setattr(calibration, "tune_cpu_memory", lambda: True)
    monkeypatch.setattr(calibration, "_in_own_process", lambda function, *arguments: function(*arguments))
