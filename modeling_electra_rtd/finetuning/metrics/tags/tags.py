"""Accuracy of tags that stand for one token each, such as parts of speech, by scikit-learn."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score


_DESCRIPTION = "accuracy over all tokens; f1_macro, the mean of the F1 of every tag that occurs on either side."


def compute(predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    """Scores of tags, token by token.

    Raises:
        ValueError: for rows of unequal length, naming the row, or no token at all.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    for number, (predicted, expected) in enumerate(zip(predictions, references, strict=True)):
        if len(predicted) != len(expected):
            raise ValueError(f"row {number}: {len(predicted)} predicted tags for {len(expected)} tokens")
    predicted = [tag for row in predictions for tag in row]
    expected = [tag for row in references for tag in row]
    if not expected:
        raise ValueError("there is no token to score")
    return {
        "accuracy": float(accuracy_score(expected, predicted)),
        "f1_macro": float(f1_score(expected, predicted, average="macro", zero_division=0)),
    }


class Tags(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: lists of tags, one for each token",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references):
        return compute(predictions, references)
