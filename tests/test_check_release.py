"""What a release says of itself is said alike everywhere, and what cannot be released is not built."""

import importlib
from pathlib import Path

import pytest

import modeling_electra_rtd


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module("check_release")


def test_the_version_is_the_same_everywhere(script):
    assert set(script.stated_versions().values()) == {modeling_electra_rtd.__version__}


def test_other_versions_are_refused_before_anything_is_built(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "stated_versions", lambda: {"CITATION.cff": "1.0.0", "CHANGELOG.md": "1.0.1"})
    (tmp_path / "dist").mkdir()
    assert script.main(["--dist", str(tmp_path / "dist")]) == 2
    assert "versions differ" in capsys.readouterr().err and (tmp_path / "dist").is_dir()


def test_the_wheel_is_tried_outside_of_the_tree(script, monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(script.venv, "create", lambda *arguments, **more: None)
    monkeypatch.setattr(script.subprocess, "run", lambda command, **more: commands.append((command, more["cwd"])))
    script.try_out(tmp_path / "wheel.whl")
    assert len(commands) == 3 and all(not Path(place).is_relative_to(script.ROOT) for _, place in commands)
    assert commands[1][0][1:] == ["--version"] and "plan" in commands[2][0]
