"""Precision, recall and F1 of named entities by the definition of `seqeval`."""

import warnings

import datasets
import evaluate
from seqeval.metrics import accuracy_score, classification_report

from modeling_electra_rtd.finetuning.tag_schemes import as_iobes


_DESCRIPTION = """\
precision, recall, f1 over whole entities (type and both ends right, micro average), accuracy over tokens, and for
every type f1_<type> and support_<type>; seqeval's default mode, which reads tags as conlleval does. IOB1, IOB2, IOE1,
IOE2, IOBES, BILOU, BMES and BMEWO all count the same entities.
"""
_CITATION = "Nakayama, seqeval: A Python framework for sequence labeling evaluation, 2018"


def compute(predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    """Scores of entities in tags of any scheme of B, I, E, S, L, U, M, W and O.

    Raises:
        ValueError: for rows of unequal length, naming the row, or no token at all.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    for number, (predicted, expected) in enumerate(zip(predictions, references, strict=True)):
        if len(predicted) != len(expected):
            raise ValueError(f"row {number}: {len(predicted)} predicted tags for {len(expected)} tokens")
    if not any(references):
        raise ValueError("there is no token to score")
    scores = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": float(accuracy_score(references, predictions))}
    predictions, references = ([[as_iobes(tag) for tag in row] for row in rows] for rows in (predictions, references))
    if all(tag == "O" for rows in (predictions, references) for row in rows for tag in row):
        return scores
    with warnings.catch_warnings():
        # Tags that no sequence can hold, such as I- after O, are counted as conlleval counts them.
        warnings.simplefilter("ignore")
        report = classification_report(references, predictions, output_dict=True, zero_division=0)
    for name, row in report.items():
        if name == "micro avg":
            scores |= {
                "precision": float(row["precision"]),
                "recall": float(row["recall"]),
                "f1": float(row["f1-score"]),
            }
        elif not name.endswith(" avg"):
            scores |= {f"f1_{name}": float(row["f1-score"]), f"support_{name}": int(row["support"])}
    return scores


class Entities(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions and references: lists of tags such as B-PER, one for each token",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references):
        return compute(predictions, references)
