"""Unknown tokens are counted wherever texts become ids, and said where they are many."""

import json

import numpy as np
import pyarrow
import pytest
from helpers.tiny import randomize, tiny_electra_config, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import ElectraForPreTraining, PreTrainedTokenizerFast

from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.data.blocks import load_blocks, prepare_blocks
from modeling_electra_rtd.data.streaming import stream_blocks
from modeling_electra_rtd.data.unknown_tokens import (
    UnknownTally,
    count_ids,
    lost_characters,
    unknown_share_problem,
    without_punctuation,
)
from modeling_electra_rtd.finetuning.reading import read_task
from modeling_electra_rtd.finetuning.run import finetune
from modeling_electra_rtd.finetuning.tasks import TASKS


KNOWN = "the cat sat on a mat ."
# "zebra" is no word of the tiny vocabulary, and has no pieces in it.
SOME = "the zebra sat on a mat ."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    randomize(ElectraForPreTraining(tiny_electra_config())).save_pretrained(folder)
    tiny_tokenizer(folder)
    return str(folder)


def write(path, texts):
    path.write_text("\n\n".join(texts), encoding="utf-8")
    return [str(path)]


def prepared(corpus, tokenizer, output):
    return prepare_blocks(corpus, tokenizer, str(output), num_proc=1, progress=False, validation_fraction=0.3)


def test_prepare_counts_them_for_each_split(tmp_path, folder, caplog, capsys):
    texts = [f"w{number} {SOME if number % 4 else KNOWN}" for number in range(40)]
    manifest = prepared(write(tmp_path / "c.txt", texts), folder, tmp_path / "blocks")
    for split in ("train", "validation"):
        rows = load_blocks(str(tmp_path / "blocks"), split)["input_ids"]
        assert manifest["splits"][split]["unknown_tokens"] == sum(row.count(1) for row in rows) > 0
    assert sum(split["unknown_tokens"] for split in manifest["splits"].values()) == 30
    assert "30 of 320 tokens of the corpus as tokenizer " in caplog.text and "(9.4%) are unknown" in caplog.text
    assert "electra-rtd tokenizer" in caplog.text
    main(["prepare", "--corpus", str(tmp_path / "c.txt"), "--tokenizer", folder, "--output-dir", str(tmp_path / "b")])
    assert " unknown)" in capsys.readouterr().out


def test_a_few_are_counted_without_a_warning(tmp_path, folder, caplog):
    manifest = prepared(write(tmp_path / "c.txt", [KNOWN + f" w{i}" for i in range(40)]), folder, tmp_path / "known")
    assert [split["unknown_tokens"] for split in manifest["splits"].values()] == [0, 0] and not caplog.messages
    # One of 281 tokens.
    prepared(write(tmp_path / "c.txt", [KNOWN] * 39 + [SOME]), folder, tmp_path / "one")
    assert not caplog.messages


@pytest.mark.parametrize(
    "texts",
    [
        ["ЖИЗНЬ есть сон"],
        ["姿伈國剽嘃 . 坛具侰 ."],
        ["HMADMMNGSYQRIKMASDCHSTKFF"],
        ["мир . . . . . . . . ."],
        ["the " + "мир " * 30],
    ],
    ids=["russian", "chinese", "protein", "mostly punctuation", "a word known"],
)
def test_a_corpus_of_unknown_tokens_is_refused_with_a_way_out(tmp_path, folder, texts):
    with pytest.raises(
        ValueError, match=r"\(\d+\.\d%\) are unknown .*electra-rtd tokenizer; --algorithm bpe"
    ) as error:
        prepared(write(tmp_path / "c.txt", texts * 5), folder, tmp_path / "blocks")
    assert "\n" not in str(error.value) and not (tmp_path / "blocks").exists()


def test_a_stream_speaks_up(tmp_path, folder, caplog):
    list(stream_blocks(write(tmp_path / "c.txt", [KNOWN] * 20), tokenizer=folder, max_length=16))
    assert not caplog.messages
    list(stream_blocks(write(tmp_path / "c.txt", [SOME] * 400), tokenizer=folder, max_length=16))
    assert [message.partition(" tokens of ")[0] for message in caplog.messages] == ["143 of 1,001"]
    with pytest.raises(Exception, match="are unknown"):
        list(stream_blocks(write(tmp_path / "c.txt", ["мир"] * 20), tokenizer=folder, max_length=16))


