"""Conversions as a user types them: whole releases and checkpoints, or one line and nothing left behind."""

import json
import re
from pathlib import Path

import numpy
import pytest
import torch
from helpers.deberta_v3 import published_pair, write_deberta
from helpers.original import original_checkpoint, write_vocabulary
from helpers.tiny import MASK, tiny_pair, tiny_text, tiny_tokenizer
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, ElectraForPreTraining

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.conversion import convert as convert_module
from modeling_electra_rtd.conversion.convert import convert
from modeling_electra_rtd.conversion.tensorflow_bundle import TensorBundle, write_bundle


@pytest.fixture
def original(tmp_path) -> Path:
    folder = tmp_path / "original"
    folder.mkdir()
    write_bundle(folder / "model.ckpt-3", original_checkpoint())
    write_vocabulary(folder)
    return folder


@pytest.fixture
def unverified(monkeypatch) -> None:
    """Without the process of its own, which one test starts for all."""
    monkeypatch.setattr(convert_module, "verify_release", lambda model, root: {"root": {}})


def test_to_a_release_that_stock_classes_load_and_back(original, tmp_path, capsys):
    release, back = tmp_path / "release", tmp_path / "back"
    assert main(["convert", str(original), "--output-dir", str(release)]) == 0
    said = capsys.readouterr().out
    assert "left out: global_step, which is 3\n" in said
    card = (release / "README.md").read_text(encoding="utf-8")
    origin = "original, a checkpoint of the original ELECTRA code (TensorFlow 1); other code trained it.\n"
    assert f"Converted by electra-rtd from {origin}" in card and "\n- global_step, which is 3\n" in card
    assert "root, generator, discriminator load with 0 missing keys and equal outputs" in said

    pair = ElectraRtdForPreTraining.from_pretrained(release).eval()
    batch = tiny_text()
    for model_class, where, expected in (
        (ElectraForPreTraining, {}, pair.discriminate(**batch)),
        (AutoModelForMaskedLM, {"subfolder": "generator"}, pair.generator(**batch).logits),
    ):
        stock, info = model_class.from_pretrained(release, output_loading_info=True, **where)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        torch.testing.assert_close(stock.eval()(**batch).logits, expected)
    assert pair.generator.electra.embeddings is pair.electra.embeddings
    tokenizer = AutoTokenizer.from_pretrained(release)
    assert tokenizer("the cats sat")["input_ids"] == tiny_tokenizer()("the cats sat")["input_ids"]
    assert tokenizer.model_max_length == 64
    assert pair.config.mask_token_id == tokenizer.mask_token_id

    assert main(["convert", str(release), "--output-dir", str(back), "--to", "original"]) == 0
    assert f"checkpoint {back / 'model.ckpt-0'}, read back and equal" in capsys.readouterr().out
    assert {path.name for path in back.iterdir()} == {
        "checkpoint",
        "model.ckpt-0.index",
        "model.ckpt-0.data-00000-of-00001",
        "vocab.txt",
        "hparams.json",
    }
    before, after = TensorBundle(original / "model.ckpt-3"), TensorBundle(back / "model.ckpt-0")
    assert before.entries.keys() == after.entries.keys()
    for name in before.entries:
        if not name.endswith(("adam_m", "adam_v", "global_step")):
            assert before.read(name).tobytes() == after.read(name).tobytes()
    assert after.read("global_step") == 0
    assert (back / "vocab.txt").read_bytes() == (original / "vocab.txt").read_bytes()
    values = json.loads((back / "hparams.json").read_text(encoding="utf-8"))
    assert (values["generator_hidden_size"], values["embedding_size"], values["vocab_size"]) == (0.25, 16, 150)
    assert {path.name for path in tmp_path.iterdir()} == {"original", "release", "back"}


def test_heads_are_as_told(original, tmp_path, unverified):
    convert(str(original / "model.ckpt-3"), str(tmp_path / "release"), attention_heads=4, generator_attention_heads=2)
    config = ElectraRtdForPreTraining.from_pretrained(tmp_path / "release").config
    assert (config.num_attention_heads, config.generator_config.num_attention_heads) == (4, 2)


