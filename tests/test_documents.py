import bz2
import gzip
import json
import lzma
import os
import re
import sys
import tempfile

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_electra_rtd.data import shares, text_files
from modeling_electra_rtd.data.documents import (
    check_file,
    check_files,
    hint_at_lines,
    read_head,
    read_share,
    share_dataset,
)
from modeling_electra_rtd.data.shares import check_document_boundary, cut_file, find_files, share_files


DOCUMENTS = ["First one.\nIts second line.", "Zweites, mit Umlaut: ä.", "third"]
TEXT = "\n\n".join(DOCUMENTS) + "\n"


def read(path, documents="blank_line", text_column="text"):
    files = find_files([str(path)])
    return [text for share in share_files(files, documents) for text in read_share(share, documents, text_column)]


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_blank_lines_separate_documents(tmp_path):
    (tmp_path / "a.txt").write_text("\n \n" + TEXT.replace("\n\n", "\n \t\n\n\n"))
    assert read(tmp_path / "a.txt") == DOCUMENTS


def test_line_and_file_documents(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    assert read(tmp_path / "a.txt", "line") == ["First one.", "Its second line.", *DOCUMENTS[1:]]
    assert read(tmp_path / "a.txt", "file") == [TEXT.strip()]
    (tmp_path / "blank.txt").write_text(" \n\n")
    assert read(tmp_path / "blank.txt", "file") == []


def test_unknown_boundary():
    with pytest.raises(ValueError, match="documents is 'page'; it must be one of blank_line, line, file"):
        check_document_boundary("page")


@pytest.mark.parametrize("documents", ["blank_line", "line", "file"])
def test_byte_order_mark_and_windows_line_ends(tmp_path, documents):
    (tmp_path / "unix.txt").write_text(TEXT)
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read(tmp_path / "windows.txt", documents) == read(tmp_path / "unix.txt", documents)


@pytest.mark.parametrize("suffix, opened", [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_compressed(tmp_path, name, suffix, opened):
    content = {
        "a.txt": TEXT,
        "a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS),
        "a.csv": "text\n" + "".join(f'"{text}"\n' for text in DOCUMENTS),
    }[name]
    with opened(tmp_path / (name + suffix), "wb") as file:
        file.write(content.encode())
    assert read(tmp_path / (name + suffix)) == DOCUMENTS


def test_zstandard(tmp_path):
    half = len(TEXT) // 2
    frames = [zstandard.compress(part.encode()) for part in (TEXT[:half], TEXT[half:])]
    (tmp_path / "a.txt.zst").write_bytes(b"".join(frames))
    assert read(tmp_path / "a.txt.zst") == DOCUMENTS


def test_zstandard_not_installed(tmp_path, monkeypatch):
    (tmp_path / "a.txt.zst").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setattr(text_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="a.txt.zst: reading .zst needs the package zstandard") as error:
        find_files([str(tmp_path)])
    one_line(error)


def test_tables(tmp_path):
    texts = [*DOCUMENTS, "NA", "12", ""]
    (tmp_path / "a[1].jsonl").write_text("".join(json.dumps({"n": 1, "body": text}) + "\n" for text in texts))
    (tmp_path / "b.json").write_text(json.dumps([{"n": 1, "body": text} for text in texts]))
    pyarrow.parquet.write_table(pyarrow.table({"n": [1] * 6, "body": texts}), tmp_path / "c.parquet")
    (tmp_path / "d.csv").write_text("n,body\n" + "".join(f'1,"{text}"\n' for text in texts))
    (tmp_path / "e.tsv").write_text("n\tbody\n" + "".join(f'1\t"{text}"\n' for text in texts))
    for path in tmp_path.iterdir():
        assert read(path, text_column="body") == texts, path


def test_null_cells_are_empty_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": null}\n')
    assert read(tmp_path / "a.jsonl") == ["x", ""]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_missing_column_names_the_nearest(tmp_path, name):
    pyarrow.parquet.write_table(pyarrow.table({"id": ["1"], "texts": ["x"]}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"id": "1", "texts": "x"}\n')
    (tmp_path / "a.csv").write_text("id,texts\n1,x\n")
    with pytest.raises(ValueError, match="no column 'text', nearest is 'texts' of 'id', 'texts'") as error:
        read(tmp_path / name)
    assert str(tmp_path / name) in one_line(error)


@pytest.mark.parametrize("name, content", [("a.csv", "id,text\n"), ("a.csv", ""), ("a.jsonl", ""), ("a.txt", "")])
def test_files_without_documents(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read(tmp_path / name) == []


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "cannot be read"),
        ("a.jsonl", b"{}\n{}\n", "no column 'text'"),
        ("a.jsonl", b'{"text": 5}\n', "column 'text' holds int, allowed are strings"),
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.csv", b"text\n\xff\xfe\n", re.escape("not UTF-8 (byte 0xff at offset 5)")),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0)[:-9], "cannot be read"),
        ("a.txt.xz", b"no xz", "cannot be read"),
        ("a.txt", b"good\n\nb\xe4d\n", re.escape("not UTF-8 (byte 0xe4 at offset 7)")),
        ("a.bin", b"good\nPK\x00\x01", re.escape("binary file (NUL byte at offset 7)")),
    ],
)
def test_unreadable_files(tmp_path, name, content, problem, caplog):
    bad, good = str(tmp_path / name), str(tmp_path / "good.txt")
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.txt").write_text(TEXT)
    with pytest.raises(ValueError, match=problem) as error:
        read(bad)
    assert bad in one_line(error)
    with pytest.raises(ValueError, match=problem) as error:
        check_files([good, bad], "blank_line", "text", skip_invalid_files=False, progress=False)
    assert bad in one_line(error)
    valid, skipped = check_files([good, bad], "blank_line", "text", skip_invalid_files=True, progress=False)
    assert [file.path for file in valid] == [good]
    assert [file.path for file in skipped] == [bad]
    assert bad in caplog.text


def test_find_files(tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a/x.md", "a/.hidden", ".git/config", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    root = str(tmp_path)
    everything = [f"{root}/{name}" for name in ("c.txt", "a/x.md", "b/1.txt", "b/2.txt")]
    assert find_files([root]) == everything
    assert find_files([f"{root}/**/*.txt"]) == [f"{root}/{name}" for name in ("b/1.txt", "b/2.txt", "c.txt")]
    assert find_files([f"{root}/b/2.txt", root]) == [everything[3], *everything[:3]]


@pytest.mark.parametrize(
    "entry, problem",
    [("nowhere", "no such file or folder"), ("*.none", "glob that matches no file"), ("void", "folder without files")],
)
def test_corpus_without_files(tmp_path, entry, problem):
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match=f"{re.escape(entry)}': {problem}") as error:
        find_files([str(tmp_path / entry)])
    one_line(error)


def test_empty_list_of_corpus():
    with pytest.raises(ValueError, match="corpus: empty list"):
        find_files([])


LINES = st.lists(st.sampled_from(["a", "bb", "", " ", "cäc", "\t", "d e"]), max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    lines=LINES,
    line_end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    last_line_ends=st.booleans(),
    piece_bytes=st.integers(1, 40),
    documents=st.sampled_from(["blank_line", "line", "file"]),
)
def test_slices_hold_every_document_once(lines, line_end, mark, last_line_ends, piece_bytes, documents):
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        content = line_end.join(lines) + line_end * last_line_ends
        file.write(b"\xef\xbb\xbf" * mark + content.encode())
        file.flush()
        whole = list(read_share(cut_file(file.name, documents, 10**9), documents))
        pieces = cut_file(file.name, documents, piece_bytes)
        assert [text for piece in pieces for text in read_share([piece], documents)] == whole
        assert sum(piece.size for piece in pieces) == file.tell()
    if documents == "line":
        assert whole == [line for line in lines if line.strip()]


def test_shares_depend_on_size_only_and_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(shares, "SHARE_BYTES", 1000)
    texts = [f"document {number} " + "x" * (number % 90) for number in range(400)]
    for index in range(4):
        (tmp_path / f"{index}.txt").write_text("\n\n".join(texts[index * 100 : (index + 1) * 100]))
    cut = share_files(find_files([str(tmp_path)]))
    assert len(cut) > 10
    assert [text for share in cut for text in read_share(share)] == texts
    monkeypatch.setattr(shares, "MAXIMUM_SHARES", 3)
    assert len(share_files(find_files([str(tmp_path)]))) <= 4


def test_dataset_by_shards(tmp_path):
    for index in range(3):
        table = pyarrow.table({"text": [f"{index}-{row}" for row in range(4)], "n": list(range(4))})
        pyarrow.parquet.write_table(table, tmp_path / f"train-{index}.parquet")
    cut = share_dataset(str(tmp_path), None, "train")
    assert len(cut) == 3
    assert sorted(text for share in cut for text in read_share(share)) == sorted(
        f"{index}-{row}" for index in range(3) for row in range(4)
    )
    with pytest.raises(ValueError, match="no column 'txt', nearest is 'text'"):
        list(read_share(cut[0], text_column="txt"))
    with pytest.raises(ValueError, match="dataset .*split 'test'.*cannot be read") as error:
        share_dataset(str(tmp_path), None, "test")
    one_line(error)


def test_files_folders_and_globs_whose_names_hold_signs_of_globs(tmp_path):
    folder = tmp_path / "data[v1]{a}*?" / "x[2]"
    folder.mkdir(parents=True)
    for name in ("a[0].txt", "b{1}.txt", "c*.txt", "d?.jsonl"):
        (folder / name).write_text(json.dumps({"text": name}) + "\n" if name.endswith("jsonl") else f"{name}\n")
    (tmp_path / "datav").mkdir()
    names = sorted(path.name for path in folder.iterdir())
    assert [name for path in sorted(folder.iterdir()) for name in read(path)] == names
    assert read(folder.parent) == names
    assert read(folder / "[ab]*.txt") == ["a[0].txt", "b{1}.txt"]
    assert read(f"{folder.parent}/**/*.txt") == names[:3]
    with pytest.raises(ValueError, match=re.escape("datasets reads no folder of such a name; give its files with")):
        share_dataset(str(folder), None, "train")


def test_tables_of_a_local_dataset_are_read_as_they_are_written(tmp_path):
    texts = ["2021-03-01T10:00:00", "2021-03-02T10:00:00"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "007"}) + "\n")
    assert [text for share in share_dataset(str(tmp_path), None, "train") for text in read_share(share)] == texts
    assert [text for share in share_dataset(str(tmp_path), None, "test") for text in read_share(share)] == ["007"]


