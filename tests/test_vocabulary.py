"""Vocabularies whose ids are not one behind the other, and padding that two files call differently."""

import json

import pytest
import torch
from helpers.corpus import write_corpus
from helpers.tiny import tiny_electra_config, tiny_tokenizer
from tokenizers import models
from transformers import BertTokenizer, ElectraForPreTraining

from modeling_electra_rtd import ReplacedTokenDetectionPipeline
from modeling_electra_rtd.data.blocks import load_blocks, prepare_blocks
from modeling_electra_rtd.data.collator import BlockCollator
from modeling_electra_rtd.data.tokenization import load_tokenizer
from modeling_electra_rtd.data.word_starts import continuing_tokens
from modeling_electra_rtd.model.vocabulary import padding_problem, vocabulary_size
from modeling_electra_rtd.pretraining.building import build_model
from modeling_electra_rtd.pretraining.recipes import ModelRecipe


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"), "."]
ENCODER = {"embedding_size": 16, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
RECIPE = {"discriminator": {"model_type": "electra", "num_attention_heads": 4, **ENCODER}, "generator_width": 0.5}


def write_vocabulary(folder, words, ending="\n", **beside):
    folder.mkdir()
    (folder / "vocab.txt").write_bytes("".join(word + ending for word in words).encode())
    for name, values in beside.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return str(folder)


def with_gaps(folder) -> str:
    """`tokenizer.json` with 31 ids that no token has before the last ones."""
    words = {word: index for index, word in enumerate([*SPECIAL, *LETTERS])}
    for word in "et.":
        words[word] += 31 + len(LETTERS)
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.backend_tokenizer.model = models.WordPiece(words, unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("beside", [{}, {"tokenizer_config": {"tokenizer_class": "BertTokenizer"}}])
def test_doubled_lines_are_named_and_have_rows(tmp_path, caplog, beside, ending):
    # Doubled: "b" in lines 7 and 59, "##c" in lines 34 and 60; the last line counts.
    folder = write_vocabulary(tmp_path / "v", [*SPECIAL, *LETTERS, "b", "##c"], ending, **beside)
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == 58 and vocabulary_size(tokenizer) == 60
    assert "vocab.txt holds 2 tokens more than once ('b' in lines 7 and 59, '##c' in lines 34 and 60)" in caplog.text
    assert tokenizer("bc")["input_ids"] == [2, 58, 59, 3]


@pytest.mark.parametrize("kind", ["doubled", "gaps"])
def test_a_step_of_pretraining_reaches_the_largest_id(tmp_path, caplog, kind):
    source = tmp_path / "tokenizer"
    if kind == "doubled":
        folder = write_vocabulary(source, [*SPECIAL, *LETTERS, *["b", "##c"] * 40])
    else:
        folder = with_gaps(source)
    prepare_blocks(
        [write_corpus(tmp_path / "text")], folder, str(tmp_path / "blocks"), max_length=32, num_proc=1, progress=False
    )
    tokenizer = load_tokenizer(str(tmp_path / "blocks" / "tokenizer"))
    size = vocabulary_size(tokenizer)
    assert size > len(tokenizer)
    if kind == "gaps":
        assert f"of {size} ids have no token" in caplog.text
    rows = load_blocks(str(tmp_path / "blocks"), "train", tokenizer)
    assert max(max(row) for row in rows["input_ids"]) == size - 1
    model = build_model(ModelRecipe(**RECIPE, masking_strategy="whole_word"), tokenizer)
    assert model.config.vocab_size >= size
    batch = BlockCollator(tokenizer.pad_token_id, continues_word=continuing_tokens(tokenizer))(list(rows))
    assert torch.isfinite(model(**batch).loss)


def test_regular_vocabularies_are_as_large_as_they_are_long():
    assert vocabulary_size(tiny_tokenizer()) == len(tiny_tokenizer())


@pytest.mark.parametrize(("theirs", "said"), [(None, False), (0, False), (3, True)])
def test_padding_that_two_files_call_differently(theirs, said, caplog):
    tokenizer, config = tiny_tokenizer(), tiny_electra_config(pad_token_id=theirs)
    problem = padding_problem(tokenizer, config)
    assert bool(problem) == said
    detect = ReplacedTokenDetectionPipeline(model=ElectraForPreTraining(config), tokenizer=tokenizer, device="cpu")
    assert len(detect("the cat sat")) == 3
    assert ("set pad_token_id to 0 in config.json" in caplog.text) == said
