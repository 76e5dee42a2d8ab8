"""Official layouts read to the letter, and refused with file and line."""

import json

import pytest

from modeling_electra_rtd.finetuning.kinds.tagging import tag_labels
from modeling_electra_rtd.finetuning.reading import read_task
from modeling_electra_rtd.finetuning.tasks import TASKS


def write(folder, **files) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(content, encoding="utf-8")
    return str(folder)


def test_cola_has_no_header_and_quotes_are_text(tmp_path):
    lines = 'gj04\t1\t\tThe "cat sat.\ngj04\t0\t*\tCat the sat.\n'
    write(tmp_path / "CoLA", train_tsv=lines, dev_tsv=lines, test_tsv="index\tsentence\n5\tA dog.\n")
    data = read_task(TASKS["cola"], str(tmp_path))
    assert data.splits["train"].to_list() == [
        {"sentence": 'The "cat sat.', "label": 1},
        {"sentence": "Cat the sat.", "label": 0},
    ]
    assert data.splits["test"].to_list() == [{"sentence": "A dog.", "index": 5}]
    assert data.labels == ("unacceptable", "acceptable") and not data.stand_ins
    # The task's own folder can be given as well.
    assert read_task(TASKS["cola"], str(tmp_path / "CoLA")).splits["train"].num_rows == 2


def test_mrpc_with_a_byte_order_mark_and_no_index(tmp_path):
    lines = '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tHe "said so .\tSo he said .\n'
    write(tmp_path, train_tsv=lines, dev_tsv=lines, msr_paraphrase_test_txt=lines)
    data = read_task(TASKS["mrpc"], str(tmp_path))
    assert data.splits["validation"][0] == {"sentence1": 'He "said so .', "sentence2": "So he said .", "label": 1}
    assert data.splits["test"][0]["index"] == 0 and data.stand_ins == {"test": "msr_paraphrase_test.txt"}


def test_parts_are_said_to_be_parts(tmp_path):
    lines = "index\tsentence1\tsentence2\tgold_label\n0\ta\tb\tneutral\n"
    write(tmp_path / "MNLI", train_subset10k_tsv=lines, dev_matched_tsv=lines)
    data = read_task(TASKS["mnli"], str(tmp_path))
    assert data.stand_ins == {"train": "train_subset10k.tsv"}
    assert data.splits["train"]["label"] == [1] and set(data.splits) == {"train", "validation"}


@pytest.mark.parametrize(
    ("task", "train", "message"),
    [
        ("cola", "gj04\t1\t\tA cat.\ngj04\t1\tA cat.\n", r"train.tsv, line 2: 3 fields, expected 4"),
        ("cola", "gj04\tyes\t\tA cat.\n", r"train.tsv, line 1: label 'yes'; allowed: acceptable, unacceptable"),
        ("cola", "", "has no example"),
        (
            "rte",
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailmnet\n",
            "line 2: label 'entailmnet'; did",
        ),
        (
            "rte",
            "index\tsentence1\tlabel\n0\ta\tentailment\n",
            "no column sentence2; its columns are index",
        ),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\t5.5\n", r"line 2: score 5.5 is out of range, allowed is 0 to 5"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\thigh\n", r"line 2: score 'high' is not a number"),
    ],
)
def test_what_is_wrong_is_named(task, train, message, tmp_path):
    write(tmp_path, train_tsv=train, dev_tsv=train)
    with pytest.raises(ValueError, match=message):
        read_task(TASKS[task], str(tmp_path))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="no train split: .* has no train.tsv or train_subset10k.tsv"):
        read_task(TASKS["qnli"], str(tmp_path))
    with pytest.raises(ValueError, match="no such folder"):
        read_task(TASKS["qnli"], str(tmp_path / "nowhere"))
    write(tmp_path, train_tsv="gj04\t1\t\tA cat.\n")
    with pytest.raises(ValueError, match="no validation split"):
        read_task(TASKS["cola"], str(tmp_path))
    with pytest.raises(ValueError, match="is not read from the Hub; give --data-dir"):
        read_task(TASKS["ewt_pos"])
    # The suite has no network: what the client says becomes one line.
    with pytest.raises(ValueError, match="nyu-mll/glue cannot be read .*give --data-dir"):
        read_task(TASKS["cola"])


def test_not_utf8_is_named(tmp_path):
    (tmp_path / "train.tsv").write_bytes(b"gj04\t1\t\tA caf\xe9.\n")
    (tmp_path / "dev.tsv").write_bytes(b"gj04\t1\t\tA cat.\n")
    with pytest.raises(ValueError, match="train.tsv: not UTF-8"):
        read_task(TASKS["cola"], str(tmp_path))


def test_tags_are_in_one_order_with_o_first():
    assert tag_labels({"train": [["I-y", "O"], ["B-x"]]}) == ("O", "B-x", "I-y")
    assert tag_labels({"train": [["N"]]}) == ("N",)


def test_tags_that_only_validation_has_count_and_are_named(tmp_path, caplog):
    write(tmp_path, train_conll="cat\tO\n", dev_conll="cat\tB-x\n")
    data = read_task(TASKS["wnut17"], str(tmp_path))
    assert data.labels == ("O", "B-x") and data.splits["validation"]["label"] == [[1]]
    assert "validation: tags that training does not have count against the model: B-x" in caplog.text


