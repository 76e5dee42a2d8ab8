"""Tokens beside what was generated and what was thought of it, aligned with the text."""

import dataclasses
import io
import json
import re

import pytest
import torch
from helpers.release import quick_export
from helpers.tiny import FAMILIES, tiny_pair, tiny_tokenizer
from rich.console import Console
from transformers import ElectraForPreTraining

from modeling_electra_rtd import ElectraRtdDiscriminator, ElectraRtdForPreTraining, ReplacedTokenDetectionPipeline
from modeling_electra_rtd.inspection.files import inspect_file
from modeling_electra_rtd.inspection.tokens import InspectedToken, inspect_text, inspect_texts, load_for_inspection
from modeling_electra_rtd.inspection.views import render_html, render_terminal


TEXT = "the cat sat on a mat and the dogs sat on the cats ."
TOKENS = "the cat sat on a mat and the dog ##s sat on the cat ##s .".split()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def pair():
    return tiny_pair("electra", mask_probability=0.5)


def test_positions_are_aligned_with_the_text(pair, tokenizer):
    tokens = inspect_text(pair, tokenizer, TEXT, seed=3)
    assert [token.original for token in tokens] == TOKENS
    # The same step by hand: the seed decides the corruption.
    torch.manual_seed(3)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        output = pair(ids)
    inner = slice(1, -1)
    shown = tokenizer.convert_ids_to_tokens(output.corrupted_input_ids[0, inner].tolist())
    assert [token.shown for token in tokens] == shown
    assert [token.is_chosen for token in tokens] == output.is_chosen[0, inner].tolist()
    assert [token.is_replaced for token in tokens] == output.is_replaced[0, inner].tolist()
    judged = torch.tensor([token.replaced_probability for token in tokens])
    torch.testing.assert_close(judged, output.replaced_probs[0, inner])
    generated = output.sampled_log_probs[0, inner].exp().tolist()
    assert sum(token.is_chosen for token in tokens) == 8
    for token, probability in zip(tokens, generated, strict=True):
        assert token.generated_probability == (probability if token.is_chosen else None)
        assert token.is_replaced == (token.original != token.shown)
        assert token.is_chosen or not token.is_replaced


def test_the_seed_decides_and_the_callers_randomness_is_left_alone(pair, tokenizer):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = inspect_text(pair, tokenizer, TEXT, seed=5)
    assert torch.equal(torch.rand(3), expected)
    assert inspect_text(pair, tokenizer, TEXT, seed=5) == first
    assert inspect_text(pair, tokenizer, TEXT, seed=6) != first


def test_long_texts_are_judged_in_windows(pair, tokenizer):
    words = [f"w{number % 100}" for number in range(150)]
    tokens = inspect_text(pair, tokenizer, " ".join(words))
    assert [token.original for token in tokens] == words
    # Half of each window is chosen, and every word is one window's.
    assert 60 <= sum(token.is_chosen for token in tokens) <= 90
    # What was generated is one text, and the pipeline judges it.
    pipeline = ReplacedTokenDetectionPipeline(model=pair, tokenizer=tokenizer, device="cpu", bf16=False)
    generated = tokenizer.convert_tokens_to_ids([token.shown for token in tokens])
    judged = pipeline(dataclasses.replace(pipeline.tokenize(" ".join(words)), ids=generated))
    assert [token.replaced_probability for token in tokens] == [token["probability"] for token in judged]


MANY = ["the cat sat", TEXT, "", "dogs", " ".join(f"w{number}" for number in range(100)), "a mat and the dogs ."]


def assert_inspected_alike(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other), abs=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"masking_strategy": "token"},
        {"masking_strategy": "span"},
        {"generator_kind": "two_tower"},
        {"generator_kind": "uniform", "objective": "electric"},
    ],
    ids=lambda fields: "-".join(fields.values()),
)
def test_a_text_among_others_is_inspected_as_alone(fields, tokenizer):
    pair = tiny_pair("electra", mask_probability=0.4, **fields)
    found = list(inspect_texts(pair, tokenizer, iter(MANY), seed=4))
    assert [[token.original for token in tokens] for tokens in found] == [tokenizer.tokenize(text) for text in MANY]
    assert found[2] == []
    for text, tokens in zip(MANY, found, strict=True):
        if text:
            assert_inspected_alike(tokens, inspect_text(pair, tokenizer, text, seed=4))
    assert sum(token.is_chosen for token in found[1]) == round(0.4 * len(TOKENS))


def test_in_bf16_the_same_positions_are_asked_and_judged_nearly_alike(pair, tokenizer):
    # Uniform noise, so that the samples hang on nothing that is rounded.
    pair = tiny_pair("electra", mask_probability=0.4, generator_kind="uniform")
    exact, rounded = (list(inspect_texts(pair, tokenizer, MANY, seed=4, bf16=bf16)) for bf16 in (False, True))
    pairs = [both for texts in zip(exact, rounded, strict=True) for both in zip(*texts, strict=True)]
    assert all(one.shown == other.shown and one.is_chosen == other.is_chosen for one, other in pairs)
    differences = [abs(one.replaced_probability - other.replaced_probability) for one, other in pairs]
    assert 0 < max(differences) < 0.05


