"""Any fast tokenizer with [MASK], [CLS], [SEP] and [PAD]: loaded, and told from others."""

import hashlib
import json
import os

from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .encoding import text_encoder


# What the published vocabularies call these tokens, for folders that hold a vocabulary but do not say which is which.
CONVENTIONAL_TOKENS = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
TOKENIZER_FILES = {"tokenizer.json", "vocab.txt", "vocab.json"}
REQUIRED_TOKENS = ("mask_token", "cls_token", "sep_token", "pad_token")


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerFast:
    """Loads a fast tokenizer from the Hub or a folder, also one that holds only `tokenizer.json` or `vocab.txt`.

    A bare `vocab.txt` is read as WordPiece, lower-casing unless a word in it has an upper-case letter.

    Raises:
        ValueError: it cannot be loaded, is not fast, or lacks a mask, cls, sep or pad token.
    """
    if os.path.isfile(name_or_path):
        raise ValueError(f"{name_or_path!r} is a file; give its folder")
    if not os.path.isdir(name_or_path) and (name_or_path.startswith((".", os.sep)) or name_or_path.count("/") > 1):
        raise ValueError(f"{name_or_path!r}: no such folder")
    files = set(os.listdir(name_or_path)) if os.path.isdir(name_or_path) else set()
    if files and not any(name in TOKENIZER_FILES or name.endswith(".model") for name in files):
        # From a config alone, transformers would make up a vocabulary of special tokens.
        raise ValueError(f"tokenizer {name_or_path!r}: the folder holds none of {', '.join(sorted(TOKENIZER_FILES))}")
    try:
        if "vocab.txt" in files and not files & {"tokenizer.json", "tokenizer_config.json", "config.json"}:
            tokenizer = _from_vocabulary_file(os.path.join(name_or_path, "vocab.txt"))
        else:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
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
    return tokenizer


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A sha256 (hexadecimal) over everything that decides which ids a text gets, wherever it was loaded from."""
    description = json.loads(text_encoder(tokenizer.backend_tokenizer.to_str()).to_str())
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _from_vocabulary_file(path: str) -> PreTrainedTokenizerFast:
    with open(path, encoding="utf-8") as file:
        words = [line.rstrip("\n") for line in file]
    lowercase = all(word == word.lower() for word in words if not word.startswith("["))
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)}, do_lower_case=lowercase)
