"""Tokens beside what was generated and what was thought of it, aligned with the text."""

import dataclasses
import io
import re

import pytest
import torch
from rich.console import Console
from tiny import FAMILIES, tiny_pair, tiny_tokenizer
from transformers import ElectraForPreTraining

from modeling_electra_rtd import ElectraRtdDiscriminator, ElectraRtdForPreTraining, ReplacedTokenDetectionPipeline
from modeling_electra_rtd.sharing.export import export
from modeling_electra_rtd.sharing.inspect import (
    InspectedToken,
    inspect_text,
    load_for_inspection,
    render_html,
    render_terminal,
)


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
def test_a_release_is_the_pair_it_came_from(family, tmp_path, monkeypatch):
    # Loading it in a process of its own is what tests/test_export.py is for.
    monkeypatch.setattr("modeling_electra_rtd.sharing.export.verify_release", lambda *_: {})
    pair = tiny_pair(family, mask_probability=0.15, mask_token_probability=0.85)
    pair.save_pretrained(tmp_path / "joint")
    tiny_tokenizer(tmp_path / "joint")
    export(str(tmp_path / "joint"), str(tmp_path / "release"))
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


TOKEN_EXAMPLES = [
    InspectedToken("the", "the", False, False, None, 0.125),
    InspectedToken("<b>", "&", True, True, 0.25, 0.75),
    InspectedToken("cat", "<script>", True, True, 0.5, 0.25),
    InspectedToken("##s", "##s", True, False, 0.5, 0.9),
    InspectedToken("[red]", "[red]", False, False, None, 0.0),
]


def test_the_page_shows_every_token_and_escapes_it(tmp_path):
    path = tmp_path / "page.html"
    render_html(TOKEN_EXAMPLES, str(path))
    page = path.read_text(encoding="utf-8")
    cell = r'<span class="token([^"]*)" title="([^"]*)">(.*?)<b style="--heat:([^"]*)">(.*?)</b><i>(.*?)</i></span>'
    assert re.findall(cell, page) == [
        ("", "P_d 0.125", "", "35.4%", "the", "0.12"),
        (" replaced hot", "P_d 0.750, P_g 0.250", "<s>&lt;b&gt;</s>", "86.6%", "&amp;", "0.75"),
        (" replaced", "P_d 0.250, P_g 0.500", "<s>cat</s>", "50.0%", "&lt;script&gt;", "0.25"),
        (" kept piece hot", "P_d 0.900, P_g 0.500", "", "94.9%", "##s", "0.90"),
        ("", "P_d 0.000", "", "0.0%", "[red]", "0.00"),
    ]
    assert "<script" not in page and "$" not in page and "http" not in page
    # The legend says what there is to see, and nothing else.
    assert "the original came back" in page and "the original above it" in page
    render_html(TOKEN_EXAMPLES[:1], str(path))
    page = path.read_text(encoding="utf-8")
    assert "the original came back" not in page and "the original above it" not in page


def test_the_terminal_shows_replacements_and_suspects():
    console = Console(file=io.StringIO(), width=120, color_system=None)
    render_terminal(TOKEN_EXAMPLES, console)
    first, *rest = console.file.getvalue().splitlines()
    assert first == "the <b>→& cat→<script>s [red]"
    # Chosen or suspected ones, with their probabilities.
    assert [line.split() for line in rest] == [
        ["<b>", "→", "&", "P_g", "0.250", "P_d", "0.750"],
        ["cat", "→", "<script>", "P_g", "0.500", "P_d", "0.250"],
        ["##s", "→", "##s", "P_g", "0.500", "P_d", "0.900"],
    ]
