"""A user's own files: what is inferred, and what is refused by name."""

import json

import pandas
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from modeling_electra_rtd.finetuning.own_task import explain, own_task


def files(folder, train: str, validation: str | None = None, suffix: str = "csv") -> tuple[str, str]:
    paths = []
    for name, content in (("train", train), ("validation", train if validation is None else validation)):
        path = folder / f"{name}.{suffix}"
        path.write_text(content, encoding="utf-8")
        paths.append(str(path))
    return paths[0], paths[1]


TOPICS = 'title,body,topic\n"A, b",cats,pets\nC,stars,sky\nD,dogs,pets\n'


def test_classes_are_named_in_order(tmp_path):
    task, data = own_task(*files(tmp_path, TOPICS), text_columns=["title", "body"], label_column="topic")
    assert (task.kind, task.headline, data.labels) == ("classification", "accuracy", ("pets", "sky"))
    assert data.splits["train"].to_list()[0] == {"title": "A, b", "body": "cats", "label": 0}
    assert data.splits["train"]["label"] == [0, 1, 0]
    assert "classification with 2 labels (pets, sky); text: title, body" in explain(task, data)


def test_whole_numbers_are_classes_in_their_order_and_fractions_are_scores(tmp_path):
    task, data = own_task(*files(tmp_path, "text,label\na,10\nb,9\nc,10\n"))
    assert (task.kind, data.labels, data.splits["train"]["label"]) == ("classification", ("9", "10"), [1, 0, 1])
    task, data = own_task(*files(tmp_path, "text,label\na,0.5\nb,1\nc,2\n"))
    assert (task.kind, task.headline, data.splits["train"]["label"]) == ("regression", "spearman", [0.5, 1.0, 2.0])
    task, _ = own_task(*files(tmp_path, "text,label\na,1\nb,2\n"), kind="regression")
    assert task.kind == "regression"
    many = "text,label\n" + "".join(f"t,{i}\n" for i in range(60))
    with pytest.raises(ValueError, match="60 different whole numbers: classes or scores\\? give --kind"):
        own_task(*files(tmp_path, many))


