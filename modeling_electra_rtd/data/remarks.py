"""What there is to say of a corpus when its blocks are written: what a model will not see as it stands in the text."""

import logging
from collections import Counter
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..model.text_encoding import own_special_tokens
from .block_writing import SplitCounts
from .tables import is_table
from .unknown_tokens import WARNED_SHARE, check_unknown, without_punctuation


logger = logging.getLogger(__name__)


def remark_on_unknown_tokens(
    counts: list[SplitCounts], ids: np.ndarray, tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    """Warns where many tokens are unknown.

    Args:
        counts: of all splits.
        ids: `(vocabulary,)`, how often each id stands in the blocks.
        name: of the tokenizer.

    Raises:
        ValueError: nearly all are unknown.
    """
    unknown, tokens = sum(split.unknown_tokens for split in counts), sum(split.tokens for split in counts)
    if unknown > WARNED_SHARE * tokens:
        words = without_punctuation(ids, tokenizer)
        check_unknown(unknown, tokens, words, f"the corpus as tokenizer {name!r} reads it")


def own_special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Special tokens of a user's own, which texts hold, and their ids."""
    vocabulary = tokenizer.get_vocab()
    return {token: vocabulary[token] for token in own_special_tokens(tokenizer)}


def remark_on_control_tokens(written: Counter[str]) -> None:
    """Say that what looks like a control token in a text is read as text.

    Args:
        written: how often each is written in the corpus.
    """
    if written:
        logger.warning(
            "%s is written in the corpus %s times: it is read as text there, not as the token of that name",
            ", ".join(sorted(written)),
            f"{written.total():,}",
        )


def remark_on_no_validation(documents: int, sources: list[dict[str, Any]], boundary: str) -> None:
    """Explains an empty validation split by advice that helps.

    Args:
        documents: of the training split, all of one content.
        sources: of the manifest.
        boundary: what separates documents in text files.
    """
    has_text = any("path" in source and not is_table(source["path"]) for source in sources)
    finer = {"file": " (--documents blank_line or line)", "blank_line": " (--documents line)"}.get(boundary, "")
    logger.warning(
        "the validation split is empty: the corpus is %s, which train has; to evaluate, give more text or divide it "
        "otherwise%s - another validation_fraction does not help",
        "one document" if documents == 1 else f"{documents} copies of one document",
        finer if has_text else "",
    )
