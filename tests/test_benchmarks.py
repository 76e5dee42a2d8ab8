"""Benchmarks run, and what they compare is what they say: the same losses, and every matrix product."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_tokenizer
from torch.utils.flop_counter import FlopCounterMode

from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.model.encoder_inputs import LOCAL_MASKS


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from growth import processes  # noqa: E402
from roofline import ProductRecorder  # noqa: E402
from training_steps import CONTENDERS, SHAPES, Setting  # noqa: E402


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setitem(
        SHAPES, "little", ({"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}, 0.5, 1.0)
    )


@pytest.mark.parametrize(
    "script", sorted(path.name for path in BENCHMARKS.glob("*.py") if "main()" in path.read_text())
)
def test_help(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    assert end.value.code == 0 and "usage" in capsys.readouterr().out


def test_contenders_have_the_same_losses():
    setting = Setting("little", batch=16, length=32, dropout=0.1, compiled=False)
    losses = {}
    for name in ("by hand", "electra-rtd, own loop", "electra-rtd"):
        torch.manual_seed(0)
        step = CONTENDERS[name](setting)
        taken = [torch.stack(step(batch)) for batch in setting.batches(8) * 5]
        losses[name] = torch.stack(taken[:8]).mean(dim=0), torch.stack(taken[-8:]).mean(dim=0)
    expected = losses.pop("by hand")
    for found in losses.values():
        for one, other in zip(expected, found, strict=True):
            # They draw other tokens.
            torch.testing.assert_close(one, other, atol=0.06, rtol=0.03)
    first, last = losses["electra-rtd"]
    assert (last < first).all()


def test_the_floor_has_every_matrix_product():
    setting = Setting("little", batch=2, length=16, compiled=False)
    batch = setting.batches(1)[0]
    torch.manual_seed(0)
    step = CONTENDERS["electra-rtd"](setting)
    recorder = ProductRecorder()
    with recorder:
        step(batch)
    with FlopCounterMode(display=False) as counter:
        step(batch)
    assert recorder.flops == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        for product in recorder.products:
            product()
    assert recorder.flops == counter.get_total_flops()


def test_the_roofline_says_how_far_a_step_is_from_its_products(tmp_path, monkeypatch, capsys):
    record = tmp_path / "record.json"
    options = ["--shape", "little", "--batch", "2", "--length", "16", "--rounds", "3", "--uncompiled"]
    options += ["--json", str(record)]
    monkeypatch.setattr(sys, "argv", ["roofline.py", *options])
    runpy.run_path(str(BENCHMARKS / "roofline.py"), run_name="__main__")
    assert "| **step over floor** |" in capsys.readouterr().out
    written = json.loads(record.read_text())
    assert written["floor_seconds"] == pytest.approx(
        written["median_seconds"]["matrix products"] + written["median_seconds"]["optimizer"]
    )
    assert written["step_over_floor"] > 1 and written["profile_milliseconds"]["matrix products"] > 0


@pytest.mark.slow
def test_throughput_prints_a_table_and_writes_a_record(tmp_path):
    record = tmp_path / "record.json"
    command = [sys.executable, BENCHMARKS / "pretraining_throughput.py", "--shape", "tiny", "--batch", "8", "--length"]
    command += ["32", "--rounds", "1", "--steps", "1", "--json", record, "--without", "electra-pytorch"]
    command += ["by hand, compiled", "--uncompiled", "--also-slower"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "| by hand | fp32 |" in done.stdout and "| electra-rtd |" in done.stdout
    written = json.loads(record.read_text())
    assert written["versions"] == environment()["versions"]
    assert [row["contender"] for row in written["rows"]] == [
        "by hand",
        "by hand",
        "electra-rtd, own loop",
        "electra-rtd",
    ]
    for row in written["rows"]:
        assert row["tokens_per_second"] > 0 and row["peak_bytes"] > 1e7
        assert row["first_losses"][0] == pytest.approx(10.4, abs=0.5)


@pytest.mark.slow
def test_settings_of_memory_change_no_loss(tmp_path):
    record = tmp_path / "record.json"
    command = [sys.executable, BENCHMARKS / "cpu_step.py", "--shape", "tiny", "--batch", "2", "--length", "16"]
    command += ["--dropout", "0.1", "--rounds", "1", "--steps", "1", "--uncompiled", "--json", record]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, stock, returned = json.loads(record.read_text())["rows"]
    assert first["losses"] == returned["losses"] != stock["losses"]
    assert "| electra-rtd, freed memory returned |" in done.stdout


@pytest.mark.slow
def test_local_layers_in_whole_rows_have_the_same_losses():
    # Eight blocks a row; whole rows are for good in this process, which the worker of a comparison has for itself.
    setting = Setting("modern_small", batch=1, length=512, compiled=False)
    losses, masks = [], dict(LOCAL_MASKS)
    try:
        for name in ("electra-rtd", "electra-rtd, local layers in whole rows"):
            torch.manual_seed(0)
            losses.append(torch.stack(CONTENDERS[name](setting)(setting.batches(1)[0])))
    finally:
        LOCAL_MASKS.update(masks)
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_growth_without_a_calibration_predicts_nothing(tmp_path, monkeypatch, capsys):
    record = tmp_path / "growth.json"
    options = ["--shape", "tiny", "--batches", "--lengths", "32", "--tokens", "64", "--share-shapes", "--steps", "1"]
    options += ["--without-processes", "--without-predictions", "--json", str(record)]
    monkeypatch.setattr(sys, "argv", ["growth.py", *options])
    runpy.run_path(str(BENCHMARKS / "growth.py"), run_name="__main__")
    assert capsys.readouterr().out.count("| not measured |") == 2
    written = json.loads(record.read_text())
    assert written["batches"] == [] and written["shares"] == []
    (row,) = written["lengths"]
    assert (row["batch"], row["length"], row["predicted_seconds"], row["predicted_peak_bytes"]) == (2, 32, None, None)
    assert row["seconds"] > 0 and row["peak_bytes"] > 1e7 and row["flops"] > 1e9


@pytest.mark.slow
def test_processes_are_measured_alone_and_together():
    rates = processes(2, Setting("tiny", batch=2, length=16, compiled=False), steps=1)
    assert list(rates) == [1, 2] and min(rates.values()) > 0


@pytest.mark.slow
def test_inference_compares_the_same_answers(tmp_path):
    tiny_tokenizer(tmp_path / "tokenizer")
    text = tmp_path / "sentences.txt"
    words = ["the", "cat", "sat", "on", "a", "mat"]
    text.write_text("".join(" ".join(words[: 1 + row % 6]) + "\n" for row in range(40)), encoding="utf-8")
    record = tmp_path / "record.json"
    command = [sys.executable, BENCHMARKS / "inference.py", "--shape", "tiny", "--text", text, "--json", record]
    command += ["--tokenizer", tmp_path / "tokenizer", "--rounds", "1", "--lines", "20", "--batch", "4"]
    done = subprocess.run([*command, "--length", "32"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(record.read_text())
    assert written["versions"] == environment()["versions"] and written["tokens"] == 58
    rows = {row["contender"]: row for row in written["rows"]}
    assert list(rows) == [
        "stock, longest",
        "stock, maximum",
        "pipeline, fp32",
        "pipeline, bf16",
        "score, fp32",
        "score, bf16",
        "stock, both networks",
        "inspect, fp32",
        "inspect, bf16",
    ]
    for name, row in rows.items():
        assert f"| {name} |" in done.stdout and row["sentences_per_second"] > 0
        assert ("times_pair" in row) == ("inspect" in name or "both" in name)
    assert rows.pop("stock, both networks")["largest_difference"] is None
    for name, row in rows.items():
        assert row["largest_difference"] <= (5e-6 if "fp32" in name or "stock" in name else 2e-2)
