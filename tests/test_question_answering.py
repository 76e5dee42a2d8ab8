"""Spans of answers: windows and offsets by hand, post-processing against gold logits, and a tiny model that learns."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import tiny_tokenizer

from modeling_electra_rtd.finetuning.kinds.question_answering import QuestionAnswering
from modeling_electra_rtd.finetuning.tasks import TASKS


CONTEXT = "The cat sat on a mat and the dog sat on w7 w8 w9 cats."


def kind(name: str = "squad", max_length: int = 48, **options) -> QuestionAnswering:
    return QuestionAnswering(TASKS[name], (), tiny_tokenizer(), max_length, **options)


def examples(*answers: str | None, context: str = CONTEXT, shift: int = 0) -> Dataset:
    return Dataset.from_list(
        [
            {
                "id": str(i),
                "question": "w1 w2 ?",
                "context": context,
                "answers": {
                    "text": [] if answer is None else [answer],
                    "answer_start": [] if answer is None else [max(0, context.find(answer)) + shift],
                },
            }
            for i, answer in enumerate(answers)
        ]
    )


def text_of(feature: dict, start: int, end: int) -> list[str]:
    return tiny_tokenizer().convert_ids_to_tokens(feature["input_ids"][start : end + 1])


def test_positions_cover_the_answer():
    features = kind().features(examples("cat", "a mat", "cats"), training=True)
    found = [text_of(row, row["start_positions"], row["end_positions"]) for row in features]
    assert found == [["cat"], ["a", "mat"], ["cat", "##s"]]


def test_an_answer_that_is_a_little_off_is_found_and_one_that_is_missing_is_counted():
    off = kind().features(examples("a mat", shift=3), training=True)[0]
    assert text_of(off, off["start_positions"], off["end_positions"]) == ["a", "mat"]
    small = kind()
    features = small.features(examples("zebra", "dog"), training=True)
    assert len(features) == 1 and features[0]["example"] == 1
    assert small.cut == {"answers": (1, 2, "are not in their context; their questions are left out")}


def test_what_is_too_long_is_counted():
    small = kind(max_length=16, doc_stride=1, max_query_length=2)
    long = "The cat sat on a mat and the dog sat on w7"
    small.features(examples("cat", long), training=True)
    assert {what: cut[:2] for what, cut in small.cut.items()} == {
        "answers in their context": (1, 2),
        "questions": (2, 2),
    }
    short = kind(max_answer_length=2)
    short.features(examples("cats", "a mat", long, None), training=False)
    assert short.cut == {"accepted answers": (1, 3, "are longer than 2 tokens, which no prediction is")}


def test_options_that_a_window_has_no_room_for_are_said(caplog):
    assert kind(max_length=32).doc_stride == 6
    assert "doc_stride is 128; with max_length 32 it becomes 6" in caplog.text


def test_windows_hold_every_token_and_train_on_zero_where_the_answer_is_not():
    small = kind(max_length=16)
    features = small.features(examples("cat", "w9"), training=True)
    by_example = {number: [row for row in features if row["example"] == number] for number in (0, 1)}
    for rows, answer in ((by_example[0], ["cat"]), (by_example[1], ["w9"])):
        assert len(rows) > 1
        spans = [(row["start_positions"], row["end_positions"]) for row in rows]
        hits = [text_of(row, *span) for row, span in zip(rows, spans, strict=True) if span != (0, 0)]
        assert hits and all(hit == answer for hit in hits) and (0, 0) in spans
    evaluated = small.features(examples("cat"), training=False)
    covered = {tuple(offset) for row in evaluated for offset in row["offset_mapping"] if offset[0] >= 0}
    whole = tiny_tokenizer()(CONTEXT, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert covered == {tuple(offset) for offset in whole}
    assert max(evaluated["length"]) == 16


def gold_logits(small: QuestionAnswering, data: Dataset, null: float = 0.0):
    """Logits that shout at the answer's tokens, from the training features of the same windows."""
    training, evaluated = small.features(data, training=True), small.features(data, training=False)
    assert training["input_ids"] == evaluated["input_ids"]
    shape = (len(evaluated), max(evaluated["length"]))
    starts, ends = np.full(shape, -5.0), np.full(shape, -5.0)
    for row, (start, end) in enumerate(zip(training["start_positions"], training["end_positions"], strict=True)):
        starts[row, start], ends[row, end] = 5.0, 5.0
        starts[row, 0] = max(starts[row, 0], null) if start == 0 else null
        ends[row, 0] = max(ends[row, 0], null) if start == 0 else null
    return (starts, ends), evaluated


