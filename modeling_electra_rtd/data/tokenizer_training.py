"""A tokenizer trained on a corpus and saved as a folder that stock `AutoTokenizer` loads."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from ..common.new_folder import new_folder
from .characters import Alphabet, CorpusCharacters, accents_lost
from .documents import check_files, read_share
from .shares import check_document_boundary, find_files, share_files
from .tokenization import load_tokenizer
from .word_cache import long_word_pre_tokenizer


ALGORITHMS = ("wordpiece", "bpe", "unigram")
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# With fewer characters than these a vocabulary is too small: of words, many more than one in a hundred are unknown.
LEAST_COVERED_SHARE = 0.99

logger = logging.getLogger(__name__)


def train_tokenizer(
    corpus: list[str],
    output_dir: str,
    algorithm: str = "wordpiece",
    vocab_size: int = 30522,
    lowercase: bool = True,
    strip_accents: bool = False,
    min_frequency: int = 2,
    documents: str = "blank_line",
    text_column: str = "text",
    skip_invalid_files: bool = False,
    model_max_length: int = 512,
    progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer, save it to a new folder, and return it as loaded from there.

    `[PAD] [UNK] [CLS] [SEP] [MASK]` have the ids 0 to 4; a text becomes `[CLS] A [SEP]`, a pair
    `[CLS] A [SEP] B [SEP]` with type 1 from B on.

    Args:
        corpus: files, folders and globs (see `find_files`).
        output_dir: a new or empty folder; gets the whole tokenizer or, after an error, nothing.
        algorithm: "wordpiece" (as BERT), "bpe" (byte-level, knows every text) or "unigram" (as SentencePiece).
        vocab_size: at most this many entries, special tokens included.
        strip_accents: take the marks off letters, as BERT does wherever it lower-cases: "schön" becomes "schon", and
            the vowel signs of Hindi are lost. A warning counts the words.
        min_frequency: how often a pair has to occur to be merged ("wordpiece" and "bpe").
        documents, text_column, skip_invalid_files: how the corpus is read (see `prepare_blocks`).
        model_max_length: tokens of the longest input of the model it is for.

    Raises:
        ValueError: an argument is out of its range, the folder is taken, a file cannot be read, the corpus is empty,
            or `vocab_size` has no room for the characters of its text.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; it must be one of {', '.join(ALGORITHMS)}")
    if vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size is {vocab_size}; it must be more than the {len(SPECIAL_TOKENS)} special tokens")
    check_document_boundary(documents)
    with new_folder(output_dir) as folder:
        paths = find_files(corpus, text_column)
        if skip_invalid_files:
            valid, _ = check_files(paths, documents, text_column, skip_invalid_files=True, progress=progress)
            paths = [file.path for file in valid]
        common = {"special_tokens": SPECIAL_TOKENS, "show_progress": progress, "vocab_size": vocab_size}

        def texts() -> Iterator[str]:
            return _documents(paths, documents, text_column)

        characters = CorpusCharacters(keep_words=strip_accents)
        if algorithm == "wordpiece":
            saved = _word_pieces(texts, characters, common, lowercase, strip_accents, min_frequency, model_max_length)
        else:
            tokenizer, trainer = _untrained(algorithm, lowercase, strip_accents, min_frequency, common)
            _train(tokenizer, trainer, characters.counting(texts()) if strip_accents else texts(), vocab_size)
            saved = _with_template(tokenizer, model_max_length)
        if strip_accents:
            kept, stripped = (_normalizer(algorithm, lowercase, strips) for strips in (False, True))
            if lost := accents_lost(characters.words, kept, stripped):
                logger.warning("%s; --no-strip-accents keeps them", lost)
        saved.save_pretrained(folder)
    return load_tokenizer(output_dir)


def _word_pieces(
    texts: Callable[[], Iterator[str]],
    characters: CorpusCharacters,
    common: dict[str, Any],
    lowercase: bool,
    strip_accents: bool,
    min_frequency: int,
    model_max_length: int,
) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer whose alphabet follows the corpus, which is read twice: the trainer wants to know its
    alphabet before it sees a word."""
    for _ in characters.counting(texts()):
        pass
    vocab_size = common["vocab_size"]

    def trained(tokenizer: Tokenizer, alphabet: Alphabet, **options: Any) -> Tokenizer:
        trainer = trainers.WordPieceTrainer(
            min_frequency=min_frequency,
            limit_alphabet=len(alphabet.characters),
            initial_alphabet=alphabet.characters,
            **{**common, **options},
        )
        _train(tokenizer, trainer, texts(), vocab_size, may_be_larger=options.get("vocab_size") == 0)
        return tokenizer

    for is_exact in (False, True):
        normalizer = _normalizer("wordpiece", lowercase, strip_accents)
        pre_tokenizer: pre_tokenizers.PreTokenizer = pre_tokenizers.BertPreTokenizer()
        alphabet = characters.alphabet(normalizer, pre_tokenizer, vocab_size - len(SPECIAL_TOKENS), is_exact)
        _check_alphabet(alphabet, vocab_size)
        if characters.has_long_words:
            pre_tokenizer = long_word_pre_tokenizer()
        # The trainer gives characters within words their ids in the order of its table of words, which is another in
        # every process, and breaks ties between merges by ids. As special tokens they have their ids before it begins;
        # to find them costs another reading of the corpus, without a merge.
        smallest = trained(_word_piece_tokenizer(normalizer, pre_tokenizer), alphabet, vocab_size=0)
        # Most characters stand either at the start of words or within them, rarely all in both places.
        if is_exact or smallest.get_vocab_size() <= vocab_size:
            break
    within = sorted(token for token in smallest.get_vocab() if token.startswith("##") and len(token) == 3)
    found = trained(
        _word_piece_tokenizer(normalizer, pre_tokenizer), alphabet, special_tokens=[*SPECIAL_TOKENS, *within]
    ).get_vocab()
    tokenizer = _word_piece_tokenizer(normalizer, pre_tokenizer, found)
    if alphabet.left_out:
        logger.warning(
            "%s characters that make up %.2g %% of the text are not among the %s of the alphabet: words with one of "
            "them are unknown ([UNK]); a larger --vocab-size has room for more, and --algorithm bpe knows every text",
            f"{alphabet.left_out:,}",
            100 * alphabet.left_out_share,
            f"{len(alphabet.characters):,}",
        )
    if characters.has_long_words:
        # The class of BERT would cut no word, and take each above 100 characters for unknown.
        tokenizer.decoder = decoders.WordPiece(prefix="##")
        tokenizer.add_special_tokens(SPECIAL_TOKENS)
        return _with_template(tokenizer, model_max_length)
    # The class of every BERT and ELECTRA checkpoint, so that what is written for theirs works for this one.
    return BertTokenizer(
        vocab=tokenizer.get_vocab(),
        do_lower_case=lowercase,
        strip_accents=strip_accents,
        model_max_length=model_max_length,
    )


