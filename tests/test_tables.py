"""Every format of table gives the same rows, with text as it was written."""

import datetime
import gzip
import json
import re

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from modeling_electra_rtd.data.documents import read_lines, read_rows
from modeling_electra_rtd.data.tables import is_table, open_table, read_table, text_rows


# What readers like to take for something else.
TEXTS = [
    "2021-03-01T10:00:00",
    "2021-03-02",
    "10:00",
    "007",
    "1e5",
    "1.0",
    "NA",
    "null",
    "None",
    "true",
    "inf",
    "-",
    " two  spaces ",
    "ä 中 \u2028 \x85 x",
    "say \"hi\", 'ho'",
    "back\\slash",
]


def write(path, texts: list[str], **others: list):
    """The texts as a table of the form that the name of the file asks for."""
    columns = {"text": texts, **others}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    name, opened = (path.name.removesuffix(".gz"), gzip.open) if path.suffix == ".gz" else (path.name, open)
    if name.endswith(".parquet"):
        content = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.table(columns), content)
        content = content.getvalue().to_pybytes()
    elif name.endswith(".json"):
        content = json.dumps(rows, indent=1).encode()
    elif name.endswith(".jsonl"):
        content = b"\xef\xbb\xbf" + "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows).encode()
    else:
        frame = pandas.DataFrame(columns)
        content = frame.to_csv(None, sep="\t" if ".tsv" in name else ",", index=False).encode()
    with opened(path, "wb") as file:
        file.write(content)
    return str(path)


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_text_is_text_in_every_format_and_folder(tmp_path, suffix, packed):
    folder = tmp_path / "data[v1]{a}*?"
    folder.mkdir()
    path = write(folder / f"a[0].{suffix}{packed}", TEXTS, label=[str(i) for i in range(len(TEXTS))])
    assert is_table(path)
    assert [row["text"] for row in text_rows(path, ["text"])] == TEXTS
    assert list(read_lines(path)) == TEXTS
    assert list(read_rows(path, ["label", "text"]))[3] == {"label": "3", "text": "007"}
    table = read_table(path)
    assert list(table["text"]) == TEXTS and list(table["label"]) == [str(i) for i in range(len(TEXTS))]
    # One kind of look-alike throughout a column is what readers infer from.
    for kind in (["2021-03-01T10:00:00"] * 3, ["007", "08", "9"], ["true"] * 2, ["1.0", "2.50"]):
        path = write(folder / f"b.{suffix}{packed}", kind)
        assert list(read_table(path)["text"]) == list(read_lines(path)) == kind


def test_an_array_of_objects_one_pretty_object_and_lines(tmp_path):
    rows = [{"text": "a", "n": 1}, {"text": "b"}]
    contents = {
        "array.json": json.dumps(rows),
        "lines.json": "\n".join(map(json.dumps, rows)),
        "pretty.json": json.dumps(rows, indent=2),
        "array.jsonl": "\n" + json.dumps(rows),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        assert read_table(str(tmp_path / name)).to_list() == [{"text": "a", "n": 1}, {"text": "b", "n": None}], name
    (tmp_path / "one.json").write_text(json.dumps(rows[0], indent=2))
    assert read_table(str(tmp_path / "one.json")).to_list() == rows[:1]


def test_a_column_may_be_missing_from_rows_that_leave_out_what_is_empty(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n{"n": 2, "text": "x"}\n{"text": null}\n')
    assert list(read_lines(str(path))) == ["", "x", ""]
    path.write_text('{"n": 1}\n' * 3)
    with pytest.raises(ValueError, match="a.jsonl: no column 'text', nearest is 'n' of 'n'"):
        list(read_lines(str(path)))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.jsonl",
            '{"text": "x"}\n{"text": 2021}\n',
            "line 2: column 'text' holds int, allowed are strings; it is 2021",
        ),
        ("a.json", '[{"text": "x"},\n{"text": 1.50}]', "row 2: column 'text' holds float"),
        ("a.jsonl", '{"text": ["x"]}\n', "line 1: column 'text' holds list"),
        ("a.jsonl", '{"text": true}\n', "line 1: column 'text' holds bool"),
        ("a.jsonl", '{"text": "x"}\n"text"\n', "line 2: cannot be read (a row is an object"),
        ("a.jsonl", '{"text": "x"}\n{"text": "y"\n', "line 2: cannot be read as JSON"),
        ("a.json", '[{"text": "x"}', "a.json: cannot be read as JSON"),
        ("a.jsonl", '{"text": "\\ud83d"}\n', "line 1: cannot be read (half of a surrogate pair"),
        ("a.csv", "text,text\nx,y\n", "a.csv: two columns are named 'text'"),
        ("a.csv", "txt\nx\n", "a.csv: no column 'text', nearest is 'txt' of 'txt'"),
    ],
)
def test_what_is_no_text_is_refused_by_line(tmp_path, name, content, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=re.escape(problem)) as error:
        list(read_lines(str(tmp_path / name)))
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_dates_and_numbers_of_parquet_are_no_text(tmp_path):
    for value, kind in ((datetime.datetime(2021, 3, 1), "datetime"), (7, "int"), (b"x", "bytes")):
        pyarrow.parquet.write_table(pyarrow.table({"text": [value]}), tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=f"a.parquet, row 1: column 'text' holds {kind}, allowed are strings"):
            list(read_lines(str(tmp_path / "a.parquet")))