def test_tags_from_lists_and_from_token_files(tmp_path):
    rows = [{"words": ["A", "cat"], "tags": ["O", "B-x"]}, {"words": ["B"], "tags": ["O"]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    task, data = own_task(*files(tmp_path, lines, suffix="jsonl"), label_column="tags")
    assert (task.kind, task.metric, data.labels) == ("tagging", "entities", ("O", "B-x"))
    assert data.splits["train"].to_list()[0] == {"tokens": ["A", "cat"], "label": [0, 1]}
    task, data = own_task(*files(tmp_path, "A DET\ncat N\n\nB N\n", suffix="conll"))
    assert (task.metric, task.headline, data.labels) == ("tags", "accuracy", ("DET", "N"))
    uneven = json.dumps({"words": ["A", "cat"], "tags": ["O"]}) + "\n"
    with pytest.raises(ValueError, match="row 1: 1 tags for 2 tokens"):
        own_task(*files(tmp_path, uneven, suffix="jsonl"), label_column="tags")


def test_a_test_file_needs_no_label(tmp_path):
    test = tmp_path / "test.tsv"
    test.write_text("title\tbody\nX\ty\n")
    task, data = own_task(
        *files(tmp_path, TOPICS), test_file=str(test), text_columns=["title", "body"], label_column="topic"
    )
    assert data.splits["test"].to_list() == [{"title": "X", "body": "y"}]


@pytest.mark.parametrize(
    ("train", "validation", "options", "message"),
    [
        (TOPICS, None, {"label_column": "tpic"}, "no column 'tpic'; did you mean 'topic'"),
        (
            TOPICS,
            None,
            {"label_column": "topic", "text_columns": ["titel"]},
            "did you mean 'title'",
        ),
        (TOPICS, None, {}, "which column is the label\\? give --label-column, one of title, body, topic"),
        (
            TOPICS,
            "title,body,topic\nE,f,sea\n",
            {"label_column": "topic"},
            "validation.csv, row 1: label 'sea'",
        ),
        (TOPICS, "title,topic\nE,sky\n", {"label_column": "topic"}, "validation.csv: no column 'body'"),
        (TOPICS, "title,body,topic\nE,,sky\n", {"label_column": "topic"}, "validation.csv, row 1: 'body' is empty"),
        ("a,b,c,label\nx,y,z,1\n", None, {}, "which columns are the text\\?"),
        ("text,label\nx,1\ny,1\n", None, {}, "has one value only, '1'"),
        ("text,label\nx,a\ny,b\n", None, {"kind": "regression"}, "row 1: score 'a' is not a finite number"),
        ("text,label\nx,0.5\ny,inf\n", None, {}, "row 2: score 'inf' is not a finite number"),
        ("text,label\n", None, {}, "train.csv: has no row"),
        ("", None, {}, "train.csv: has no row"),
        ("text;label\nx;1\n", None, {}, "separated by something other than commas"),
        ("text,label\nx,1,2\ny,2,3\n", None, {}, "train.csv, line 2: 3 fields, expected 2"),
        ("text,label\nx,1\ny,2,3\n", None, {}, "train.csv, line 3: 3 fields, expected 2"),
        ("text,label\nx,1\ny\n", None, {}, "train.csv, line 3: 1 fields, expected 2"),
        (TOPICS, None, {"label_column": "topic", "text_columns": ["title", "topic"]}, "the label 'topic' not"),
        (TOPICS, None, {"label_column": "topic", "text_columns": ["body", "body"]}, "each once"),
        (TOPICS, None, {"label_column": "topic", "text_columns": ["body"], "kind": "tagging"}, "lists of tokens"),
    ],
)
def test_what_is_wrong_is_named(train, validation, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        own_task(*files(tmp_path, train, validation), **options)


def test_files_that_are_not_there(tmp_path):
    train, _ = files(tmp_path, TOPICS)
    with pytest.raises(ValueError, match="no validation split: give --validation-file"):
        own_task(train, None)
    with pytest.raises(ValueError, match="nowhere.csv: no such file"):
        own_task(train, str(tmp_path / "nowhere.csv"))
    (tmp_path / "train.xls").write_text("x")
    with pytest.raises(ValueError, match="unknown kind of file '.xls'; allowed: .csv"):
        own_task(str(tmp_path / "train.xls"), train)


def test_names_are_kept_as_they_are_written(tmp_path):
    _, data = own_task(*files(tmp_path, "text,label\na,NA\nb, 01\nNone,02 \n"))
    assert data.labels == ("01", "02", "NA") and data.splits["train"][2]["text"] == "None"
    _, data = own_task(*files(tmp_path, "text,label\na,1.0\nb,0.0\n", "text,label\nc,1\nd,0\n"))
    assert data.labels == ("0", "1") and data.splits["validation"]["label"] == [1, 0]
    for split in ("train", "validation"):
        features = Features({"text": Value("string"), "label": ClassLabel(names=["sky", "pets"])})
        rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
        rows.to_parquet(str(tmp_path / f"{split}.parquet"))
    _, data = own_task(str(tmp_path / "train.parquet"), str(tmp_path / "validation.parquet"))
    assert data.labels == ("pets", "sky") and data.splits["train"]["label"] == [1, 0]


def test_a_quote_in_a_tsv_is_a_quote(tmp_path):
    rows = [("x", "a"), ('"open', "b"), ("y", "a"), ('z" w', "b")]
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    _, data = own_task(*files(tmp_path, content, suffix="tsv"))
    assert data.splits["train"]["text"] == [text for text, _ in rows]


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz"])
def test_a_tsv_of_pandas_and_one_with_marks_of_its_own(tmp_path, suffix):
    rows = [('say "hi" now', "a"), ("one\ntwo\tthree", "b"), ("plain", "a"), ('"', "b")]
    frame = pandas.DataFrame(rows, columns=["text", "label"])
    paths = [str(tmp_path / f"{split}.{suffix}") for split in ("train", "validation")]
    frame.to_csv(paths[0], sep="\t", index=False)
    frame[2:3].assign(label="b").to_csv(paths[1], sep="\t", index=False)
    _, data = own_task(*paths)
    assert data.splits["train"]["text"] == [text for text, _ in rows]


def test_a_table_with_an_index_in_a_folder_with_brackets(tmp_path):
    folder = tmp_path / "data[v1]{a}*?"
    folder.mkdir()
    for split, texts in (("train", ["2021-03-01T10:00:00", "007"]), ("validation", ["NA", "1e5"])):
        frame = pandas.DataFrame({"text": texts, "label": ["true", "null"]})
        frame.to_json(folder / f"{split}[1].jsonl", orient="records", lines=True)
        frame.to_csv(folder / f"{split}[1].csv")
    for suffix in ("jsonl", "csv"):
        paths = [str(folder / f"{split}[1].{suffix}") for split in ("train", "validation")]
        task, data = own_task(*paths, text_columns=["text"])
        assert (task.kind, data.labels) == ("classification", ("null", "true"))
        assert data.splits["train"].to_list()[0] == {"text": "2021-03-01T10:00:00", "label": 1}
        assert data.splits["validation"]["text"] == ["NA", "1e5"]


def test_names_of_tags_and_a_test_split_without_labels_from_parquet(tmp_path):
    tags = ClassLabel(names=["O", "B-PER", "I-PER"])
    features = Features({"id": Value("string"), "words": List(Value("string")), "ner": List(tags)})
    rows = {"train": [1, 2, 0], "validation": [0, 1, 2], "test": [-1, -1, -1]}
    paths = {}
    for split, ids in rows.items():
        paths[split] = str(tmp_path / f"{split}.parquet")
        table = Dataset.from_dict({"id": ["0"], "words": [["a", "b", "c"]], "ner": [ids]}, features=features)
        table.to_parquet(paths[split])
    options = {"text_columns": ["words"], "label_column": "ner"}
    task, data = own_task(*paths.values(), **options)
    assert (task.headline, data.labels) == ("f1", ("O", "B-PER", "I-PER"))
    assert data.splits["train"]["label"] == [[1, 2, 0]] and data.splits["test"].to_list() == [
        {"tokens": ["a", "b", "c"]}
    ]
    with pytest.raises(ValueError, match="test.parquet, row 1: column 'ner' has no label for each"):
        own_task(paths["train"], paths["test"], **options)
    for split, ids in (("train", [0, 1]), ("validation", [1, 0]), ("test", [-1, -1])):
        table = Dataset.from_dict(
            {"text": [f"{split} {i}" for i in range(2)], "label": ids},
            features=Features({"text": Value("string"), "label": ClassLabel(names=["sky", "pets"])}),
        )
        table.to_parquet(paths[split])
    _, data = own_task(*paths.values())
    assert data.labels == ("pets", "sky") and data.splits["test"].to_list()[0] == {"text": "test 0"}
    with pytest.raises(ValueError, match="test.parquet, row 1: 'label' is empty"):
        own_task(paths["train"], paths["test"])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"text": "a", "label": "x"}, {"text": 7, "label": "y"}], {}, "line 2: column 'text' is 7, but 'a' before"),
        (
            [{"year": 2021, "label": "x"}, {"year": 1e5, "label": "y"}],
            {"text_columns": ["year"]},
            "row 1: column 'year'",
        ),
        (
            [{"words": ["a", None], "tags": ["N", "V"]}],
            {"text_columns": ["words"], "label_column": "tags"},
            "row 1: column 'words' holds None; it must be text",
        ),
        (
            [{"words": ["a", "b"], "tags": ["N", None]}],
            {"text_columns": ["words"], "label_column": "tags"},
            "row 1: column 'tags' has no label for each",
        ),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, rows, options, message):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with pytest.raises(ValueError, match=f"train.jsonl, {message}"):
        own_task(*files(tmp_path, lines, suffix="jsonl"), **options)


