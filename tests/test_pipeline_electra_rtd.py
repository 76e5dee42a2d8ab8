"""`pipeline("replaced-token-detection")` says what stock classes say, once for every token of any text."""

import copy
import json

import pytest
import torch
from datasets import Dataset
from helpers.pipeline import TEXT, probabilities
from helpers.tiny import UNK, VOCABULARY, WORDS, randomize, tiny_electra_config, tiny_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import ElectraForPreTraining, PreTrainedTokenizerFast, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_electra_rtd import ReplacedTokenDetectionPipeline
from modeling_electra_rtd.model import precision
from modeling_electra_rtd.model.pipeline_electra_rtd import TASK, windows_over


TOKENS = "the cat sat on a mat and the dog ##s sat on the cat ##s .".split()
LONG = " ".join(f"w{number % 100}" for number in range(180))


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def stock():
    return randomize(ElectraForPreTraining(tiny_electra_config())).eval()


@pytest.fixture(scope="module")
def detect(stock, tokenizer):
    return pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu", bf16=False)


@torch.no_grad()
def stock_probabilities(model, ids) -> torch.Tensor:
    return model(torch.tensor([ids])).logits.sigmoid()[0, 1:-1]


def test_tokens_are_those_of_the_text_with_stock_probabilities(detect, stock, tokenizer):
    results = detect(TEXT)
    assert [result["token"] for result in results] == TOKENS
    assert [result["index"] for result in results] == list(range(len(TOKENS)))
    assert [result["text"] for result in results] == [token.removeprefix("##") for token in TOKENS]
    assert [TEXT[result["start"] : result["end"]] for result in results] == [result["text"] for result in results]
    torch.testing.assert_close(probabilities(results), stock_probabilities(stock, tokenizer(TEXT)["input_ids"]))
    assert [result["is_replaced"] for result in results] == [result["probability"] > 0.5 for result in results]
    json.dumps(results)


def test_the_threshold_decides(detect, stock, tokenizer):
    judged = probabilities(detect(TEXT))
    for threshold in (0.0, float(judged.median()), 1.0):
        found = [result["is_replaced"] for result in detect(TEXT, threshold=threshold)]
        assert found == (judged > threshold).tolist()
    strict = pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu", threshold=1)
    assert not any(result["is_replaced"] for result in strict(TEXT))
    assert any(result["is_replaced"] for result in strict(TEXT, threshold=0.0))


@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_a_batch_is_its_texts_one_by_one(stock, padding_side):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = padding_side
    detect = pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu", bf16=False)
    assert tokenizer.padding_side == padding_side
    texts = ["the", LONG, TEXT, "a cat", LONG[:200], "on <b>"]
    single = [detect(text) for text in texts]
    for batch_size in (1, 2, 4, 16):
        together = detect(texts, batch_size=batch_size)
        assert [[result["token"] for result in results] for results in together] == [
            [result["token"] for result in results] for results in single
        ]
        for results, expected in zip(together, single, strict=True):
            torch.testing.assert_close(probabilities(results), probabilities(expected), atol=1e-6, rtol=1e-5)


def test_lists_tuples_generators_datasets_and_nothing(detect):
    texts = [TEXT, "the cat"]
    single = [detect(text) for text in texts]
    expected = detect(texts)
    for one, other in zip(expected, single, strict=True):
        assert [token["token"] for token in one] == [token["token"] for token in other]
        torch.testing.assert_close(probabilities(one), probabilities(other), atol=1e-6, rtol=1e-5)
    assert detect((TEXT, "the cat")) == expected
    assert detect([TEXT]) == [detect(TEXT)] and detect([]) == []
    given = (text for text in texts)
    found = detect(given)
    assert not isinstance(found, list) and list(found) == single
    assert list(detect(iter(texts))) == single
    assert list(detect(iter(texts), batch_size=2)) == expected
    assert list(detect(text for text in [])) == []
    rows = Dataset.from_dict({"text": texts})
    assert list(detect(KeyDataset(rows, "text"))) == detect(rows["text"]) == expected


