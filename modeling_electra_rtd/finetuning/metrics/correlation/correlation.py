"""Pearson and Spearman correlation of scores, by scipy."""

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr


_DESCRIPTION = """\
pearson, spearman. Where either side is constant or not finite a correlation is undefined; it counts as 0 rather than
nan, so that a run that learned nothing is seen in a mean.
"""


def compute(predictions: list[float], references: list[float]) -> dict[str, float]:
    """Correlations of two lists of numbers.

    Raises:
        ValueError: for fewer than two pairs, or unequally long lists.
    """
    if len(references) < 2 or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references; at least two pairs")
    predicted, expected = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
    is_finite = np.isfinite(predicted).all() and np.isfinite(expected).all()
    if not is_finite or np.ptp(predicted) == 0 or np.ptp(expected) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(predicted, expected).statistic),
        "spearman": float(spearmanr(predicted, expected).statistic),
    }


class Correlation(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: numbers",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions, references):
        return compute(predictions, references)