def questions(count: int = 40) -> str:
    articles = [
        {
            "title": f"t{i}",
            "paragraphs": [
                {
                    "context": "The cat sat.",
                    "qas": [
                        {"id": f"{i}-a", "question": " Who? ", "answers": [{"text": "The cat", "answer_start": 0}]},
                        {"id": f"{i}-b", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
        for i in range(count)
    ]
    return json.dumps({"version": "v2.0", "data": articles})


def test_squad_is_split_by_article(tmp_path):
    (tmp_path / "train_part-v2.0.json").write_text(questions())
    with pytest.raises(ValueError, match="no validation split"):
        read_task(TASKS["squad_v2"], str(tmp_path))
    data = read_task(TASKS["squad_v2"], str(tmp_path), validation_fraction=0.25)
    titles = [set(data.splits[split]["title"]) for split in ("train", "validation")]
    assert not titles[0] & titles[1] and len(titles[0]) + len(titles[1]) == 40 and 4 <= len(titles[1]) <= 16
    again = read_task(TASKS["squad_v2"], str(tmp_path), validation_fraction=0.25)
    assert again.splits["validation"].to_list() == data.splits["validation"].to_list()
    assert "25% of" in data.sources["validation"] and "validation" in data.stand_ins
    first, second = data.splits["train"].to_list()[:2]
    assert first["question"] == "Who?" and first["answers"] == {"text": ["The cat"], "answer_start": [0]}
    assert second["answers"] == {"text": [], "answer_start": []}
    with pytest.raises(ValueError, match=r"validation_fraction is 2; it must be in \(0, 1\)"):
        read_task(TASKS["squad_v2"], str(tmp_path), validation_fraction=2)
    (tmp_path / "train_part-v2.0.json").write_text('{"version": 1}')
    with pytest.raises(ValueError, match="not in the layout of SQuAD"):
        read_task(TASKS["squad_v2"], str(tmp_path), validation_fraction=0.5)


def test_summaries_and_translations(tmp_path):
    line = json.dumps({"source": ["A cat.", "A dog."], "target": ["Cat.", "Dog."]}) + "\n"
    write(tmp_path, train_jsonl=line, dev_jsonl=line)
    data = read_task(TASKS["scitldr"], str(tmp_path))
    assert [row["target"] for row in data.splits["train"]] == ["Cat.", "Dog."]
    assert data.splits["validation"].to_list() == [
        {"source": "A cat. A dog.", "target": "Cat.", "references": ["Cat.", "Dog."]}
    ]
    extractive = read_task(TASKS["scitldr_extractive"], str(tmp_path))
    assert extractive.splits["train"].to_list() == [
        {"sentences": ["A cat.", "A dog."], "references": ["Cat.", "Dog."]}
    ]
    write(tmp_path, train_de="a\nb\n", train_en="x\ny\n", val_de="a\n", val_en="x\n")
    assert read_task(TASKS["multi30k_de_en"], str(tmp_path)).splits["train"][1] == {
        "source": "b",
        "target": "y",
        "references": ["y"],
    }
    write(tmp_path, train_en="x\n")
    with pytest.raises(ValueError, match="has 2 lines, but .*train.en has 1"):
        read_task(TASKS["multi30k_de_en"], str(tmp_path))
    write(tmp_path, train_jsonl='{"source": ["A."]}\n')
    with pytest.raises(ValueError, match="train.jsonl, line 1: no target"):
        read_task(TASKS["scitldr"], str(tmp_path))


def test_swag(tmp_path):
    header = "video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
    row = 'v,1,"A man, He","A man, old, sits.",He,gold,sits.,runs.,eats.,"says ""no"".",3\n'
    write(tmp_path, train_csv=header + row, val_csv=header + row)
    assert read_task(TASKS["swag"], str(tmp_path)).splits["validation"][0] == {
        "context": "A man, old, sits.",
        "question": "He",
        "choices": ["sits.", "runs.", "eats.", 'says "no".'],
        "label": 3,
    }


def test_broken_lines_of_qqp_are_counted_and_left_out(tmp_path, caplog):
    folder = tmp_path / "QQP"
    folder.mkdir()
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    good = "".join(f"{i}\t1\t2\twho is {i} ?\twhat is {i} ?\t{i % 2}\n" for i in range(4))
    (folder / "train.tsv").write_text(header + "9\t1\t2\tbroken by a\n" + "line break ?\twhat ?\t1\n" + good)
    (folder / "dev.tsv").write_text(header + good)
    data = read_task(TASKS["qqp"], str(tmp_path))
    assert list(data.splits["train"]["label"]) == [0, 1, 0, 1]
    assert "train.tsv, line 2: 4 fields, expected 6; 2 such lines are left out" in caplog.text


def test_blank_lines_are_no_examples_and_half_blank_ones_are_named(tmp_path):
    (tmp_path / "train.de").write_text("ein Hund\n\n")
    (tmp_path / "train.en").write_text("a dog\n\n")
    for name in ("val.de", "val.en"):
        (tmp_path / name).write_text("x\n")
    assert len(read_task(TASKS["multi30k_de_en"], str(tmp_path)).splits["train"]) == 1
    (tmp_path / "train.en").write_text("a dog\na cat\n")
    with pytest.raises(ValueError, match=r"train\.de, line 2: is empty, but the line of the other side is not"):
        read_task(TASKS["multi30k_de_en"], str(tmp_path))


def test_an_empty_file_and_an_index_that_is_none_are_named(tmp_path):
    folder = tmp_path / "RTE"
    folder.mkdir()
    good = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n"
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text(good)
    (folder / "test.tsv").write_text("index\tsentence1\tsentence2\nx\ta\tb\n")
    with pytest.raises(ValueError, match=r"test\.tsv, line 2: index 'x' is not a whole number"):
        read_task(TASKS["rte"], str(tmp_path))
    (folder / "train.tsv").write_text("")
    with pytest.raises(ValueError, match=r"train\.tsv: no column sentence1"):
        read_task(TASKS["rte"], str(tmp_path))
