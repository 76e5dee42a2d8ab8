"""Every metric against its reference library on random and on degenerate input, and by the official rules by hand."""

import random
import warnings

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as entity_f1
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from modeling_electra_rtd.finetuning.metrics.translations.translations import signature
from modeling_electra_rtd.finetuning.scoring import METRICS, compute, metric_folder


EXAMPLES = {
    "classification": ([1, 0, 1, 1], [1, 0, 0, 1]),
    "correlation": ([0.5, 1.0, 3.0], [1.0, 2.0, 2.5]),
    "multi_label": ([[0, 1], [], [1]], [[0], [], [1]]),
    "tags": ([["N", "V"], ["N"]], [["N", "N"], ["N"]]),
    "entities": ([["B-x", "I-x", "O"]], [["B-x", "O", "O"]]),
    "squad": (
        [{"id": "1", "prediction_text": "The cat!"}],
        [{"id": "1", "answers": {"text": ["cat"], "answer_start": [0]}}],
    ),
    "squad_v2": (
        [{"id": "1", "prediction_text": "", "no_answer_probability": 0.9}],
        [{"id": "1", "answers": {"text": [], "answer_start": []}}],
    ),
    "summaries": (["the cat sat"], [["a cat sat down", "dogs"]]),
    "translations": (["the cat sat on the mat"], [["the cat sat on a mat"]]),
}


@pytest.mark.parametrize("name", METRICS)
def test_evaluate_loads_it_without_network(name):
    predictions, references = EXAMPLES[name]
    loaded = evaluate.load(str(metric_folder(name)))
    assert loaded.compute(predictions=predictions, references=references) == pytest.approx(
        compute(name, predictions, references)
    )
    assert loaded.description and loaded.inputs_description


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="unknown metric 'squat'; did you mean 'squad'"):
        metric_folder("squat")


labels = st.integers(1, 4).flatmap(
    lambda top: st.lists(st.tuples(st.integers(0, top), st.integers(0, top)), min_size=1, max_size=40)
)


@settings(max_examples=50, deadline=None)
@given(labels)
def test_classification_equals_scikit_learn(pairs):
    predicted, expected = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = compute("classification", list(predicted), list(expected))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["accuracy"] == pytest.approx(accuracy_score(expected, predicted))
        assert scores["matthews_correlation"] == pytest.approx(matthews_corrcoef(expected, predicted))
        if max(*predicted, *expected) <= 1:
            assert scores["f1"] == pytest.approx(f1_score(expected, predicted, zero_division=0))
        else:
            every = list(range(max(*predicted, *expected) + 1))
            macro = f1_score(expected, predicted, labels=every, average="macro", zero_division=0)
            assert scores["f1_macro"] == pytest.approx(macro)


def test_correlation_equals_scipy_and_constants_count_as_nothing():
    generator = np.random.default_rng(0)
    predicted, expected = generator.normal(size=(2, 50))
    expected = np.round(expected + predicted, 1)
    scores = compute("correlation", predicted.tolist(), expected.tolist())
    assert scores["pearson"] == pytest.approx(pearsonr(predicted, expected).statistic)
    assert scores["spearman"] == pytest.approx(spearmanr(predicted, expected).statistic)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute("correlation", [1.0, 1.0], [0.0, 2.0]) == {"pearson": 0.0, "spearman": 0.0}
        assert compute("correlation", [0.0, 2.0], [1.0, 1.0]) == {"pearson": 0.0, "spearman": 0.0}


