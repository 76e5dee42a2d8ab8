"""scripts/shuffle_sentences.py: held-out sentences beside their own words in another order."""

import importlib
import json
from pathlib import Path

import pytest

from modeling_electra_rtd.data.blocks import load_blocks
from modeling_electra_rtd.data.tokenization import load_tokenizer


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    script = importlib.import_module("shuffle_sentences")
    # Those of the tests' corpus have five words.
    monkeypatch.setattr(script, "SHORTEST", 5)
    return script


def test_a_pair_has_the_same_words(script, data, tmp_path, capsys):
    blocks, tokenizer = data
    output = tmp_path / "pairs.jsonl"
    command = ["--blocks", blocks, "--output", str(output), "--count", "6"]
    assert script.main(command) == 0
    assert capsys.readouterr().out == f"6 pairs in {output}\n"
    pairs = [json.loads(line) for line in output.read_text().splitlines()]
    assert len({pair["sentence"] for pair in pairs}) == 6
    tokenizer = load_tokenizer(tokenizer)
    held_out = " ".join(tokenizer.decode(row) for row in load_blocks(blocks, "validation")["input_ids"])
    for pair in pairs:
        sentence, shuffled = pair["sentence"].split(), pair["shuffled"].split()
        assert sorted(sentence) == sorted(shuffled) and sentence != shuffled
        assert sorted(tokenizer(pair["sentence"])["input_ids"]) == sorted(tokenizer(pair["shuffled"])["input_ids"])
        assert sentence[-1] == shuffled[-1] and sentence[-1].endswith(".")
        assert pair["sentence"] in held_out

    before = output.read_text()
    assert script.main(command) == 2
    assert capsys.readouterr().err.startswith("shuffle_sentences: error: output is ") and output.read_text() == before
    again = tmp_path / "again.jsonl"
    assert script.main(["--blocks", blocks, "--output", str(again), "--count", "6"]) == 0
    assert again.read_text() == before


def test_there_are_as_many_pairs_as_sentences(script, data, tmp_path):
    pairs = script.shuffled_pairs(data[0], 10_000, seed=1)
    assert 6 < len(pairs) == len(set(script.held_out_sentences(data[0])))


def test_a_folder_that_is_none(script, tmp_path, capsys):
    assert script.main(["--blocks", str(tmp_path / "none"), "--output", str(tmp_path / "pairs.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "pairs.jsonl").exists()
