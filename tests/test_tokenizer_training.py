import json
import random
import unicodedata

import pytest
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from modeling_electra_rtd.data import tokenizer_training
from modeling_electra_rtd.data.encoding import text_encoder
from modeling_electra_rtd.data.tokenization import load_tokenizer, tokenizer_fingerprint
from modeling_electra_rtd.data.tokenizer_training import train_tokenizer


SENTENCES = ["The café serves naïve walkers.", "Walking, walked, walker: who walks?", "serving cafés in the night"]


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n\n".join(SENTENCES * 5))
    return [str(tmp_path / "corpus.txt")]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "unigram"])
def test_stock_auto_tokenizer_agrees(tmp_path, corpus, algorithm, lowercase):
    folder = tmp_path / "deep" / "tokenizer"
    trained = train_tokenizer(corpus, str(folder), algorithm, 320, lowercase, model_max_length=64, progress=False)
    stock = AutoTokenizer.from_pretrained(folder)
    assert len(stock) <= 320 and stock.model_max_length == 64
    special = [stock.pad_token_id, stock.unk_token_id, stock.cls_token_id, stock.sep_token_id, stock.mask_token_id]
    assert special == [0, 1, 2, 3, 4]
    assert tokenizer_fingerprint(stock) == tokenizer_fingerprint(trained)
    pair = stock(SENTENCES[0], SENTENCES[1], return_token_type_ids=True)
    assert pair == trained(SENTENCES[0], SENTENCES[1], return_token_type_ids=True)
    separator = pair["input_ids"].index(3)
    assert pair["input_ids"][0] == 2 and pair["input_ids"][-1] == 3
    assert pair["token_type_ids"] == [0] * (separator + 1) + [1] * (len(pair["input_ids"]) - separator - 1)
    assert 1 not in pair["input_ids"], "a character of the corpus is unknown"
    text = SENTENCES[0].lower() if lowercase else SENTENCES[0]
    assert stock.decode(stock(SENTENCES[0])["input_ids"], skip_special_tokens=True).strip() == text
    assert stock("the [MASK]")["input_ids"][-2] == 4
    assert [path.name for path in folder.parent.iterdir()] == ["tokenizer"]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize(
    ("words", "stripped", "letters"),
    [
        # "schön" and "schon" become one; so do the two of "müsste".
        ("schön schon müsste musste Brüder ein die", {"schön": "schon", "müsste": "musste"}, ""),
        # One vowel sign is all that tells these apart.
        ("किताब कु की के कौन पदों पद", {"कु": "क"}, "Devanagari"),
        ("שָׁלוֹם שלום עולם", {"שָׁלוֹם": "שלום"}, "Hebrew"),
        ("كَتَبَ كتب بيت", {"كَتَبَ": "كتب"}, "Arabic"),
    ],
    ids=["german", "hindi", "hebrew", "arabic"],
)
def test_accents_go_only_where_that_is_asked_for_and_never_silently(
    tmp_path, caplog, algorithm, lowercase, words, stripped, letters
):
    (tmp_path / "c.txt").write_text("\n\n".join([words] * 30), encoding="utf-8")

    def trained(folder, **options):
        return train_tokenizer(
            [str(tmp_path / "c.txt")], str(tmp_path / folder), algorithm, 330, lowercase, progress=False, **options
        )

    def read(tokenizer, text):
        return tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip()

    kept = trained("kept")
    assert not caplog.messages
    for text in words.split():
        assert read(kept, text) == (text.lower() if lowercase else text)
    strips = trained("stripped", strip_accents=True)
    said = " ".join(caplog.messages)
    assert "accents are stripped from" in said and "--no-strip-accents" in said and letters in said
    assert AutoTokenizer.from_pretrained(tmp_path / "kept")(words) == kept(words)
    for text, without in stripped.items():
        assert read(strips, text) == without and read(strips, text) == read(strips, without)


def test_stripped_accents_are_counted(tmp_path, caplog):
    (tmp_path / "c.txt").write_text("Schön, schon. schön naïve\n\nwir müssen; daß Schon")
    train_tokenizer([str(tmp_path / "c.txt")], str(tmp_path / "t"), vocab_size=200, strip_accents=True, progress=False)
    # Schön, schön, naïve, müssen of 8 words; schön and schon are one.
    assert "accents are stripped from 4 of 8 different words (Schön > schon, " in caplog.text
    assert "and 2 of these words are no longer told apart; --no-strip-accents" in caplog.text


def test_korean_without_accents_stays_korean(tmp_path):
    (tmp_path / "c.txt").write_text("한국어 문장 한국\n\n" * 20)
    for algorithm in ("bpe", "unigram"):
        tokenizer = train_tokenizer(
            [str(tmp_path / "c.txt")], str(tmp_path / algorithm), algorithm, 300, strip_accents=True, progress=False
        )
        assert tokenizer.decode(tokenizer("한국어")["input_ids"], skip_special_tokens=True).strip() == "한국어"


