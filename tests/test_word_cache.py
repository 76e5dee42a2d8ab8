import random
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from modeling_electra_rtd.data import word_cache
from modeling_electra_rtd.data.encoding import DocumentEncoder, text_encoder
from modeling_electra_rtd.data.word_cache import PLAIN, WordCache, whole_text_reason


SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SAMPLE = [
    "The teacher doesn't open the (old) window; she'll wait - 12,345 years, or 3.14?",
    "L'été à Zürich, Straße, naïve façade: «ça va»… “quoted” text — and so on.",
    "слово за слово, Ελληνικά ς, עברית, العربية, 한국어 문장. 日本語の文 和 中文。",
    "x  two spaces,\ttabs\nand\n\nlines; snake_case e\u0301 \u0301 o\u0302\u0323 \ufb01ne I'm you're ''quoted'' ``q``",
]


def trained(model, pre_tokenizer, normalizer, trainer, added=()):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(SAMPLE * 3, trainer(special_tokens=SPECIAL_TOKENS, show_progress=False))
    tokenizer.add_tokens(list(added))
    return text_encoder(tokenizer.to_str())


def word_piece(**bert):
    normalizer = normalizers.BertNormalizer(**bert)
    model = models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20)
    return trained(
        model,
        pre_tokenizers.BertPreTokenizer(),
        normalizer,
        lambda **k: trainers.WordPieceTrainer(vocab_size=200, **k),
    )


def byte_pairs(normalizer=None, add_prefix_space=False, added=()):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(
        models.BPE(unk_token="[UNK]"),
        pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space),
        normalizer,
        lambda **k: trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, **k),
        added,
    )


def unigram(pre_tokenizer=None, normalizer=None):
    return trained(
        models.Unigram(),
        pre_tokenizer or pre_tokenizers.Metaspace(),
        normalizer,
        lambda **k: trainers.UnigramTrainer(vocab_size=200, unk_token="[UNK]", **k),
    )


def word_level(pre_tokenizer):
    return trained(models.WordLevel(unk_token="[UNK]"), pre_tokenizer, None, trainers.WordLevelTrainer)


def replacing():
    """As the normalizers of ALBERT and XLM-RoBERTa do."""
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    accents = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    return normalizers.Sequence([*quotes, *accents, normalizers.Replace(Regex(" {2,}"), " ")])


TOKENIZERS = {
    "wordpiece": lambda: word_piece(lowercase=True),
    "wordpiece cased": lambda: word_piece(lowercase=False, strip_accents=False, handle_chinese_chars=False),
    "wordpiece raw": lambda: word_piece(clean_text=False, lowercase=True),
    "bpe": byte_pairs,
    "bpe nfkc": lambda: byte_pairs(normalizers.NFKC()),
    "bpe nfc": lambda: byte_pairs(normalizers.NFC()),
    "bpe replacing": lambda: byte_pairs(normalizers.Replace("n't", "not")),
    "bpe prefix": lambda: byte_pairs(add_prefix_space=True),
    "bpe added": lambda: byte_pairs(added=["<a,b>", "  ", "   ", AddedToken("12", single_word=True)]),
    "unigram": unigram,
    "unigram first": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="first")),
    "unigram replacing": lambda: unigram(normalizer=replacing()),
    "unigram cleaning": lambda: unigram(normalizer=normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])),
    "words": lambda: word_level(pre_tokenizers.Whitespace()),
    "spaces": lambda: word_level(pre_tokenizers.WhitespaceSplit()),
}

# Real words, and what could join or part them: marks, joiners, prefixes, odd spaces, controls, jamo, special tokens.
HARD = [
    *" \n\t\r\0\x0b\x0c\x1c\x1f\x7f\x85\xa0\u1680\u2003\u2017\u2028\u203e\u3000\ufeff\u200b\u200d\u00ad\ufffd",
    *"\u0301\u0323\u0338\u0345\u20dd\u0483\u0600\u06dd\u0e33\u0903\u093e\u0d4e\uff9e\ufe0f\u1100\u1161\u11a8\uac00\uac01",
    *"\u00a8\u00b4\u037a\u0384\u00d7\u00f7\u0130\u0131\u03a3\u03c2\u1e9e\u00df\ufb03\u2026\u2581\u0120\u4e2d\U0001f600\U00010400",
    *".,;:!?'\"`()[]{}<>=+-_/\\|@#$%^&*~0123\u00bd\u2013\u2014\u2018\u2019\u201c\u201d\u2022",
    *SPECIAL_TOKENS,
    "<a,b>",
    "''",
    "``",
    "  ",
    "'s",
    "n't",
    "x" * 30,
    "word" * 30,
    *" ".join(SAMPLE).split(),
]
# Words apart by one space, as most text is, and anything beside anything.
TEXTS = st.one_of(
    st.lists(st.sampled_from(HARD), max_size=20).map("".join),
    st.lists(st.sampled_from(HARD), max_size=20).map(" ".join),
    st.lists(st.one_of(st.sampled_from(HARD), st.text(max_size=4)), max_size=12).map("".join),
    st.text(max_size=40),
)


