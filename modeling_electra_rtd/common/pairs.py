"""Whether a name that a user gives stands for a pair."""

import os

from transformers.utils import CONFIG_NAME

from ..model.checkpoint_layout import holds_pair as holds_pair_at
from .references import ModelReference, find_model


def holds_pair(model: str | os.PathLike | ModelReference) -> bool:
    """Whether a model is a pair: a joint checkpoint, or a release with its generator.

    Raises:
        ValueError: for a model without a readable config.
    """
    reference = find_model(model)
    reference.require(CONFIG_NAME)
    try:
        return holds_pair_at(reference.name, **reference.arguments)
    except OSError as error:
        raise ValueError(f"{reference.role} {reference}: {error}") from None
