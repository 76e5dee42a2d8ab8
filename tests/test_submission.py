"""The files of the GLUE site, character by character."""

import pytest
from datasets import Dataset

from modeling_electra_rtd.finetuning.submission import write_submission
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
    write_submission(row, predictions, tuple(row.labels or ()), Dataset.from_dict({"index": [7, 8]}), path)
    assert path.read_text(encoding="utf-8") == expected
