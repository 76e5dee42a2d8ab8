"""A calibration in seconds: little work, in this process."""

import pytest

from modeling_electra_rtd.pretraining import calibration


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
