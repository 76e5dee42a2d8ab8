"""What a run was asked for, against what it is asked for now."""

import os

import pytest

from modeling_electra_rtd.common.asked import Difference, differences, read_json, refuse_differences, write_json


def test_differences_are_named_by_their_path_and_hold_both_values(tmp_path):
    before = {"a": 1, "section": {"b": [1], "c": None, "gone": 2}, "e": "x", "shown": 1}
    now = {"a": 1, "section": {"b": [2], "c": {"d": 3}}, "e": "y", "shown": 2}
    assert differences(before, now, ignored=("shown",)) == [
        Difference("section.b", [1], [2]),
        Difference("section.c", None, {"d": 3}),
        Difference("section.gone", 2, None),
        Difference("e", "x", "y"),
    ]
    # A folder is the same by another name, and words that name nothing are words.
    assert not differences({"blocks": str(tmp_path)}, {"blocks": os.path.relpath(tmp_path)})
    refuse_differences(tmp_path, [])
    with pytest.raises(ValueError, match="holds a run with a.b 1, not 2; c None, not 'x'; use another --output-dir$"):
        refuse_differences(tmp_path, [Difference("a.b", 1, 2), Difference("c", None, "x")])
    with pytest.raises(ValueError, match=r"k7 0, not 1; and 92 more; use") as caught:
        refuse_differences(tmp_path, [Difference(f"k{number}", 0, 1) for number in range(100)])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError) as caught:
        refuse_differences(tmp_path, [Difference("long", "x" * 10_000, 1)])
    assert len(str(caught.value)) < 400


def test_a_file_is_there_whole(tmp_path, monkeypatch):
    path = tmp_path / "asked.json"
    write_json(path, {"a": 1})

    def cut_off(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    path.write_text("{")
    with pytest.raises(ValueError, match=r"asked\.json: not JSON"):
        read_json(path)