@pytest.mark.parametrize("max_length", [16, 48])
def test_gold_logits_give_back_every_answer(max_length):
    small, data = kind(max_length=max_length), examples("cat", "a mat and", "w9", "cats", "The cat sat")
    outputs, evaluated = gold_logits(small, data)
    predictions = small.predictions(outputs, evaluated, data)
    assert [row["prediction_text"] for row in predictions] == ["cat", "a mat and", "w9", "cats", "The cat sat"]
    assert small.metrics(predictions, data) == {"exact_match": 100, "f1": 100}


def test_no_answer_wins_only_where_every_window_says_so():
    context = "Dogs sat on w7 w8 w9 and the cat sat on a mat and w1 w2."
    small, data = kind("squad_v2", max_length=16), examples("w9", None, context=context)
    outputs, evaluated = gold_logits(small, data)
    answered, silent = small.predictions(outputs, evaluated, data)
    assert answered["prediction_text"] == "w9" and answered["no_answer_probability"] < 0.01
    assert silent["no_answer_probability"] > 0.99 and silent["prediction_text"]
    scores = small.metrics([answered, silent], data)
    assert scores["exact_match"] == 100 and scores["NoAns_f1"] == 100
    never = kind("squad_v2", max_length=16, null_score_diff_threshold=60.0)
    assert never.metrics([answered, silent], data)["exact_match"] == 50


def test_the_n_best_are_ranked_whole_and_short_enough():
    small, data = kind(max_answer_length=2), examples("cat")
    evaluated = small.features(data, training=False)
    generator = np.random.default_rng(0)
    outputs = tuple(generator.normal(size=(1, evaluated["length"][0])) for _ in range(2))
    answers = small.n_best(outputs, evaluated, data)[0]["answers"]
    scores = [answer["score"] for answer in answers]
    assert scores == sorted(scores, reverse=True) and len(answers) == 20
    assert all(answer["text"] == CONTEXT[answer["start"] : answer["end"]] for answer in answers)
    offsets = evaluated[0]["offset_mapping"]
    best = max(
        outputs[0][0, i] + outputs[1][0, j]
        for i in range(len(offsets))
        for j in range(i, min(i + 2, len(offsets)))
        if offsets[i][0] >= 0 and offsets[j][0] >= 0
    )
    assert scores[0] == pytest.approx(best)


def test_trivial_guesses():
    train = examples("cat", "cat", "dog")
    assert {row["prediction_text"] for row in kind().trivial_predictions(train, train)} == {"cat"}
    assert {row["prediction_text"] for row in kind("squad_v2").trivial_predictions(train, train)} == {""}


def test_it_learns(tmp_path):
    words = ["cat", "dog", "mat", "w7", "w8", "w9"]
    data = Dataset.from_list(
        [
            {
                "id": word,
                "question": f"{word} ?",
                "context": CONTEXT,
                "answers": {"text": [word], "answer_start": [CONTEXT.find(word)]},
            }
            for word in words
        ]
    )
    answering = kind()
    model = answering.load_model(checkpoint(tmp_path / "checkpoint"))
    trainer = trainer_of(answering, model, data, tmp_path / "run", max_steps=120, learning_rate=1e-2)
    trainer.train()
    features = answering.features(data, training=False)
    outputs = trainer.predict(features).predictions
    assert answering.metrics(answering.predictions(outputs, features, data), data)["exact_match"] == 100


def test_silence_everywhere_is_a_failed_run():
    small = kind("squad_v2", max_length=16)
    rows = [{"id": str(i), "prediction_text": text, "no_answer_probability": 0.99} for i, text in enumerate("ab")]
    assert small.is_degenerate(rows)
    rows[0]["no_answer_probability"] = 0.01
    assert not small.is_degenerate(rows)


def test_the_loss_does_not_see_padding():
    small = kind(max_length=16)
    generator = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(2, 20, generator=generator) for name in ("start_logits", "end_logits")}
    batch = {
        "attention_mask": torch.tensor([[1] * 12 + [0] * 8, [1] * 7 + [0] * 13]),
        "start_positions": torch.tensor([3, 0]),
        "end_positions": torch.tensor([5, 0]),
    }
    expected = []
    for row, length in ((0, 12), (1, 7)):
        for end in ("start", "end"):
            scores = logits[f"{end}_logits"][row, :length]
            expected.append(scores.logsumexp(0) - scores[batch[f"{end}_positions"][row]])
    torch.testing.assert_close(small.loss(logits, batch), torch.stack(expected).mean())


def test_what_cannot_be_asked():
    with pytest.raises(ValueError, match="max_length is 8"):
        kind(max_length=8)
    with pytest.raises(ValueError, match="n_best_size is 0"):
        kind(n_best_size=0)
    with pytest.raises(ValueError, match="no question of the training split has its answer"):
        kind().features(examples("zebra"), training=True)
