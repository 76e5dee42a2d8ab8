"""Quotation marks of csv and tsv files: marks of fields or text, and never a row swallowed."""

import csv
import gzip
import io

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_electra_rtd.data.separated_values import separated_rows


def rows(path, **options) -> list[list[str]]:
    return [fields for _, fields in separated_rows(str(path), **options)]


def written(folder, content: str, name: str = "a.tsv"):
    path = folder / name
    path.write_bytes(content.encode())
    return path


def lines_of(table: list[list[str]], line_end: str = "\n") -> str:
    return "".join("\t".join(row) + line_end for row in table)


# Never quoted: marks are text, whatever they are like.
NEVER_QUOTED = {
    "a pair of marks at the begin of fields": [["1", '"so he began'], ["2", "then"], ["3", '"and left']],
    "one that opens, one that closes": [["1", '"open'], ["2", "middle"], ["3", 'closed"']],
    "the same in the first column": [['"open', "1"], ["middle", "2"], ['closed"', "3"]],
    "a single mark": [["1", '"'], ["2", "x"]],
    "whole utterances": [["1", '"Yes."'], ["2", "he said"], ["3", '"No."']],
    "whole utterances only": [["1", '"Yes."'], ["2", '"No."']],
    "inches": [["1", '5" nails'], ["2", 'a 3" pipe']],
    "marks twice, but not around the field": [["1", 'say ""hi"" now'], ["2", "x"]],
    "some doubled, some not": [["1", '"say ""hi"" now"'], ["2", '"say "hi" now"']],
    "backslashes": [["1", '"say \\"hi\\" now"'], ["2", "x"]],
    "empty cells": [["1", ""], ["2", '"'], ["", "x"]],
    "none": [["1", "don't"], ["2", "„deutsch“ «français» 「日本」"]],
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("table", NEVER_QUOTED.values(), ids=NEVER_QUOTED)
def test_marks_of_a_tsv_that_is_not_quoted_are_text(tmp_path, caplog, table, line_end):
    path = written(tmp_path, lines_of([["id", "text"], *table], line_end))
    assert rows(path) == [["id", "text"], *table]
    has_leading = any(field.startswith('"') for row in table for field in row)
    assert ("a quotation mark is text" in caplog.text) == has_leading
    assert len(caplog.records) == has_leading


TABLES = {
    "marks": [['say "hi" now', "a"], ["plain", "b"]],
    "a lone mark": [['"', "a"], ['5" nails', "b"]],
    "line feeds": [["one\ntwo", "a"], ["three\r\nfour\n\nfive", "b"]],
    "a mark and a line feed": [['he said "one\ntwo" and left', "a"], ["x", "b"]],
    "a carriage return": [["one\rtwo", "a"], ["x", "b"]],
    "tabs": [["one\ttwo", "a"], ["x", "b\tc"]],
    "commas": [["one, two", "a"], ['"x", he said', "b"]],
    "empty and blank": [["", "a"], [" ", ""], ['""', " "]],
    "other scripts": [['他说"你好"', "a"], ['पंक्ति\n"दो"', "b"]],
}


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.tsv.gz"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_pandas_wrote_is_read(tmp_path, caplog, table, quoting, name, line_end):
    path = tmp_path / name
    separator = "," if ".csv" in name else "\t"
    frame = pandas.DataFrame(table, columns=["text", "label"])
    frame.to_csv(path, sep=separator, index=False, quoting=quoting, lineterminator=line_end)
    assert rows(path) == [["text", "label"], *table]
    content = (gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()).decode()
    if separator == "\t" and '"' in content:
        (record,) = caplog.records
        assert "its fields are quoted" in record.message and str(path) in record.message


WORDS = st.text(st.sampled_from(["a", '"', " ", ",", "é", "."]), max_size=6)


@settings(max_examples=200, deadline=None)
@given(table=st.lists(st.tuples(WORDS, WORDS.filter(lambda text: not text.startswith('"'))), min_size=1, max_size=6))
def test_fields_without_marks_around_them_are_never_changed(tmp_path_factory, table):
    first = [text.lstrip('"') + "x" for text, _ in table]
    kept = [[a, b] for a, (_, b) in zip(first, table, strict=True)]
    path = written(tmp_path_factory.mktemp("a"), lines_of([["x", "y"], *kept]))
    assert rows(path) == [["x", "y"], *kept]


@settings(max_examples=200, deadline=None)
@given(
    table=st.lists(st.tuples(*[st.text(st.sampled_from('a"\n ,é'), max_size=5)] * 2), min_size=1, max_size=5),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_quoted_tsv_comes_back(tmp_path_factory, table, quoting):
    file = io.StringIO(newline="")
    writer = csv.writer(file, "excel-tab", quoting=quoting)
    writer.writerows([["x", "y"], *table])
    path = written(tmp_path_factory.mktemp("a"), file.getvalue())
    assert rows(path) == [["x", "y"], *map(list, table)]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.tsv", "x\ty\na\tb\nc\n", "line 3: 1 fields, expected 2"),
        ("a.tsv", "x\ty\na\tb\tc\n", "line 2: 3 fields, expected 2"),
        ("a.csv", "x,y\na,b\nc\n", "line 3: 1 fields, expected 2"),
        ("a.csv", "x,y\n\n\na,b,c\n", "line 4: 3 fields, expected 2"),
        ("a.csv", 'x,y\n"two\nlines",b\nc\n', "line 4: 1 fields, expected 2"),
        ("a.tsv", 'x\ty\n"two\nlines"\tb\nc\n', "line 2: 1 fields, expected 2|line 4: 1 fields, expected 2"),
        ("a.csv", 'x,y\n"open,a\nb,c\n', "line 2: not a row of a csv file \\(unexpected end of data\\)"),
        ("a.csv", 'x,y\nz,a\n"open,a\nb,c\n"d" e,f\n', "line 3: not a row of a csv file"),
        ("a.csv", 'x,y\n"say \\"hi\\"",a\n', "line 2: not a row of a csv file"),
    ],
)
def test_broken_rows_are_refused_by_line(tmp_path, name, content, problem):
    with pytest.raises(ValueError, match=f"{name}, ({problem})"):
        rows(written(tmp_path, content, name))


