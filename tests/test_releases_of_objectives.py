"""What an objective leaves behind when it is released: a stock checkpoint that is read back, with a true card."""

import json
import re

import pytest
import torch
import transformers
from helpers.release import quick_export
from helpers.tiny import FAMILIES, randomize, tiny_pair, tiny_text, tiny_tokenizer, uniforms_for
from transformers import AutoModelForMaskedLM
from transformers.utils import logging

from modeling_electra_rtd import (
    ElectraRtdConfig,
    ElectraRtdDiscriminator,
    ElectraRtdForPreTraining,
    ElectraRtdGenerator,
)
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.inspection.demo import has_generator, load_detector
from modeling_electra_rtd.inspection.tokens import inspect_text
from modeling_electra_rtd.model.checkpoint_layout import holds_pair
from modeling_electra_rtd.model.cpu_attention import use_stock_layers
from modeling_electra_rtd.release import upload as hub


logging.set_verbosity_error()
HEAD = "discriminator_predictions"
CASES = [
    ("mlm", "masked_lm"),
    ("replace_mlm", "masked_lm"),
    ("all_tokens_mlm", "masked_lm"),
    ("rtd_mlm", "masked_lm"),
    ("electric", "two_tower"),
    ("electric", "unigram"),
    ("replace_mlm", "uniform"),
]
# Heads that the stock class of the root passes over, by family and objective.
BESIDE = {
    ("electra", "all_tokens_mlm"): {HEAD},
    ("electra", "rtd_mlm"): {"generator_predictions", "generator_lm_head"},
    ("modernbert", "all_tokens_mlm"): {HEAD},
    ("modernbert", "rtd_mlm"): {HEAD, "head", "decoder"},
    ("modernbert", "electric"): {HEAD},
    ("bert", "mlm"): set(),
    ("bert", "all_tokens_mlm"): {HEAD},
    ("bert", "rtd_mlm"): {HEAD, "cls"},
}
# A family whose stock classes have all the heads, one where some are beside the root, and one with a pooler.
WITH_FAMILY = [
    (family, *case)
    for family in (*FAMILIES, "bert")
    for case in CASES
    if family == "electra" or (family, case[0]) in BESIDE
]
PREDICTS = ("mlm", "replace_mlm", "all_tokens_mlm", "rtd_mlm")


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Of every case and family `NAME-joint` and `NAME`, and the pairs."""
    root = tmp_path_factory.mktemp("objectives")
    pairs = {}
    for family, objective, kind in WITH_FAMILY:
        name = f"{family}-{objective}-{kind}"
        pairs[name] = randomize(tiny_pair(family, objective=objective, generator_kind=kind))
        pairs[name].save_pretrained(root / f"{name}-joint")
        tiny_tokenizer(root / f"{name}-joint")
        quick_export(str(root / f"{name}-joint"), str(root / name))
    return root, pairs


@pytest.mark.parametrize(("family", "objective", "kind"), WITH_FAMILY)
def test_the_root_is_stock_and_the_pair_comes_back(releases, family, objective, kind):
    root, pairs = releases
    name = f"{family}-{objective}-{kind}"
    pair, release, batch = pairs[name], root / name, tiny_text()
    (architecture,) = json.loads((release / "config.json").read_text(encoding="utf-8"))["architectures"]
    stock, info = getattr(transformers, architecture).from_pretrained(release, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert {key.partition(".")[0] for key in info["unexpected_keys"]} == BESIDE.get((family, objective), set())
    with torch.no_grad():
        if objective in PREDICTS:
            stock, info = AutoModelForMaskedLM.from_pretrained(release, output_loading_info=True)
            assert not info["missing_keys"]
            expected = pair.heads.predict(pair.encode(pair.encoder, document_ids=None, **batch))
            torch.testing.assert_close(stock.eval()(**batch).logits, expected, atol=1e-5, rtol=1e-5)
        elif family == "electra":
            torch.testing.assert_close(stock.eval()(**batch).logits, pair.discriminate(**batch))
        else:
            states = stock.eval()(**batch).last_hidden_state
            torch.testing.assert_close(
                states, pair.encode(pair.encoder, document_ids=None, **batch), atol=1e-5, rtol=1e-5
            )

    is_beside = kind == "masked_lm" and objective != "mlm"
    assert (release / "generator").is_dir() == is_beside
    assert holds_pair(root / f"{name}-joint") and holds_pair(release) == (kind != "two_tower")
    loaded = ElectraRtdConfig.from_pretrained(release)
    assert (loaded.objective, loaded.generator_kind) == (objective, kind)
    alone = ElectraRtdDiscriminator.from_pretrained(release)
    assert alone.config.objective == objective
    if kind == "two_tower":
        with pytest.raises(ValueError, match="holds no generator; continue from it with .*from_pair") as error:
            ElectraRtdForPreTraining.from_pretrained(release)
        assert "\n" not in str(error.value)
        assert not list(release.glob("*.py"))
        fields = {"objective": objective, "generator_kind": kind}
        again = ElectraRtdForPreTraining.from_pair(release, tokenizer=tiny_tokenizer(), objective=fields)
        use_stock_layers(again)
        with torch.no_grad():
            assert torch.equal(again.eval().discriminate(**batch), pair.discriminate(**batch))
        return
    again, info = ElectraRtdForPreTraining.from_pretrained(release, output_loading_info=True)
    assert not any(info.values()) and again.config.objective_fields() == pair.config.objective_fields()
    use_stock_layers(again)
    uniforms = uniforms_for(batch["input_ids"])
    with torch.no_grad():
        losses = [model.eval()(**batch, corruption_uniforms=uniforms).loss for model in (pair, again)]
    assert torch.equal(*losses)


@pytest.mark.parametrize(("objective", "kind"), CASES)
def test_its_card_says_what_it_is(releases, objective, kind):
    root, _ = releases
    card = (root / f"electra-{objective}-{kind}" / "README.md").read_text(encoding="utf-8")
    has_generator = (root / f"electra-{objective}-{kind}" / "generator").is_dir()
    assert ("generator/" in card) == ('subfolder="generator"' in card) == has_generator
    assert ("## Find replaced tokens" in card) == (objective == "rtd_mlm")
    assert ("## Score texts" in card) == ("electra-rtd score" in card) == (objective == "electric")
    assert ("## Predict tokens" in card) == (objective in PREDICTS and objective != "rtd_mlm")
    assert ("masked_lm = AutoModelForMaskedLM.from_pretrained(name)" in card) == (objective in PREDICTS)
    assert ("probability is that of being replaced" in card) == (objective == "rtd_mlm")
    assert ("trust_remote_code=True" in card) == (kind != "two_tower")
    for line in re.findall(r"^(?:print\(tokenizer|for token).*$", card, re.MULTILINE):
        assert ("energy" in line) == (objective == "electric")
    for snippet in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        compile(snippet, "card", "exec")


def test_lines_of_the_cards_run(releases, monkeypatch, capsys):
    root, pairs = releases
    monkeypatch.chdir(root)
    for name, heading in (
        ("modernbert-electric-two_tower", "## Score texts"),
        ("electra-mlm-masked_lm", "## Predict"),
    ):
        card = (root / name / "README.md").read_text(encoding="utf-8")
        (snippet,) = re.findall(r"```python\n(.*?)```", card.partition(heading)[2].partition("\n## ")[0], re.DOTALL)
        exec(snippet, {})
        printed = capsys.readouterr().out
        ids = tiny_tokenizer()("The river flows quietly into the keyboard.", return_tensors="pt")["input_ids"]
        if "electric" in name:
            with torch.no_grad():
                energies = pairs[name].discriminate(ids)[0].tolist()
            found = [float(line.split()[0]) for line in printed.splitlines()]
            assert found == pytest.approx(energies, abs=1e-3)
        else:
            assert len(json.loads(printed.replace("'", '"'))) == 10


@pytest.mark.slow
def test_a_release_is_verified_and_a_dry_push_of_it_passes(releases, tmp_path, monkeypatch, capsys):
    root, _ = releases
    name = "modernbert-all_tokens_mlm-masked_lm"
    for released, parts in ((name, "root, generator, masked LM"), ("bert-mlm-masked_lm", "root, masked LM")):
        assert main(["export", str(root / f"{released}-joint"), "--output-dir", str(tmp_path / released)]) == 0
        assert f"{parts} load with 0 missing keys and equal outputs" in capsys.readouterr().out
    monkeypatch.setattr(hub, "stock_outputs", lambda folder: {"root": {"missing": []}})
    for other in (name, "electra-mlm-masked_lm", "modernbert-electric-two_tower", "electra-electric-unigram"):
        assert main(["push", str(root / other), "lab/pair", "--dry-run"]) == 0
        assert "nothing was uploaded" in capsys.readouterr().out
        # A joint checkpoint is one by its config, whatever its generator.
        assert main(["push", str(root / f"{other}-joint"), "lab/pair", "--dry-run"]) == 2
        assert "it is a training checkpoint" in capsys.readouterr().err


def test_a_generator_is_loaded_where_there_is_one(releases):
    root, pairs = releases
    batch = tiny_text()
    # A masked-LM model is one itself: two-stage training goes on with it.
    loaded = ElectraRtdGenerator.from_pretrained(root / "electra-mlm-masked_lm").eval()
    pair = pairs["electra-mlm-masked_lm"]
    with torch.no_grad():
        expected = pair.heads.predict(pair.encode(pair.encoder, document_ids=None, **batch))
        torch.testing.assert_close(loaded(**batch).logits, expected)
    for folder in ("electra-electric-unigram", "electra-electric-two_tower-joint"):
        with pytest.raises(ValueError, match="has no masked-LM generator"):
            ElectraRtdGenerator.from_pretrained(root / folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_release_of_electric_is_inspected_by_energies_and_shown_without_proposals(releases, family):
    root, pairs = releases
    detector = load_detector(str(root / f"{family}-electric-two_tower"))
    tokens = inspect_text(detector.model, detector.tokenizer, "the cat sat")
    ids = detector.tokenizer("the cat sat", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        energies = pairs[f"{family}-electric-two_tower"].discriminate(ids)[0, 1:-1].tolist()
    assert [token.energy for token in tokens] == pytest.approx(energies, abs=1e-4)
    assert not has_generator(detector) and not has_generator(load_detector(str(root / f"{family}-electric-unigram")))


def test_what_cannot_be_asked_of_them_is_refused_in_one_line(releases, tmp_path, capsys):
    root, _ = releases
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat sat\n", encoding="utf-8")
    for family in FAMILIES:
        for folder in (f"{family}-electric-two_tower", f"{family}-electric-unigram-joint"):
            detect = transformers.pipeline("replaced-token-detection", model=str(root / folder))
            with pytest.raises(ValueError, match="has learned energies") as error:
                detect("the cat")
            assert "\n" not in str(error.value)
    for command, message in (
        (["score", "electra-mlm-masked_lm", str(lines)], f"without {HEAD}"),
        (["score", "electra-mlm-masked_lm-joint", str(lines)], f"without {HEAD}"),
        (["score", "electra-replace_mlm-uniform", str(lines)], f"without {HEAD}"),
        (["inspect", "electra-mlm-masked_lm", "the cat"], "detects nothing"),
        (["evaluate", "electra-electric-two_tower", "--data", str(tmp_path)], "holds no generator"),
        (["export", "electra-electric-two_tower", "--output-dir", str(tmp_path / "again")], "not a joint checkpoint"),
    ):
        assert main([command[0], str(root / command[1]), *command[2:]]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
        assert len(errors) == 1 and message in errors[0]