def chinese(characters, documents=60):
    """Every character once in every document, so that all are equally frequent."""
    return ["".join(characters[number:] + characters[:number]) + "。" for number in range(documents)]


def write_texts(folder, texts):
    (folder / "c.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return [str(folder / "c.txt")]


@pytest.mark.parametrize("count", [40, 1500, 4000])
def test_an_alphabet_follows_the_corpus(tmp_path, caplog, count):
    characters = [chr(0x4E00 + number) for number in range(count)]
    corpus = write_texts(tmp_path, chinese(characters, 5))
    tokenizer = train_tokenizer(corpus, str(tmp_path / "t"), vocab_size=5000, progress=False)
    assert not caplog.messages and 1 not in tokenizer("".join(characters))["input_ids"]
    assert set(characters) <= set(tokenizer.get_vocab())


def test_rare_characters_are_left_out_and_counted(tmp_path, caplog):
    # 1,100 characters of 1,000 occurrences; one of 1,110 more that occur once is still needed for 99.99 % of the text.
    frequent = [chr(0x4E00 + number) for number in range(1100)]
    rare = [chr(0x4E00 + 1100 + number) for number in range(1110)]
    corpus = write_texts(tmp_path, ["".join(frequent)] * 1000 + ["".join(rare)])
    tokenizer = train_tokenizer(corpus, str(tmp_path / "t"), vocab_size=5000, progress=False)
    vocabulary = set(tokenizer.get_vocab())
    assert set(frequent) <= vocabulary
    # 0.0001 of 1,101,110 characters are 110.111: as many occurrences at most are left out.
    assert len(set(rare) - vocabulary) == 110
    assert "110 characters that make up 0.01 % of the text are not among the 2,100 of the alphabet" in caplog.text


def test_a_vocabulary_without_room_for_the_alphabet_is_refused(tmp_path):
    corpus = write_texts(tmp_path, chinese([chr(0x4E00 + number) for number in range(1500)], 5))
    with pytest.raises(ValueError, match="vocab_size is 1000; .* take 1506 .* 33.7% of the text would be unkno"):
        train_tokenizer(corpus, str(tmp_path / "t"), vocab_size=1000, progress=False)


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("letters", ["ACDEFGHIKLMNPQRSTVWY", "กขคงจฉชซ", "あいうえおかきく", "क्षि"])
def test_texts_without_spaces_are_known(tmp_path, caplog, algorithm, letters):
    chosen = random.Random(0)
    words = ["".join(chosen.choices(letters, k=chosen.randint(101, 400))) for _ in range(40)]
    corpus = write_texts(tmp_path, words)
    tokenizer = train_tokenizer(corpus, str(tmp_path / "t"), algorithm, 400, lowercase=False, progress=False)
    assert not caplog.messages
    stock = AutoTokenizer.from_pretrained(tmp_path / "t")
    for text in [words[0], words[1] + " " + words[2], "".join(words)]:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == 2 and ids[-1] == 3 and 1 not in ids and ids == stock(text)["input_ids"]
        # WordPiece writes a space between the pieces of a long word.
        assert stock.decode(ids, skip_special_tokens=True).replace(" ", "") == unicodedata.normalize(
            "NFC", text.replace(" ", "")
        )


def test_words_of_usual_length_leave_the_class_of_bert(tmp_path, corpus):
    assert isinstance(train_tokenizer(corpus, str(tmp_path / "t"), vocab_size=200, progress=False), BertTokenizer)


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("vocab_size", [5, 12])
def test_vocabulary_too_small(tmp_path, corpus, algorithm, vocab_size):
    with pytest.raises(ValueError, match=f"vocab_size is {vocab_size}; ") as error:
        train_tokenizer(corpus, str(tmp_path / "t"), algorithm, vocab_size, progress=False)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "unigram"])
def test_empty_corpus(tmp_path, algorithm):
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="corpus: empty"):
        train_tokenizer([str(tmp_path / "blank.txt")], str(tmp_path / "t"), algorithm, 300, progress=False)
    assert not (tmp_path / "t").exists()


def test_unknown_algorithm_and_boundary(tmp_path, corpus):
    with pytest.raises(ValueError, match="algorithm is 'words'; it must be one of wordpiece, bpe, unigram"):
        train_tokenizer(corpus, str(tmp_path / "t"), "words")
    with pytest.raises(ValueError, match="documents is 'page'"):
        train_tokenizer(corpus, str(tmp_path / "t"), documents="page")


def test_taken_output_folder(tmp_path, corpus):
    with pytest.raises(ValueError, match="output_dir is .* already exists"):
        train_tokenizer(corpus, str(tmp_path), vocab_size=200, progress=False)
    (tmp_path / "empty").mkdir()
    train_tokenizer(corpus, str(tmp_path / "empty"), vocab_size=200, progress=False)
    assert (tmp_path / "empty" / "tokenizer.json").exists()


