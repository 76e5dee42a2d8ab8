"""Files that several wings read or write: the names that a run's files have, and a hash of its weights."""

import hashlib
from pathlib import Path


# Files of a pre-training run, in its folder.
RUN_RECORD = "run.json"
RESOLVED_RECIPE = "recipe.yaml"
CURVES = "curves.png"
# The record of a fine-tuning, in the folder of each seed and of the task.
TASK_RECORD = "record.json"
# In plans and cards, where a number is missing.
NOT_MEASURED = "not measured"


def weights_hash(folder: Path) -> str | None:
    """A sha256 (hexadecimal) of a folder's weights; `None` for a Hub id, which stands for its own."""
    digest = hashlib.sha256()
    paths = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if paths else None