def test_lines_that_a_csv_may_have_swallowed_are_said(tmp_path, caplog):
    path = written(tmp_path, 'id,text\n1,"open\n2,middle\n3,closed"\n4,x\n', "a.csv")
    assert rows(path) == [["id", "text"], ["1", "open\n2,middle\n3,closed"], ["4", "x"]]
    assert f"{path}: lines 2 to 4 are read as one row" in caplog.text


def test_official_files_are_never_quoted_and_their_broken_rows_can_be_counted(tmp_path, caplog):
    path = written(tmp_path, 'x\ty\n"a ""b"""\tc\nd\n')
    broken = []
    assert rows(path, quoted=False, report_broken=broken.append) == [["x", "y"], ['"a ""b"""', "c"]]
    assert broken == [f"{path}, line 3: 1 fields, expected 2"] and not caplog.records


def test_long_fields_and_one_column(tmp_path):
    long = "word " * 100_000
    assert rows(written(tmp_path, f'text\n"{long}"\n', "a.csv"))[1] == [long]
    assert rows(written(tmp_path, 'text\n"one\ntwo"\nthree\n', "b.tsv")) == [["text"], ["one\ntwo"], ["three"]]
    assert rows(written(tmp_path, "\ufefftext\r\nx\r\n", "c.tsv")) == [["text"], ["x"]]
    assert rows(written(tmp_path, "", "d.tsv")) == rows(written(tmp_path, "", "e.csv")) == []


def test_another_file_of_the_same_name_is_read_anew(tmp_path):
    assert rows(written(tmp_path, 'x\ty\n"a ""b"""\tc\n'))[1] == ['a "b"', "c"]
    assert rows(written(tmp_path, 'x\ty\n"a "b"\tc\n'))[1] == ['"a "b"', "c"]