def test_interrupted_training_leaves_nothing(tmp_path, corpus, monkeypatch):
    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer_training, "_train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(corpus, str(tmp_path / "t"), vocab_size=200, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


def test_invalid_file_refused_or_skipped(tmp_path, corpus):
    (tmp_path / "bad.txt").write_bytes(b"\xff\xff")
    corpus.append(str(tmp_path / "bad.txt"))
    with pytest.raises(ValueError, match="bad.txt: not UTF-8"):
        train_tokenizer(corpus, str(tmp_path / "t"), vocab_size=200, progress=False)
    assert not (tmp_path / "t").exists()
    assert train_tokenizer(corpus, str(tmp_path / "t"), vocab_size=200, skip_invalid_files=True, progress=False)


WORDS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##s"]


def test_a_bare_vocabulary_file_with_accents_keeps_them(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "क", "कि", "schön"]) + "\n", encoding="utf-8")
    assert load_tokenizer(str(tmp_path))("Schön कि क")["input_ids"] == [3, 10, 9, 8, 4]


@pytest.mark.parametrize("words, lowercase", [(WORDS, True), ([*WORDS, "Hello"], False)])
def test_bare_vocabulary_file(tmp_path, words, lowercase):
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = load_tokenizer(str(tmp_path))
    hello = words.index("hello") if lowercase else words.index("Hello")
    assert tokenizer("Hellos [MASK]")["input_ids"] == [3, hello, 7, 5, 4]
    assert tokenizer.mask_token_id == 5


def test_bare_tokenizer_json_with_truncation(tmp_path):
    backend = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).backend_tokenizer
    clean = PreTrainedTokenizerFast(tokenizer_object=backend)
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    tokenizer = load_tokenizer(str(tmp_path))
    special = [tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    assert special == [5, 3, 4, 0]
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(clean)
    encoder = text_encoder(tokenizer.backend_tokenizer.to_str())
    assert encoder.encode("hellos hellos", add_special_tokens=False).ids == [6, 7, 6, 7]
    # In a corpus "[MASK]" is text; this vocabulary has no brackets and no "mask".
    assert encoder.encode("[MASK]", add_special_tokens=False).ids == [2, 2, 2]


def test_unusable_tokenizers(tmp_path):
    with pytest.raises(ValueError, match="nowhere': no such folder") as error:
        load_tokenizer(str(tmp_path / "nowhere"))
    assert "\n" not in str(error.value)
    folder = tmp_path / "headless"
    backend = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).backend_tokenizer
    PreTrainedTokenizerFast(
        tokenizer_object=type(backend).from_str(backend.to_str().replace("[MASK]", "[HOLE]").replace("[SEP]", "[END]"))
    ).save_pretrained(folder)
    with pytest.raises(ValueError, match="has no mask_token, sep_token, which RTD needs"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        ([], r"\[CLS\], \[MASK\], \[PAD\], \[SEP\], \[UNK\];"),
        (["[PAD]", "[CLS]", "[SEP]", "[MASK]", "hello"], r"\[UNK\];"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello"], r"\[MASK\];"),
    ],
)
@pytest.mark.parametrize(
    "beside",
    [{}, {"config.json": {"model_type": "electra"}}, {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}}],
)
def test_a_vocabulary_file_holds_every_special_token(tmp_path, words, absent, beside):
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    for name, values in beside.items():
        (tmp_path / name).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"vocab.txt has no {absent}") as error:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_an_added_mask_token_is_as_good_as_one_of_the_vocabulary_but_no_unknown_token_is(tmp_path):
    words = [word for word in WORDS if word != "[MASK]"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(tmp_path / "added")
    assert load_tokenizer(str(tmp_path / "added"))("hello [MASK]")["input_ids"] == [2 + 1, 5, 7, 4]
    words = [word for word in WORDS if word != "[UNK]"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(tmp_path / "without")
    with pytest.raises(ValueError, match=r"tokenizer.json has no \[UNK\];"):
        load_tokenizer(str(tmp_path / "without"))


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe"])
def test_the_same_text_gives_the_same_bytes(algorithm, tmp_path):
    """The trainers' tables are in another order each time; 300 words with ties between pairs would show it."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijkl", k=draw.randint(2, 7))) for _ in range(300)]
    text = "\n\n".join(" ".join(draw.choices(words, k=12)) for _ in range(200))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    made = []
    for number in range(3):
        folder = tmp_path / f"tokenizer-{number}"
        train_tokenizer([str(tmp_path / "text.txt")], str(folder), algorithm=algorithm, vocab_size=400, progress=False)
        made.append((folder / "tokenizer.json").read_bytes())
    assert made[0] == made[1] == made[2]
