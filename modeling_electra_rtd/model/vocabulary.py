"""What a table of embeddings has to know of a tokenizer: how many ids it gives, and which of them is padding."""

from typing import Any


def vocabulary_size(tokenizer: Any) -> int:
    """The largest id, and one. `len(tokenizer)` counts different tokens, which are fewer where a vocabulary has gaps
    between its ids, or holds a token twice."""
    return 1 + max(tokenizer.get_vocab().values())


def padding_problem(tokenizer: Any, config: Any) -> str | None:
    """Why a config and a tokenizer do not mean the same token by padding, and what helps; `None` if they do.

    Texts are read alike all the same, as positions of padding are masked. But the embedding of the token that the
    config names is not trained, and families that count positions by padding skip it.

    Args:
        config: of the encoder.
    """
    theirs, ours = getattr(config, "pad_token_id", None), tokenizer.pad_token_id
    if theirs is None or ours is None or theirs == ours:
        return None
    return (
        f"pad_token_id of the model's config is {theirs}, but its tokenizer pads with {ours} ({tokenizer.pad_token}), "
        f"which is what counts; set pad_token_id to {ours} in config.json"
    )
