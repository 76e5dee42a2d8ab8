"""ROUGE of summaries, by the `rouge_score` library."""

import datasets
import evaluate
from rouge_score.rouge_scorer import RougeScorer


_DESCRIPTION = """\
rouge1, rouge2, rougeL, rougeLsum: F-measure with Porter stemming, 0 to 100, mean over examples. With several
references an example counts its best one, metric by metric (Cachola et al. 2020, SciTLDR).
"""
_CITATION = "Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004"
_NAMES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def compute(predictions: list[str], references: list[list[str]]) -> dict[str, float]:
    """Scores of summaries against one or more references each.

    Raises:
        ValueError: for empty or unequally long lists, an example without references, or one with a plain text for
            its list of references.
    """
    if not references or len(predictions) != len(references) or not all(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references; each needs at least one")
    if any(isinstance(accepted, str) for accepted in references):
        raise ValueError("references are lists of accepted texts, one list for each prediction; found a plain text")
    scorer = RougeScorer(_NAMES, use_stemmer=True)
    totals = dict.fromkeys(_NAMES, 0.0)
    for predicted, accepted in zip(predictions, references, strict=True):
        scores = [scorer.score(reference, predicted) for reference in accepted]
        for name in _NAMES:
            totals[name] += max(score[name].fmeasure for score in scores)
    return {name: 100 * total / len(references) for name, total in totals.items()}


class Summaries(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: texts; references: lists of accepted texts",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions, references):
        return compute(predictions, references)
