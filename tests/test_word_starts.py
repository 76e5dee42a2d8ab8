"""Which tokens continue a word, for every kind of vocabulary, and training on whole words."""

import numpy as np
import pytest
import torch
from tiny import CLS, MASK, SEP, VOCABULARY, WORDS, tiny_pair, tiny_text, tiny_tokenizer, uniforms_for
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from modeling_electra_rtd.corruption import number_of_uniforms
from modeling_electra_rtd.data.collator import BlockCollator
from modeling_electra_rtd.data.word_starts import continuing_tokens


def wrapped(model, pre_tokenizer) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>", cls_token="<s>", sep_token="</s>")


def test_wordpiece_marks_what_continues():
    tokenizer = tiny_tokenizer()
    continues = continuing_tokens(tokenizer)
    assert [token for token in WORDS if continues[tokenizer.convert_tokens_to_ids(token)]] == ["##s"]
    assert not continues[tokenizer.all_special_ids].any()


@pytest.mark.parametrize(
    ("space", "pre_tokenizer"),
    [("Ġ", pre_tokenizers.ByteLevel(add_prefix_space=False)), ("▁", pre_tokenizers.Metaspace())],
)
def test_marks_of_spaces_say_what_starts(space, pre_tokenizer):
    tokens = ["<unk>", space + "un", "believ", "able", ",", space, "s", "'", "<s>"]
    model = models.Unigram([(token, -1.0) for token in tokens], unk_id=0, byte_fallback=False)
    tokenizer = wrapped(model, pre_tokenizer)
    continues = continuing_tokens(tokenizer)
    names = tokenizer.get_vocab()
    assert sorted(name for name, number in names.items() if continues[number]) == ["able", "believ", "s"]


def test_a_vocabulary_without_marks_is_refused():
    tokenizer = wrapped(models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, "<unk>"), pre_tokenizers.Whitespace())
    with pytest.raises(ValueError, match="does not mark where words start"):
        continuing_tokens(tokenizer)


@pytest.mark.parametrize("strategy", ["whole_word", "span"])
def test_a_pair_masks_whole_words(strategy):
    model = tiny_pair("electra", masking_strategy=strategy, mask_probability=0.4)
    # Words of two tokens: every odd token continues one.
    words = torch.randint(3, 70, (4, 11), generator=torch.Generator().manual_seed(0))
    ids = torch.full((4, 24), SEP)
    ids[:, 0], ids[:, 1:-1] = CLS, torch.stack([2 * words, 2 * words + 1], dim=-1).flatten(1)
    collator = BlockCollator(continues_word=np.arange(VOCABULARY) % 2 == 1)
    batch = collator([{"input_ids": row, "document_lengths": [24]} for row in ids.tolist()])
    assert torch.equal(batch["word_starts"], ids % 2 == 0)
    count = number_of_uniforms(24, 0.4, joins_words=strategy == "span")
    assert count == model.number_of_uniforms(24)
    uniforms = torch.rand(4, count, generator=torch.Generator().manual_seed(0))
    output = model(**batch, corruption_uniforms=uniforms)
    assert torch.equal(output.loss_terms, model.count_loss_terms(**batch))
    chosen = output.is_chosen[:, 1:-1].unflatten(1, (-1, 2))
    # Nine of 22 tokens: four words and a half.
    assert (chosen.all(-1).sum(-1) == 4).all() and (chosen.sum((1, 2)) == 9).all()
    with pytest.raises(ValueError, match="needs to know where words start"):
        model(ids, corruption_uniforms=uniforms)


def test_single_tokens_need_no_words():
    model, text = tiny_pair("electra"), tiny_text()
    assert model.number_of_uniforms(24) == uniforms_for(text["input_ids"]).shape[1]
    assert MASK not in model(**text).corrupted_input_ids