def test_a_tokenizer_from_elsewhere(original, tmp_path, unverified):
    (original / "vocab.txt").rename(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match="vocab.txt"):
        convert(str(original), str(tmp_path / "release"))
    convert(str(original), str(tmp_path / "release"), tokenizer=str(tmp_path))
    assert len(AutoTokenizer.from_pretrained(tmp_path / "release")) == 150
    with (tmp_path / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("more\n")
    with pytest.raises(ValueError, match="has 151 tokens, but the model 150, so none for more;"):
        convert(str(original), str(tmp_path / "another"), tokenizer=str(tmp_path))


def refused(source: Path, match: str, **options) -> None:
    """In one line, and nothing is left beside the source."""
    before = sorted(source.parent.iterdir())
    with pytest.raises(ValueError, match=match) as error:
        convert(str(source), str(source.parent / "refused"), **options)
    assert "\n" not in str(error.value)
    assert sorted(source.parent.iterdir()) == before


@pytest.mark.parametrize("value", [numpy.nan, -numpy.inf])
def test_an_original_with_weights_that_are_not_finite_is_refused(original, value):
    variables = original_checkpoint()
    variables["generator/encoder/layer_0/output/dense/bias"][3] = value
    write_bundle(original / "model.ckpt-3", variables)
    refused(original, "model.ckpt-3: 1 of the 8 values of generator/encoder/layer_0/output/dense/bias are not finite;")


def test_a_pair_with_weights_that_are_not_finite_is_refused(tmp_path):
    pair = tiny_pair("electra", encoder={"intermediate_size": 128})
    with torch.no_grad():
        pair.generator.generator_lm_head.bias[7] = torch.inf
    pair.save_pretrained(tmp_path / "pair")
    tiny_tokenizer(tmp_path / "pair")
    message = "pair: 1 of the 150 values of generator.generator_lm_head.bias are not finite;"
    refused(tmp_path / "pair", message, to="original")


@pytest.mark.parametrize("token", ["[UNK]", "[MASK]"])
def test_an_original_whose_vocabulary_lacks_special_tokens_is_refused(original, token):
    path = original / "vocab.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line}\n" for line in lines if line != token), encoding="utf-8")
    refused(original, re.escape(f"{original}': vocab.txt has no {token};"))
    path.write_text("", encoding="utf-8")
    refused(original, re.escape("vocab.txt has no [CLS], [MASK], [PAD], [SEP], [UNK];"))


@pytest.mark.parametrize("heads", [0, -4])
@pytest.mark.parametrize(
    ("option", "role"), [("attention_heads", "discriminator"), ("generator_attention_heads", "generator")]
)
def test_heads_are_at_least_one(original, option, role, heads):
    refused(original, f"{role}: num_attention_heads is {heads}; it must be at least 1", **{option: heads})


def test_an_original_with_several_steps_is_refused(original):
    write_bundle(original / "model.ckpt-3", original_checkpoint() | {"global_step": numpy.array([3, 4], dtype="<i8")})
    refused(original, r"model.ckpt-3: global_step has shape \[2\]; it must be a single number")


