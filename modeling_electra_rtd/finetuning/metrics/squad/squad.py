"""Exact match and F1 of answers by the rules of SQuAD 1.1."""

import re
import string
from collections import Counter

import datasets
import evaluate


_DESCRIPTION = """\
exact_match and f1, 0 to 100: lower case, without punctuation, the articles a, an, the, and extra white space; an
example counts its best reference; F1 over the bag of words.
"""
_CITATION = "Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016"


def compute(predictions: list[dict], references: list[dict]) -> dict[str, float]:
    """Scores of answers.

    Args:
        predictions: `{"id", "prediction_text"}`.
        references: `{"id", "answers": {"text": [...]}}`.

    Raises:
        ValueError: for no example, or a question without a prediction or without an answer, naming it.
    """
    texts = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
    if not references:
        raise ValueError("there is no question to score")
    exact = f1 = 0.0
    for reference in references:
        accepted = reference["answers"]["text"]
        if reference["id"] not in texts or not accepted:
            raise ValueError(f"question {reference['id']!r} has no {'answer' if not accepted else 'prediction'}")
        predicted = texts[reference["id"]]
        exact += max(normalized(predicted) == normalized(answer) for answer in accepted)
        f1 += max(overlap_f1(predicted, answer) for answer in accepted)
    return {"exact_match": 100 * exact / len(references), "f1": 100 * f1 / len(references)}


def normalized(text: str) -> str:
    """What two answers are compared by."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def overlap_f1(predicted: str, answer: str) -> float:
    """F1 over words; 0 without a common word, also where both sides are empty, as in the scorer of SQuAD 1.1."""
    words, expected = normalized(predicted).split(), normalized(answer).split()
    common = sum((Counter(words) & Counter(expected)).values())
    return 2 * common / (len(words) + len(expected)) if common else 0.0


class Squad(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        answers = {
            "text": datasets.Sequence(datasets.Value("string")),
            "answer_start": datasets.Sequence(datasets.Value("int64")),
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: id and prediction_text; references: id and answers",
            features=datasets.Features(
                {
                    "predictions": {"id": datasets.Value("string"), "prediction_text": datasets.Value("string")},
                    "references": {"id": datasets.Value("string"), "answers": answers},
                }
            ),
        )

    def _compute(self, predictions, references):
        return compute(predictions, references)
