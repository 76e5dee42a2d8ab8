"""BLEU and chrF of translations, by `sacrebleu`."""

import datasets
import evaluate
from sacrebleu.metrics import BLEU, CHRF


_DESCRIPTION = "bleu and chrf of a corpus, 0 to 100, with sacrebleu's defaults; `signature` says which."
_CITATION = "Post, A Call for Clarity in Reporting BLEU Scores, 2018"


def compute(predictions: list[str], references: list[list[str]]) -> dict[str, float]:
    """Scores of translations against as many references each as every other has.

    Raises:
        ValueError: for empty or unequally long lists, examples with different numbers of references, or one with a
            plain text for its list of references.
    """
    streams = _streams(predictions, references)
    return {
        "bleu": float(BLEU().corpus_score(predictions, streams).score),
        "chrf": float(CHRF().corpus_score(predictions, streams).score),
    }


def signature(predictions: list[str], references: list[list[str]]) -> str:
    """What BLEU was computed with, as papers quote it."""
    bleu = BLEU()
    bleu.corpus_score(predictions, _streams(predictions, references))
    return str(bleu.get_signature())


def _streams(predictions: list[str], references: list[list[str]]) -> list[list[str]]:
    if not references or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    if any(isinstance(accepted, str) for accepted in references):
        raise ValueError("references are lists of accepted texts, one list for each prediction; found a plain text")
    counts = {len(accepted) for accepted in references}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"every prediction needs the same number of references, at least one; found {sorted(counts)}")
    return [list(stream) for stream in zip(*references, strict=True)]


class Translations(evaluate.Metric):
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
