"""Lines of tokens as sentences: comments, layouts, separators; and what is wrong by line."""

import gzip

import pytest

from modeling_electra_rtd.finetuning.token_files import open_token_file, read_token_file


def write(folder, content: str, name: str = "train.conll") -> str:
    path = folder / name
    path.write_bytes(content.encode())
    return str(path)


def tokens_of(path: str) -> list[list[str]]:
    return [[line.fields for line in lines] for lines in open_token_file(path).sentences]


def test_a_token_and_its_tag(tmp_path):
    path = write(tmp_path, "-DOCSTART- O\n\nThe O\ncat B-x\n\t\nRick B-y\nand I-y\n \n\n")
    assert list(read_token_file(path)) == [(["The", "cat"], ["O", "B-x"]), (["Rick", "and"], ["B-y", "I-y"])]
    # A token may hold a space where columns are parted by tabs, and the tag a space behind it.
    path = write(tmp_path, "New York\tB-x \n")
    assert list(read_token_file(path)) == [(["New York"], ["B-x"])]
    path = write(tmp_path, "\ufeffA  DET\t\r\ncat \t N\r\n\r\nB N\r\n")
    assert list(read_token_file(path)) == [(["A", "cat"], ["DET", "N"]), (["B"], ["N"])]
    (tmp_path / "train.conll.gz").write_bytes(gzip.compress(b"A DET\n"))
    assert list(read_token_file(tmp_path / "train.conll.gz")) == [(["A"], ["DET"])]


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2028", "\u0085", "\u200b"])
@pytest.mark.parametrize("separator", ["\t", " "])
def test_only_ascii_blanks_part_columns_and_only_line_feeds_lines(tmp_path, blank, separator):
    path = write(tmp_path, f"10{blank}000{separator}NUM\n{blank}{separator}X\n")
    assert list(read_token_file(path)) == [([f"10{blank}000", blank], ["NUM", "X"])]


def test_comments_are_no_tokens_and_a_hash_is(tmp_path):
    path = write(
        tmp_path, "#\thttp://example.org/1\n#\tO\ncat\tB-x\n\n# sent_id = 3\n# a remark of many words\n#x\tO\n"
    )
    file = open_token_file(path)
    assert tokens_of(path) == [[["#", "O"], ["cat", "B-x"]], [["#x", "O"]]]
    assert file.passed_over == {"comments": 3} and file.names is None


def test_conllu(tmp_path):
    rest = "\t_\t_\t_\t_\t_\t_\n"
    lines = [f"1-2\tvámonos\t_\t_{rest}", f"1\tvamos\tir\tVERB{rest}", f"2\tnos\tnosotros\tPRON{rest}"]
    lines += [f"2.1\tva\tir\tVERB{rest}", f"3\t10\u00a0000\t10\tNUM{rest}", "\n"]
    file = open_token_file(write(tmp_path, "# newdoc\n# text = x\n" + "".join(lines), "train.conllu"))
    assert [line.fields[1] for line in file.sentences[0]] == ["vamos", "nos", "10\u00a0000"]
    assert file.has_counter and file.names[3:5] == ("upos", "xpos")
    assert file.passed_over == {"comments": 2, "lines of multiword tokens": 1, "empty nodes": 1}
    plus = "# global.columns = ID FORM PARSEME:NE\n1\tAnn\tB-x\n2\tis\tO\n"
    assert open_token_file(write(tmp_path, plus)).names == ("id", "form", "parseme:ne")


def test_a_first_line_that_names_the_columns(tmp_path):
    file = open_token_file(write(tmp_path, "Word\tPOS\tTag\nAnn\tN\tB-x\nis\tV\tO\n"))
    assert file.names == ("word", "pos", "tag") and file.sentences[0][0].fields == ["Ann", "N", "B-x"]
    assert file.passed_over == {"lines of column names": 1}


def test_a_count_that_begins_anew_begins_a_sentence(tmp_path):
    path = write(tmp_path, "#\thttp://x.org\n1\tAnn\tO\n2\tis\tO\n#\thttp://y.org\n1\tEva\tO\n1\tBo\tO\n")
    assert [[line.fields[1] for line in lines] for lines in open_token_file(path).sentences] == [
        ["Ann", "is"],
        ["Eva"],
        ["Bo"],
    ]
    path = write(tmp_path, "1-2\tIsn't\t_\n1\tIs\tV\n2\tn't\tP\n1\tNo\tP\n")
    assert [len(lines) for lines in open_token_file(path).sentences] == [2, 1]


def test_what_counts_and_what_is_a_number(tmp_path):
    assert open_token_file(write(tmp_path, "1\tAnn\tO\n2\tis\tO\n\n1\tNo\tO\n")).has_counter
    assert open_token_file(write(tmp_path, "7 Ann O\n8 is O\n\n9 No O\n")).has_counter
    assert not open_token_file(write(tmp_path, "3 NUM\n\n17 NUM\n\nAnn N\n")).has_counter


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\tB-x\ndog\n", r"train.conll, line 2: 1 columns, expected at least 2"),
        ("cat B-x\nNew York B-x\ndog O\n", r"line 2: 3 columns, expected the 2 of most lines"),
        ("cat\tB-x\n\tO\n", r"line 2: its token is empty"),
        ("\n\n", "train.conll: has no sentence"),
    ],
)
def test_what_is_wrong_is_named_by_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        list(read_token_file(write(tmp_path, content)))
