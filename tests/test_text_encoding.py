"""One way from text to ids: blocks, streams, fine-tuning, score and inspect, and stock code, for every kind of
tokenizer."""

import json

import pytest
from datasets import Dataset
from helpers.tiny import randomize, tiny_electra_config
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AddedToken, AutoTokenizer, ElectraForPreTraining, PreTrainedTokenizerFast

from modeling_electra_rtd import ReplacedTokenDetectionPipeline
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.data.blocks import load_blocks, prepare_blocks, read_manifest
from modeling_electra_rtd.data.streaming import stream_blocks
from modeling_electra_rtd.data.tokenization import load_tokenizer, tokenizer_fingerprint
from modeling_electra_rtd.finetuning.kinds.table import KINDS
from modeling_electra_rtd.finetuning.kinds.task_kind import TaskKind
from modeling_electra_rtd.finetuning.tasks import TASKS
from modeling_electra_rtd.inspection.tokens import inspect_text
from modeling_electra_rtd.model.text_encoding import complete, control_tokens, own_special_tokens, reading_tokenizer
from modeling_electra_rtd.model.vocabulary import vocabulary_size


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OWN = ["[USER]", "<url>"]
WORDS = "The young president of France visited London yesterday , and said : nothing . Größe naïve हिन्दी 北京".split()
TEXTS = [
    " ".join(WORDS),
    "young France visited",
    "(London) don't  visit\tFrance\nyesterday",
    "[USER] said <url> and [MASK] of [CLS]France[SEP] visited [PAD] London",
    "हिन्दी Größe\u0301 北京 \U0001f63a",
]


def word_piece():
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend, trainers.WordPieceTrainer


def byte_level(add_prefix_space=False):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend, lambda **options: trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options
    )


def sentence_piece(model, trainer, **options):
    backend = Tokenizer(model)
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend, lambda **settings: trainer(**settings, **options)


KINDS_OF_TOKENIZERS = {
    "WordPiece": word_piece,
    "byte-level BPE": byte_level,
    "byte-level BPE, prefix space": lambda: byte_level(True),
    "SentencePiece BPE": lambda: sentence_piece(models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
    "Unigram": lambda: sentence_piece(models.Unigram(), trainers.UnigramTrainer, unk_token="[UNK]"),
}
TEMPLATE = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
VARIANTS = {
    "usual": {},
    "no post-processor": {"template": None},
    "a template that adds nothing": {"template": {"single": "$A", "pair": "$A $B:1"}},
    "a template without a pair": {"template": {"single": "[CLS] $A [SEP]"}},
    "half a template": {"template": {"single": "$A [SEP]", "pair": "$A [SEP] $B [SEP]"}},
    "left padding": {"padding_side": "left"},
    "left padding and truncation in the file": {"baked": True},
    "own special tokens": {"own": True},
    "all at once": {"template": None, "padding_side": "left", "own": True, "baked": True},
}


def build(folder, kind, template=TEMPLATE, padding_side="right", own=False, baked=False):
    backend, trainer = KINDS_OF_TOKENIZERS[kind]()
    backend.train_from_iterator(TEXTS * 5, trainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False))
    if template is not None:
        ids = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        steps = [processors.ByteLevel(trim_offsets=True)] if kind.startswith("byte") else []
        backend.post_processor = processors.Sequence(
            [*steps, processors.TemplateProcessing(**template, special_tokens=ids)]
        )
    if baked:
        backend.enable_truncation(5, direction="left")
        backend.enable_padding(length=40, direction="left", pad_token="[PAD]")
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side=padding_side, **named)
    if own:
        tokenizer.add_special_tokens({"additional_special_tokens": OWN})
    tokenizer.save_pretrained(folder)
    return str(folder)


def bodies(rows) -> list[list[int]]:
    """The documents of blocks, [CLS] and [SEP] around each."""
    documents = []
    for row in rows:
        start = 0
        for length in row["document_lengths"]:
            documents.append(row["input_ids"][start : start + length])
            start += length
    return documents


def kind_of(name, tokenizer, max_length=256) -> TaskKind:
    task = TASKS[{"classification": "mrpc", "tagging": "wnut17", "question_answering": "squad_v2"}[name]]
    return KINDS[name](task=task, labels=("O", "B"), tokenizer=tokenizer, max_length=max_length)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS_OF_TOKENIZERS)
