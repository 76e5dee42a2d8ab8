"""`score` says of every line what one line at a time says, and writes it whole or not at all."""

import csv
import gzip
import json

import pytest
import torch
from helpers.release import quick_export
from helpers.tiny import (
    CLS,
    FAMILIES,
    MASK,
    SEP,
    SPECIAL,
    stock_discriminator_logits,
    tiny_electra_config,
    tiny_pair,
    tiny_tokenizer,
)
from transformers import AutoTokenizer, ElectraForPreTraining

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.inspection.files import score_file
from modeling_electra_rtd.inspection.scores import load_scorer, score_texts
from modeling_electra_rtd.model.pipeline_electra_rtd import windows_over


DROPOUT = {
    "electra": {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3},
    "modernbert": {"mlp_dropout": 0.3},
}
LONG = " ".join(f"w{number % 100}" for number in range(150))
# A blank line, one of nothing the tokenizer keeps, and one longer than the model.
LINES = [
    "the cat sat on a mat .",
    "",
    "dogs",
    LONG,
    "\u200b",
    "the [SEP] <b> & \u732b",
    "  a cat\t",
    *["the dog sat"] * 20,
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A joint checkpoint and a release of each family, and the pairs."""
    root = tmp_path_factory.mktemp("scores")
    pairs = {}
    for family in FAMILIES:
        # With dropout, which nothing that is scored must see.
        pairs[family] = tiny_pair(family, encoder=DROPOUT[family])
        pairs[family].save_pretrained(root / family)
        tiny_tokenizer(root / family)
        quick_export(str(root / family), str(root / f"{family}-release"))
    (root / "lines.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return root, pairs


@torch.no_grad()
def one_by_one(logits_of, tokenizer) -> list[float | None]:
    """Log P(original) of every token by the stock model, a row at a time, and its mean."""
    scores: list[float | None] = []
    for line in LINES:
        # "[SEP]" is text where it is written, as in training.
        ids = tokenizer(line, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        total = 0.0
        for window in windows_over(len(ids), 62, 15) if ids else []:
            row = [tokenizer.cls_token_id, *ids[window.start : window.stop], tokenizer.sep_token_id]
            replaced = logits_of(torch.tensor([row]))[0, 1:-1].double().sigmoid()
            original = (1 - replaced[window.first - window.start : window.last - window.start]).log()
            total += original.sum().item()
        scores.append(total / len(ids) if ids else None)
    return scores


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["{}", "{}-release"])
def test_every_line_has_the_score_of_the_slow_way(folders, family, kind, tmp_path):
    root, pairs = folders
    folder = root / kind.format(family)
    if family == "electra" and kind == "{}-release":
        stock = ElectraForPreTraining.from_pretrained(folder).eval()
        expected = one_by_one(lambda ids: stock(ids).logits, AutoTokenizer.from_pretrained(folder))
    else:
        expected = one_by_one(lambda ids: stock_discriminator_logits(pairs[family], ids), tiny_tokenizer())
    output = tmp_path / "scores.jsonl"
    for options, tolerance in (({"bf16": False}, 1e-5), ({"bf16": False, "batch_size": 3}, 1e-5), ({}, 1e-2)):
        output.unlink(missing_ok=True)
        totals = score_file(str(folder), str(root / "lines.txt"), str(output), progress=False, **options)
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert [row["text"] for row in rows] == LINES
        assert [row["line"] for row in rows] == list(range(1, len(LINES) + 1))
        assert [row["tokens"] for row in rows[:7]] == [7, 0, 2, 150, 0, 9, 2]
        assert [row["score"] for row in rows] == pytest.approx(expected, abs=tolerance)
        known = [score for score in expected if score is not None]
        assert totals.mean_score == pytest.approx(sum(known) / len(known), abs=tolerance)
        assert (totals.lines, totals.tokens) == (len(LINES), sum(row["tokens"] for row in rows))
    assert len({round(score, 3) for score in known}) > 4


def test_the_score_is_a_logarithm_that_does_not_run_over(folders):
    scorer = load_scorer(str(folders[0] / "electra"))
    logits = torch.tensor([0.0, 200.0, -200.0])
    assert scorer.log_probs([7, 8, 9], logits).tolist() == pytest.approx([-0.6931, -200.0, 0.0], abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_electric_the_score_is_minus_the_summed_energies(family, tmp_path, capsys):
    pair = tiny_pair(family, objective="electric", generator_kind="two_tower", encoder=DROPOUT[family])
    pair.save_pretrained(tmp_path / "joint")
    tiny_tokenizer(tmp_path / "joint")
    quick_export(str(tmp_path / "joint"), str(tmp_path / "release"))
    quick_export(str(tmp_path / "joint"), str(tmp_path / "unsaid"), remote_code=False)
    lines = ["the cat sat on a mat .", "", "dogs", "the [SEP] cat"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer, expected = tiny_tokenizer(), []
    with torch.no_grad():
        for line in lines:
            ids = tokenizer(line, return_tensors="pt", split_special_tokens=True)["input_ids"]
            # "[SEP]" is text where it is written, as in training.
            is_token = ~torch.isin(ids[0], torch.tensor(SPECIAL))
            energies = stock_discriminator_logits(pair, ids)[0, is_token]
            expected.append((-energies.double().sum().item(), len(energies)))
    assert [tokens for _, tokens in expected] == [7, 0, 2, 5] and all(total for total, n in expected if n)

    for folder, options in (("joint", ()), ("release", ()), ("unsaid", ("--objective", "electric"))):
        output = tmp_path / f"{folder}.jsonl"
        # Without being asked, since a sum in bf16 would not be the model's own.
        command = ["score", str(tmp_path / folder), str(tmp_path / "lines.txt"), *options]
        assert main([*command, "--output", str(output)]) == 0
        assert "mean pseudo-log-likelihood" in capsys.readouterr().out
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        for row, (total, tokens) in zip(rows, expected, strict=True):
            assert list(row) == ["line", "pseudo_log_likelihood", "per_token", "tokens", "text"]
            assert row["tokens"] == tokens
            wanted = (total, total / tokens) if tokens else (None, None)
            assert (row["pseudo_log_likelihood"], row["per_token"]) == (
                pytest.approx(wanted, abs=1e-4) if tokens else wanted
            )
    assert main(command) == 0
    assert capsys.readouterr().out.split()[:5] == ["line", "pseudo_log_likelihood", "per_token", "tokens", "text"]
    assert main([*command[:-1], "electrik"]) == 2
    assert "objective is 'electrik'; allowed: rtd, " in capsys.readouterr().err


def test_a_short_training_of_electric_ranks_real_text_above_shuffled(tmp_path):
    # Of ten places, each has words of its own.
    first = tiny_tokenizer().convert_tokens_to_ids("w1")
    generator = torch.Generator().manual_seed(0)

    def sentences(rows: int) -> torch.Tensor:
        return first + 4 * torch.arange(10) + torch.randint(4, (rows, 10), generator=generator)

    torch.manual_seed(0)
    fields = {"mask_token_id": MASK, "special_token_ids": SPECIAL, "mask_probability": 0.3}
    encoder = tiny_electra_config(num_hidden_layers=1)
    config = ElectraRtdConfig.from_discriminator(encoder, **fields, objective="electric", generator_kind="uniform")
    pair = ElectraRtdForPreTraining(config).train()
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-2)
    for _ in range(100):
        words = sentences(32)
        frame = torch.full((32, 1), CLS), words, torch.full((32, 1), SEP)
        optimizer.zero_grad()
        pair(torch.cat(frame, dim=1)).loss.backward()
        optimizer.step()
    pair.save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)

    real = sentences(100)
    shuffled = torch.stack([row[torch.randperm(10, generator=generator)] for row in real])
    tokenizer = tiny_tokenizer()
    texts = [" ".join(tokenizer.convert_ids_to_tokens(row)) for row in (*real.tolist(), *shuffled.tolist())]
    totals = [score.total for score in score_texts(load_scorer(str(tmp_path)), texts)]
    assert sum(one > other for one, other in zip(totals[:100], totals[100:], strict=True)) >= 95


def test_a_file_without_a_token_has_no_mean(folders, tmp_path, capsys):
    lines, scores = tmp_path / "lines.txt", tmp_path / "scores.tsv"
    lines.write_text("")
    assert main(["score", str(folders[0] / "electra"), str(lines), "--output", str(scores)]) == 0
    assert capsys.readouterr().out.startswith("0 lines, 0 tokens, mean RTD score none;")
    assert scores.read_text().splitlines() == ["line\tscore\ttokens\ttext"]


def test_any_number_of_lines_streams_through(folders):
    scorer = load_scorer(str(folders[0] / "electra"))
    drawn = []
    scores = score_texts(scorer, (drawn.append(number) or "the cat " * 1000 for number in range(10**6)))
    assert next(scores).tokens == 2000 and len(drawn) < 100


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.tsv", "lines.txt.gz"])
def test_tables_and_compressed_files_are_read(folders, name, tmp_path, capsys):
    root, _ = folders
    texts = ["the cat sat", "", "a mat and\nthe dogs"]
    if name == "rows.jsonl":
        content = "".join(json.dumps({"id": 7, "body": text}) + "\n" for text in texts)
    elif name == "lines.txt.gz":
        texts = [text.replace("\n", " ") for text in texts]
        content = "\r\n".join(texts)
    else:
        quoted = ['"' + text + '"' for text in texts]
        separator = "\t" if name == "rows.tsv" else ","
        content = "\n".join(separator.join(cells) for cells in [["id", "body"], *([["7", text] for text in quoted])])
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    output = tmp_path / "scores.tsv"
    command = ["score", str(root / "electra"), str(path), "--text-column", "body", "--no-bf16"]
    assert main([*command, "--output", str(output)]) == 0
    assert f"scores in {output}" in capsys.readouterr().out
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, dialect="excel-tab"))
    assert [row["text"] for row in rows] == texts
    assert [int(row["tokens"]) for row in rows] == [3, 0, 6] and rows[1]["score"] == ""
    # What is printed is the same, one line a text.
    assert main(command) == 0
    said = capsys.readouterr()
    heading, *printed = said.out.splitlines()
    assert heading.split() == ["line", "score", "tokens", "text"] and "3 lines, 9 tokens" in said.err
    assert printed[2].split(maxsplit=3) == ["3", f"{float(rows[2]['score']):.4f}", "6", "a mat and the dogs"]
    assert printed[1].split() == ["2", "0"]


def test_bad_input_is_refused_in_one_line_and_leaves_nothing(folders, tmp_path, capsys):
    root, _ = folders
    taken = tmp_path / "taken.jsonl"
    taken.write_text("mine")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"the cat\n" * 3 + "caf\xe9\n".encode("latin-1"))
    table = tmp_path / "rows.jsonl"
    table.write_text('{"body": "the cat"}\n')
    model, lines, new = str(root / "electra"), str(root / "lines.txt"), str(tmp_path / "new.jsonl")
    for arguments, message in (
        ((model, lines, "--output", str(taken)), "already exists; it must be a new file"),
        ((model, lines, "--output", str(tmp_path / "scores.txt")), "it must end in .jsonl or .tsv"),
        ((model, str(tmp_path / "nowhere.txt"), "--output", new), "nowhere.txt': no such file"),
        ((model, str(tmp_path), "--output", new), "no such file"),
        ((model, str(latin), "--output", new), "latin.txt: not UTF-8 (byte 0xe9 at offset 27)"),
        ((model, str(table), "--output", new), "no column 'text', nearest is 'body'"),
        ((model, lines, "--output", new, "--batch-size", "0"), "batch_size is 0; it must be at least 1"),
        ((model, lines, "--output", new, "--max-length", "65"), "max_length is 65; it must be in [3, 64]"),
        ((str(root / "nowhere"), lines, "--output", new), "no such folder"),
        ((str(root / "electra-release" / "generator"), lines, "--output", new), "without discriminator_predictions"),
    ):
        before = sorted(tmp_path.iterdir())
        assert main(["score", *arguments]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("electra-rtd score: error:")]
        assert len(error) == 1 and message in error[0]
        assert sorted(tmp_path.iterdir()) == before and taken.read_text() == "mine"
