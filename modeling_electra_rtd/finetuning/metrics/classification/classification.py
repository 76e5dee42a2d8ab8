"""Accuracy, F1 and the Matthews correlation of class ids, by scikit-learn."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


_DESCRIPTION = """\
accuracy; matthews_correlation; f1 of class 1 where there are two classes, f1_macro where there are more. Degenerate
inputs (one class only, constant predictions) score 0 in the Matthews correlation and in F1 rather than nan.
"""


def compute(predictions: list[int], references: list[int], num_labels: int | None = None) -> dict[str, float]:
    """Scores of class ids.

    Args:
        num_labels: how many classes there are; inferred from the ids otherwise.

    Raises:
        ValueError: for empty or unequally long lists.
    """
    if not len(references) or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    predicted, expected = np.asarray(predictions), np.asarray(references)
    classes = num_labels or int(max(predicted.max(), expected.max())) + 1
    is_constant = len(np.unique(predicted)) == 1 or len(np.unique(expected)) == 1
    scores = {
        "accuracy": float(accuracy_score(expected, predicted)),
        "matthews_correlation": 0.0 if is_constant else float(matthews_corrcoef(expected, predicted)),
    }
    if classes <= 2:
        scores["f1"] = float(f1_score(expected, predicted, labels=[0, 1], pos_label=1, zero_division=0))
    else:
        labels = list(range(classes))
        scores["f1_macro"] = float(f1_score(expected, predicted, labels=labels, average="macro", zero_division=0))
    return scores


class Classification(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: ids of classes; num_labels: how many classes there are",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references, num_labels=None):
        return compute(predictions, references, num_labels)
