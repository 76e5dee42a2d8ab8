"""SQuAD files: what cannot be trained on or scored is said before training, by file and question."""

import copy
import json
import re

import pytest

from modeling_electra_rtd.finetuning.reading import read_task
from modeling_electra_rtd.finetuning.squad_files import question_rows
from modeling_electra_rtd.finetuning.tasks import TASKS


CONTEXT = "Zoë lebt in Köln, und Köln liegt am Rhein."
GOOD = {"id": "q1", "question": " Wo? ", "answers": [{"text": "Köln", "answer_start": 12}]}
UNANSWERABLE = {"id": "q2", "question": "Wann?", "answers": [], "is_impossible": True}


def write(folder, *questions, name: str = "train-v1.1.json", context=CONTEXT, mark: str = ""):
    content = {
        "version": "1.1",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}],
    }
    path = folder / name
    path.write_text(mark + json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def read(path, task: str = "squad", split: str = "train"):
    return list(question_rows(path, TASKS[task], split))


def changed(**values):
    """GOOD with other values: those of the answer are named `text` and `answer_start`; `...` leaves a value out."""
    question = copy.deepcopy(GOOD)
    for name, value in values.items():
        place = question["answers"][0] if name in ("text", "answer_start") else question
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return question


def test_good_questions_are_read_as_they_are(tmp_path, caplog):
    second = {"id": 7, "question": "Wo?", "answers": [{"text": "Köln", "answer_start": 22}] * 2}
    rows = read(write(tmp_path, GOOD, second, mark="\ufeff"))
    assert rows[0] == {
        "id": "q1",
        "title": "t",
        "question": "Wo?",
        "context": CONTEXT,
        "answers": {"text": ["Köln"], "answer_start": [12]},
    }
    assert rows[1]["id"] == "7" and rows[1]["answers"] == {"text": ["Köln"] * 2, "answer_start": [22, 22]}
    rows = read(write(tmp_path, GOOD, UNANSWERABLE, {**UNANSWERABLE, "id": "q3", "answers": None}), "squad_v2")
    assert [row["answers"]["text"] for row in rows] == [["Köln"], [], []] and not caplog.records


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (changed(answer_start="12"), "answer_start is '12'; it must be a whole number"),
        (changed(answer_start=12.0), "answer_start is 12.0; it must be a whole number"),
        (changed(answer_start=None), "answer_start is None; it must be a whole number"),
        (changed(answer_start=True), "answer_start is True; it must be a whole number"),
        (changed(answer_start=...), "answer_start is None; it must be a whole number"),
        (
            changed(answer_start=-1),
            "answer_start is -1; it must be the character of the context, from 0, at which 'Köln'",
        ),
        (changed(answer_start=len(CONTEXT)), f"answer_start is {len(CONTEXT)}; it must be the character"),
        (changed(text=None), "(text is None; it must be text)"),
        (changed(text=5), "(text is 5; it must be text)"),
        (changed(text=...), "(text is missing; it must be text)"),
        (changed(text=" "), "text of an answer is ' '; a question without answer has answers: []"),
        (changed(answers=[]), "has no answer, and squad has no such questions; --task squad_v2 has"),
        (changed(is_impossible=True), "has no answer, and squad has no such questions"),
        (changed(is_impossible="false"), "is_impossible is 'false'; it must be true or false"),
        (changed(answers=None), "(answers is None; it must be a list)"),
        (changed(answers=...), "(answers is missing; it must be a list)"),
        (changed(answers={"text": ["Köln"], "answer_start": [12]}), "it must be a list)"),
        (changed(answers=["Köln"]), "(text is missing; it must be text)"),
        (changed(question=None), "(question is None; it must be text)"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_question(tmp_path, question, problem, split):
    path = write(tmp_path, {**GOOD, "id": "q0"}, question)
    with pytest.raises(ValueError, match=re.escape(problem)) as error:
        read(path, split=split)
    assert str(error.value).startswith(f"{path}, question 'q1'") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "(data is missing; it must be a list)"),
        ({"data": {}}, "(data is {}; it must be a list)"),
        ({"data": [{"title": "t"}]}, "article 1: not in the layout of SQuAD (paragraphs is missing"),
        ({"data": [{"id": "1", "context": "a"}]}, "article 1: not in the layout"),
        ({"data": [{"paragraphs": [{"context": None, "qas": []}]}]}, "article 1, paragraph 1: not in the layout"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b"}]}]}]}, "paragraph 1, question 1: "),
        ({"data": [{"paragraphs": [{"context": "a", "qas": ["b"]}]}]}, "(id is None; it must be text)"),
    ],
)
def test_another_layout_is_named_by_place(tmp_path, content, problem):
    path = tmp_path / "train-v1.1.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(problem)) as error:
        read(path)
    assert str(path) in str(error.value) and "SQuAD" in str(error.value)
    path.write_text('{"data": [')
    with pytest.raises(ValueError, match="train-v1.1.json: not JSON"):
        read(path)


def test_ids_of_two_questions(tmp_path, caplog):
    write(tmp_path, GOOD, GOOD, {**GOOD, "id": "other"})
    write(tmp_path, GOOD, name="dev-v1.1.json")
    data = read_task(TASKS["squad"], str(tmp_path))
    assert len(data.splits["train"]) == 3
    assert "train-v1.1.json, question 'q1' has the id of another question" in caplog.text
    path = write(tmp_path, GOOD, changed(question="Woher?"), name="dev-v1.1.json")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}, question 'q1': two questions have this id"):
        read_task(TASKS["squad"], str(tmp_path))
    path.unlink()
    # A validation split made of training questions is scored as well.
    with pytest.raises(ValueError, match="train-v1.1.json, question 'q1': two questions have this id"):
        read_task(TASKS["squad"], str(tmp_path), validation_fraction=0.999)


def test_what_is_trained_on_all_the_same_is_counted(tmp_path, caplog):
    moved = [{**changed(answer_start=start), "id": f"m{start}"} for start in (11, 13)]
    absent = {**changed(text="Bonn"), "id": "absent"}
    path = write(tmp_path, GOOD, *moved, absent)
    assert len(read(path)) == 4
    assert f"{path}, question 'm11' and 1 more have an answer that is not at its answer_start" in caplog.text
    assert f"{path}, question 'absent' has an answer that is not in the context" in caplog.text
    caplog.clear()
    # Where a split is scored, the text of an answer counts and its place does not.
    read(path, split="validation")
    assert "not at its answer_start" not in caplog.text and "question 'absent'" in caplog.text
    caplog.clear()
    rows = read(
        write(tmp_path, {**GOOD, "is_impossible": True}, changed(id="n", answers=[], is_impossible=False)), "squad_v2"
    )
    assert [row["answers"]["text"] for row in rows] == [[], []]
    assert "question 'q1' has answers, which are not read" in caplog.text
    assert "question 'n' has no answer although is_impossible is false" in caplog.text