def test_one_file_twice_and_texts_in_both_splits(tmp_path, caplog):
    train, validation = files(tmp_path, TOPICS, "title,body,topic\nC,stars,sky\nE,fish,pets\n")
    with pytest.raises(ValueError, match="one file twice"):
        own_task(train, train, label_column="topic")
    own_task(train, validation, label_column="topic")
    assert "1 of 2 validation texts are trained on too" in caplog.text


def test_token_files_beside_others(tmp_path):
    train, validation = files(tmp_path, "# text = A cat\nA DET\ncat N\n\n# 1\nB N\n", suffix="conll")
    test = tmp_path / "test.conll"
    test.write_text("A\ncat\n")
    _, data = own_task(train, validation, str(test))
    assert data.labels == ("1", "DET", "N") and data.splits["test"].to_list() == [{"tokens": ["A", "cat"]}]
    assert data.splits["train"][0]["tokens"] == ["A", "cat"]
    counted = files(tmp_path, "1\tA\tDET\n2\tcat\tN\n", "A\tDET\ncat\tN\n", suffix="bio")
    with pytest.raises(ValueError, match="validation.bio: its first column does not count the tokens, but that of"):
        own_task(*counted)
    with pytest.raises(ValueError, match="no column 'tag'; its columns have no names, give a number"):
        own_task(train, validation, label_column="tag")
    with pytest.raises(ValueError, match="text_columns is .*; .* has no such choice"):
        own_task(train, validation, text_columns=["tag"])
    with pytest.raises(ValueError, match="either all or none of them hold a token"):
        own_task(train, files(tmp_path, TOPICS)[1])
    lists = json.dumps({"text": ["a", "b"], "label": "x"}) + "\n" + json.dumps({"text": ["c"], "label": "y"}) + "\n"
    with pytest.raises(ValueError, match="'text' must hold texts, not lists for classification"):
        own_task(*files(tmp_path, lists, suffix="jsonl"))


