"""What the decoder sees and where its weights come from, by exact tensors; and tiny models that write."""

import pytest
import torch
from datasets import Dataset
from helpers.finetuning import checkpoint, trainer_of
from helpers.tiny import PAD, SEP, VOCABULARY, randomize, tiny_config, tiny_tokenizer
from transformers import DebertaV2Config, DebertaV2Model, EncoderDecoderModel, ModernBertModel

from modeling_electra_rtd.finetuning.kinds.sequence_to_sequence import SequenceToSequence, detokenized, warm_started
from modeling_electra_rtd.finetuning.kinds.table import KINDS
from modeling_electra_rtd.finetuning.tasks import TASKS


def kind(name: str = "multi30k_de_en", **options) -> SequenceToSequence:
    return KINDS[TASKS[name].kind](TASKS[name], (), tiny_tokenizer(), 24, **{"max_target_length": 12, **options})


def modernbert(folder) -> str:
    randomize(ModernBertModel(tiny_config("modernbert"))).save_pretrained(folder)
    tiny_tokenizer(folder)
    return str(folder)


@pytest.fixture(params=[checkpoint, modernbert], ids=["electra", "modernbert"])
def model(request, tmp_path):
    return kind().load_model(request.param(tmp_path / "checkpoint")).eval()


def logits(model, source, target):
    with torch.no_grad():
        return model(input_ids=source, decoder_input_ids=target).logits


def test_the_decoder_sees_the_source_and_no_future(model):
    source, target = torch.tensor([[2, 9, 10, 3]]), torch.tensor([[2, 20, 21, 22]])
    before = logits(model, source, target)
    changed = target.clone()
    changed[0, 2] = 30
    after = logits(model, source, changed)
    torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0, atol=1e-6)
    assert (after[:, 2:] - before[:, 2:]).abs().max() > 1e-3
    other = source.clone()
    other[0, 1] = 40
    assert (logits(model, other, target) - before).abs().max() > 1e-4


def test_padding_of_the_source_is_not_read(model):
    source, target = torch.tensor([[2, 9, 10, 3]]), torch.tensor([[2, 20, 21, 22]])
    padded = torch.nn.functional.pad(source, (0, 4), value=PAD)
    with torch.no_grad():
        found = model(input_ids=padded, attention_mask=(padded != PAD).long(), decoder_input_ids=target).logits
    torch.testing.assert_close(found, logits(model, source, target))


def test_what_is_warm_started(model):
    words = model.encoder.get_input_embeddings().weight
    assert torch.equal(model.decoder.get_input_embeddings().weight, words)
    assert model.decoder.get_output_embeddings().weight is model.decoder.get_input_embeddings().weight
    assert model.decoder.get_input_embeddings().weight is not words
    if model.config.encoder.model_type == "electra":
        encoder, decoder = model.encoder.state_dict(), model.decoder.electra.state_dict()
        assert all(torch.equal(decoder[name], weight) for name, weight in encoder.items())
        assert {name.split(".")[3] for name in decoder if name not in encoder} == {"crossattention"}
    is_electra = model.config.encoder.model_type == "electra"
    described = warm_started(model)
    assert described["decoder.layers"] == ("pre-trained" if is_electra else "new")
    assert described["decoder.embeddings"].startswith("pre-trained")
    fresh = kind().fresh_model(model.config)
    assert not torch.equal(fresh.encoder.get_input_embeddings().weight, words)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_words_of_another_width_are_new(tmp_path):
    config = DebertaV2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        embedding_size=16,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    DebertaV2Model(config).save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    assert warm_started(kind().load_model(str(tmp_path)))["decoder.embeddings"] == "new"


def test_the_output_layer_is_tied_whatever_the_checkpoint_says(tmp_path):
    model = kind().load_model(checkpoint(tmp_path, tie_word_embeddings=False))
    assert model.decoder.get_output_embeddings().weight is model.decoder.get_input_embeddings().weight


def test_targets_beyond_the_positions_are_refused(tmp_path):
    folder = checkpoint(tmp_path)
    assert kind(max_target_length=64).load_model(folder)(
        input_ids=torch.tensor([[2, 9, 3]]), labels=torch.full((1, 64), 9)
    ).logits.shape == (1, 64, VOCABULARY)
    with pytest.raises(ValueError, match="max_target_length is 65; the decoder has the checkpoint's 64 positions"):
        kind(max_target_length=65).load_model(folder)