def test_electric_gives_energies(tokenizer):
    pair = tiny_pair("electra", objective="electric", generator_kind="uniform", mask_probability=0.4)
    tokens = inspect_text(pair, tokenizer, TEXT)
    shown = tokenizer.convert_tokens_to_ids([token.shown for token in tokens])
    with torch.no_grad():
        ids = torch.tensor([[tokenizer.cls_token_id, *shown, tokenizer.sep_token_id]])
        energies = pair.discriminator_predictions(pair.encoder(ids).last_hidden_state)[0, 1:-1]
    torch.testing.assert_close(torch.tensor([token.energy for token in tokens]), energies)
    missing = torch.tensor([token.replaced_probability for token in tokens])
    torch.testing.assert_close(missing, torch.where(energies < 0, 0.0, 1 - torch.exp(-energies)))
    share = 1 / (pair.config.vocab_size - len(pair.config.special_token_ids))
    probabilities = [token.generated_probability for token in tokens if token.is_chosen]
    assert probabilities == pytest.approx([share] * round(0.4 * len(TOKENS)))


@pytest.mark.parametrize("objective", ["mlm", "replace_mlm"])
def test_a_pair_that_detects_nothing_is_refused(objective, tmp_path):
    tiny_pair("electra", objective=objective).save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=f"'{objective}', which predicts tokens and detects nothing"):
        load_for_inspection(str(tmp_path))


def test_a_file_is_inspected_line_by_line(pair, tokenizer, tmp_path):
    pair.save_pretrained(tmp_path / "pair")
    tiny_tokenizer(tmp_path / "pair")
    (tmp_path / "texts.txt").write_text("\n".join(MANY) + "\n")
    output = tmp_path / "tokens.jsonl"
    arguments = (str(tmp_path / "pair"), str(tmp_path / "texts.txt"), str(output))
    assert inspect_file(*arguments, seed=3, bf16=False, progress=False) == len(MANY)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["line"], line["text"]) for line in lines] == list(enumerate(MANY, start=1))
    tokens = [InspectedToken(**token) for token in lines[1]["tokens"]]
    assert_inspected_alike(tokens, inspect_text(pair, tokenizer, TEXT, seed=3))
    with pytest.raises(ValueError, match="already exists"):
        inspect_file(*arguments)
    with pytest.raises(ValueError, match="must end in .jsonl"):
        inspect_file(*arguments[:2], str(tmp_path / "tokens.txt"))
    with pytest.raises(ValueError, match="no such file"):
        inspect_file(arguments[0], "nowhere.txt", str(tmp_path / "other.jsonl"))


def test_a_lone_discriminator_judges_the_text_as_it_is(pair, tokenizer):
    lone = ElectraRtdDiscriminator(pair.config).eval()
    state = {name: value for name, value in pair.state_dict().items() if not name.startswith("generator.")}
    lone.load_state_dict(state)
    tokens = inspect_text(lone, tokenizer, TEXT)
    assert [token.original for token in tokens] == [token.shown for token in tokens] == TOKENS
    assert {(token.is_chosen, token.is_replaced, token.generated_probability) for token in tokens} == {
        (False, False, None)
    }
    with torch.no_grad():
        expected = pair.discriminate(torch.tensor([tokenizer(TEXT)["input_ids"]])).sigmoid()[0, 1:-1]
    torch.testing.assert_close(torch.tensor([token.replaced_probability for token in tokens]), expected)


def test_unknown_words_are_tokens_and_empty_texts_are_refused(pair, tokenizer):
    assert [token.original for token in inspect_text(pair, tokenizer, "the zebra")] == ["the", "[UNK]"]
    for text in ("", " \n"):
        with pytest.raises(ValueError, match="has no tokens"):
            inspect_text(pair, tokenizer, text)


def test_ids_of_a_rounded_up_vocabulary_are_shown_by_number(tokenizer):
    beyond = len(tokenizer)
    pair = tiny_pair("electra", encoder={"vocab_size": beyond + 3}, mask_probability=0.5)
    with torch.no_grad():
        pair.generator.get_output_embeddings().bias[beyond] = 100.0
    tokens = inspect_text(pair, tokenizer, TEXT)
    assert [token.shown for token in tokens if token.is_chosen] == [f"[id {beyond}]"] * 8
    console = Console(file=io.StringIO(), width=200)
    render_terminal(tokens, console)
    assert console.file.getvalue().count(f"→ [id {beyond}]") == 8


