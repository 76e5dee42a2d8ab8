"""A model in memory as a repository of the Hub: a release with its card, by the same checks and commit as `push`."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, ModelCard, ModelCardData
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import convert_file_size_to_int

from ..model.checkpoint_layout import role_of
from .card import CARD, write_model_card
from .upload import push
from .write import write_release


def push_model(
    model: PreTrainedModel,
    repo_id: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str | None = None,
    tags: Iterable[str] = (),
) -> CommitInfo:
    """Push a pair, or a network of one that stands alone, as a release.

    Args:
        max_shard_size: a release holds each network in one file, which must not be larger.
        tags: of the card.

    The others are those of `push_to_hub` in `transformers`.

    Raises:
        ValueError: see `hub.push`; and for a network larger than `max_shard_size`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / repo_id.rpartition("/")[2]
        folder.mkdir()
        write_carded_release(model, tokenizer, folder, tags=tags, repo_id=repo_id if "/" in repo_id else None)
        limit = None if max_shard_size is None else convert_file_size_to_int(max_shard_size)
        for path in folder.rglob("*.safetensors"):
            if limit is not None and path.stat().st_size > limit:
                raise ValueError(
                    f"max_shard_size is {max_shard_size!r}, but {path.relative_to(folder)} has "
                    f"{path.stat().st_size:,} bytes; a release holds each network in one file"
                )
        return push(
            folder,
            repo_id,
            private=private,
            revision=revision,
            create_pr=create_pr,
            message=commit_message or f"Upload {type(model).__name__}",
            description=commit_description,
            token=token,
        )["info"]


def write_carded_release(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: Path,
    tags: Iterable[str] = (),
    repo_id: str | None = None,
    **card: Any,
) -> None:
    """A release and its card.

    Args:
        repo_id: what the card calls the model, with its owner; `None` takes the folder's name.
        card: of `write_model_card`, for a pair; without them everything a run would say reads "not measured".
    """
    write_release(model, tokenizer, folder)
    role = role_of(model.config)
    if role == "pair":
        objective = model.config.objective_fields()
        write_model_card(folder, tags=tags, repo_id=repo_id, objective=objective, **card)
        return
    name = "generator" if role == "stock" else role
    data = ModelCardData(library_name="transformers", tags=["replaced-token-detection", name, *tags])
    text = (
        f"---\n{data.to_yaml()}\n---\n\n# {folder.name}\n\nThe {name} of a pair of models pre-trained with "
        "replaced-token detection, as a checkpoint that stock `transformers` loads. Data, training and quality: not "
        "measured.\n"
    )
    (folder / CARD).write_text(str(ModelCard(text)), encoding="utf-8")