def test_entities_equal_seqeval():
    generator = random.Random(0)
    tags = ["O", "B-a", "I-a", "B-b", "I-b"]
    sizes = [generator.randint(1, 12) for _ in range(40)]
    predicted, expected = ([[generator.choice(tags) for _ in range(size)] for size in sizes] for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = compute("entities", predicted, expected)
    assert scores["f1"] == pytest.approx(entity_f1(expected, predicted))
    # By hand: one of two predicted entities is right, one of one reference entities found.
    scores = compute("entities", [["B-a", "I-a", "B-b"]], [["B-a", "I-a", "O"]])
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (scores["f1_a"], scores["support_a"], scores["f1_b"], scores["support_b"]) == (1.0, 1, 0.0, 0)
    assert compute("entities", [["O"]], [["O"]])["f1"] == 0.0


def test_tags_are_counted_token_by_token():
    scores = compute("tags", [["N", "V"], ["N", "N"]], [["N", "N"], ["N", "V"]])
    assert scores["accuracy"] == 0.5
    assert scores["f1_macro"] == pytest.approx(1 / 3)
    for name in ("tags", "entities"):
        with pytest.raises(ValueError, match="row 1: 1 predicted tags for 2 tokens"):
            compute(name, [["O"], ["O"]], [["O"], ["O", "O"]])


@pytest.mark.parametrize(
    ("predicted", "answers", "exact", "f1"),
    [
        ("The Cat.", ["cat"], 100, 100),
        ("a cat", ["the dog", "an  cat"], 100, 100),
        ("black cat", ["cat"], 0, 200 / 3),
        ("cat cat", ["cat"], 0, 200 / 3),
        ("theater", ["ater"], 0, 0),
        ("", ["cat"], 0, 0),
        ("the", ["a"], 100, 0),  # equal once normalised, but no word in common
        ("Zürich", ["zürich"], 100, 100),
        ("it's", ["its"], 100, 100),
    ],
)
def test_squad_by_the_official_rules(predicted, answers, exact, f1):
    prediction = [{"id": "q", "prediction_text": predicted}]
    reference = [{"id": "q", "answers": {"text": answers, "answer_start": [0] * len(answers)}}]
    scores = compute("squad", prediction, reference)
    assert scores == {"exact_match": pytest.approx(exact), "f1": pytest.approx(f1)}


def squad_v2(rows):
    predictions = [
        {"id": str(i), "prediction_text": text, "no_answer_probability": probability}
        for i, (text, probability, _) in enumerate(rows)
    ]
    references = [
        {"id": str(i), "answers": {"text": answers, "answer_start": [0] * len(answers)}}
        for i, (_, _, answers) in enumerate(rows)
    ]
    return predictions, references


def test_squad_v2_by_hand():
    rows = [
        ("cat", 0.1, ["cat"]),  # right
        ("black dog", 0.4, ["dog"]),  # half right
        ("", 0.9, []),  # right to be silent
        ("mat", 0.6, []),  # should have been silent
    ]
    scores = compute("squad_v2", *squad_v2(rows))
    assert scores["total"] == 4
    assert scores["exact_match"] == 50 and scores["f1"] == pytest.approx(100 * (1 + 2 / 3 + 1) / 4)
    assert scores["HasAns_exact_match"] == 50 and scores["NoAns_exact_match"] == 50
    # Silence above 0.4 answers the first two: 1 + 2/3 + 1 + 1; for exact match silence above 0.1 is as good.
    assert (scores["best_f1"], scores["best_f1_thresh"]) == (pytest.approx(100 * (3 + 2 / 3) / 4), 0.4)
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (75, 0.1)
    silent = compute("squad_v2", *squad_v2(rows), no_answer_threshold=0.4)
    assert silent["f1"] == scores["best_f1"]


def test_the_best_threshold_is_the_best_of_all():
    generator = random.Random(1)
    words = ["cat", "dog", "black cat", ""]
    for _ in range(30):
        rows = [
            (generator.choice(words), round(generator.random(), 2), generator.choice([[], ["cat"], ["dog"]]))
            for _ in range(8)
        ]
        predictions, references = squad_v2(rows)
        found = compute("squad_v2", predictions, references)
        thresholds = [-1.0, *(row[1] for row in rows)]
        tried = [
            compute("squad_v2", predictions, references, no_answer_threshold=threshold) for threshold in thresholds
        ]
        assert found["best_f1"] == pytest.approx(max(scores["f1"] for scores in tried))
        assert found["best_exact"] == pytest.approx(max(scores["exact_match"] for scores in tried))


def test_summaries_count_the_best_reference():
    references = [["a cat sat down", "dogs"], ["nothing alike"]]
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    expected = [
        max(scorer.score(reference, "the cats sat")["rouge1"].fmeasure for reference in references[0]),
        scorer.score("nothing alike", "")["rouge1"].fmeasure,
    ]
    scores = compute("summaries", ["the cats sat", ""], references)
    assert scores["rouge1"] == pytest.approx(100 * np.mean(expected)) and expected[0] > 0 == expected[1]
    with pytest.raises(ValueError, match="at least one"):
        compute("summaries", ["x"], [[]])


def test_translations_equal_sacrebleu():
    predictions = ["the cat sat on the mat", "a dog barked", ""]
    references = [["the cat sat on a mat", "a cat sat"], ["a dog barked", "dogs bark"], ["x", "y"]]
    scores = compute("translations", predictions, references)
    streams = [list(stream) for stream in zip(*references, strict=True)]
    assert scores["bleu"] == pytest.approx(corpus_bleu(predictions, streams).score)
    assert scores["chrf"] == pytest.approx(corpus_chrf(predictions, streams).score)
    assert "tok:13a" in signature(predictions, references)
    with pytest.raises(ValueError, match="same number of references"):
        compute("translations", ["a", "b"], [["a"], ["b", "c"]])


def test_squad_v2_threshold_search_counts_any_text_as_an_answer():
    # By hand: "the" is equal to no answer once normalised, but it is an answer to the search.
    scores = compute("squad_v2", *squad_v2([("the", 0.1, []), ("cat", 0.2, ["cat"])]))
    assert scores["exact_match"] == scores["f1"] == 100
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (50, 0.0)
    assert (scores["best_f1"], scores["best_f1_thresh"]) == (50, 0.0)


@pytest.mark.parametrize("name", ["summaries", "translations"])
def test_a_plain_text_is_no_list_of_references(name):
    with pytest.raises(ValueError, match="found a plain text"):
        compute(name, ["a cat", "a dog"], ["a cat", "a dog"])


@pytest.mark.parametrize("name", METRICS)
def test_nothing_cannot_be_scored(name):
    with pytest.raises(ValueError):
        compute(name, [], [])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_correlation_with_what_is_not_finite_is_none(value):
    assert compute("correlation", [1.0, value, 2.0], [1.0, 2.0, 3.0]) == {"pearson": 0.0, "spearman": 0.0}