@pytest.fixture(scope="module", params=TOKENIZERS)
def pair(request):
    tokenizer = TOKENIZERS[request.param]()
    assert whole_text_reason(tokenizer) is None
    # One cache for all texts: what one leaves behind must serve the next.
    return tokenizer, WordCache(tokenizer)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=TEXTS)
def test_ids_are_those_of_the_whole_text(pair, text):
    tokenizer, cache = pair
    assert cache.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids


def test_every_two_neighbours(pair):
    """Each plain character before, behind and one space away from each hard one, and from its like."""
    tokenizer, cache = pair
    chosen = random.Random(0)
    plain = "aZ0é.,'_“" + "".join(chosen.sample(re.findall(f"[{PLAIN}]", "".join(map(chr, range(0xD800)))), 15))
    for character in plain:
        for hard in [*HARD[:90], *plain]:
            for text in (f"{character}{hard}{character}", f"{character} {hard} {character}", f"{hard} {character}"):
                assert cache.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids, ascii(text)


def test_a_small_memory_changes_nothing(pair, monkeypatch):
    monkeypatch.setattr(word_cache, "MAXIMUM_PIECES", 5)
    tokenizer, _ = pair
    cache = WordCache(tokenizer)
    for text in SAMPLE:
        assert cache.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids
        assert len(cache) <= 5


def test_words_are_remembered():
    """Else it would be right, and slow."""
    text = " ".join(SAMPLE[0].split() * 50)
    for name, most in {"wordpiece": 30, "bpe": 25, "unigram": 20}.items():
        cache = WordCache(TOKENIZERS[name]())
        cache.encode(text)
        assert 10 < len(cache) <= most, name
        assert all(len(piece.split()) <= 1 for piece in cache)
    cache = WordCache(TOKENIZERS["wordpiece"]())
    cache.encode(SAMPLE[2].partition(",")[0] + " 日本" * 100)
    assert " за" in cache and all(len(piece) <= word_cache.LONGEST_PIECE for piece in cache)


def test_plain_characters_are_what_they_are_taken_for():
    for character in re.findall(f"[{PLAIN}]", "".join(map(chr, range(0x10FFFF)))):
        letter = re.fullmatch(f"[{word_cache.LETTERS}]", character) is not None
        assert unicodedata.category(character)[0] in ("LN" if letter else "PS"), ascii(character)
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            first = unicodedata.normalize(form, character)[0]
            assert not first.isspace() and not unicodedata.combining(first), ascii(character)


SLOW = {
    "dropout": lambda: trained(
        models.BPE(unk_token="[UNK]", dropout=0.1), pre_tokenizers.ByteLevel(), None, trainers.BpeTrainer
    ),
    "pre-tokenizer none": lambda: Tokenizer(models.BPE()),
    "pre-tokenizer ByteLevel": lambda: word_level(pre_tokenizers.ByteLevel(use_regex=False)),
    "pre-tokenizer Metaspace": lambda: unigram(pre_tokenizers.Metaspace(split=False)),
    "pre-tokenizer Sequence": lambda: word_level(pre_tokenizers.Sequence([pre_tokenizers.Punctuation()])),
    "normalizer Strip": lambda: byte_pairs(normalizers.Strip()),
    "normalizer Prepend": lambda: byte_pairs(normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("_")])),
    "normalizer Replace": lambda: byte_pairs(normalizers.Replace("a b", "ab")),
    "added token 'two words'": lambda: byte_pairs(added=["two words"]),
    "added token '<r>'": lambda: byte_pairs(added=[AddedToken("<r>", rstrip=True)]),
}


@pytest.mark.parametrize("reason", SLOW)
def test_other_tokenizers_read_whole_texts(reason):
    tokenizer = SLOW[reason]()
    assert reason in whole_text_reason(tokenizer)
    if reason != "dropout":
        encoder = DocumentEncoder(tokenizer.to_str())
        texts = [*SAMPLE, "two words, a b <r> end", " padded "]
        expected = [(text, tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
        assert list(encoder.encode(texts)) == expected


def test_a_normalizer_that_parts_a_plain_character_is_found(monkeypatch):
    monkeypatch.setattr(word_cache, "PLAIN", PLAIN + "\u00a8")
    assert whole_text_reason(byte_pairs(normalizers.NFC())) is None
    assert "turns '\u00a8' into ' \u0308'" in whole_text_reason(byte_pairs(normalizers.NFKC()))
