"""The files of the GLUE site, character by character."""

import json

import pytest
from datasets import Dataset

from modeling_electra_rtd.finetuning.kinds.table import KINDS
from modeling_electra_rtd.finetuning.submission import write_answers, write_submission
from modeling_electra_rtd.finetuning.tasks import TASKS


@pytest.mark.parametrize(
    ("task", "predictions", "expected"),
    [
        ("cola", [1, 0], "index\tprediction\n7\t1\n8\t0\n"),
        ("rte", [1, 0], "index\tprediction\n7\tnot_entailment\n8\tentailment\n"),
        ("wnli", [1, 0], "index\tprediction\n7\t1\n8\t0\n"),
        ("mnli", [2, 1], "index\tprediction\n7\tcontradiction\n8\tneutral\n"),
        ("stsb", [5.3, 2.34567], "index\tprediction\n7\t5.000\n8\t2.346\n"),
    ],
)
def test_a_file_is_what_the_site_takes(task, predictions, expected, tmp_path):
    path = tmp_path / "submission" / "file.tsv"
    row = TASKS[task]
    kind = KINDS[row.kind](task=row, labels=tuple(row.labels or ()), tokenizer=None, max_length=8)
    write_submission(predictions, kind.submitted, Dataset.from_dict({"index": [7, 8]}), path)
    assert path.read_text(encoding="utf-8") == expected


def test_answers_as_the_official_scorer_takes_them(tmp_path):
    rows = [{"id": name, "prediction_text": text, "n_best": []} for name, text in (("q1", "a müsli"), ("q2", "b"))]
    write_answers(rows, tmp_path / "squad")
    assert json.loads((tmp_path / "squad" / "predictions.json").read_text("utf-8")) == {"q1": "a müsli", "q2": "b"}
    assert not (tmp_path / "squad" / "null_odds.json").exists()
    write_answers([row | {"no_answer_probability": 0.25} for row in rows], tmp_path / "squad2")
    assert json.loads((tmp_path / "squad2" / "null_odds.json").read_text("utf-8")) == {"q1": 0.25, "q2": 0.25}