def test_a_tally_looks_again_when_its_tokens_have_doubled(caplog):
    tally = UnknownTally(1)
    tally.add([5] * 1000)
    tally.add([1] * 999)
    assert not caplog.messages
    tally.add([5])
    tally.add([1] * 1000)
    assert [message.partition(" tokens of ")[0] for message in caplog.messages] == ["999 of 2,000"]
    without = UnknownTally(None)
    without.add([1] * 5000)
    without.look()


def test_fine_tuning_score_and_inspect_say_it_too(tmp_path, folder, caplog, capsys):
    data = tmp_path / "CoLA"
    data.mkdir()
    for name, text in (("train", SOME), ("dev", KNOWN)):
        (data / f"{name}.tsv").write_text("".join(f"s\t{i % 2}\t\t{text}\n" for i in range(8)))
    record = finetune(
        TASKS["cola"], read_task(TASKS["cola"], str(tmp_path)), folder, str(tmp_path / "run"), [0],
        {"max_steps": 1, "disable_tqdm": True},
    )  # fmt: skip
    assert record["data"]["unknown_token_share"] == {"train": round(1 / 7, 6), "validation": 0}
    assert "8 of 56 tokens of the train split of cola (14.3%) are unknown" in caplog.text
    assert "validation split" not in caplog.text
    caplog.clear()
    (tmp_path / "lines.txt").write_text(f"{KNOWN}\n{SOME}\n")
    main(["score", folder, str(tmp_path / "lines.txt"), "--output", str(tmp_path / "scores.jsonl")])
    assert "14 tokens (1 unknown)" in capsys.readouterr().out
    assert "1 of 14 tokens of " in caplog.text and "lines.txt (7.1%) are unknown" in caplog.text
    caplog.clear()
    main(["inspect", folder, "--file", str(tmp_path / "lines.txt"), "--output", str(tmp_path / "tokens.jsonl")])
    assert "1 of 14 tokens of " in caplog.text
    caplog.clear()
    main(["inspect", folder, SOME])
    assert "1 of 7 tokens of the text (14.3%)" in caplog.text


def test_counting_by_hand():
    tokenizer = tiny_tokenizer()
    ids = tokenizer(["the . zebra", ". cats the"])["input_ids"]
    counts = count_ids([pyarrow.chunked_array([ids]), pyarrow.chunked_array([[ids]])], tokenizer)
    assert counts.sum() == 2 * sum(map(len, ids)) and counts[tokenizer.unk_token_id] == 2
    # the, zebra, cat, ##s, the - twice.
    assert without_punctuation(counts, tokenizer) == 10
    assert count_ids([], tokenizer).tolist() == np.zeros(150).tolist()
    assert unknown_share_problem(1, 100, "x") is None and unknown_share_problem(0, 0, "x") is None
    assert unknown_share_problem(2, 100, "x").startswith("2 of 100 tokens of x (2.0%)")


def byte_pairs(alphabet, pre_tokenizer, unk_token=None):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *alphabet]
    model = models.BPE({name: number for number, name in enumerate(names)}, [], unk_token=unk_token)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_characters_that_vanish_are_said(tmp_path, caplog):
    whole = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert lost_characters(byte_pairs(whole, byte_level)) is None
    assert lost_characters(tiny_tokenizer()) is None
    partial = byte_pairs([c for c in whole if c not in "zÃ"], byte_level)
    assert lost_characters(partial).startswith("2 of the 243 bytes of texts are not in its vocabulary and vanish")
    assert partial("zaz", add_special_tokens=False)["input_ids"] == partial("a", add_special_tokens=False)["input_ids"]
    letters = byte_pairs("abc", pre_tokenizers.Whitespace())
    assert lost_characters(letters).startswith("characters that are not in its vocabulary vanish")
    assert lost_characters(byte_pairs("abc", pre_tokenizers.Whitespace(), "[UNK]")) is None
    partial.save_pretrained(tmp_path / "partial")
    prepared(write(tmp_path / "c.txt", ["a cat", "a dog"]), str(tmp_path / "partial"), tmp_path / "blocks")
    assert "2 of the 243 bytes of texts are not in its vocabulary" in caplog.text


def test_the_record_of_blocks_stays_json(tmp_path, folder):
    prepared(write(tmp_path / "c.txt", [KNOWN, SOME]), folder, tmp_path / "blocks")
    assert json.loads((tmp_path / "blocks" / "manifest.json").read_text())["splits"]["train"]["unknown_tokens"] >= 0
