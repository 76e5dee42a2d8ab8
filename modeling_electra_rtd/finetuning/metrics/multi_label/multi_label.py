"""F1 of texts that may have several labels or none, by scikit-learn."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score


_DESCRIPTION = """\
f1_micro, over all decisions of one label for one text; f1_macro, the mean of the F1 of every label;
exact_match_accuracy, the share of texts with all labels right. A label that is nowhere right has an F1 of 0.
"""


def compute(
    predictions: list[list[int]], references: list[list[int]], num_labels: int | None = None
) -> dict[str, float]:
    """Scores of lists of label ids, which may be empty.

    Args:
        num_labels: how many labels there are; inferred from the ids otherwise.

    Raises:
        ValueError: for empty or unequally long lists.
    """
    if not len(references) or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    count = num_labels or 1 + max((i for rows in (predictions, references) for row in rows for i in row), default=0)
    predicted, expected = (_bits(rows, count) for rows in (predictions, references))
    scores = {
        f"f1_{average}": float(f1_score(expected, predicted, average=average, zero_division=0))
        for average in ("micro", "macro")
    }
    # For one label scikit-learn would make a column of classes, whose averages mean something else.
    if count == 1:
        f1 = float(f1_score(expected[:, 0], predicted[:, 0], zero_division=0))
        scores = {"f1_micro": f1, "f1_macro": f1}
    return {**scores, "exact_match_accuracy": float(accuracy_score(expected, predicted))}


def _bits(rows: list[list[int]], count: int) -> np.ndarray:
    bits = np.zeros((len(rows), count), dtype=int)
    for number, row in enumerate(rows):
        bits[number, list(row)] = 1
    return bits


class MultiLabel(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Sequence(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: lists of label ids; num_labels: how many labels there are",
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(self, predictions, references, num_labels=None):
        return compute(predictions, references, num_labels)
