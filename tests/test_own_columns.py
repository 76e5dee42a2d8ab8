"""Columns of text and labels: identifiers left out, pairs found, lists parsed, and what cannot be told asked."""

import pytest
from datasets import Dataset

from modeling_electra_rtd.finetuning.own_columns import label_columns, list_columns, text_columns, with_lists


LONG = ["the film was lovely", "a dull and slow film", "what a fine evening"]
OTHER = ["nobody liked the end", "we laughed a lot", "no sense at all"]
LABEL = ["a", "b", "a"]


def choose(columns: dict, labels=("label",), given=None, kind=None):
    table = Dataset.from_dict({**columns, **({"label": LABEL} if "label" in labels else {})})
    return text_columns(table, given, list(labels), kind, "train.csv")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", ["train-0000", "train-0001", "train-0002"]),
        ("guid", ["alpha", "beta", "alpha"]),
        ("tweet_id", ["a", "b", "c"]),
        ("docId", ["x", "y", "z"]),
        ("source", ["doc_1", "doc_2", "doc_3"]),
        ("link", ["https://x.org/1", "https://x.org/2", "https://x.org/3"]),
    ],
)
def test_identifiers_are_left_out_by_name_or_by_what_they_look_like(name, values):
    assert choose({name: values, "text": LONG}) == (["text"], {name: "identifiers"})
    pair = {name: values, "premise": LONG, "hypothesis": ["yes", "no", "so1"]}
    assert choose(pair) == (["premise", "hypothesis"], {name: "identifiers"})
    assert choose({"text": LONG, name: values}, given=[name, "text"]) == ([name, "text"], {})


def test_numbers_and_empty_columns_are_left_out_and_said():
    found = choose({"Unnamed: 0": ["0", "1", "2"], "year": [1, 2, 3], "note": [None, None, None], "text": LONG})
    assert found == (["text"], {"Unnamed: 0": "numbers", "year": "numbers", "note": "no text"})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("text_a", "text_b"),
        ("premise", "hypothesis"),
        ("question", "context"),
        ("title", "body"),
        ("first_text", "second_text"),
        ("tekst1", "tekst2"),
        ("sentence_A", "sentence_B"),
    ],
)
def test_pairs_are_known_by_their_names(first, second):
    # Single words with digits look like identifiers, but these are the texts.
    for values in (LONG, ["x1", "y2", "z3"]):
        assert choose({first: values, second: ["u4", "v5", "w6"]}) == ([first, second], {})


def test_two_free_texts_are_a_pair_and_others_are_asked_for():
    assert choose({"avis": LONG, "suite": OTHER})[0] == ["avis", "suite"]
    assert choose({"a": ["今日は天気がいいですね", "映画はとても良かった", "明日また来てください"], "b": OTHER})[
        0
    ] == ["a", "b"]
    for other in (["x", "y", "x"], ["2020-01-01 10:00", "2020-01-02 11:00", "2020-01-02 11:00"]):
        with pytest.raises(
            ValueError, match="which columns are the text\\? give --text-columns, one or two of note, te"
        ):
            choose({"note": other, "text": LONG})
    with pytest.raises(ValueError, match="which columns are the text"):
        choose({"id": LONG, "text": OTHER, "note": OTHER})
    # Where there is nothing else, codes are the text.
    assert choose({"code": ["A1", "B2", "C3"]})[0] == ["code"]


def test_tokens_are_the_lists_that_fit_the_tags():
    tags = {"ner_tags": [["O"], ["O", "O"], ["O"]]}
    lists = {"tokens": [["a"], ["b", "c"], ["d"]], "pos_tags": [["N"], ["N", "V"], ["N"]], "text": LONG}
    found = choose({**tags, **lists}, ["ner_tags"])
    assert found == (["tokens"], {"text": "not read", "pos_tags": "not read"})
    # Labels of the text, of which there are others than tokens.
    found = choose({"labels": [["x"], [], ["x", "y"]], "tokens": lists["tokens"], "text": LONG}, ["labels"])
    assert found == (["text"], {"tokens": "not read"})


def test_the_label_column():
    table = Dataset.from_dict({"text": LONG, "tags": LABEL, "topic": LABEL})
    assert label_columns(table, None, "train.csv") == ["tags"]
    assert label_columns(table, "topic", "train.csv") == ["topic"]
    assert label_columns(table, ["tags", "topic"], "train.csv") == ["tags", "topic"]
    with pytest.raises(ValueError, match="each column once"):
        label_columns(table, ["tags", "tags"], "train.csv")
    both = Dataset.from_dict({"text": LONG, "label": LABEL, "labels": LABEL})
    with pytest.raises(ValueError, match="which column is the label\\? give --label-column, one of label, labels"):
        label_columns(both, None, "train.csv")


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("['Ann', \"isn't\"]", ["Ann", "isn't"]),
        ('["Ann", "\\u00e9t\\u00e9"]', ["Ann", "été"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        (" [] ", []),
        ("[0, 1]", [0, 1]),
    ],
)
def test_lists_written_as_text_are_lists(cell, value):
    table = Dataset.from_dict({"label": [cell]})
    assert list_columns(table, ["label"]) == ["label"]
    assert with_lists(table, ["label"], "train.csv")["label"] == [value]


@pytest.mark.parametrize(
    "cell", ["['a' 'b']", "['a'\n 'b']", "[0 1 0]", "[joy, anger]", "['a', ", "joy", "__import__('os').getcwd()", ""]
)
def test_what_is_no_list_is_refused_by_row_and_never_run(cell):
    table = Dataset.from_dict({"label": ["['a']", cell]})
    assert list_columns(table, ["label"]) == ["label"]
    with pytest.raises(
        ValueError, match="train.csv, row 2: column 'label' is .*; it must be a list as Python or JSON"
    ):
        with_lists(table, ["label"], "train.csv")


def test_texts_in_brackets_stay_text():
    table = Dataset.from_dict(
        {"text": ["[deleted]", "(Reuters) a story", "['quoted']", "[so, what]"], "label": ["[NEG]"] * 4}
    )
    assert list_columns(table, ["label"]) == []