def test_other_suffixes_hold_tokens_where_the_column_is_given(tmp_path):
    content = "A\tDET\ncat\tN\n\nB\tN\n"
    for suffix in ("tsv", "txt"):
        task, data = own_task(*files(tmp_path, content, suffix=suffix), token_column="0")
        assert (task.kind, data.labels, data.splits["train"][0]["tokens"]) == ("tagging", ("DET", "N"), ["A", "cat"])
    with pytest.raises(ValueError, match="of a token and its tag a line, give --token-column"):
        own_task(*files(tmp_path, "A\tO\ncat\tB-x\nB\tN\n", suffix="tsv"))


def test_what_is_inferred_is_said(tmp_path, caplog):
    content = "#\thttp://example.org\n1\tA\tI-x\tO\n2\tcat\tO\tO\n\n1\tB\tI-y\tI-x\n"
    task, data = own_task(*files(tmp_path, content, suffix="conll"))
    said = explain(task, data)
    assert (task.metric, data.labels) == ("entities", ("O", "I-x", "I-y"))
    assert "words in column 1, tags in column 2 (--label-column chooses another: 3)" in said
    assert "passed over: 1 comments in train, 1 comments in validation" in said and "entities: IOB1" in said
    task, data = own_task(*files(tmp_path, "id,text,label\nt1,a cat,x\nt2,a dog,y\n"))
    assert task.text_columns == ("text",) and "left out: id (identifiers)" in explain(task, data)
    task, _ = own_task(*files(tmp_path, "A B-x\ncat NN\nB NN\n", suffix="conll"))
    assert task.metric == "tags" and "tags such as B-x write entities, but NN do not" in caplog.text


