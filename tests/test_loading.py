"""Pairs and generators from checkpoints: published ones of stock classes, joint ones, and those that cannot be."""

import json
from pathlib import Path

import pytest
import torch
from helpers.tiny import (
    FAMILIES,
    MASK,
    OBJECTIVE,
    SPECIAL,
    assert_tied,
    randomize,
    stock_generator,
    tiny_config,
    tiny_electra_config,
    tiny_pair,
    tiny_text,
    tiny_tokenizer,
)
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertForPreTraining,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraModel,
    ModernBertForMaskedLM,
)

from modeling_electra_rtd import ElectraRtdForPreTraining, ElectraRtdGenerator
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.model.cpu_attention import use_stock_layers
from modeling_electra_rtd.release.write import write_release


@pytest.fixture
def published(tmp_path):
    """Stock checkpoints as others publish them: a discriminator and a masked LM with tables of their own."""
    torch.manual_seed(0)
    paths = {}
    for family in FAMILIES:
        narrow = {"hidden_size": 16, "num_attention_heads": 2} if family == "electra" else {"num_hidden_layers": 2}
        head = ElectraForPreTraining if family == "electra" else AutoModel.from_config
        models = {
            "discriminator": randomize(head(tiny_config(family)), 1),
            "generator": randomize(AutoModelForMaskedLM.from_config(tiny_config(family, **narrow)), 2),
        }
        for role, model in models.items():
            paths[family, role] = str(tmp_path / family / role)
            model.save_pretrained(paths[family, role])
    return paths


