"""scripts/compare_discriminators.py: what every discriminator makes of every generator's replacements."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, ElectraConfig

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.pretraining.run import evaluate


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module("compare_discriminators")


def pair_in(folder: Path, tokenizer: str, **fields) -> ElectraRtdForPreTraining:
    """A pair whose discriminator prefers some tokens to others, in a folder."""
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    config = ElectraConfig(
        vocab_size=len(loaded), embedding_size=16, hidden_size=16, intermediate_size=24, num_hidden_layers=1
    )
    pair = ElectraRtdForPreTraining(ElectraRtdConfig.from_discriminator(config, tokenizer=loaded, **fields))
    with torch.no_grad():
        pair.get_input_embeddings().weight.normal_()
    pair.save_pretrained(folder)
    loaded.save_pretrained(folder)
    return pair


def test_the_same_replacements_by_every_discriminator(script, data, tmp_path, capsys):
    blocks, tokenizer = data
    names = [str(tmp_path / name) for name in ("one", "other")]
    objectives = ("rtd", "rtd_mlm")
    pairs = [pair_in(Path(name), tokenizer, objective=each) for name, each in zip(names, objectives, strict=True)]
    # The judge of the first, with the generator of the other.
    pairs[1].electra.load_state_dict(pairs[0].electra.state_dict())
    pairs[1].discriminator_predictions.load_state_dict(pairs[0].discriminator_predictions.state_dict())
    pairs[1].save_pretrained(names[1])

    record = tmp_path / "records" / "record.json"
    command = [*names, "--data", blocks, "--max-blocks", "5", "--json", str(record)]
    assert script.main(command) == 0
    rows = json.loads(record.read_text())["rows"]
    assert [(row["generator"], row["discriminator"]) for row in rows] == [(g, d) for g in names for d in names]
    for own in (rows[0], rows[3]):
        expected = evaluate(own["generator"], blocks, max_blocks=5)
        for metric in script.METRICS:
            assert own[metric] == pytest.approx(expected[metric], abs=1e-6)
    # One judge under two names judges alike, and each generator's replacements are others.
    for row, same in ((rows[0], rows[1]), (rows[2], rows[3])):
        assert row["discriminator_auc"] == same["discriminator_auc"]
    assert rows[0]["discriminator_auc"] != rows[3]["discriminator_auc"]
    assert capsys.readouterr().out.count(f"| {names[0]} |") == 3


def test_what_detects_nothing_is_refused(script, data, tmp_path, capsys):
    pair_in(tmp_path / "words", data[1], objective="replace_mlm")
    assert script.main([str(tmp_path / "words"), "--data", data[0]]) == 2
    assert "'replace_mlm', which detects nothing" in capsys.readouterr().err


def test_a_record_is_not_written_over_and_what_cannot_be_written_is_a_line(script, tmp_path, capsys, monkeypatch):
    row = {"generator": "a", "discriminator": "a", **dict.fromkeys(script.METRICS, 0.5)}
    judged = []
    monkeypatch.setattr(script, "judged_by_all", lambda *arguments: judged.append(arguments) or [row])
    taken = tmp_path / "taken.json"
    taken.write_text("{}")
    assert script.main(["a", "--data", "blocks", "--json", str(taken)]) == 2
    assert "already exists; it must be a new file" in capsys.readouterr().err
    assert not judged and taken.read_text() == "{}"
    # A file where a folder would be is known when it is written to; by then the table is out.
    assert script.main(["a", "--data", "blocks", "--json", str(taken / "record.json")]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("compare_discriminators: error: ") and shown.err.count("\n") == 1
    assert "| a | a | 0.500 | 0.500 | 0.500 |" in shown.out
