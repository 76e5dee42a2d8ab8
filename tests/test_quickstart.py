"""The quickstart from end to end, on few steps and a small corpus."""

import pytest

from modeling_electra_rtd import quickstart as module
from modeling_electra_rtd.checkpoint_layout import holds_pair
from modeling_electra_rtd.quickstart import quickstart


def test_the_whole_way(tmp_path, monkeypatch, capsys):
    collect = module.collect_python_prose
    monkeypatch.setattr(module, "collect_python_prose", lambda: collect(max_bytes=300_000))
    monkeypatch.setattr(module, "VOCAB_SIZE", 1000)
    folder = tmp_path / "quickstart"
    record = quickstart(str(folder), max_steps=3)
    assert record["steps"] == 3
    shown = capsys.readouterr().out
    assert "held-out AUC on replaced tokens" in shown and "P_d" in shown
    assert f" {folder / 'model' / 'curves.png'}\n" in shown
    assert "root: 0 missing" in shown and "generator: 0 missing" in shown
    for name in (
        "release/model.safetensors",
        "release/generator/model.safetensors",
        "model/curves.png",
        "inspect.html",
    ):
        assert (folder / name).stat().st_size > 0
    assert holds_pair(folder / "release")


def test_a_taken_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="already holds something"):
        quickstart(str(tmp_path))
