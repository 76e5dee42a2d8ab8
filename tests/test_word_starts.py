"""Which tokens continue a word, for every kind of vocabulary, and training on whole words."""

import numpy as np
import pytest
import torch
from helpers.tiny import CLS, MASK, SEP, VOCABULARY, WORDS, tiny_pair, tiny_text, tiny_tokenizer, uniforms_for
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from modeling_electra_rtd.data.collator import BlockCollator
from modeling_electra_rtd.data.word_starts import continuing_tokens
from modeling_electra_rtd.model.corruption import number_of_uniforms


def wrapped(model, pre_tokenizer) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>", cls_token="<s>", sep_token="</s>")


def test_wordpiece_marks_what_continues():
    tokenizer = tiny_tokenizer()
    continues = continuing_tokens(tokenizer)
    assert [token for token in WORDS if continues[tokenizer.convert_tokens_to_ids(token)]] == ["##s"]
    assert not continues[tokenizer.all_special_ids].any()
    assert not any(continues[token_id] for token_id in tokenizer.all_special_ids)


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


# Words as people write them; punctuation marks are words of their own.
SCRIPTS = {
    "english": ["The", "young", "walker", "(", "covid19", ")", "believes", "nothing", "."],
    "french": ["naïve", "garçon", "élève", ",", "œuvre"],
    "decomposed": ["nai\u0308ve", "garc\u0327on", "e\u0301le\u0300ve"],
    "german": ["schön", "müsste", "Größe", "zählen"],
    "vietnamese": ["tiếng", "Việt", "người", "đường"],
    "russian": ["моско\u0301вский", "ёлка", "край"],
    "greek": ["άνθρωπος", "είναι", "ΐ"],
    "hindi": ["किताब", "में", "हैं", "पोस्ट", "क्षत्रिय", "।"],
    "bengali": ["বাংলা", "ভাষা", "আমরা"],
    "tamil": ["தமிழ்", "மொழி", "எழுத்து"],
    "telugu": ["తెలుగు", "భాష"],
    "arabic": ["كِتَابٌ", "مُدَرِّس", "العربية", "؟"],
    "persian": ["می\u200cخواهم", "کتاب\u200cها"],
    "hebrew": ["שָׁלוֹם", "עֲלֵיכֶם", "עולם"],
    "thai": ["ภาษาไทย", "น้ำ", "ที่", "เชื่อม"],
    "burmese": ["မြန်မာ", "စကား"],
    "korean": ["한국어", "문장을", "씁니다", "."],
    "georgian": ["ქართული", "ენა"],
    "amharic": ["አማርኛ", "ቋንቋ"],
}


def trained(kind, texts, vocab_size):
    """A tokenizer that has learned few pieces, so that words fall into many."""
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    common = {"vocab_size": vocab_size, "special_tokens": special, "show_progress": False}
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False, clean_text=False)
        tokenizer.pre_tokenizer, trainer = pre_tokenizers.BertPreTokenizer(), trainers.WordPieceTrainer(**common)
    elif kind == "byte-level BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **common)
    else:
        unigram = kind == "Unigram"
        tokenizer = Tokenizer(models.Unigram() if unigram else models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **common) if unigram else trainers.BpeTrainer(**common)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)),
    )


def words_of(tokenizer, text):
    """The words of a text between <s> and </s>, and the offsets of its tokens."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    ids = np.array([[special[0], *encoded["input_ids"], *special[1:]]])
    starts = ~continuing_tokens(tokenizer)[ids]
    assert starts[0, [0, 1, -2, -1]].all()
    assert np.array_equal(starts[0], ~continuing_tokens(tokenizer)[ids[0]])
    spans = []
    for is_start, (start, end) in zip(starts[0, 1:-2], encoded["offset_mapping"], strict=True):
        if is_start:
            spans.append([start, end])
        spans[-1][1] = end
    assert all(earlier[1] <= later[0] for earlier, later in zip(spans, spans[1:], strict=False)), "cut in a character"
    return [text[start:end].strip() for start, end in spans]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("kind", "vocab_size"),
    # The smallest knows single bytes, or characters, and nothing else.
    [("WordPiece", 60), ("byte-level BPE", 261), ("byte-level BPE", 275), ("BPE", 40), ("BPE", 60), ("Unigram", 60)],
)
def test_words_as_people_write_them(kind, vocab_size, script):
    words = SCRIPTS[script]
    text = " ".join(words)
    tokenizer = trained(kind, [text], vocab_size)
    assert words_of(tokenizer, text) == words


@pytest.mark.parametrize("kind", ["WordPiece", "byte-level BPE", "BPE", "Unigram"])
def test_ideographs_kana_and_emoji(kind):
    texts = ["北京很大。我愛你", "あいうえお", "ab葛\U000e0100cd", "👩\u200d💻 👍🏽 ☺\ufe0f x"]
    tokenizer = trained(kind, [*texts, *"北京很大。我愛你"] * 5, 261 if kind.startswith("byte") else 40)
    for word in words_of(tokenizer, texts[0]):
        # Characters, or what the vocabulary has learned of several.
        assert len(word) == 1 or kind == "Unigram" and {word, f"▁{word}"} & set(tokenizer.get_vocab())
    assert "。" in words_of(tokenizer, texts[0])
    for text, characters in ((texts[2], ["葛\U000e0100"]), (texts[3], ["👩\u200d💻", "👍🏽", "☺\ufe0f"])):
        words = words_of(tokenizer, text)
        assert all(any(character in word for word in words) for character in characters)


def test_words_behind_punctuation_start_though_no_space_says_so():
    tokenizer = trained("byte-level BPE", ["(hello) world-wide hello"] * 5, 300)
    assert words_of(tokenizer, "(hello)world-wide hello") == ["(", "hello", ")", "world", "-", "wide", "hello"]


def test_byte_fallback_and_hash_signs_of_markdown():
    tokens = [
        ("<unk>", 0.0),
        ("▁", -1.0),
        ("▁क", -1.0),
        ("ि", -1.0),
        *((f"<0x{byte:02X}>", -2.0) for byte in range(256)),
    ]
    model = models.Unigram(tokens, unk_id=0, byte_fallback=True)
    assert words_of(wrapped_with_pad(model, pre_tokenizers.Metaspace()), "कि ქარ कि") == ["कि", "ქარ", "कि"]
    # "###" is a heading here, and continues nothing.
    headings = trained("byte-level BPE", ["### head ##s a"] * 9, 300)
    assert "###" in headings.get_vocab()
    assert words_of(headings, "### head a") == ["###", "head", "a"]


def wrapped_with_pad(model, pre_tokenizer):
    tokenizer = wrapped(model, pre_tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return tokenizer


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
