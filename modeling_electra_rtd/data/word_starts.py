"""Which tokens of a vocabulary continue a word, for masking whole words and spans of them."""

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..vocabulary import vocabulary_size


# Byte-level BPE and SentencePiece mark the tokens that start a word with the space before it.
_SPACES = ("Ġ", "▁")
_WORDPIECE_CONTINUES = "##"


def continuing_tokens(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """`(vocabulary,)` bool: tokens that go on with the word of the token before them.

    Punctuation and special tokens are words of their own.

    Raises:
        ValueError: for a vocabulary that marks neither the start nor the continuation of words.
    """
    vocabulary = tokenizer.get_vocab()
    continues = np.zeros(vocabulary_size(tokenizer), dtype=bool)
    special = set(tokenizer.all_special_tokens)
    if any(token.startswith(_WORDPIECE_CONTINUES) and len(token) > 2 for token in vocabulary):
        marked = [token for token in vocabulary if token.startswith(_WORDPIECE_CONTINUES) and len(token) > 2]
    elif any(token.startswith(_SPACES) for token in vocabulary):
        marked = [token for token in vocabulary if token[:1].isalnum() and not token.startswith(_SPACES)]
    else:
        raise ValueError(
            f"tokenizer {tokenizer.name_or_path!r} does not mark where words start, which masking_strategy "
            "'whole_word' and 'span' need; use 'token'"
        )
    continues[[vocabulary[token] for token in marked if token not in special]] = True
    return continues