def test_a_damaged_checkpoint_leaves_nothing_behind(original, tmp_path, capsys):
    data = original / "model.ckpt-3.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    # Of a weight: the slots of the optimizer are not read.
    entry = TensorBundle(original / "model.ckpt-3").entries["generator_predictions/output_bias"]
    content[entry.offset] ^= 1
    data.write_bytes(content)
    assert main(["convert", str(original), "--output-dir", str(tmp_path / "release")]) == 2
    message = capsys.readouterr().err
    assert "is damaged: the checksum of generator_predictions/output_bias differs" in message
    assert message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "is neither an original ELECTRA checkpoint"),
        ({"to": "original"}, "config.json"),
        ({"to": "original", "attention_heads": 4}, "--attention-heads is 4, but a pair says itself"),
        ({"to": "tensorflow"}, "--to is 'tensorflow'; allowed: native, original"),
    ],
)
def test_other_sources_are_refused_in_a_line(options, message, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    with pytest.raises(ValueError, match=message) as error:
        convert(str(folder), str(tmp_path / "release"), **options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_tokenizer_that_the_original_cannot_read_is_refused(tmp_path):
    # A generator that the original can build: four times its width inside.
    tiny_pair("electra", encoder={"intermediate_size": 128, "vocab_size": 151}).save_pretrained(tmp_path / "pair")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(tmp_path / "pair")
    convert(str(tmp_path / "pair"), str(tmp_path / "original"), to="original")
    assert (tmp_path / "original" / "vocab.txt").read_text(encoding="utf-8").endswith("\nmore\n")

    tokenizer.add_tokens(["most"])
    tokenizer.save_pretrained(tmp_path / "larger")
    with pytest.raises(ValueError, match="has 152 tokens, but the model 151, so none for most;"):
        convert(str(tmp_path / "pair"), str(tmp_path / "other"), to="original", tokenizer=str(tmp_path / "larger"))

    words = sorted(tiny_tokenizer().get_vocab(), key=tiny_tokenizer().get_vocab().get)
    words[1], words[MASK] = words[MASK], words[1]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"mask_token_id is 1, but the pair was trained with {MASK}; name"):
        convert(str(tmp_path / "pair"), str(tmp_path / "other"), to="original", tokenizer=str(tmp_path))

    tokenizer = tiny_tokenizer()
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(words[::-1]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="pads with id 0, this tokenizer with 149"):
        convert(str(tmp_path / "pair"), str(tmp_path / "other"), to="original", tokenizer=str(tmp_path))


@pytest.fixture
def deberta(tmp_path) -> Path:
    folder = tmp_path / "deberta"
    folder.mkdir()
    write_deberta(folder, *published_pair()[:2])
    return folder


def test_a_deberta_v3_pair(deberta, tmp_path, unverified):
    release = tmp_path / "release"
    done = convert(str(deberta), str(release))
    assert done.left_out[0].startswith("of the detection head: ")
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "Converted by electra-rtd from deberta, a DeBERTaV3 pair; other code trained it.\n" in card
    assert all(f"\n- {line}\n" in card for line in done.left_out)
    discriminator, _, stock = published_pair()
    batch = tiny_text()
    generator, info = AutoModelForMaskedLM.from_pretrained(release, subfolder="generator", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(generator.eval()(**batch).logits, stock(**batch).logits, atol=1e-5, rtol=1e-5)

    encoder, info = AutoModel.from_pretrained(release, output_loading_info=True)
    head = {"dense.weight", "dense.bias", "dense_prediction.weight", "dense_prediction.bias"}
    assert not info["missing_keys"]
    assert info["unexpected_keys"] == {f"discriminator_predictions.{name}" for name in head}
    for name, value in encoder.state_dict().items():
        # Words are put together again from the generator's and the difference, which rounds.
        tolerance = 1e-6 if "word_embeddings" in name else 0
        expected = discriminator[f"deberta.{name}"].float()
        torch.testing.assert_close(value, expected, atol=tolerance, rtol=0)
    pair = ElectraRtdForPreTraining.from_pretrained(release)
    assert pair.config.embedding_sharing == "gdes" and pair.config.mask_token_id == tiny_tokenizer().mask_token_id
    difference = discriminator["deberta.embeddings.word_embeddings._weight"].float()
    # The published difference is that of numbers in half precision.
    torch.testing.assert_close(pair.get_input_embeddings().difference.detach(), difference, atol=2e-3, rtol=1e-3)
    pair(**batch).loss.backward()
    assert all(parameter.grad is not None for parameter in pair.parameters())


DEBERTA_WORDS = "deberta.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("role", "name", "shape", "message"),
    [
        ("generator", DEBERTA_WORDS, None, f"the generator has no {DEBERTA_WORDS}"),
        ("generator", DEBERTA_WORDS, (32,), r"has shape \[32\]; it must be a matrix"),
        ("generator", DEBERTA_WORDS, (140, 32), rf"generator's {DEBERTA_WORDS} has shape \[140, 32\], .* \[150, 32\]"),
        ("discriminator", DEBERTA_WORDS, None, f"the discriminator has no {DEBERTA_WORDS}"),
        (
            "discriminator",
            "deberta.encoder.layer.1.output.dense.bias",
            (31,),
            r"dense.bias has shape \[31\], .* \[32\]",
        ),
        ("generator", "deberta.encoder.layer.0.output.dense.bias", (31,), r"dense.bias has shape \[31\], .* \[32\]"),
        ("generator", "deberta.encoder.layer.0.intermediate.dense.weight", (64,), "it must be a matrix"),
        ("generator", "lm_predictions.lm_head.bias", (149,), r"lm_head.bias has shape \[149\], .* \[150\]"),
        ("generator", "lm_predictions.lm_head.dense.weight", (32, 31), r"dense.weight has shape \[32, 31\]"),
        ("discriminator", "mask_predictions.dense.weight", (32, 31), r"mask_predictions.dense.weight has shape"),
        ("discriminator", "mask_predictions.classifier.bias", (2,), r"classifier.bias has shape \[2\], .* \[1\]"),
        (
            "discriminator",
            "deberta.encoder.layer.7.output.dense.bias",
            (32,),
            "is no DeBERTaV3 pair: the discriminator",
        ),
    ],
)
def test_a_damaged_deberta_v3_pair_is_refused(deberta, role, name, shape, message):
    states = dict(zip(("discriminator", "generator"), published_pair()[:2], strict=True))
    states[role].pop(name, None)
    if shape is not None:
        states[role][name] = torch.zeros(shape, dtype=torch.float16)
    write_deberta(deberta, **states)
    refused(deberta, message)


def test_a_deberta_v3_pair_with_weights_that_are_not_finite_is_refused(deberta):
    discriminator, generator, _ = published_pair()
    generator["deberta.encoder.layer.0.output.dense.bias"][0] = torch.nan
    write_deberta(deberta, discriminator, generator)
    refused(deberta, "generator.safetensors: 1 of the 32 values of deberta.encoder.layer.0.output.dense.bias are not")


def test_a_deberta_v3_head_that_is_not_published_is_the_same_every_time(deberta, tmp_path, unverified):
    discriminator, generator, _ = published_pair()
    kept = {name: value for name, value in discriminator.items() if not name.startswith("mask_predictions.")}
    write_deberta(deberta, kept, generator)
    for name in ("one", "other"):
        convert(str(deberta), str(tmp_path / name))
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_tokenizer_of_another_model_is_refused_with_a_deberta_v3_pair(deberta):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(deberta)
    refused(deberta, "has 151 tokens, but the model 150, so none for more;")


def test_pickles_are_not_opened(deberta, tmp_path):
    (deberta / "pytorch_model.generator.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds 0 files \*.safetensors of the generator, it must be one$"):
        convert(str(deberta), str(tmp_path / "release"))
    # What would run, were it opened.
    (deberta / "pytorch_model.generator.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ValueError, match="pytorch_model.generator.bin is a pickle, which is not opened here") as error:
        convert(str(deberta), str(tmp_path / "release"))
    assert "\n" not in str(error.value)
