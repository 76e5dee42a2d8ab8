"""Exact match and F1 by the rules of SQuAD 2.0, where a question may have no answer, and the best null threshold."""

import datasets
import evaluate

# evaluate copies this file elsewhere, so what it shares is named in full.
from modeling_electra_rtd.finetuning.metrics.squad.squad import normalized, overlap_f1


_DESCRIPTION = """\
exact_match and f1, 0 to 100, over all questions, and HasAns_..., NoAns_... over those with and without an answer;
best_exact, best_f1 and their thresholds: the score when every question whose no_answer_probability lies above the
threshold is answered by nothing.
"""
_CITATION = "Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018"


def compute(
    predictions: list[dict], references: list[dict], no_answer_threshold: float | None = None
) -> dict[str, float]:
    """Scores of answers, an empty text standing for none.

    Args:
        predictions: `{"id", "prediction_text", "no_answer_probability"}`; the last is any number that rises with the
            belief that there is no answer.
        references: `{"id", "answers": {"text": [...]}}`, empty where there is no answer.
        no_answer_threshold: answers of questions above it count as none; `None` takes the texts as they are. The
            search for the best threshold always starts from the texts as they are, so they should be the best
            non-empty ones.

    Raises:
        ValueError: for no example, or a question without a prediction, naming it.
    """
    if not references:
        raise ValueError("there is no question to score")
    by_id = {prediction["id"]: prediction for prediction in predictions}
    rows = []
    for reference in references:
        if reference["id"] not in by_id:
            raise ValueError(f"question {reference['id']!r} has no prediction")
        prediction = by_id[reference["id"]]
        # A reference of articles and punctuation alone does not count, as in the official scorer.
        accepted = [text for text in reference["answers"]["text"] if normalized(text)] or [""]
        text = prediction["prediction_text"]
        exact = float(max(normalized(text) == normalized(answer) for answer in accepted))
        rows.append(
            (
                exact,
                # Nothing matches nothing here, though it shares no word with it.
                max(exact, *(overlap_f1(text, answer) for answer in accepted)),
                bool(reference["answers"]["text"]),
                float(prediction["no_answer_probability"]),
                bool(text),
            )
        )
    scores: dict[str, float] = {"total": len(rows)}
    for name, column in (("exact_match", 0), ("f1", 1)):
        kept = [_thresholded(row, column, no_answer_threshold) for row in rows]
        scores[name] = 100 * sum(kept) / len(rows)
        for prefix, has_answer in (("HasAns", True), ("NoAns", False)):
            part = [score for score, row in zip(kept, rows, strict=True) if row[2] == has_answer]
            if part:
                scores[f"{prefix}_{name}"] = 100 * sum(part) / len(part)
        short = "exact" if name == "exact_match" else "f1"
        scores[f"best_{short}"], scores[f"best_{short}_thresh"] = _best_threshold(rows, column)
    return scores


def _thresholded(row: tuple, column: int, threshold: float | None) -> float:
    if threshold is None or row[3] <= threshold:
        return row[column]
    return float(not row[2])


def _best_threshold(rows: list[tuple], column: int) -> tuple[float, float]:
    """From answering nothing at all, questions are answered one by one, the surest first.

    As in the official scorer any text given to a question without an answer is wrong here, also one of nothing but
    articles and punctuation, and questions of equal probability are answered one by one too.
    """
    score = float(sum(not row[2] for row in rows))
    best, threshold = score, 0.0
    for row in sorted(rows, key=lambda row: row[3]):
        score += row[column] if row[2] else -float(row[4])
        if score > best:
            best, threshold = score, row[3]
    return 100 * best / len(rows), threshold


class SquadV2(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        answers = {
            "text": datasets.Sequence(datasets.Value("string")),
            "answer_start": datasets.Sequence(datasets.Value("int64")),
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: id, prediction_text, no_answer_probability; references: id, answers",
            features=datasets.Features(
                {
                    "predictions": {
                        "id": datasets.Value("string"),
                        "prediction_text": datasets.Value("string"),
                        "no_answer_probability": datasets.Value("float64"),
                    },
                    "references": {"id": datasets.Value("string"), "answers": answers},
                }
            ),
        )

    def _compute(self, predictions, references, no_answer_threshold=None):
        return compute(predictions, references, no_answer_threshold)