def test_a_column_of_two_kinds_is_refused_by_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": "1"}\n{"text": "y", "label": 1}\n')
    with pytest.raises(ValueError, match="a.jsonl, line 2: column 'label' is 1, but '1' before; it must be all text"):
        read_table(str(path))
    path.write_text('{"label": 1}\n{"label": 0.5}\n{"label": null}\n')
    assert list(read_table(str(path))["label"]) == [1.0, 0.5, None]
    path.write_text("\n")
    with pytest.raises(ValueError, match="a.jsonl: has no row"):
        read_table(str(path))


CLASSES = ClassLabel(names=["O", "B-PER", "I-PER"])


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz"])
def test_names_of_classes_survive_in_lists_too(tmp_path, name):
    features = Features(
        {"text": Value("string"), "label": CLASSES, "tags": List(CLASSES), "deep": List(List(CLASSES))}
    )
    rows = [
        {"text": "a", "label": 1, "tags": [0, 2, 1], "deep": [[0], [1, 2]]},
        {"text": "b", "label": -1, "tags": [-1, -1], "deep": []},
        {"text": "c", "label": None, "tags": None, "deep": None},
    ]
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert read_table(str(tmp_path / name)).to_list() == [
        {"text": "a", "label": "B-PER", "tags": ["O", "I-PER", "B-PER"], "deep": [["O"], ["B-PER", "I-PER"]]},
        {"text": "b", "label": None, "tags": [None, None], "deep": []},
        {"text": "c", "label": None, "tags": None, "deep": None},
    ]
    # Groups of minimal pairs are read as texts.
    assert list(read_rows(str(tmp_path / name), ["label"])) == [{"label": "B-PER"}, {"label": ""}, {"label": ""}]


def test_an_id_that_is_no_class_is_refused_by_row(tmp_path):
    features = Features({"label": CLASSES})
    schema = features.arrow_schema.with_metadata(
        {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
    )
    table = pyarrow.table({"label": pyarrow.array([0, 7], pyarrow.int64())}, schema=schema)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a.parquet, row 2: column 'label': "):
        read_table(str(tmp_path / "a.parquet"))


def test_categories_of_pandas_are_text(tmp_path):
    frame = pandas.DataFrame({"text": ["a", "b"], "label": pandas.Categorical(["x", "y"])})
    frame.to_parquet(tmp_path / "a.parquet")
    assert read_table(str(tmp_path / "a.parquet")).to_list()[1] == {"text": "b", "label": "y"}


def test_only_the_columns_asked_for_are_read_of_parquet(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    names, rows = open_table(str(tmp_path / "a.parquet"), ["text"])
    assert names == ["text", "n"] and [row for _, row in rows] == [{"text": "a"}]