def test_what_the_search_is_told(tmp_path):
    folder = checkpoint(tmp_path)
    summary = kind("scitldr", num_beams=2, early_stopping=True).load_model(folder).generation_config
    assert (summary.num_beams, summary.no_repeat_ngram_size, summary.early_stopping) == (2, 3, True)
    assert not kind().load_model(folder).generation_config.no_repeat_ngram_size
    assert summary.eos_token_id == SEP and summary.pad_token_id == PAD


def test_it_is_a_stock_checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    loaded, report = EncoderDecoderModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert loaded.decoder.get_output_embeddings().weight is loaded.decoder.get_input_embeddings().weight
    source, target = torch.tensor([[2, 9, 10, 3]]), torch.tensor([[2, 20, 21, 22]])
    torch.testing.assert_close(logits(loaded.eval(), source, target), logits(model, source, target))
    assert loaded.generation_config.num_beams == 4 and loaded.config.decoder_start_token_id == 2


def test_targets_end_and_what_is_cut_is_counted():
    examples = Dataset.from_dict({"source": ["the cat"], "target": ["a dog"], "references": [["a dog"]]})
    row = kind().features(examples, training=True)[0]
    assert row["labels"] == [*tiny_tokenizer()("a dog", add_special_tokens=False)["input_ids"], SEP]
    assert "labels" not in kind().features(examples, training=False)[0]
    two = kind(max_target_length=2)
    short = two.features(examples, training=True)[0]
    assert len(short["labels"]) == 2 and short["labels"][-1] == SEP
    # At its length, [CLS] and [SEP] included, a source is whole.
    assert two.cut == {"targets": (1, 1, "are longer than 2 tokens and lose their end")}
    reads = kind()
    sources = Dataset.from_dict({"source": ["the " * 22, "the " * 23, "the " * 40]})
    assert reads.features(sources, training=False)["length"][:] == [24, 24, 24]
    assert reads.cut == {"sources": (2, 3, "are longer than 24 tokens and lose their end")}


def test_trivial_guesses_and_case():
    examples = Dataset.from_dict({"source": ["The Cat sat. A dog ran."], "references": [["the cat sat."]]})
    assert kind("scitldr").trivial_predictions(None, examples) == ["The Cat sat."]
    assert kind().trivial_predictions(None, examples) == ["The Cat sat. A dog ran."]
    assert kind("scitldr").metrics(["THE CAT sat."], examples)["rougeL"] == 100


@pytest.mark.parametrize("make", [checkpoint, modernbert], ids=["electra", "modernbert"])
def test_it_learns_to_write(make, tmp_path):
    pairs = {"the cat sat": "w1 w2 w3", "a dog sat": "w4 w5", "the mat": "w6 w7 w8 w9", "on a mat": "w2 w4"}
    examples = Dataset.from_list([{"source": s, "target": t, "references": [t]} for s, t in pairs.items()])
    writing = kind()
    model = writing.load_model(make(tmp_path / "checkpoint"))
    trainer = trainer_of(
        writing,
        model,
        examples,
        tmp_path / "run",
        max_steps=250,
        learning_rate=5e-3,
        layerwise_lr_decay=1.0,
        predict_with_generate=True,
    )
    trainer.train()
    features = writing.features(examples, training=False)
    outputs = trainer.predict(features).predictions
    predictions = writing.predictions(outputs, features, examples)
    assert predictions == list(pairs.values())
    assert writing.metrics(predictions, examples)["bleu"] > 50


@pytest.mark.parametrize(
    ("decoded", "written"),
    [
        ("he doesn ' t wear a t - shirt .", "he doesn't wear a t-shirt."),
        ("two men ( one in red ) , 50 % wet ; why ?", "two men (one in red), 50% wet; why?"),
        ("the dogs ' bowl , and 'a'", "the dogs ' bowl, and 'a'"),
        ("a cat - and a dog", "a cat-and a dog"),
        ("plain words", "plain words"),
    ],
)
def test_word_pieces_become_text(decoded, written):
    assert detokenized(decoded) == written
