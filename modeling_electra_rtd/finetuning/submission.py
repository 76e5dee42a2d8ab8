"""Test-set predictions in the format of the task's site."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset


def write_submission(predictions: list[Any], as_text: Callable[[Any], str], examples: Dataset, path: Path) -> None:
    """Write a file `index<TAB>prediction` as gluebenchmark.com takes it.

    Args:
        predictions: ids of classes, or scores, one for each example.
        as_text: a prediction as the site takes it, see `TaskKind.submitted`.
        examples: the test split, with its `index`.
    """
    lines = ["index\tprediction"]
    for index, prediction in zip(examples["index"], predictions, strict=True):
        lines.append(f"{index}\t{as_text(prediction)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_answers(predictions: list[dict[str, Any]], folder: Path) -> None:
    """Answers as SQuAD's official scorer takes them: `predictions.json` (id to text) and, where questions may have no
    answer, `null_odds.json` (id to probability), its `--na-prob-file`.

    Args:
        predictions: `{"id", "prediction_text"}`, and for SQuAD 2.0 `no_answer_probability`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"predictions.json": "prediction_text", "null_odds.json": "no_answer_probability"}
    for name, key in files.items():
        found = {row["id"]: row[key] for row in predictions if key in row}
        if found:
            (folder / name).write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