@torch.no_grad()
def outputs_of(discriminator, generator) -> list[torch.Tensor]:
    batch = tiny_text()
    found = discriminator.encoder if hasattr(discriminator, "discriminate") else discriminator
    values = [found.eval()(**batch)[0], generator.eval()(**batch).logits]
    if hasattr(discriminator, "discriminate"):
        values.append(discriminator.eval().discriminate(**batch))
    return values


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_with_different_tables_keeps_both(family, published):
    paths = published[family, "discriminator"], published[family, "generator"]
    stock = [AutoModel.from_pretrained(paths[0]), AutoModelForMaskedLM.from_pretrained(paths[1])]
    pair = ElectraRtdForPreTraining.from_pair(*paths, objective=OBJECTIVE)
    assert pair.config.embedding_sharing == "none"
    for found, expected in zip(outputs_of(pair, pair.generator), outputs_of(*stock), strict=False):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    if family == "electra":
        expected = ElectraForPreTraining.from_pretrained(paths[0]).eval()(**tiny_text()).logits
        torch.testing.assert_close(pair.discriminate(**tiny_text()), expected, atol=1e-6, rtol=1e-6)
    assert pair(**tiny_text()).loss.isfinite()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_tied_by_request_takes_the_discriminators_table(family, published):
    paths = published[family, "discriminator"], published[family, "generator"]
    pair = ElectraRtdForPreTraining.from_pair(*paths, embedding_sharing="tied", objective=OBJECTIVE)
    assert pair.config.embedding_sharing == "tied"
    assert_tied(pair)
    stock = AutoModel.from_pretrained(paths[0])
    for name, value in stock.state_dict().items():
        assert torch.equal(pair.encoder.state_dict()[name], value), name
    own = AutoModelForMaskedLM.from_pretrained(paths[1]).state_dict()
    shared = {name for name in own if ".embeddings." in name or "lm_head.weight" in name or name == "decoder.weight"}
    for name in own.keys() - shared:
        assert torch.equal(pair.generator.state_dict()[name], own[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_with_equal_tables_is_tied(family, published):
    discriminator = AutoModel.from_pretrained(published[family, "discriminator"])
    generator = ElectraRtdGenerator.from_pretrained(published[family, "generator"])
    generator.encoder.embeddings.load_state_dict(discriminator.embeddings.state_dict())
    expected = outputs_of(discriminator, generator)
    pair = ElectraRtdForPreTraining.from_pair(published[family, "discriminator"], generator, objective=OBJECTIVE)
    assert pair.config.embedding_sharing == "tied"
    assert_tied(pair)
    for found, value in zip(outputs_of(pair, pair.generator), expected, strict=False):
        torch.testing.assert_close(found, value, atol=1e-6, rtol=1e-6)


def test_a_missing_generator_is_built_narrow_for_electra(published):
    pair = ElectraRtdForPreTraining.from_pair(published["electra", "discriminator"], objective=OBJECTIVE)
    assert (pair.generator.config.hidden_size, pair.generator.config.num_hidden_layers) == (8, 3)
    assert_tied(pair)
    wide = ElectraRtdForPreTraining.from_pair(
        published["electra", "discriminator"], generator_width=0.5, generator_depth=1 / 3, objective=OBJECTIVE
    )
    assert (wide.generator.config.hidden_size, wide.generator.config.num_hidden_layers) == (16, 1)


def test_a_missing_generator_starts_from_the_first_layers_for_modernbert(published):
    pair = ElectraRtdForPreTraining.from_pair(published["modernbert", "discriminator"], objective=OBJECTIVE)
    assert pair.generator.config.num_hidden_layers == 2
    assert_tied(pair)
    source = AutoModel.from_pretrained(published["modernbert", "discriminator"]).state_dict()
    copied = pair.generator.encoder.state_dict()
    assert {name for name in copied if name.startswith("layers.1.")}
    for name, value in copied.items():
        assert torch.equal(value, source[name]), name


def test_any_checkpoint_of_the_encoder_can_be_continued(published, tmp_path):
    # A bare encoder has no detection head: it gets a new one, and keeps everything else.
    encoder = ElectraModel.from_pretrained(published["electra", "discriminator"])
    encoder.save_pretrained(tmp_path / "encoder")
    pair = ElectraRtdForPreTraining.from_pair(str(tmp_path / "encoder"), objective=OBJECTIVE)
    for name, value in encoder.state_dict().items():
        assert torch.equal(pair.encoder.state_dict()[name], value), name
    assert pair(**tiny_text()).loss.isfinite()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sharing", ["tied", "none"])
def test_a_joint_checkpoint_brings_its_generator(family, sharing, tmp_path):
    model = tiny_pair(family, embedding_sharing=sharing)
    model.save_pretrained(tmp_path)
    for source in (str(tmp_path), tmp_path):
        pair = ElectraRtdForPreTraining.from_pair(source)
        use_stock_layers(pair)
        assert pair.config.embedding_sharing == sharing
        # The vocabulary's special tokens come along: they are not the family's published ones.
        assert (pair.config.mask_token_id, pair.config.special_token_ids) == (MASK, SPECIAL)
        for found, expected in zip(outputs_of(pair, pair.generator), outputs_of(model, model.generator), strict=True):
            assert torch.equal(found, expected)
    changed = ElectraRtdForPreTraining.from_pair(str(tmp_path), objective={"mask_token_id": 7})
    assert changed.config.mask_token_id == 7


@pytest.mark.parametrize("family", ["modernbert", "bert"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("mlm", "rtd"), ("rtd", "mlm"), ("rtd_mlm", "replace_mlm"), ("all_tokens_mlm", "rtd_mlm"), ("mlm", "electric")],
)
def test_a_run_goes_on_with_another_objective(family, before, after, tmp_path):
    first = tiny_pair(family, objective=before)
    first.save_pretrained(tmp_path)
    kind = "two_tower" if after == "electric" else "masked_lm"
    for source in (str(tmp_path), first):
        fields = {**OBJECTIVE, "objective": after, "generator_kind": kind}
        pair = ElectraRtdForPreTraining.from_pair(source, objective=fields)
        learned, found = first.state_dict(), pair.state_dict()
        both = {name for name in learned.keys() & found.keys() if not name.startswith("generator.")}
        heads = {name.partition(".")[0] for name in both}
        assert heads > {pair.base_model_prefix} or {before, after} in ({"mlm", "rtd"}, {"mlm", "electric"})
        for name in both:
            assert torch.equal(found[name], learned[name]), name
        assert pair(**tiny_text()).loss.isfinite()


@pytest.mark.parametrize("kind", ["two_tower", "unigram"])
def test_a_noise_that_has_learned_goes_on(kind, tmp_path):
    pair = tiny_pair("electra", objective="electric", generator_kind=kind)
    pair.train()(**tiny_text())
    pair.save_pretrained(tmp_path)
    fields = {"objective": "electric", "generator_kind": kind}
    for source in (str(tmp_path), pair):
        state = ElectraRtdForPreTraining.from_pair(source, objective=fields).state_dict()
        for name, value in pair.state_dict().items():
            assert torch.equal(state[name], value), name


@pytest.mark.parametrize("objective", ["mlm", "rtd_mlm"])
@pytest.mark.parametrize("family", ["electra", "modernbert", "deberta-v2", "bert", "roberta", "roformer"])
def test_a_head_that_a_checkpoint_lacks_begins_as_its_class_begins(family, objective, tmp_path):
    AutoModel.from_config(tiny_config(family)).save_pretrained(tmp_path)
    # Memory that nobody writes holds NaN then.
    torch.use_deterministic_algorithms(True)
    try:
        pair = ElectraRtdForPreTraining.from_pair(str(tmp_path), objective={**OBJECTIVE, "objective": objective})
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(value.isfinite().all() for value in pair.state_dict().values())
    (bias,) = (value for name, value in pair.named_parameters() if value.shape == (150,) and "generator." not in name)
    assert not bias.any()


@pytest.mark.parametrize("family", ["electra", "modernbert", "deberta-v2", "bert"])
def test_masked_lm_goes_on_with_the_head_of_a_stock_checkpoint(family, tmp_path):
    stock = randomize(AutoModelForMaskedLM.from_config(tiny_config(family))).eval()
    stock.save_pretrained(tmp_path)
    for source in (str(tmp_path), stock):
        for objective in ("mlm", "rtd_mlm"):
            pair = ElectraRtdForPreTraining.from_pair(source, objective={**OBJECTIVE, "objective": objective}).eval()
            with torch.no_grad():
                found = pair.heads.predict(pair.encode(pair.encoder, document_ids=None, **tiny_text()))
                expected = stock(**tiny_text()).logits
            # DeBERTa reads padding as zeros, and the pair's rows do not.
            shown = tiny_text()["attention_mask"].bool()
            torch.testing.assert_close(found[shown], expected[shown], atol=1e-5, rtol=1e-5)


def test_a_class_for_pre_training_has_the_head_too():
    stock = randomize(BertForPreTraining(tiny_config("bert")))
    pair = ElectraRtdForPreTraining.from_pair(stock, objective={**OBJECTIVE, "objective": "mlm"})
    for name, value in pair.cls.state_dict().items():
        assert torch.equal(value, stock.cls.state_dict()[name]), name


def test_a_generator_of_another_size_than_is_asked_for(published, tmp_path):
    pair = tiny_pair("electra")
    pair.save_pretrained(tmp_path)
    same = ElectraRtdForPreTraining.from_pair(str(tmp_path), generator_width=0.25, generator_depth=1.0)
    assert torch.equal(
        same.generator.encoder.state_dict()["embeddings_project.weight"],
        pair.state_dict()["generator.electra.embeddings_project.weight"],
    )
    with pytest.raises(ValueError, match="generator_depth is 0.34, a num_hidden_layers of 1, but .* has 3; leave"):
        ElectraRtdForPreTraining.from_pair(str(tmp_path), generator_depth=0.34)
    paths = published["electra", "discriminator"], published["electra", "generator"]
    with pytest.raises(ValueError, match="generator_width is 0.25, a hidden_size of 8, but .* has 16; leave"):
        ElectraRtdForPreTraining.from_pair(*paths, generator_width=0.25, objective=OBJECTIVE)


def test_pairs_that_cannot_be(published, tmp_path):
    other = tmp_path / "other"
    ElectraForMaskedLM(tiny_electra_config(vocab_size=160)).save_pretrained(other)
    with pytest.raises(ValueError, match="vocab_size 160 differs from discriminator vocab_size 150"):
        ElectraRtdForPreTraining.from_pair(published["electra", "discriminator"], str(other))
    ElectraForMaskedLM(tiny_electra_config(embedding_size=8)).save_pretrained(other)
    with pytest.raises(ValueError, match="equal embedding_size.*16.*8"):
        ElectraRtdForPreTraining.from_pair(published["electra", "discriminator"], str(other), embedding_sharing="tied")
    mixed = published["electra", "discriminator"], published["modernbert", "generator"]
    with pytest.raises(ValueError, match="one family"):
        ElectraRtdForPreTraining.from_pair(*mixed, embedding_sharing="tied")
    assert ElectraRtdForPreTraining.from_pair(*mixed, objective=OBJECTIVE)(**tiny_text()).loss.isfinite()


def test_a_plain_discriminator_is_no_pair(published):
    path = published["electra", "discriminator"]
    with pytest.raises(ValueError, match=r"holds no generator.*from_pair\(discriminator="):
        ElectraRtdForPreTraining.from_pretrained(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_generator_loads_from_stock_and_from_a_pair_and_saves_as_stock(family, published, tmp_path):
    batch = tiny_text()
    model = tiny_pair(family)
    model.save_pretrained(tmp_path / "pair")
    stock = AutoModelForMaskedLM.from_pretrained(published[family, "generator"]).eval()
    sources = {published[family, "generator"]: stock, str(tmp_path / "pair"): stock_generator(model)}
    for number, (source, expected) in enumerate(sources.items()):
        generator = ElectraRtdGenerator.from_pretrained(source).eval()
        use_stock_layers(generator)
        with torch.no_grad():
            logits = expected(**batch).logits
            assert torch.equal(generator(**batch).logits, logits)
            generator.save_pretrained(tmp_path / str(number))
            loaded, info = AutoModelForMaskedLM.from_pretrained(tmp_path / str(number), output_loading_info=True)
            assert not info["missing_keys"] and not info["unexpected_keys"]
            assert isinstance(loaded, (ElectraForMaskedLM, ModernBertForMaskedLM))
            assert torch.equal(loaded.eval()(**batch).logits, logits)
            assert "electra_rtd" not in (tmp_path / str(number) / "config.json").read_text(encoding="utf-8")


def damaged(folder: Path, drop: str | None = None, layers: int | None = None) -> Path:
    """A joint checkpoint without a tensor, or whose config says another number of layers."""
    tiny_pair("electra").save_pretrained(folder)
    tiny_tokenizer(folder)
    if drop is not None:
        state = load_file(folder / "model.safetensors")
        del state[drop]
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    if layers is not None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["num_hidden_layers"] = layers
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


HALF = {
    "head": (
        {"drop": "discriminator_predictions.dense_prediction.weight"},
        "1 weights are missing, discriminator_pre",
    ),
    "layer": (
        {"drop": "electra.encoder.layer.1.output.dense.weight"},
        "1 weights are missing, electra.encoder.layer.1",
    ),
    "more layers": ({"layers": 4}, "weights are missing, electra.encoder.layer.3"),
    "fewer layers": ({"layers": 2}, "weights are left over, electra.encoder.layer.2"),
}


@pytest.mark.parametrize("name", HALF)
def test_half_a_pair_is_refused(name, tmp_path):
    damage, says = HALF[name]
    with pytest.raises(ValueError, match=says):
        ElectraRtdForPreTraining.from_pretrained(damaged(tmp_path, **damage))


@pytest.mark.parametrize("name", [name for name in HALF if name != "head"])
def test_half_an_encoder_is_refused_by_every_verb(name, tmp_path, capsys):
    damage, says = HALF[name]
    folder = str(damaged(tmp_path / "half", **damage))
    for verb in (["inspect", folder, "the cat"], ["score", folder, str(tmp_path / "text.txt")]):
        (tmp_path / "text.txt").write_text("the cat sat\n", encoding="utf-8")
        assert main(verb) == 2
        assert "weights are" in capsys.readouterr().err
    assert main(["export", folder, "--output-dir", str(tmp_path / "release")]) == 2
    assert not (tmp_path / "release").exists()
    with pytest.raises(ValueError, match="weights are"):
        ElectraRtdForPreTraining.from_pair(folder, objective={"generator_kind": "unigram"})


@pytest.mark.parametrize("folder", ["../outside/generator", "/etc", "a/../../b", "~/x", "C:x"])
def test_a_release_does_not_lead_out_of_its_folder(folder, tmp_path):
    pair = tiny_pair("electra")
    write_release(pair, None, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["electra_rtd"]["generator_subfolder"] = folder
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="generator_subfolder is .* within the release"):
        ElectraRtdForPreTraining.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="generator_subfolder is .* within the release"):
        ElectraRtdGenerator.from_pretrained(tmp_path)
