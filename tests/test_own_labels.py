"""Several labels for a text: names, positions, columns; and what fits none of them by row."""

import pytest

from modeling_electra_rtd.finetuning.own_labels import are_bits, inferred_kind, label_sets, merged_columns


PATHS = {"train": "train.jsonl", "validation": "dev.jsonl"}


def test_lists_of_names():
    rows = {"train": [["joy", "anger"], [], ["joy"], [10, 9.0]], "validation": [["joy"], []]}
    names, ids = label_sets(rows, PATHS, ["labels"])
    assert names == ("9", "10", "anger", "joy")
    assert ids == {"train": [[2, 3], [], [3], [0, 1]], "validation": [[3], []]}


def test_lists_of_0_and_1():
    rows = {"train": [[0, 1, 1], [0.0, 0.0, 0.0], [False, True, False]], "validation": [["0", "0", "1"]]}
    assert are_bits(rows["train"]) and not are_bits([[0], [1]]) and not are_bits([[0, 1], [2, 1]])
    names, ids = label_sets(rows, PATHS, ["labels"])
    assert names == ("0", "1", "2") and ids == {"train": [[1, 2], [], [1]], "validation": [[2]]}


def test_several_columns_of_0_and_1():
    rows = merged_columns([("1", 0.0, True), (0, "0", False)], ["rude", "sad", "odd"], "train.csv")
    assert rows == [["rude", "odd"], []]
    assert label_sets({"train": rows}, PATHS, ["rude", "sad", "odd"])[0] == ("rude", "sad", "odd")
    with pytest.raises(ValueError, match="train.csv, row 1: column 'sad' is 2; it must be 0 or 1"):
        merged_columns([(1, 2)], ["rude", "sad"], "train.csv")


def test_what_is_odd_is_counted(caplog):
    label_sets({"train": [["a", "a"], ["b"]], "validation": [["c"]]}, PATHS, ["labels"])
    assert "1 rows have a label more than once" in caplog.text
    assert "validation: labels that training does not have count against the model: c" in caplog.text
    label_sets({"train": [[1, 0], [1, 0]]}, PATHS, ["labels"])
    assert "train: no text has the label 1" in caplog.text


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (
            [["a"], "b"],
            [],
            "train.jsonl, row 2: column 'labels' is 'b'; it must be a list of labels, an empty one for n",
        ),
        ([["a"], [None]], [], "train.jsonl, row 2: column 'labels' holds None"),
        ([["a"], [["b"]]], [], r"train.jsonl, row 2: column 'labels' holds \['b'\]"),
        ([["a"], [" "]], [], "train.jsonl, row 2: column 'labels' holds ' '"),
        ([[], []], [], "train.jsonl: column 'labels' has no label in any row"),
        ([[0, 1], [1, 0]], [[0, 1, 1]], "dev.jsonl, row 1: .* it must be a list of 2 numbers, each 0 or 1"),
        ([[0, 1], [1, 0]], [[0, 2]], "dev.jsonl, row 1: .* it must be a list of 2 numbers, each 0 or 1"),
    ],
)
def test_what_fits_not_is_named_by_row(train, validation, message):
    with pytest.raises(ValueError, match=message):
        label_sets({"train": train, "validation": validation}, PATHS, ["labels"])


def test_kinds():
    assert inferred_kind([["a"], []], "labels", reads_lists=False) == "multi_label_classification"
    assert inferred_kind([["a"], []], "labels", reads_lists=True) == "tagging"
    assert inferred_kind(["0.5", "1"], "labels", reads_lists=False) == "regression"
    with pytest.raises(ValueError, match=r"holds 'joy\|rage' next to 'joy', 'rage': several labels\? write them"):
        inferred_kind(["joy", "rage", "joy|rage"], "labels", reads_lists=False)
    with pytest.raises(ValueError, match="holds tags of several tokens in one text, such as 'B-PER I-PER O'"):
        inferred_kind(["B-PER I-PER O", "O O"], "labels", reads_lists=False)
    assert inferred_kind(["R&B", "rock/pop", "pop"], "labels", reads_lists=False) == "classification"
    assert inferred_kind(["0", "a"], "labels", reads_lists=False) == "classification"