def test_how_a_file_is_read_is_said_once_however_many_processes_read_it(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("modeling_electra_rtd.data.documents.CHECK_BYTES_PER_PROCESS", 1)
    paths = [str(tmp_path / f"{number}.tsv") for number in range(2)]
    for path in paths:
        with open(path, "w") as file:
            file.write('text\tn\n"open\t1\nx\t2\n"and left\t3\n')
    check_files(paths, "blank_line", "text", skip_invalid_files=False, processes=2, progress=False)
    assert [record.message.partition(":")[0] for record in caplog.records] == [f"{path}, line 2" for path in paths]
    assert read(paths[0]) == ['"open', "x", '"and left']
    assert len(caplog.records) == 2


def test_a_folder_leaves_out_what_describes_its_text_and_says_so(tmp_path, caplog):
    (tmp_path / "README.md").write_text("About this corpus.\n")
    (tmp_path / "titles.tsv").write_text("title\tyear\nA book\t1900\n")
    (tmp_path / "rows.tsv").write_text("year\ttext\n1900\tA text.\n")
    (tmp_path / "book.txt").write_text("A book.\n")
    assert [os.path.basename(path) for path in find_files([str(tmp_path)])] == ["book.txt", "rows.tsv"]
    assert "README.md" in caplog.text and "no column 'text'" in caplog.text
    named = [str(tmp_path / "titles.tsv"), str(tmp_path / "README.md")]
    assert find_files(named) == named


LINES = [f"Sentence number {number} is about the weather." for number in range(400)]


def report_of(path, text, documents="blank_line"):
    path.write_bytes(text.encode())
    return check_file(str(path), documents, "text", lambda size: None)


@pytest.mark.parametrize(
    ("text", "is_hinted"),
    [
        ("\n".join(LINES), True),
        ("\r\n".join(LINES) + "\r\n\r\n", True),
        ("\n".join(LINES[:12]), True),
        ("A title\n\n" + "\n".join(LINES), True),
        ("\n\n".join(LINES), False),
        ("\n \n".join(LINES), False),
        ("\n".join(LINES[:5]), False),
        ("\n\n".join("\n".join(LINES[start : start + 20]) for start in range(0, 400, 20)), False),
        ("", False),
    ],
)
def test_lines_that_no_blank_line_separates(tmp_path, text, is_hinted):
    reports = [report_of(tmp_path / "a.txt", text), read_head(str(tmp_path / "a.txt"))]
    for report in reports:
        hint = hint_at_lines([report], "blank_line")
        assert bool(hint) == is_hinted
        assert hint_at_lines([report], "line") is None
    assert reports[0][-2:] == reports[1][-2:]
    if is_hinted:
        assert "--documents line" in hint and str(tmp_path / "a.txt") in hint and "\n" not in hint


def test_rows_of_tables_are_documents_already(tmp_path):
    report = report_of(tmp_path / "a.jsonl", json.dumps({"text": "\n".join(LINES)}) + "\n")
    assert report.documents == 1 and hint_at_lines([report], "blank_line") is None
    assert hint_at_lines([read_head(report.path)], "blank_line") is None