def _word_piece_tokenizer(
    normalizer: normalizers.Normalizer,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
    vocabulary: dict[str, int] | None = None,
) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    return tokenizer


def _check_alphabet(alphabet: Alphabet, vocab_size: int) -> None:
    if alphabet.left_out_share > 1 - LEAST_COVERED_SHARE:
        size = len(SPECIAL_TOKENS) + len(alphabet.characters) + alphabet.left_out
        raise ValueError(
            f"vocab_size is {vocab_size}; special tokens and the characters of the corpus alone take {size} "
            f"and more, and {alphabet.left_out_share:.1%} of the text would be unknown; choose more, or --algorithm "
            "bpe, which knows every text"
        )


def _normalizer(algorithm: str, lowercase: bool, strip_accents: bool) -> normalizers.Normalizer:
    if algorithm == "wordpiece":
        return normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    steps: list[normalizers.Normalizer] = [normalizers.NFKC()]
    if strip_accents:
        # Composed again: Korean syllables would stay in pieces.
        steps += [normalizers.NFKD(), normalizers.StripAccents(), normalizers.NFC()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def _untrained(
    algorithm: str, lowercase: bool, strip_accents: bool, min_frequency: int, common: dict[str, Any]
) -> tuple[Tokenizer, trainers.Trainer]:
    if algorithm == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: trainers.Trainer = trainers.BpeTrainer(
            min_frequency=min_frequency, initial_alphabet=alphabet, **common
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="[UNK]", **common)
    tokenizer.normalizer = _normalizer(algorithm, lowercase, strip_accents)
    return tokenizer, trainer


def _documents(paths: list[str], documents: str, text_column: str) -> Iterator[str]:
    for share in share_files(paths, documents):
        yield from read_share(share, documents, text_column)


def _train(
    tokenizer: Tokenizer,
    trainer: trainers.Trainer,
    documents: Iterator[str],
    vocab_size: int,
    may_be_larger: bool = False,
) -> bool:
    """Whether the vocabulary has the size that was asked for, which an alphabet alone may exceed.

    Raises:
        ValueError: it has not, and `may_be_larger` is off; or there is nothing to train on.
    """
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
        raise ValueError(f"vocab_size is {vocab_size}; it cannot be trained on this corpus ({error})") from error
    if not seen:
        raise ValueError("corpus: empty, there is no document in it")
    # The library keeps the whole alphabet even if it is larger than what was asked for.
    size = tokenizer.get_vocab_size()
    if size > vocab_size and not may_be_larger:
        raise ValueError(
            f"vocab_size is {vocab_size}; special tokens and the characters of the corpus alone take {size}"
        )
    return size <= vocab_size


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