def test_texts_of_like_length_are_read_together(stock, tokenizer):
    detect = pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu", bf16=False)
    lengths = [(7 * number) % 50 + 1 for number in range(120)]
    texts = [" ".join(f"w{word % 100}" for word in range(length)) for length in lengths]
    seen = []
    hook = stock.electra.register_forward_pre_hook(
        lambda module, args, inputs: seen.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    try:
        for batch_size, rows in ((None, None), (8, 8)):
            seen.clear()
            found = detect(texts, batch_size=batch_size)
            assert [len(results) for results in found] == lengths
            shapes = list(seen)
            assert sum(count for count, _ in shapes) == 120 and shapes == sorted(shapes, key=lambda shape: -shape[1])
            # Each batch is as wide as its own longest text, [CLS] and [SEP] included.
            longest = sorted(lengths, reverse=True)
            for count, width in shapes:
                assert width == longest[0] + 2
                longest = longest[count:]
            assert [count for count, _ in shapes[:-1]] == [rows or 1024 // width for _, width in shapes[:-1]]
    finally:
        hook.remove()


def test_a_generator_is_read_no_further_than_it_must(detect):
    drawn = []
    texts = (drawn.append(number) or f"w{number}" for number in range(100))
    found = detect(texts)
    assert [token["token"] for token in next(found)] == ["w0"]
    # transformers looks at the first one before it starts.
    assert len(drawn) <= 2
    found = detect((drawn.append(number) or f"w{number}" for number in range(100)), batch_size=2)
    drawn.clear()
    assert next(found)[0]["token"] == "w0" and len(drawn) <= 32
    assert [results[0]["token"] for results in found] == [f"w{number}" for number in range(1, 100)]


def test_bf16_is_near_and_taken_when_asked_for(stock, tokenizer):
    def judged(bf16):
        detect = pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu", bf16=bf16)
        # The head has the last word, and has it in 32 bits.
        return torch.cat([probabilities(results) for results in detect([TEXT, LONG, "the cat"])])

    exact, rounded = judged(False), judged(True)
    assert 1e-6 < (exact - rounded).abs().max() < 1e-2 and (exact - rounded).abs().mean() < 3e-3
    assert torch.equal(judged(None), exact)
    in_call = pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu")([TEXT, LONG, "the cat"], bf16=False)
    assert torch.equal(torch.cat([probabilities(results) for results in in_call]), exact)
    # A model that is in bf16 altogether stays so, whatever is asked for.
    half = pipeline(TASK, model=copy.deepcopy(stock).bfloat16(), tokenizer=tokenizer, device="cpu")
    assert half(TEXT) == half(TEXT, bf16=False)
    torch.testing.assert_close(probabilities(half(TEXT)), exact[: len(TOKENS)], atol=5e-2, rtol=0)


@pytest.mark.parametrize("rates", [{"fp32": 155e9, "bf16": 55e9}, {"fp32": 155e9, "bf16": 400e9}])
def test_bf16_by_a_measurement_and_where_it_is_slower(stock, tokenizer, monkeypatch, rates):
    lines = []
    monkeypatch.setattr(precision, "matrix_rates", lambda device_type: rates)
    monkeypatch.setattr(precision.logger, "warning_once", lines.append)

    def judged(bf16):
        return probabilities(pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu", bf16=bf16)(LONG))

    is_faster = rates["bf16"] > rates["fp32"]
    assert torch.equal(judged("auto"), judged(is_faster)) and not torch.equal(judged("auto"), judged(not is_faster))
    # Who asks for the slower one gets it, and one line; the model's own digits are nobody's mistake.
    assert [line.startswith("precision is bf16 (55 GFLOP/s") for line in lines] == [True] * (not is_faster)
    with pytest.raises(ValueError, match="bf16 is 'fast'; it must be True, False or 'auto'"):
        judged("fast")


def test_words(detect):
    tokens = probabilities(detect(TEXT))
    words = detect(TEXT, aggregation_strategy="average")
    assert [word["text"] for word in words] == TEXT.split()
    assert [TEXT[word["start"] : word["end"]] for word in words] == TEXT.split()
    assert [word["index"] for word in words] == list(range(14)) and "token" not in words[0]
    # "dogs" is two tokens.
    for strategy, expected in (("first", tokens[8]), ("average", tokens[8:10].mean()), ("max", tokens[8:10].max())):
        word = detect(TEXT, aggregation_strategy=strategy)[8]
        assert word["probability"] == pytest.approx(expected.item()) and word["text"] == "dogs"
        assert word["is_replaced"] == (word["probability"] > 0.5)
    # Special tokens that are written in a text are text, as in pre-training.
    words = detect("the [MASK] [SEP] cats", aggregation_strategy="max")
    assert [word["text"] for word in words] == ["the", "[", "MASK", "]", "[", "SEP", "]", "cats"]


@given(st.integers(1, 400), st.integers(1, 60), st.data())
def test_windows_judge_every_token_once_where_it_has_most_context(count, size, data):
    stride = data.draw(st.integers(0, size - 1))
    windows = windows_over(count, size, stride)
    assert [index for window in windows for index in range(window.first, window.last)] == list(range(count))
    assert windows[0].start == 0 and windows[-1].stop == count
    for window in windows:
        assert window.stop - window.start == min(size, count)
    for earlier, later in zip(windows, windows[1:], strict=False):
        assert earlier.stop - later.start >= stride

    def context(window, index):
        # The end of the text hides nothing.
        before = count if window.start == 0 else index - window.start
        after = count if window.stop == count else window.stop - 1 - index
        return min(before, after)

    for window in windows:
        for index in range(window.first, window.last):
            others = (context(other, index) for other in windows if other.start <= index < other.stop)
            assert context(window, index) >= max(others) - 1  # an even overlap has no middle


def test_a_long_text_is_judged_window_by_window(detect, stock, tokenizer):
    results = detect(LONG)
    assert [result["token"] for result in results] == LONG.split()
    ids = tokenizer.convert_tokens_to_ids(LONG.split())
    windows = windows_over(180, 62, 15)
    assert len(windows) == 4
    expected = torch.zeros(180)
    for window in windows:
        row = [tokenizer.cls_token_id, *ids[window.start : window.stop], tokenizer.sep_token_id]
        judged = stock_probabilities(stock, row)
        expected[window.first : window.last] = judged[window.first - window.start : window.last - window.start]
    torch.testing.assert_close(probabilities(results), expected)
    assert detect(LONG, max_length=64, stride=15) == results != detect(LONG, max_length=32)


def test_a_text_of_one_window_is_as_without_windows(detect, stock, tokenizer):
    fits = " ".join(LONG.split()[:62])
    expected = stock_probabilities(stock, tokenizer(fits)["input_ids"])
    for stride in (0, 30, 61):
        torch.testing.assert_close(probabilities(detect(fits, stride=stride)), expected)


TEXTS = st.one_of(
    st.text(min_size=1, max_size=150),
    # Words of the vocabulary between whitespace of every kind, in both cases.
    st.lists(
        st.tuples(
            st.sampled_from([*WORDS, "Cats", "THE", "zebra", "İs", "naïve", "\U0001f63a", "猫猫", "[MASK]", "\u200b"]),
            st.sampled_from([" ", "   ", "\n", "\r\n\t", "\u00a0", "\u3000", ""]),
        ),
        max_size=60,
    ).map(lambda parts: "".join(word + space for word, space in parts)),
)


@given(TEXTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_offsets_are_those_of_the_original_text(detect, tokenizer, text):
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    if not whole["input_ids"]:
        with pytest.raises(ValueError, match="has no tokens"):
            detect(text)
        return
    results = detect(text, max_length=12, stride=4)
    assert [result["token"] for result in results] == tokenizer.convert_ids_to_tokens(whole["input_ids"])
    assert [(result["start"], result["end"]) for result in results] == whole["offset_mapping"]
    end = 0
    for result, token_id in zip(results, whole["input_ids"], strict=True):
        assert result["text"] == text[result["start"] : result["end"]] != ""
        assert 0 <= result["probability"] <= 1 and end <= result["start"]
        end = result["end"]
        if token_id != UNK and result["text"].isascii() and result["token"] not in tokenizer.all_special_tokens:
            assert result["text"].lower() == result["token"].removeprefix("##")
    words = detect(text, max_length=12, stride=4, aggregation_strategy="max")
    assert "".join(word["text"] for word in words) == "".join(result["text"] for result in results)


def test_a_byte_level_tokenizer_without_special_tokens_of_its_own(stock):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=[], special_tokens=["<pad>"], show_progress=False
    )
    backend.train_from_iterator(["the cat sat", "猫 naïve"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", model_max_length=64)
    results = pipeline(TASK, model=stock, tokenizer=tokenizer, device="cpu", bf16=False)(
        "the 猫 sat", max_length=4, stride=1
    )
    assert [result["token"] for result in results] == tokenizer.tokenize("the 猫 sat")
    assert "".join(dict.fromkeys(result["text"] for result in results)).replace(" ", "") == "the猫sat"


@pytest.mark.parametrize("device", ["cpu", -1, torch.device("cpu")])
def test_the_device_is_an_argument(stock, tokenizer, device):
    detect = pipeline(TASK, model=stock, tokenizer=tokenizer, device=device, bf16=False)
    assert detect.device == torch.device("cpu") == detect.model.device
    assert len(detect(TEXT)) == len(TOKENS)


def test_a_model_in_training_is_judged_without_dropout(tokenizer):
    model = ElectraForPreTraining(tiny_electra_config(hidden_dropout_prob=0.5)).train()
    detect = pipeline(TASK, model=model, tokenizer=tokenizer, device="cpu", bf16=False)
    assert detect(TEXT) == detect(TEXT)


def test_what_is_not_allowed_is_named(detect, stock, tokenizer):
    for text in ("", " \n\t "):
        with pytest.raises(ValueError, match="has no tokens"):
            detect(text)
    with pytest.raises(ValueError, match="has no tokens"):
        detect([TEXT, ""], batch_size=2)
    for inputs in (5, None, [TEXT, 5], {"text": TEXT}):
        with pytest.raises(ValueError, match="allowed: str"):
            detect(inputs)
    for arguments, message in (
        ({"threshold": 1.5}, r"threshold is 1.5; it must be in \[0, 1\]"),
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"max_length": 65}, r"max_length is 65; it must be in \[3, 64\]"),
        ({"max_length": 2}, r"max_length is 2; it must be in \[3, 64\]"),
        ({"stride": 62}, r"stride is 62; it must be in \[0, 61\]"),
        ({"stride": 10, "max_length": 12}, r"stride is 10; it must be in \[0, 9\]"),
        ({"stride": -1}, "stride is -1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"aggregation_strategy": "simple"}, "aggregation_strategy is 'simple'; allowed: none, first, average, max"),
    ):
        with pytest.raises(ValueError, match=message):
            detect(TEXT, **arguments)
        with pytest.raises(ValueError, match=message):
            ReplacedTokenDetectionPipeline(model=stock, tokenizer=tokenizer, device="cpu", **arguments)


def test_tokenizers_that_are_not_the_models_are_refused(stock, tmp_path):
    class Slow:
        is_fast = False

    for tokenizer, named in ((Slow(), "tokenizer is Slow"), (None, "tokenizer is None")):
        with pytest.raises(ValueError, match=f"{named}.*allowed: a fast tokenizer"):
            ReplacedTokenDetectionPipeline(model=stock, tokenizer=tokenizer)
    larger = tiny_tokenizer()
    larger.add_tokens(["another"])
    with pytest.raises(ValueError, match=f"has {VOCABULARY + 1} tokens, the model {VOCABULARY}"):
        ReplacedTokenDetectionPipeline(model=stock, tokenizer=larger)
    # From a folder without a tokenizer, transformers makes one up.
    stock.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="knows special tokens only"):
        pipeline(TASK, model=str(tmp_path), device="cpu", bf16=False)
