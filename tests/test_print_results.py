"""scripts/print_results.py: the table of records, and a line for what is none."""

import importlib
from pathlib import Path

import pytest

from modeling_electra_rtd.common.asked import read_json
from modeling_electra_rtd.finetuning.report import markdown_table


RECORDS = sorted((Path(__file__).parents[1] / "docs" / "records" / "finetuning").glob("*.json"))[:2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module("print_results")


def test_records_are_one_table(script, capsys):
    assert script.main(list(map(str, RECORDS))) == 0
    assert capsys.readouterr().out == markdown_table([read_json(path) for path in RECORDS])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "not a record of electra-rtd finetune"),
        ("3", "not a record of electra-rtd finetune"),
        ('{"seed": 0}', "not a record of electra-rtd finetune"),
        ('{"headline": "f1", "validation_splits": ["validation"], "fine_tuned": []}', "not a record of"),
        ("{", "not JSON"),
    ],
)
def test_what_is_no_record_is_named(script, tmp_path, capsys, text, said):
    path = tmp_path / "record.json"
    path.write_text(text)
    assert script.main([str(RECORDS[0]), str(path)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"print_results: error: {path}: {said}") and shown.err.count("\n") == 1
    assert not shown.out