@pytest.mark.parametrize("family", FAMILIES)
def test_a_release_is_the_pair_it_came_from(family, tmp_path):
    pair = tiny_pair(family, mask_probability=0.15, mask_token_probability=0.85)
    pair.save_pretrained(tmp_path / "joint")
    tiny_tokenizer(tmp_path / "joint")
    quick_export(str(tmp_path / "joint"), str(tmp_path / "release"))
    expected = inspect_text(*load_for_inspection(str(tmp_path / "joint")), TEXT, seed=2)
    assert sum(token.is_chosen for token in expected) == 2
    found = inspect_text(*load_for_inspection(str(tmp_path / "release")), TEXT, seed=2)
    for one, other in zip(expected, found, strict=True):
        assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other), abs=1e-6)


def test_loading_tells_pairs_from_lone_discriminators(pair, tmp_path):
    pair.save_pretrained(tmp_path / "pair")
    ElectraForPreTraining(pair.config.discriminator_config).save_pretrained(tmp_path / "lone")
    for name, expected in (("pair", ElectraRtdForPreTraining), ("lone", ElectraForPreTraining)):
        tiny_tokenizer(tmp_path / name)
        model, tokenizer = load_for_inspection(str(tmp_path / name))
        assert type(model) is expected and not model.training
        assert len(inspect_text(model, tokenizer, TEXT)) == len(TOKENS)


CELL = (
    r'<span class="token([^"]*)" title="([^"]*)">(.*?)<b style="--heat:([^"]*)">(.*?)</b><i>(.*?)</i>'
    r'(?:<i class="generated">(.*?)</i>)?</span>'
)
TOKEN_EXAMPLES = [
    InspectedToken("the", "the", False, False, None, 0.125),
    InspectedToken("<b>", "&", True, True, 0.25, 0.75),
    InspectedToken("cat", "<script>", True, True, 0.0004, 0.25),
    InspectedToken("##s", "##s", True, False, 0.5, 0.9),
    InspectedToken("[red]", "[red]", False, False, None, 0.0),
]


def test_the_page_shows_every_token_and_escapes_it(tmp_path):
    path = tmp_path / "page.html"
    render_html(TOKEN_EXAMPLES, str(path))
    page = path.read_text(encoding="utf-8")
    assert re.findall(CELL, page) == [
        ("", "P_d 0.125", "", "35.4%", "the", "0.12", ""),
        (" replaced asked hot", "P_d 0.750, P_g 0.250", "<s>&lt;b&gt;</s>", "86.6%", "&amp;", "0.75", "0.250"),
        (" replaced asked", "P_d 0.250, P_g 4e-04", "<s>cat</s>", "50.0%", "&lt;script&gt;", "0.25", "4e-04"),
        (" kept asked piece hot", "P_d 0.900, P_g 0.500", "", "94.9%", "##s", "0.90", "0.500"),
        ("", "P_d 0.000", "", "0.0%", "[red]", "0.00", ""),
    ]
    assert "<script" not in page and "$" not in page and "http" not in page
    # The legend says what there is to see, and nothing else.
    remarks = ("the original came back", "the original above it", "<i>P_g</i> below that")
    assert all(remark in page for remark in remarks) and "energy" not in page
    render_html(TOKEN_EXAMPLES[:1], str(path))
    page = path.read_text(encoding="utf-8")
    assert not any(remark in page for remark in remarks)


def test_energies_are_shown_in_the_place_of_probabilities(tmp_path):
    tokens = [
        InspectedToken("the", "the", False, False, None, 0.0, -0.25),
        InspectedToken("cat", "dog", True, True, 0.5, 0.75, 1.386),
    ]
    render_html(tokens, str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = [(title, below) for _, title, _, _, _, below, _ in re.findall(CELL, page)]
    assert shown == [("energy -0.250", "-0.2"), ("energy 1.386, P_g 0.500", "1.4")]
    assert "energy below each token" in page and "how likely replaced" not in page
    console = Console(file=io.StringIO(), width=120, color_system=None)
    render_terminal(tokens, console)
    assert console.file.getvalue().splitlines()[1].split() == ["cat", "→", "dog", "P_g", "0.500", "E", "1.386"]


def test_the_terminal_shows_replacements_and_suspects():
    console = Console(file=io.StringIO(), width=120, color_system=None)
    render_terminal(TOKEN_EXAMPLES, console)
    first, *rest = console.file.getvalue().splitlines()
    assert first == "the <b>→& cat→<script>s [red]"
    # Chosen or suspected ones, with their probabilities.
    assert [line.split() for line in rest] == [
        ["<b>", "→", "&", "P_g", "0.250", "P_d", "0.750"],
        ["cat", "→", "<script>", "P_g", "4e-04", "P_d", "0.250"],
        ["##s", "→", "##s", "P_g", "0.500", "P_d", "0.900"],
    ]
