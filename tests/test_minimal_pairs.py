"""Minimal pairs are counted as by hand: by sum and by mean, with ties, in groups."""

import json

import pytest
import torch
from helpers.tiny import stock_discriminator_logits, tiny_pair, tiny_tokenizer
from torch.nn import functional

from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.inspection.minimal_pairs import Outcomes
from modeling_electra_rtd.inspection.scores import TextScore


ROWS = [
    ("the cat sat .", "cat the sat .", "syntax"),
    ("the dogs sat .", "the dog sat .", "morphology"),
    ("a cat and a dog", "a cat and", "syntax"),
    ("on a mat", "on a mat", "syntax"),
    ("the dog and the cat sat on a mat .", "dog", "morphology"),
    ("w1 w2", "w2 w1 w3 w4", "semantics"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of each objective, and the pairs in two forms."""
    root = tmp_path_factory.mktemp("pairs")
    models = {
        "rtd": tiny_pair("electra"),
        "electric": tiny_pair("electra", objective="electric", generator_kind="uniform"),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
        tiny_tokenizer(root / name)
    rows = [dict(zip(("good", "bad", "field"), row, strict=True)) for row in ROWS]
    (root / "pairs.jsonl").write_text("".join(json.dumps({"number": 1, **row}) + "\n" for row in rows))
    (root / "pairs.csv").write_text("good,bad,field\n" + "".join(",".join(row) + "\n" for row in ROWS))
    return root, models


@torch.no_grad()
def by_hand(model, objective: str, text: str) -> tuple[float, float]:
    logits = stock_discriminator_logits(model, tiny_tokenizer()(text, return_tensors="pt")["input_ids"])[0, 1:-1]
    values = -logits if objective == "electric" else functional.logsigmoid(-logits)
    return values.double().sum().item(), values.double().mean().item()


@pytest.mark.parametrize("objective", ["rtd", "electric"])
@pytest.mark.parametrize("table", ["pairs.jsonl", "pairs.csv"])
def test_accuracies_are_those_counted_by_hand(folder, objective, table, tmp_path, capsys):
    root, models = folder
    command = ["score", str(root / objective), str(root / table), "--text-column", "good", "--against", "bad"]
    command += ["--no-bf16", "--json", str(tmp_path / "record.json")]
    assert main([*command, "--group-by", "field"]) == 0
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    headline = {"rtd": ("RTD score", "mean"), "electric": ("pseudo-log-likelihood", "sum")}[objective]
    assert (record["objective"], record["score"], record["headline"]) == (objective, *headline)
    assert f"{headline[0]} (by {headline[1]})" in printed

    def expected(rows, index: int) -> tuple[float, int]:
        scores = [[by_hand(models[objective], objective, text)[index] for text in row[:2]] for row in rows]
        ties = sum(abs(one - other) < 1e-6 for one, other in scores)
        return (sum(one - other > 1e-6 for one, other in scores) + ties / 2) / len(rows), ties

    for index, name in enumerate(("sum", "mean")):
        entries = [(record, ROWS)]
        assert list(record["groups"]["field"]) == ["morphology", "semantics", "syntax"]
        for value, entry in record["groups"]["field"].items():
            entries.append((entry, [row for row in ROWS if row[2] == value]))
        for entry, rows in entries:
            found = entry["pairs"], entry[f"accuracy_by_{name}"], entry[f"ties_by_{name}"]
            assert found == (len(rows), *expected(rows, index))
        assert record[f"ties_by_{name}"] == 1 and f"{record[f'accuracy_by_{name}']:.1%}" in printed
    # The long text and the short one come out differently by sum and by mean, or this would show nothing.
    assert record["accuracy_by_sum"] != record["accuracy_by_mean"]


def test_a_tie_is_half_a_win():
    outcomes = Outcomes()
    # By sum: won, tied, lost. By mean: tied, lost, won.
    for better, worse in (((-2.0, 2), (-3.0, 3)), ((-2.0, 1), (-2.0, 2)), ((-4.0, 4), (-3.0, 1))):
        outcomes.count(TextScore(1, *better, "better"), TextScore(2, *worse, "worse"))
    assert (outcomes.wins, outcomes.ties) == ({"sum": 1, "mean": 1}, {"sum": 1, "mean": 1})
    assert outcomes.accuracy("sum") == outcomes.accuracy("mean") == 0.5


def test_a_text_against_itself_is_a_tie_whatever_was_read_beside_it():
    outcomes = Outcomes()
    outcomes.count(TextScore(1, -2.0, 2, "a cat"), TextScore(2, -2.0000001, 2, "a cat"))
    assert (outcomes.wins, outcomes.ties) == ({"sum": 0, "mean": 0}, {"sum": 1, "mean": 1})


def test_bad_input_is_refused_in_one_line_and_leaves_nothing(folder, tmp_path, capsys):
    root, _ = folder
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"good": "the cat", "bad": "cat"}\n{"good": "the cat", "bad": ""}\n')
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\n")
    nothing = tmp_path / "nothing.csv"
    nothing.write_text("good,bad\n")
    pairs, record = str(root / "pairs.jsonl"), ["--json", str(tmp_path / "record.json")]
    for file, options, message in (
        (pairs, ("--against", "worse", *record), "no column 'worse', nearest is"),
        (pairs, ("--against", "good", *record), "column 'good' cannot be scored against itself"),
        (pairs, ("--against", "bad", "--group-by", "number", *record), "column 'number' holds int"),
        (pairs, ("--against", "bad", "--output", str(tmp_path / "scores.tsv")), "--output goes without --against"),
        (pairs, ("--group-by", "field"), "--group-by goes with --against"),
        (pairs, ("--against", "bad", "--json", str(lines)), "already exists"),
        (str(empty), ("--against", "bad", *record), "row 2: bad is '', a text without tokens"),
        (str(lines), ("--against", "bad", *record), "no table"),
        (str(nothing), ("--against", "bad", *record), "has no rows"),
    ):
        assert main(["score", str(root / "rtd"), file, "--text-column", "good", *options]) == 2
        errors = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("electra-rtd score: error:")
        ]
        assert len(errors) == 1 and message in errors[0], errors
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "lines.txt", "nothing.csv"]
