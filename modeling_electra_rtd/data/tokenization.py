"""Any fast tokenizer with [MASK], [CLS], [SEP] and [PAD]: loaded, and told from others."""

import hashlib
import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

from tokenizers.models import WordPiece
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..common.references import ModelReference, find_model
from ..model.text_encoding import CONVENTIONAL_TOKENS, complete, text_backend
from ..model.vocabulary import vocabulary_size


# What a vocabulary is read from, in the order of preference; the last ones are SentencePiece's.
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json"),
    *("spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
REQUIRED_TOKENS = ("mask_token", "cls_token", "sep_token", "pad_token")
LISTED_TOKENS = 5

logger = logging.getLogger(__name__)


def load_tokenizer(name_or_path: str | ModelReference) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer from the Hub or a folder, also one that holds only `tokenizer.json` or `vocab.txt`.

    One that puts no [CLS] and [SEP] around a text, or pads before it, is completed, with a warning (`complete`).
    A bare `vocab.txt` is read as WordPiece, lower-casing unless a word in it has an upper-case letter,
    and then stripping accents unless a word has one.

    Args:
        name_or_path: any name that `find_model` takes.

    Raises:
        ValueError: it cannot be loaded, is not fast, or lacks a mask, cls, sep or pad token; a WordPiece one also
            without the unknown token, and a `vocab.txt` to which the files next to it do not add what it lacks.
    """
    reference = find_model(name_or_path, "tokenizer")
    # From a config alone, transformers would make up a vocabulary of special tokens.
    vocabulary_file = reference.require(*TOKENIZER_FILES)
    name_or_path = reference.text
    try:
        if vocabulary_file.name == "vocab.txt" and reference.find("tokenizer_config.json", "config.json") is None:
            tokenizer: Any = _from_vocabulary_file(vocabulary_file)
        else:
            tokenizer = AutoTokenizer.from_pretrained(reference.name, **reference.arguments)
    except Exception as error:  # files, JSON, the Hub client: each has exceptions of its own, some many lines long
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"tokenizer {name_or_path!r}: cannot be loaded ({reason})") from error
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer {name_or_path!r}: {type(tokenizer).__name__} is not a fast tokenizer")
    vocabulary = tokenizer.get_vocab()
    for attribute, candidates in CONVENTIONAL_TOKENS.items():
        known = [token for token in candidates if token in vocabulary]
        if getattr(tokenizer, attribute) is None and known:
            setattr(tokenizer, attribute, known[0])
    missing = [attribute for attribute in REQUIRED_TOKENS if getattr(tokenizer, attribute) is None]
    if missing:
        raise ValueError(f"tokenizer {name_or_path!r}: has no {', '.join(missing)}, which RTD needs")
    added = _added_tokens(reference) if vocabulary_file.name == "vocab.txt" else None
    if absent := _absent_tokens(tokenizer, added):
        raise ValueError(
            f"tokenizer {name_or_path!r}: {vocabulary_file.name} has no {', '.join(absent)}; a vocabulary needs an "
            "entry for each of them, with the id that its model knows it by"
        )
    for change in complete(tokenizer):
        logger.warning("tokenizer %r: %s", name_or_path, change)
    if problem := _irregular_ids(tokenizer, vocabulary_file):
        logger.warning("tokenizer %r: %s", name_or_path, problem)
    return tokenizer


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A sha256 (hexadecimal) over everything that decides which ids a text gets, wherever it was loaded from."""
    description = json.loads(text_backend(tokenizer)) | {"truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _added_tokens(reference: ModelReference) -> set[str]:
    """Tokens that the files next to a `vocab.txt` add to it, with ids of their own."""
    read = [reference.find(name) for name in ("tokenizer_config.json", "added_tokens.json")]
    config, added = ({} if path is None else json.loads(Path(path).read_text(encoding="utf-8")) for path in read)
    return {*added, *(token["content"] for token in config.get("added_tokens_decoder", {}).values())}


def _absent_tokens(tokenizer: PreTrainedTokenizerFast, added: set[str] | None) -> list[str]:
    """Special tokens that the vocabulary must hold, and does not.

    `transformers` makes up an id behind the last word for one that is neither in a `vocab.txt` nor added to it; and
    WordPiece looks its unknown token up in the vocabulary alone.

    Args:
        added: to a `vocab.txt`; `None` for any other file, which says all itself.
    """
    own, model = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False), tokenizer.backend_tokenizer.model
    needed = {model.unk_token} if isinstance(model, WordPiece) else set()
    if added is not None:
        needed |= {getattr(tokenizer, attribute) for attribute in CONVENTIONAL_TOKENS} - added
    return sorted(needed - own.keys() - {None})


def _irregular_ids(tokenizer: PreTrainedTokenizerFast, file: Path) -> str | None:
    """What is unusual about the ids of a vocabulary, which does no harm where tables have a row for the largest."""
    vocabulary, size = tokenizer.get_vocab(), vocabulary_size(tokenizer)
    unused, shared = size - len(set(vocabulary.values())), len(vocabulary) - len(set(vocabulary.values()))
    if file.name == "vocab.txt":
        lines: dict[str, list[str]] = {}
        for number, word in enumerate(_lines_of(file), start=1):
            lines.setdefault(word, []).append(str(number))
        doubled = [f"{word!r} in lines {' and '.join(lines[word])}" for word in lines if len(lines[word]) > 1]
        if doubled:
            count = "a token" if len(doubled) == 1 else f"{len(doubled)} tokens"
            more = f" and {len(doubled) - LISTED_TOKENS} more" if len(doubled) > LISTED_TOKENS else ""
            return (
                f"{file} holds {count} more than once ({', '.join(doubled[:LISTED_TOKENS])}{more}); the last line of "
                f"each counts, and the model has rows for all {size} ids"
            )
    found = [f"{unused} of {size} ids have no token"] * (unused > 0)
    found += [f"{shared} tokens share their id with another"] * (shared > 0)
    return f"{' and '.join(found)} in {file.name}" if found else None


def _lines_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file]


def _from_vocabulary_file(path: Path) -> PreTrainedTokenizerFast:
    words = _lines_of(path)
    lowercase = all(word == word.lower() for word in words if not word.startswith("["))
    # Words with accents would never be found if texts lost theirs.
    has_accents = any(unicodedata.category(c) == "Mn" for word in words for c in unicodedata.normalize("NFD", word))
    return BertTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        do_lower_case=lowercase,
        strip_accents=False if has_accents else None,
    )