def test_lists_in_a_csv(tmp_path):
    rows = "tokens,tags\n\"['Ann','left']\",\"['B-PER','O']\"\n\"['in','Rome']\",\"['O','B-LOC']\"\n"
    task, data = own_task(*files(tmp_path, rows))
    assert (task.kind, data.splits["train"][1]["tokens"]) == ("tagging", ["in", "Rome"])
    task, data = own_task(*files(tmp_path, "text,labels\na cat,\"['x', 'y']\"\na dog,[]\n"))
    assert (task.kind, data.labels) == ("multi_label_classification", ("x", "y"))
    assert data.splits["train"]["label"] == [[0, 1], []]
    with pytest.raises(ValueError, match="train.csv, row 2: column 'labels' is \"\\['x' 'y'\\]\"; it must be a list"):
        own_task(*files(tmp_path, "text,labels\na cat,['x']\na dog,['x' 'y']\n"))
    with pytest.raises(ValueError, match="train.csv, row 1: column 'labels' is .*; it must be one label for"):
        own_task(*files(tmp_path, "text,labels\na cat,['x']\na dog,['y']\n"), kind="classification")
    with pytest.raises(ValueError, match="train.csv, row 1: column 'label' is 'x'; it must be a list for multi_label"):
        own_task(*files(tmp_path, "text,label\na cat,x\na dog,y\n"), kind="multi_label_classification")


def test_columns_of_0_and_1_and_lists_of_class_labels(tmp_path):
    content = "id,text,rude,sad\n0,a cat,1,0\n1,a dog,0,0\n2,a mat,1,1\n"
    task, data = own_task(*files(tmp_path, content), label_column=["rude", "sad"])
    assert (task.kind, data.labels, data.splits["train"]["label"]) == (
        "multi_label_classification",
        ("rude", "sad"),
        [[0], [], [0, 1]],
    )
    with pytest.raises(ValueError, match="label_column is rude, sad; regression has one label"):
        own_task(*files(tmp_path, content), label_column=["rude", "sad"], kind="regression")
    for split in ("train", "validation"):
        features = Features({"text": Value("string"), "labels": List(ClassLabel(names=["sky", "pets"]))})
        table = Dataset.from_dict({"text": ["a b", "c d"], "labels": [[0, 1], []]}, features=features)
        table.to_parquet(str(tmp_path / f"{split}.parquet"))
    task, data = own_task(str(tmp_path / "train.parquet"), str(tmp_path / "validation.parquet"))
    assert data.labels == ("pets", "sky") and data.splits["validation"]["label"] == [[0, 1], []]
    bits = "".join(json.dumps({"text": f"a {i}", "labels": [i % 2, 1, 0]}) + "\n" for i in range(4))
    task, data = own_task(*files(tmp_path, bits, suffix="jsonl"))
    assert data.labels == ("0", "1", "2") and data.splits["train"]["label"] == [[1], [0, 1], [1], [0, 1]]
    assert "names of labels: their positions" in explain(task, data)


def test_lists_of_columns_that_are_not_read_may_be_broken(tmp_path):
    content = "text,marks,label\na cat sat,\"['x']\",a\na dog sat,['x' 'y'],b\na mat sat,,a\n"
    with pytest.raises(ValueError, match="which columns are the text"):
        own_task(*files(tmp_path, content))
    task, data = own_task(*files(tmp_path, content), text_columns=["text"])
    assert (task.kind, task.text_columns) == ("classification", ("text",))
    tokens = "tokens,tags\n['a'],['O']\n['b' 'c'],\"['O', 'B-x']\"\n"
    with pytest.raises(ValueError, match="train.csv, row 2: column 'tokens' is .*; it must be a list"):
        own_task(*files(tmp_path, tokens))
