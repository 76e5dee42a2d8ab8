"""Who moves whom under every kind of sharing, and what of it is on disk."""

import copy

import pytest
import torch
from helpers.slow_step import assert_equal_outputs, slow_step
from helpers.tiny import (
    FAMILIES,
    OBJECTIVE,
    VOCABULARY,
    assert_tied,
    randomize,
    tiny_config,
    tiny_pair,
    tiny_text,
    uniforms_for,
)
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.release.write import write_release


SHARINGS = ("none", "tied", "tied_words", "all", "gdes")
WORDS = {"electra": "embeddings.word_embeddings", "modernbert": "embeddings.tok_embeddings"}


def parameters_moved_by(model, loss_name: str) -> set[str]:
    """Names, below the pair, of the parameters that one of the two losses has a gradient for."""
    for name in ("generator_loss", "discriminator_loss"):
        setattr(model.config, f"{name}_weight", 1.0 if name == loss_name else 0.0)
    model.zero_grad()
    model(**tiny_text(), corruption_uniforms=uniforms_for(tiny_text()["input_ids"])).loss.backward()
    return {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_each_loss_moves_what_it_should(family, sharing):
    model = tiny_pair(family, embedding_sharing=sharing)
    prefix = model.base_model_prefix
    of_generator, of_discriminator = (
        parameters_moved_by(model, name) for name in ("generator_loss", "discriminator_loss")
    )
    words = f"{prefix}.{WORDS[family]}"
    assert f"generator.{words}.weight" in of_generator
    assert any(name.startswith("discriminator_predictions.") for name in of_discriminator)
    assert not any(name.startswith("discriminator_predictions.") for name in of_generator)
    # What both move is what they share, under the names of both.
    both = {name for name in of_generator & of_discriminator if not name.startswith("generator.")}
    encoder = {f"{prefix}.{name}" for name, _ in model.encoder.named_parameters()}
    block = {name for name in encoder if name.startswith(f"{prefix}.embeddings.")}
    assert (
        both
        == {"none": set(), "gdes": set(), "tied_words": {f"{words}.weight"}, "tied": block, "all": encoder}[sharing]
    )
    if sharing == "gdes":
        assert f"{words}.difference" in of_discriminator and f"generator.{words}.weight" not in of_discriminator
    if sharing in ("none", "gdes"):
        assert not any(name.startswith("generator.") for name in of_discriminator)


@pytest.mark.parametrize("family", FAMILIES)
def test_gdes_starts_as_the_generators_words_and_reads_the_sum(family):
    torch.manual_seed(0)
    config = ElectraRtdConfig.from_discriminator(tiny_config(family), embedding_sharing="gdes", **OBJECTIVE)
    model = ElectraRtdForPreTraining(config).eval()
    words, base = model.get_input_embeddings(), model.generator.get_input_embeddings()
    assert (words.difference == 0).all() and torch.equal(words.weight, base.weight)
    randomize(model)
    ids = tiny_text()["input_ids"]
    torch.testing.assert_close(words(ids), (base.weight + words.difference)[ids])
    # As the published implementation computes it: a sum of tables, one of them without gradient.
    total = torch.nn.functional.embedding(ids, base.weight.detach() + words.difference)
    weights = torch.randn(total.shape)
    expected = torch.autograd.grad((total * weights).sum(), words.difference)[0]
    got = torch.autograd.grad((words(ids) * weights).sum(), words.difference)[0]
    padding = base.padding_idx
    expected[padding] = 0
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_checkpoint_and_release_hold_the_whole_pair(family, sharing, tmp_path):
    model, text = tiny_pair(family, embedding_sharing=sharing), tiny_text()
    uniforms = uniforms_for(text["input_ids"])
    joint, release = tmp_path / "joint", tmp_path / "release"
    model.save_pretrained(joint)
    release.mkdir()
    write_release(model, None, release)
    expected = model(**text, corruption_uniforms=uniforms)
    for folder in (joint, release):
        loaded, report = ElectraRtdForPreTraining.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"], report
        output = loaded.eval()(**text, corruption_uniforms=uniforms)
        torch.testing.assert_close(output.loss, expected.loss, atol=1e-4, rtol=1e-5)
        # Still one: what moves a shared weight moves it for both.
        assert len(list(loaded.parameters())) == len(list(model.parameters()))
        encoder, report = AutoModel.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        states = [
            m(text["input_ids"], text["attention_mask"]).last_hidden_state for m in (encoder.eval(), model.encoder)
        ]
        torch.testing.assert_close(*states, atol=1e-5, rtol=1e-5)
    generator, report = AutoModelForMaskedLM.from_pretrained(release / "generator", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(generator.eval()(**text).logits, model.generator(**text).logits, atol=1e-5, rtol=1e-5)
    names = load_file(release / "model.safetensors").keys()
    assert not [name for name in names if name.startswith("generator.") or name.endswith(".difference")]


def test_gdes_is_saved_to_the_bit(tmp_path):
    model = tiny_pair("electra", embedding_sharing="gdes")
    model.save_pretrained(tmp_path)
    loaded = ElectraRtdForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(loaded.get_input_embeddings().difference, model.get_input_embeddings().difference)
    again = ElectraRtdForPreTraining(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.get_input_embeddings().difference, model.get_input_embeddings().difference)


def test_an_existing_pair_continues_under_gdes():
    pair = tiny_pair("electra", embedding_sharing="none")
    continued = ElectraRtdForPreTraining.from_pair(pair, pair.generator, embedding_sharing="gdes", objective=OBJECTIVE)
    text, uniforms = tiny_text(), uniforms_for(tiny_text()["input_ids"])
    outputs = [model.eval()(**text, corruption_uniforms=uniforms) for model in (pair, continued)]
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs[0].generator_loss, outputs[1].generator_loss)


def test_words_are_shared_between_families():
    pair = {
        "discriminator_config": tiny_config("modernbert"),
        "generator_config": tiny_config("electra", embedding_size=32),
    }
    model = ElectraRtdForPreTraining(ElectraRtdConfig(**pair, embedding_sharing="tied_words", **OBJECTIVE))
    assert model.generator.get_input_embeddings() is model.get_input_embeddings()
    assert parameters_moved_by(model, "generator_loss") & parameters_moved_by(model, "discriminator_loss") >= {
        "model.embeddings.tok_embeddings.weight"
    }
    with pytest.raises(ValueError, match="'tied' needs one family.*use 'tied_words'"):
        ElectraRtdConfig(**pair, embedding_sharing="tied", **OBJECTIVE)


# A factorised embedding's width by the field that each family has for it.
def _sized(family, embedding, hidden=32, **other):
    fields = {"bert": (), "rembert": ("input_embedding_size",)}.get(family, ("embedding_size",))
    return tiny_config(family, hidden_size=hidden, **dict.fromkeys(fields, embedding), **other)


@pytest.mark.parametrize(
    ("discriminator", "generator", "sharings"),
    [
        (_sized("electra", 16), _sized("albert", 16), ("tied_words", "gdes")),
        (_sized("bert", 16, 16), _sized("albert", 16), ("tied_words", "gdes")),
        (_sized("bert", 16, 16), _sized("rembert", 16), ("tied_words", "gdes")),
        (_sized("deberta-v2", 16), _sized("bert", 16, 16), ("tied_words", "gdes")),
        (_sized("deberta-v2", 16), _sized("deberta-v2", 16, 16), ("tied_words", "gdes")),
        (_sized("albert", 16), _sized("albert", 16, 16), ("tied", "tied_words", "gdes")),
        # Its table of sines lies outside the block, and each network has its own.
        (_sized("roformer", 16), _sized("roformer", 16, max_position_embeddings=32), ("tied",)),
    ],
)
def test_what_fits_is_shared_whatever_its_width_is_called(discriminator, generator, sharings):
    for sharing in sharings:
        # A config that was built from keeps the attention it was built with.
        pair = copy.deepcopy({"discriminator_config": discriminator, "generator_config": generator})
        model = ElectraRtdForPreTraining(ElectraRtdConfig(**pair, embedding_sharing=sharing, **OBJECTIVE))
        model(**tiny_text()).loss.backward()
        assert model.get_input_embeddings().weight.shape == (VOCABULARY, 16)


@pytest.mark.parametrize(
    ("discriminator", "generator", "sharings", "message"),
    [
        (_sized("albert", 16), _sized("bert", 32), ("tied_words", "gdes"), "embedding_size, .* 16 and .* 32;"),
        (_sized("bert", 32), _sized("albert", 16), ("tied_words", "gdes"), "embedding_size, .* 32 and .* 16;"),
        (_sized("rembert", 16), _sized("bert", 32), ("tied_words", "gdes"), "embedding_size, .* 16 and .* 32;"),
        (_sized("deberta-v2", 16), _sized("bert", 32), ("tied_words",), "embedding_size, .* 16 and .* 32;"),
        (_sized("albert", 16), _sized("albert", 8), ("tied", "tied_words", "gdes"), "embedding_size, .* 16 and .* 8;"),
        (
            tiny_config("mpnet", pad_token_id=1),
            tiny_config("mpnet", pad_token_id=1, max_position_embeddings=32),
            ("tied",),
            "max_position_embeddings, .* 64 and .* 32;",
        ),
        (
            tiny_config("tapas", type_vocab_sizes=[3, 8, 8, 2, 8, 8, 10]),
            tiny_config("tapas", type_vocab_sizes=[3, 8, 8, 2, 8, 9, 10]),
            ("tied",),
            r"embeddings\.token_type_embeddings_5\.weight, .* \(8, 32\) and .* \(9, 32\);",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_a_step(discriminator, generator, sharings, message):
    for sharing in sharings:
        with pytest.raises(ValueError, match=f"embedding_sharing '{sharing}' needs equal {message} use 'none'"):
            ElectraRtdConfig(
                discriminator_config=discriminator, generator_config=generator, embedding_sharing=sharing, **OBJECTIVE
            )


def test_all_needs_equal_sizes():
    narrow = tiny_config("electra", num_hidden_layers=2)
    with pytest.raises(ValueError, match="embedding_sharing 'all' needs equal num_hidden_layers"):
        ElectraRtdConfig(
            discriminator_config=tiny_config("electra"), generator_config=narrow, embedding_sharing="all", **OBJECTIVE
        )


@pytest.mark.parametrize("size", [158, 142])
def test_resizing_under_gdes(size):
    model = tiny_pair("electra", embedding_sharing="gdes")
    before = model.get_input_embeddings().weight
    model.resize_token_embeddings(size, mean_resizing=False)
    kept = min(size, len(before))
    assert torch.equal(model.get_input_embeddings().weight[:kept], before[:kept])
    assert (model.get_input_embeddings().difference[kept:] == 0).all()
    assert model.config.vocab_size == model.generator.config.vocab_size == size
    assert model(**tiny_text() | {"input_ids": tiny_text()["input_ids"] % 140}).loss.isfinite()


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_stay_tied(family, tmp_path):
    model = tiny_pair(family)
    assert_tied(model)
    assert_tied(model.to(torch.bfloat16))
    model = tiny_pair(family)
    model.save_pretrained(tmp_path)
    loaded, info = ElectraRtdForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert_tied(loaded)
    assert_tied(ElectraRtdForPreTraining.from_pretrained(tmp_path, dtype=torch.bfloat16))
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("family", FAMILIES)
def test_separate_embeddings_stay_separate(family, tmp_path):
    model = tiny_pair(family, embedding_sharing="none")
    model.save_pretrained(tmp_path)
    for pair in (model, ElectraRtdForPreTraining.from_pretrained(tmp_path)):
        words, others = pair.get_input_embeddings().weight, pair.generator.get_input_embeddings().weight
        assert not torch.equal(words, others)
        assert pair.generator.get_output_embeddings().weight is others


def test_a_generator_with_a_head_of_its_own_keeps_it(tmp_path):
    model = tiny_pair("electra", encoder={"tie_word_embeddings": False})
    words = model.get_input_embeddings().weight
    assert model.generator.get_input_embeddings().weight is words
    assert model.generator.get_output_embeddings().weight is not words
    model.save_pretrained(tmp_path)
    loaded = ElectraRtdForPreTraining.from_pretrained(tmp_path)
    assert loaded.generator.get_input_embeddings().weight is loaded.get_input_embeddings().weight
    head = loaded.generator.get_output_embeddings().weight
    assert torch.equal(head, model.generator.get_output_embeddings().weight)
    assert not torch.equal(head, words)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_deep_copy_is_tied_in_itself_and_apart_from_its_source(family):
    model, batch = tiny_pair(family), tiny_text()
    uniforms = uniforms_for(batch["input_ids"])
    before = model(**batch, corruption_uniforms=uniforms).loss
    other = copy.deepcopy(model)
    assert_tied(other)
    torch.testing.assert_close(other(**batch, corruption_uniforms=uniforms).loss, before, atol=0, rtol=0)
    randomize(other, seed=1)
    assert not torch.equal(other(**batch, corruption_uniforms=uniforms).loss, before)
    assert torch.equal(model(**batch, corruption_uniforms=uniforms).loss, before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sharing", ["tied", "none"])
@pytest.mark.parametrize("size", [VOCABULARY + 10, VOCABULARY - 30])
def test_resizing_the_vocabulary(family, sharing, size, tmp_path):
    model = tiny_pair(family, embedding_sharing=sharing)
    kept = min(size, VOCABULARY)
    batch = tiny_text()
    batch["input_ids"] %= kept
    with torch.no_grad():
        logits = model.generator(**batch).logits[..., :kept]
        judged = model.discriminate(**batch)
        model.resize_token_embeddings(size, mean_resizing=False)
        assert_tied(model) if sharing == "tied" else None
        resized = model.generator(**batch).logits
        assert resized.shape[-1] == size
        torch.testing.assert_close(resized[..., :kept], logits)
        torch.testing.assert_close(model.discriminate(**batch), judged)
    head = model.generator.get_output_embeddings()
    assert head.weight is model.generator.get_input_embeddings().weight
    assert head.weight.shape[0] == head.bias.shape[0] == head.out_features == size
    assert model.config.vocab_size == size
    assert model.config.discriminator_config.vocab_size == model.config.generator_config.vocab_size == size

    if size > VOCABULARY:
        batch["input_ids"][0, 1:11] = torch.arange(VOCABULARY, size)
    uniforms = uniforms_for(batch["input_ids"])
    expected = slow_step(model, **batch, uniforms=uniforms)
    assert_equal_outputs(model(**batch, corruption_uniforms=uniforms), expected)
    model.save_pretrained(tmp_path)
    # With stock attention, of which the slow step is made: in padding, local layers of a CPU's own say something else.
    loaded, info = ElectraRtdForPreTraining.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="sdpa"
    )
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert loaded.config.to_dict() == model.config.to_dict()
    assert_equal_outputs(loaded(**batch, corruption_uniforms=uniforms), expected)
