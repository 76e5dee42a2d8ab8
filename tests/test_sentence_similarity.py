"""scripts/sentence_similarity.py: what encoders make of alike sentences before fine-tuning."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from helpers.finetuning import checkpoint
from transformers import AutoModel, AutoTokenizer


PAIRS = [
    *(("the cat sat on a mat", "the cat sat", 4.0), ("a dog", "a dog", 5.0), ("the mat and the dog", "cats", 0.5)),
    *(("a cat sat", "the dog sat on a mat .", 2.0), ("on a mat", "the dogs and the cats sat on a mat", 1.5)),
]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module("sentence_similarity")


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "data" / "STS-B"
    folder.mkdir(parents=True)
    rows = "".join(f"{first}\t{second}\t{score}\n" for first, second, score in PAIRS)
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("sentence1\tsentence2\tscore\n" + rows)
    return str(folder.parent)


def ranks(values):
    return torch.tensor(values).argsort().argsort().double()


def test_correlations_are_those_of_sentences_read_one_by_one(script, data_dir, tmp_path, capsys, monkeypatch):
    # Several batches, whose order is not that of the sentences.
    monkeypatch.setattr(script, "_SENTENCES_A_BATCH", 3)
    names = [checkpoint(tmp_path / "short"), checkpoint(tmp_path / "long", num_hidden_layers=4)]
    record = tmp_path / "records" / "record.json"
    command = [*names, "--data-dir", data_dir, "--json", str(record)]
    assert script.main(command) == 0
    written = record.read_text()
    rows = json.loads(written)["rows"]
    assert [row["model"] for row in rows] == [*names, script.RANDOM_WEIGHTS]
    for row, name in zip(rows, names, strict=False):
        model, tokenizer = AutoModel.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)

        def means(text, model=model, tokenizer=tokenizer):
            with torch.no_grad():
                states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
            return [each[0].mean(dim=0) for each in states]

        sentences = [[means(text) for text in pair[:2]] for pair in PAIRS]
        for layer, found in enumerate(row["as_they_are"]):
            at = [torch.stack([first[layer], second[layer]]) for first, second in sentences]
            centre = torch.cat(at).mean(dim=0)
            for offset, value in ((0, found), (centre, row["less_their_mean"][layer])):
                cosines = [torch.cosine_similarity(*(pair - offset), dim=0).item() for pair in at]
                expected = torch.corrcoef(torch.stack([ranks(cosines), ranks([pair[2] for pair in PAIRS])]))[0, 1]
                assert value == pytest.approx(expected.item(), abs=1e-6)
    # What a shorter one does not have is left open.
    assert [len(row["as_they_are"]) for row in rows] == [4, 5, 4]
    assert capsys.readouterr().out.count(" | - |") == 4
    # Refused before anything is computed.
    assert script.main(command) == 2
    shown = capsys.readouterr()
    assert "already exists; it must be a new file" in shown.err and not shown.out and record.read_text() == written


def test_what_cannot_be_judged_is_refused_in_a_line(script, data_dir, tmp_path, capsys):
    model = checkpoint(tmp_path / "model")
    for command in (
        [str(tmp_path / "nothing"), "--data-dir", data_dir],
        [model, "--data-dir", str(tmp_path)],
        [model, "--data-dir", data_dir, "--split", "tst"],
    ):
        assert script.main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