def test_every_reader_gives_a_text_the_same_ids(tmp_path, kind, variant):
    source = build(tmp_path / "source", kind, **VARIANTS[variant])
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    corpus, blocks = [str(tmp_path / "c.jsonl")], str(tmp_path / "blocks")
    prepare_blocks(corpus, source, blocks, max_length=200, validation_fraction=0, num_proc=1, progress=False)
    tokenizer = load_tokenizer(f"{blocks}/tokenizer")
    expected = bodies(load_blocks(blocks, "train", tokenizer))
    assert len(expected) == len(TEXTS) and all(ids[0] == 2 and ids[-1] == 3 for ids in expected)
    # No text forges a control token; a user's own are whole.
    assert not any(set(ids[1:-1]) & {0, 2, 3, 4} for ids in expected)
    if VARIANTS[variant].get("own"):
        own = tokenizer.convert_tokens_to_ids(OWN)
        assert [expected[3].count(token_id) for token_id in own] == [1, 1]
        assert own_special_tokens(tokenizer) == sorted(OWN) and control_tokens(tokenizer) == sorted(SPECIAL)
    stream = stream_blocks(corpus, tokenizer=source, max_length=200, shuffle_buffer_blocks=0)
    assert bodies(stream) == expected

    reader = reading_tokenizer(tokenizer)
    assert reader(TEXTS)["input_ids"] == expected
    pairs = kind_of("classification", reader)
    examples = Dataset.from_dict({"sentence1": TEXTS, "sentence2": TEXTS[::-1], "label": [0] * len(TEXTS)})
    for row, first, second in zip(pairs.features(examples, True), expected, expected[::-1], strict=True):
        assert row["input_ids"] == first + second[1:]
        if "token_type_ids" in row:
            assert row["token_type_ids"] == [0] * len(first) + [1] * (len(second) - 1)
    padded = pairs.collator()([{"input_ids": expected[1]}, {"input_ids": expected[0]}])
    assert padded["input_ids"][0, : len(expected[1])].tolist() == expected[1] and padded["input_ids"][0, -1] == 0
    answers = kind_of("question_answering", reader)
    asked = Dataset.from_dict({"id": ["a"], "question": [TEXTS[1]], "context": [TEXTS[2]]})
    (row,) = answers.features(asked, False)
    assert row["input_ids"] == expected[1] + expected[2][1:]
    # A sentence of words is the text that they make.
    tags = kind_of("tagging", reader)
    (row,) = tags.features(Dataset.from_dict({"tokens": [WORDS], "label": [list(range(2)) * (len(WORDS) // 2)]}), True)
    assert row["input_ids"] == expected[0]
    assert sorted(word for word in row["word"] if word >= 0) == list(range(len(WORDS)))

    model = randomize(ElectraForPreTraining(tiny_electra_config(vocab_size=vocabulary_size(tokenizer))))
    for given in (tokenizer, AutoTokenizer.from_pretrained(source)):
        detect = ReplacedTokenDetectionPipeline(model=model, tokenizer=given, device="cpu")
        for text, ids in zip(detect.tokenize_all(TEXTS), expected, strict=True):
            assert [*text.prefix, *text.ids, *text.suffix] == ids
        names = [token.original for token in inspect_text(model, given, TEXTS[0])]
        assert names == tokenizer.convert_ids_to_tokens(expected[0])[1:-1]

    # What is saved reads plain texts alike without this package.
    stock = AutoTokenizer.from_pretrained(f"{blocks}/tokenizer")
    assert stock.padding_side == "right" and tokenizer_fingerprint(stock) == tokenizer_fingerprint(tokenizer)
    assert [stock(text)["input_ids"] for text in TEXTS[:3]] == expected[:3]
    assert stock(TEXTS[1], TEXTS[2])["input_ids"] == expected[1] + expected[2][1:]
    if VARIANTS[variant].get("own"):
        assert stock("[USER] <url>", add_special_tokens=False)["input_ids"].count(own[0]) == 1


@pytest.mark.parametrize("kind", KINDS_OF_TOKENIZERS)
def test_a_word_that_is_tagged_has_the_tokens_it_has_in_a_text(tmp_path, kind):
    tokenizer = reading_tokenizer(load_tokenizer(build(tmp_path / "t", kind)))
    tags = kind_of("tagging", tokenizer)
    (row,) = tags.features(Dataset.from_dict({"tokens": [["young", "France", "visited"]]}), False)
    assert row["input_ids"] == tokenizer("young France visited")["input_ids"]
    tokens, second = tokenizer.convert_ids_to_tokens(row["input_ids"]), row["word"].index(1)
    space = {"byte": "Ġ", "Word": ""}.get(kind[:4], "▁")
    # The mark of the space may be a token of its own.
    assert tokens[second].startswith(space) or tokens[second - 1] == space
    assert tokens[second].removeprefix(space).lower().startswith("f")


def test_long_sentences_empty_words_and_words_with_spaces(tmp_path):
    tokenizer = load_tokenizer(build(tmp_path / "t", "byte-level BPE"))
    tokenizer.truncation_side = "left"
    tags = kind_of("tagging", reading_tokenizer(tokenizer), max_length=64)
    words = ["New York", "", "of", *WORDS * 12, ""]
    rows = tags.features(Dataset.from_dict({"tokens": [words], "label": [[0] * len(words)]}), True)
    assert len(rows) > 2 and all(row["length"] <= 64 for row in rows)
    numbers = [word for row in rows for word in row["word"] if word >= 0]
    # In order, each once; what is empty has no token.
    assert numbers == [number for number, word in enumerate(words) if word]
    assert sum(label != -100 for row in rows for label in row["labels"]) == len(numbers)


def test_only_what_is_missing_is_added_and_said_once(tmp_path, caplog):
    load_tokenizer(build(tmp_path / "usual", "byte-level BPE"))
    assert not caplog.messages
    load_tokenizer(build(tmp_path / "bare", "byte-level BPE", template=None))
    (message,) = caplog.messages
    assert "it reads a text 'a' as 'a' and a pair as 'a a'; [CLS] and [SEP] around the texts" in message
    caplog.clear()
    load_tokenizer(build(tmp_path / "left", "Unigram", padding_side="left"))
    (message,) = caplog.messages
    assert "pads on the left" in message


def test_robertas_pair_with_two_separators_stays(tmp_path):
    folder = build(
        tmp_path / "t",
        "byte-level BPE",
        template={"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] [SEP] $B [SEP]"},
    )
    tokenizer = load_tokenizer(folder)
    assert complete(tokenizer) == []
    assert tokenizer("of", "London").tokens().count("[SEP]") == 3


def test_a_template_survives_the_switches_of_a_class(tmp_path):
    folder = build(tmp_path / "t", "byte-level BPE", template=None)
    path = tmp_path / "t" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_bos_token": False, "add_eos_token": False}))
    tokenizer = load_tokenizer(folder)
    tokenizer.save_pretrained(tmp_path / "saved")
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        ids = loaded("young France")["input_ids"]
        assert ids[0] == 2 and ids[-1] == 3


def test_special_tokens_that_only_the_file_knows_are_whole_too(tmp_path):
    folder = build(tmp_path / "t", "WordPiece")
    backend = Tokenizer.from_file(f"{folder}/tokenizer.json")
    backend.add_special_tokens([AddedToken("[USER]", normalized=False)])
    backend.save(f"{folder}/tokenizer.json")
    tokenizer = load_tokenizer(folder)
    ids = reading_tokenizer(tokenizer)("[USER] said [MASK]")["input_ids"]
    assert tokenizer.convert_tokens_to_ids("[USER]") in ids and 4 not in ids


def test_prepare_counts_special_tokens_of_both_sorts(tmp_path, caplog, capsys):
    tokenizer = build(tmp_path / "t", "WordPiece", own=True)
    (tmp_path / "c.txt").write_text(
        "\n\n".join(f"[USER] visited {i} <url> [USER] [MASK] [MASK] [SEP]" for i in range(9))
    )
    arguments = ["--corpus", str(tmp_path / "c.txt"), "--tokenizer", tokenizer, "--output-dir", str(tmp_path / "b")]
    assert main(["prepare", *arguments]) == 0
    manifest = read_manifest(str(tmp_path / "b"))
    assert manifest["own_special_tokens"] == {"<url>": 9, "[USER]": 18}
    assert manifest["control_tokens_written"] == {"[MASK]": 18, "[SEP]": 9}
    assert "special tokens found whole: <url> 9, [USER] 18" in capsys.readouterr().out
    assert "[MASK], [SEP] is written in the corpus 27 times: it is read as text" in caplog.text
