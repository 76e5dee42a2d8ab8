"""A tokenizer trained on a corpus and saved as a folder that stock `AutoTokenizer` loads."""

from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from .documents import check_files, read_share
from .new_folder import new_folder
from .shares import check_document_boundary, find_files, share_files
from .tokenization import load_tokenizer


ALGORITHMS = ("wordpiece", "bpe", "unigram")
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Characters beyond the 1,000 most frequent become [UNK], as in BERT's vocabulary: each costs a WordPiece vocabulary
# two entries, which the rare symbols of a large corpus are not worth.
ALPHABET_LIMIT = 1000


def train_tokenizer(
    corpus: list[str],
    output_dir: str,
    algorithm: str = "wordpiece",
    vocab_size: int = 30522,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    min_frequency: int = 2,
    documents: str = "blank_line",
    text_column: str = "text",
    skip_invalid_files: bool = False,
    model_max_length: int = 512,
    progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer, saves it to a new folder and returns it as loaded from there.

    [PAD] [UNK] [CLS] [SEP] [MASK] have the ids 0 to 4; a text becomes `[CLS] A [SEP]`, a pair `[CLS] A [SEP] B [SEP]`
    with type 1 from B on.

    Args:
        corpus: files, folders and globs (see `find_files`).
        output_dir: a new or empty folder; gets the whole tokenizer or, after an error, nothing.
        algorithm: "wordpiece" (as BERT), "bpe" (byte-level, knows every text) or "unigram" (as SentencePiece).
        vocab_size: at most this many entries, special tokens included.
        strip_accents: None: if and only if `lowercase`, as BERT does.
        min_frequency: how often a pair has to occur to be merged ("wordpiece" and "bpe").
        documents, text_column, skip_invalid_files: how the corpus is read (see `prepare_blocks`).
        model_max_length: tokens of the longest input of the model it is for.

    Raises:
        ValueError: an argument is out of its range, the folder is taken, a file cannot be read, or the corpus is empty
            or has more different characters than `vocab_size` entries.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm={algorithm!r}: allowed are {', '.join(ALGORITHMS)}")
    if vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size={vocab_size}: too small, the special tokens alone take {len(SPECIAL_TOKENS)}")
    check_document_boundary(documents)
    with new_folder(output_dir) as folder:
        paths = find_files(corpus, text_column)
        if skip_invalid_files:
            valid, _ = check_files(paths, documents, text_column, skip_invalid_files=True, progress=progress)
            paths = [file.path for file in valid]
        accents_go = lowercase if strip_accents is None else strip_accents
        tokenizer, trainer = _untrained(algorithm, vocab_size, lowercase, accents_go, min_frequency, progress)
        _train(tokenizer, trainer, _documents(paths, documents, text_column), vocab_size)
        if algorithm == "wordpiece":
            # The class of every BERT and ELECTRA checkpoint, so that what is written for theirs works for this one.
            saved = BertTokenizer(
                vocab=tokenizer.get_vocab(),
                do_lower_case=lowercase,
                strip_accents=accents_go,
                model_max_length=model_max_length,
            )
        else:
            saved = _with_template(tokenizer, model_max_length)
        saved.save_pretrained(folder)
    return load_tokenizer(output_dir)


def _untrained(
    algorithm: str, vocab_size: int, lowercase: bool, strip_accents: bool, min_frequency: int, progress: bool
) -> tuple[Tokenizer, trainers.Trainer]:
    common = {"vocab_size": vocab_size, "special_tokens": SPECIAL_TOKENS, "show_progress": progress}
    if algorithm == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer, trainers.WordPieceTrainer(
            min_frequency=min_frequency, limit_alphabet=ALPHABET_LIMIT, **common
        )
    steps = [normalizers.NFKC()]
    if strip_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    if algorithm == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(min_frequency=min_frequency, initial_alphabet=alphabet, **common)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="[UNK]", **common)
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer, trainer


def _documents(paths: list[str], documents: str, text_column: str) -> Iterator[str]:
    for share in share_files(paths, documents):
        yield from read_share(share, documents, text_column)


def _train(tokenizer: Tokenizer, trainer: trainers.Trainer, documents: Iterator[str], vocab_size: int) -> None:
    seen = 0

    def counted() -> Iterator[str]:
        nonlocal seen
        for document in documents:
            seen += bool(document.strip())
            yield document

    try:
        tokenizer.train_from_iterator(counted(), trainer)
    except ValueError:
        raise
    except Exception as error:  # the library raises bare Exceptions
        if not seen:
            raise ValueError("corpus: empty, there is no document in it") from error
        raise ValueError(f"vocab_size={vocab_size}: cannot be trained on this corpus ({error})") from error
    if not seen:
        raise ValueError("corpus: empty, there is no document in it")
    # The library keeps the whole alphabet even if it is larger than what was asked for.
    size = tokenizer.get_vocab_size()
    if size > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size}: too small, special tokens and the characters of the corpus alone take {size}"
        )


def _with_template(tokenizer: Tokenizer, model_max_length: int) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=model_max_length,
    )
