import collections
import gzip
import hashlib
import json
import os
import stat

import pyarrow
import pyarrow.parquet
import pytest
from datasets import load_from_disk
from tokenizers import normalizers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from modeling_electra_rtd import __version__
from modeling_electra_rtd.data import block_writing, blocks, shares
from modeling_electra_rtd.data.blocks import load_blocks, prepare_blocks, read_manifest


SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DOCUMENTS = [f"{number} " + "word " * (number % 13) + str(number) for number in range(100, 400)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Every number from 0 to 999 is a token, so that a document can be recognised by its first one."""
    words = [*SPECIAL_TOKENS, "word", *map(str, range(1000))]
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus").mkdir()
    for index in range(3):
        part = DOCUMENTS[index * 100 : (index + 1) * 100]
        (tmp_path / "corpus" / f"{index}.txt").write_text("\n\n".join(part))
    return [str(tmp_path / "corpus")]


@pytest.fixture
def small_shares(monkeypatch):
    monkeypatch.setattr(shares, "SHARE_BYTES", 2000)


def documents_of(folder, split):
    """Counts documents, put together again from the segments of the blocks of a split."""
    tokenizer = AutoTokenizer.from_pretrained(read_manifest(folder)["tokenizer"]["name_or_path"])
    tokens = []
    for row in load_from_disk(os.path.join(folder, split)):
        start = 0
        for length in row["document_lengths"]:
            segment = row["input_ids"][start : start + length]
            assert segment[0] == tokenizer.cls_token_id and segment[-1] == tokenizer.sep_token_id
            tokens += segment[1:-1]
            start += length
        assert set(row["input_ids"][start:]) <= {tokenizer.pad_token_id}
    documents = []
    for word in tokenizer.convert_ids_to_tokens(tokens):
        # A document is its number, some words, and its number again.
        if documents and (len(documents[-1]) == 1 or documents[-1][0] != documents[-1][-1]):
            documents[-1].append(word)
        else:
            documents.append([word])
    return collections.Counter(" ".join(words) for words in documents)


def prepare(corpus, tokenizer, folder, **options):
    return prepare_blocks(
        corpus, tokenizer, str(folder), progress=False, **{"num_proc": 1, "max_length": 32, **options}
    )


def hidden(folder):
    return [name for name in os.listdir(folder) if name.startswith(".")]


def test_blocks_and_manifest(tmp_path, corpus, tokenizer):
    out = tmp_path / "out"
    manifest = prepare(corpus, tokenizer, out, validation_fraction=0.2)
    assert manifest == read_manifest(str(out))
    train, validation = documents_of(out, "train"), documents_of(out, "validation")
    assert train + validation == collections.Counter(DOCUMENTS)
    assert 30 <= validation.total() <= 90
    rows = load_blocks(str(out))
    assert str(rows.features["input_ids"]) == "List(Value('int32'), length=32)"
    assert str(rows.features["document_lengths"]) == "List(Value('int32'))"
    for split, documents in (("train", train), ("validation", validation)):
        counts = manifest["splits"][split]
        rows = load_blocks(str(out), split, tokenizer)
        tokens = sum(len(document.split()) for document in documents.elements())
        filled = sum(sum(row["document_lengths"]) for row in rows)
        assert counts["documents"] == documents.total() and counts["tokens"] == tokens
        assert counts["blocks"] == len(rows) and counts["positions"] == len(rows) * 32
        assert counts["fill_fraction"] == pytest.approx(filled / counts["positions"], abs=1e-6)
    first = tmp_path / "corpus" / "0.txt"
    content = first.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert manifest["sources"][0] == {"path": str(first), "bytes": len(content), "sha256": digest}
    assert len(manifest["sources"]) == 3 and manifest["skipped_files"] == []
    assert manifest["created_by"] == f"electra-rtd {__version__}" and manifest["format_version"] == 1
    assert manifest["empty_documents"] == 0 and manifest["seconds"] > 0 and manifest["bytes_per_second"] > 0
    described = dict(manifest["tokenizer"])
    assert len(described.pop("fingerprint")) == 64
    assert described == {
        "name_or_path": tokenizer,
        "vocab_size": 1006,
        "mask_token_id": 4,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "pad_token_id": 0,
        "special_token_ids": [0, 1, 2, 3, 4],
    }
    assert sorted(os.listdir(out)) == ["manifest.json", "tokenizer", "train", "validation"] and not hidden(tmp_path)
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE((tmp_path / "corpus").stat().st_mode)


def test_processes_do_not_change_the_blocks(tmp_path, corpus, tokenizer, small_shares):
    for processes in (1, 2):
        prepare(corpus, tokenizer, tmp_path / str(processes), num_proc=processes, validation_fraction=0.2)
    for split in ("train", "validation"):
        assert documents_of(tmp_path / "1", split) == documents_of(tmp_path / "2", split)
        assert list(load_blocks(str(tmp_path / "1"), split)) == list(load_blocks(str(tmp_path / "2"), split))


def test_parts_become_the_dataset(tmp_path, corpus, tokenizer, small_shares):
    """Rows in the order of the shares, however many; equal rows and only those have one fingerprint."""
    fingerprints = []
    for name, options in {"a": {}, "b": {"num_proc": 2}, "c": {"max_length": 33}}.items():
        prepare(corpus, tokenizer, tmp_path / name, validation_fraction=0, **options)
        rows = load_from_disk(tmp_path / name / "train")
        fingerprints.append(rows._fingerprint)
        assert len(rows.cache_files) == len(list((tmp_path / name / "train").glob("*.arrow"))) > 2
        firsts = [row["input_ids"][1] for row in rows.select([0, len(rows) - 1])]
        assert AutoTokenizer.from_pretrained(tokenizer).convert_ids_to_tokens(firsts)[0] == "100"
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_tokenizer_that_reads_whole_texts(tmp_path, corpus, tokenizer, caplog):
    """It is slower, is told so in one line, and makes the blocks of the plain tokenizer."""
    prepare(corpus, tokenizer, tmp_path / "fast")
    assert "slower" not in caplog.text
    backend = AutoTokenizer.from_pretrained(tokenizer).backend_tokenizer
    backend.normalizer = normalizers.Sequence([backend.normalizer, normalizers.Strip()])
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(tmp_path / "slow-tokenizer")
    prepare(corpus, str(tmp_path / "slow-tokenizer"), tmp_path / "slow", num_proc=2)
    assert [record.getMessage() for record in caplog.records if "slower" in record.getMessage()] == [
        f"tokenizer {str(tmp_path / 'slow-tokenizer')!r}: slower, words cannot be remembered "
        "(normalizer Strip, which may see more than a word)"
    ]
    for split in ("train", "validation"):
        assert list(load_blocks(str(tmp_path / "fast"), split)) == list(load_blocks(str(tmp_path / "slow"), split))


def test_error_in_a_process_leaves_nothing(tmp_path, corpus, tokenizer, small_shares, monkeypatch):
    (tmp_path / "corpus" / "1.txt").write_bytes(b"\xff" * 3000)
    monkeypatch.setattr(
        blocks, "check_files", lambda paths, *_: ([blocks.FileReport(p, 0, "", None) for p in paths], [])
    )
    with pytest.raises(ValueError, match="1.txt: not UTF-8"):
        prepare(corpus, tokenizer, tmp_path / "out", num_proc=2)
    assert os.listdir(tmp_path) == ["corpus"]


def test_split_goes_by_content_and_seed(tmp_path, corpus, tokenizer, small_shares):
    prepare(corpus, tokenizer, tmp_path / "a", validation_fraction=0.2)
    prepare(corpus, tokenizer, tmp_path / "same", validation_fraction=0.2)
    prepare(corpus, tokenizer, tmp_path / "seed", validation_fraction=0.2, seed=43)
    # The same documents twice, in other files and another order.
    (tmp_path / "twice.txt").write_text("\n\n".join(DOCUMENTS[::-1] + DOCUMENTS))
    prepare([str(tmp_path / "twice.txt")], tokenizer, tmp_path / "twice", validation_fraction=0.2)
    held_out = documents_of(tmp_path / "a", "validation")
    assert list(load_blocks(str(tmp_path / "a"))) == list(load_blocks(str(tmp_path / "same")))
    assert documents_of(tmp_path / "seed", "validation") != held_out
    assert documents_of(tmp_path / "twice", "validation") == held_out + held_out


@pytest.mark.parametrize("fraction", [1e-9, 0.999999])
def test_both_splits_hold_something(tmp_path, tokenizer, fraction):
    (tmp_path / "two.txt").write_text("101 word 101\n\n102 102")
    manifest = prepare([str(tmp_path / "two.txt")], tokenizer, tmp_path / "out", validation_fraction=fraction)
    assert [manifest["splits"][split]["documents"] for split in ("train", "validation")] == [1, 1]


@pytest.mark.parametrize(
    ("content", "fraction", "advice", "helps"),
    [
        ("101 101\n\n102 102", 0.0, "a --validation-fraction above 0, it was 0.0", {"validation_fraction": 1e-9}),
        (
            "101 101\n102 102",
            0.01,
            "more than one different document (there was 1, by documents=blank_line)",
            {"documents": "line"},
        ),
        (
            "101 101\n\n101 101\n\n101 101",
            0.01,
            "more than one different document (there were 3, by documents=blank_line)",
            None,
        ),
        (
            "101 101\n102 102",
            0.0,
            "a --validation-fraction above 0, it was 0.0 and more than one different document (there was 1, by "
            "documents=blank_line)",
            {"validation_fraction": 1e-9, "documents": "line"},
        ),
    ],
)
def test_no_validation(tmp_path, tokenizer, content, fraction, advice, helps):
    (tmp_path / "one.txt").write_text(content)
    prepare([str(tmp_path / "one.txt")], tokenizer, tmp_path / "out", validation_fraction=fraction)
    assert len(load_blocks(str(tmp_path / "out"))) == 1
    with pytest.raises(ValueError) as caught:
        load_blocks(str(tmp_path / "out"), "validation")
    assert str(caught.value) == (
        f"blocks {str(tmp_path / 'out')!r}: split 'validation' is empty, all of the text is in 'train'; prepare again "
        f"with {advice}, or evaluate with --split train"
    )
    if helps is not None:
        settings = {"validation_fraction": fraction, **helps}
        prepare([str(tmp_path / "one.txt")], tokenizer, tmp_path / "again", **settings)
        assert len(load_blocks(str(tmp_path / "again"), "validation")) == 1


def test_no_training_text(tmp_path, tokenizer):
    (tmp_path / "one.txt").write_text("101 101")
    prepare([str(tmp_path / "one.txt")], tokenizer, tmp_path / "out", validation_fraction=0.999999)
    with pytest.raises(ValueError, match="'train' is empty, .* or evaluate with --split validation$"):
        load_blocks(str(tmp_path / "out"))


def test_all_kinds_of_files(tmp_path, tokenizer):
    (tmp_path / "corpus").mkdir()
    rows = [{"body": DOCUMENTS[0]}, {"body": None}, {"body": DOCUMENTS[1]}]
    (tmp_path / "corpus" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pyarrow.parquet.write_table(pyarrow.table({"body": DOCUMENTS[2:4]}), tmp_path / "corpus" / "b.parquet")
    (tmp_path / "corpus" / "c.csv").write_text(f"n,body\n1,{DOCUMENTS[4]}\n2,{DOCUMENTS[5]}\n")
    (tmp_path / "corpus" / "d.txt.gz").write_bytes(gzip.compress("\n\n".join(DOCUMENTS[6:9]).encode()))
    (tmp_path / "corpus" / "e").write_text(DOCUMENTS[9])
    options = {"text_column": "body", "validation_fraction": 0.0}
    manifest = prepare([str(tmp_path / "corpus")], tokenizer, tmp_path / "out", **options)
    assert documents_of(tmp_path / "out", "train") == collections.Counter(DOCUMENTS[:10])
    assert manifest["empty_documents"] == 1


def test_dataset(tmp_path, tokenizer):
    (tmp_path / "hub").mkdir()
    for index in range(2):
        table = pyarrow.table({"text": DOCUMENTS[index::2]})
        pyarrow.parquet.write_table(table, tmp_path / "hub" / f"train-{index}.parquet")
    manifest = prepare(None, tokenizer, tmp_path / "out", dataset=str(tmp_path / "hub"))
    assert manifest["sources"] == [{"dataset": str(tmp_path / "hub"), "name": None, "split": "train"}]
    found = documents_of(tmp_path / "out", "train") + documents_of(tmp_path / "out", "validation")
    assert found == collections.Counter(DOCUMENTS)


def test_invalid_file_refused_or_skipped(tmp_path, corpus, tokenizer, caplog):
    bad = tmp_path / "corpus" / "bad.txt"
    bad.write_bytes(DOCUMENTS[0].encode() + b"\n\n\x00")
    with pytest.raises(ValueError, match="bad.txt: binary file .*skip_invalid_files") as error:
        prepare(corpus, tokenizer, tmp_path / "out")
    assert "\n" not in str(error.value) and os.listdir(tmp_path) == ["corpus"]
    manifest = prepare(corpus, tokenizer, tmp_path / "out", skip_invalid_files=True, validation_fraction=0.0)
    assert [file["path"] for file in manifest["skipped_files"]] == [str(bad)] and str(bad) in caplog.text
    assert str(bad) not in [source["path"] for source in manifest["sources"]]
    assert documents_of(tmp_path / "out", "train") == collections.Counter(DOCUMENTS)


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"dataset": "x"}, "either corpus or dataset"),
        ({"corpus": None}, "either corpus or dataset"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0; it must be in"),
        ({"validation_fraction": -0.1}, "validation_fraction is -0.1; it must be in"),
        ({"num_proc": 0}, "num_proc is 0; it must be at least 1"),
        ({"max_length": 2}, "max_length is 2; it must be at least 3"),
        ({"documents": "page"}, "documents is 'page'"),
        ({"corpus": ["nowhere"]}, "no such file or folder"),
        ({"corpus": ["*.none"]}, "glob that matches no file"),
        ({"corpus": ["empty"]}, "folder without files"),
        ({"corpus": ["blank.txt"]}, "corpus: empty"),
        ({"tokenizer": "empty"}, "tokenizer 'empty': cannot be loaded"),
    ],
)
def test_refused_before_anything_is_written(tmp_path, corpus, tokenizer, monkeypatch, options, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match=problem) as error:
        prepare(**{"corpus": corpus, "tokenizer": tokenizer, "folder": "out", **options})
    assert "\n" not in str(error.value) and sorted(os.listdir(tmp_path)) == before


def test_taken_output_folder(tmp_path, corpus, tokenizer):
    with pytest.raises(ValueError, match="output_dir is .* already exists"):
        prepare(corpus, tokenizer, tmp_path)
    assert os.listdir(tmp_path) == ["corpus"]


@pytest.mark.parametrize("failing", ["write_share", "_assemble"])
def test_interrupt_leaves_nothing(tmp_path, corpus, tokenizer, monkeypatch, failing):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks, failing, interrupt)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, tokenizer, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["corpus", "out"] and os.listdir(tmp_path / "out") == []


def test_another_tokenizer_is_refused(tmp_path, corpus, tokenizer):
    out = str(tmp_path / "out")
    prepare(corpus, tokenizer, out)
    copy = str(tmp_path / "copy")
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    loaded.save_pretrained(copy)
    load_blocks(out, tokenizer=copy)
    load_blocks(out, tokenizer=loaded)
    other = str(tmp_path / "other")
    BertTokenizer(vocab={word: index for index, word in enumerate(SPECIAL_TOKENS)}).save_pretrained(other)
    with pytest.raises(ValueError, match="made with tokenizer .*, not with ") as error:
        load_blocks(out, tokenizer=other)
    assert tokenizer in str(error.value) and other in str(error.value) and "\n" not in str(error.value)


def test_folders_that_are_no_blocks(tmp_path, corpus, tokenizer):
    with pytest.raises(ValueError, match="nowhere'?: no such folder"):
        load_blocks(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no valid manifest.json"):
        load_blocks(str(tmp_path))
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="no valid manifest.json"):
        load_blocks(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(ValueError, match="format_version 99, allowed is 1"):
        load_blocks(str(tmp_path))
    prepare(corpus, tokenizer, tmp_path / "out")
    with pytest.raises(ValueError, match="split is 'test'; it must be one of train, validation"):
        load_blocks(str(tmp_path / "out"), "test")


def test_batches_of_blocks_make_no_difference(tmp_path, corpus, tokenizer, monkeypatch):
    prepare(corpus, tokenizer, tmp_path / "many", validation_fraction=0.0)
    monkeypatch.setattr(block_writing, "BLOCKS_PER_BATCH", 1)
    prepare(corpus, tokenizer, tmp_path / "one", validation_fraction=0.0)
    assert list(load_blocks(str(tmp_path / "many"))) == list(load_blocks(str(tmp_path / "one")))


def test_a_text_a_line_is_hinted_at(tmp_path, tokenizer, caplog):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(DOCUMENTS))
    manifest = prepare([str(path)], tokenizer, tmp_path / "whole")
    assert manifest["splits"]["validation"]["documents"] == 0
    hint, empty = caplog.messages
    assert hint.startswith(f"{path}: 300 lines are 1 document,") and hint.endswith("choose --documents line")
    assert (
        empty.startswith("the validation split is empty: the corpus is one document") and "--documents line" in empty
    )
    caplog.clear()
    manifest = prepare([str(path)], tokenizer, tmp_path / "lines", documents="line")
    assert manifest["splits"]["validation"]["documents"] and not caplog.messages


def test_an_empty_validation_split_that_was_asked_for_is_none_to_explain(tmp_path, corpus, tokenizer, caplog):
    prepare(corpus, tokenizer, tmp_path / "out", validation_fraction=0)
    assert not caplog.messages
