"""Checkpoints that are complete or absent: written aside, listed with sizes and hashes, then renamed into their place.

One that a crash, a full disk or a bad copy has damaged is told by its list, and the one before it is taken.
"""

import fnmatch
import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, logging

from ..common.asked import write_json


logger = logging.get_logger(__name__)

# The sums of what was counted since the last log.
TELEMETRY = "telemetry.safetensors"
# Sizes and hashes of every other file of a checkpoint; written last.
CHECKPOINT_MANIFEST = "checkpoint.json"
# Beside the checkpoints: those that are being written, or deleted.
UNFINISHED = ".unfinished-checkpoints"
# Patterns of names, one of which has to be there.
_NEEDED = {
    "weights": ("model*.safetensors", "pytorch_model*"),
    "the optimizer's state": (f"{Path(OPTIMIZER_NAME).stem}*",),
    "the scheduler's state": (SCHEDULER_NAME,),
    "the state of random numbers": ("rng_state*.pth",),
    "the trainer's state": (TRAINER_STATE_NAME,),
    "what was counted since the last log": (TELEMETRY,),
}


def step_of(checkpoint: Path) -> int | None:
    """The step of a checkpoint, by its folder's name; `None` for a folder of another name, such as
    `checkpoint-30 (copy)`."""
    match = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-([0-9]+)", checkpoint.name)
    return int(match[1]) if match and checkpoint.is_dir() else None


def checkpoints_of(output_dir: Path) -> list[Path]:
    """The checkpoints of a run, complete or not, oldest step first."""
    steps = {path: step_of(path) for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")}
    return sorted((path for path, step in steps.items() if step is not None), key=steps.__getitem__)


def newest_complete(output_dir: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written; those that are passed over are warned of."""
    for checkpoint in reversed(checkpoints_of(output_dir)):
        problem = problem_of(checkpoint)
        if problem is None:
            return checkpoint
        logger.warning(f"{checkpoint} is passed over: {problem}")
    return None


def problem_of(checkpoint: Path) -> str | None:
    """Why nothing can be resumed from a checkpoint, in words; `None` where every file is as it was written."""
    if not (checkpoint / CHECKPOINT_MANIFEST).exists():
        problem = _problem_without_manifest(checkpoint)
        if problem is None:
            logger.warning(
                f"{checkpoint} holds no {CHECKPOINT_MANIFEST}, as checkpoints of earlier versions: its files are all "
                "there and can be read, but whether they are those that were written cannot be told"
            )
        return problem
    try:
        manifest = json.loads((checkpoint / CHECKPOINT_MANIFEST).read_text(encoding="utf-8"))
        step = manifest["step"]
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{CHECKPOINT_MANIFEST} is damaged"
    if step != step_of(checkpoint):
        return f"it is of step {step}"
    for name, (size, digest) in listed.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes, not {size:,}"
        if _sha256(path) != digest:
            return f"{name} is not what was written"
    return _missing({Path(name).parts[0] for name in listed})


def processes_of(checkpoint: Path) -> int:
    """How many processes wrote a checkpoint: each of several has a random state of its own."""
    numbers = [re.fullmatch(r"rng_state_([0-9]+)\.pth", path.name) for path in checkpoint.glob("rng_state_*.pth")]
    return max((int(match[1]) + 1 for match in numbers if match), default=1)


def new_unfinished(output_dir: Path) -> Path:
    """An empty folder in which the next checkpoint is written; what a killed process left there is deleted."""
    folder = output_dir / UNFINISHED
    discard_unfinished(output_dir)
    folder.mkdir(parents=True)
    return folder


def discard_unfinished(output_dir: Path) -> None:
    """Delete what was never finished."""
    shutil.rmtree(output_dir / UNFINISHED, ignore_errors=True)


def finish(unfinished: Path, output_dir: Path, step: int, processes: int) -> Path:
    """List the files of a checkpoint, bring them to the disk, and rename it into its place.

    Args:
        unfinished: the checkpoint, in the folder that `new_unfinished` gave.
        processes: that wrote it.
    """
    files = sorted(path for path in unfinished.rglob("*") if path.is_file())
    listed = {}
    for path in files:
        _to_disk(path)
        name = path.relative_to(unfinished).as_posix()
        listed[name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    write_json(unfinished / CHECKPOINT_MANIFEST, {"step": step, "processes": processes, "files": listed})
    for folder in (*(path for path in unfinished.rglob("*") if path.is_dir()), unfinished):
        _to_disk(folder)
    checkpoint = output_dir / unfinished.name
    if checkpoint.exists():
        # Passed over when the run was resumed, or of a run that began at an earlier step.
        os.replace(checkpoint, unfinished.with_name(f"replaced-{unfinished.name}"))
    os.replace(unfinished, checkpoint)
    _to_disk(output_dir)
    discard_unfinished(output_dir)
    return checkpoint


def rotate(output_dir: Path, newest: Path, limit: int | None, best: str | None) -> None:
    """Keep so many checkpoints: `newest`, the best one, and those before it; then those of later steps, which it
    follows because they were passed over.

    Args:
        limit: `None` and 0 keep all.
        best: the checkpoint to load at the end.
    """
    if not limit or limit < 0:
        return
    step = step_of(newest)
    earlier = [path for path in checkpoints_of(output_dir) if step_of(path) < step]
    later = [path for path in checkpoints_of(output_dir) if step_of(path) > step]
    # First to last of those that may go.
    others = [*later, *earlier]
    if best is not None:
        others = [path for path in others if path.resolve() != Path(best).resolve()]
    excess = len(earlier) + len(later) + 1 - limit
    for path in others[: max(0, excess)]:
        # Renamed first, so that one that is half deleted has no name of a checkpoint.
        away = output_dir / UNFINISHED
        away.mkdir(exist_ok=True)
        os.replace(path, away / f"deleted-{path.name}")
    discard_unfinished(output_dir)


def _problem_without_manifest(checkpoint: Path) -> str | None:
    """As `problem_of`, by what the formats of the files themselves allow to tell."""
    if (problem := _missing({path.name for path in checkpoint.iterdir()})) is not None:
        return problem
    processes = processes_of(checkpoint)
    for name in [f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else ["rng_state.pth"]:
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
    try:
        state: Any = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        step = state["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{TRAINER_STATE_NAME} is damaged"
    if step != step_of(checkpoint):
        return f"{TRAINER_STATE_NAME} is of step {step}"
    for path in sorted(checkpoint.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                file.keys()
        except (OSError, SafetensorError):
            return f"{path.name} is damaged"
    index = checkpoint / SAFE_WEIGHTS_INDEX_NAME
    try:
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.exists() else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{index.name} is damaged"
    for name in sorted(parts):
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
    for path in sorted({*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")}):
        # What torch.save writes; the sums of its parts are checked, and nothing in it is run.
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except (OSError, zipfile.BadZipFile):
            return f"{path.name} is damaged"
        if broken is not None:
            return f"{path.name} is damaged"
    return None


def _missing(names: set[str]) -> str | None:
    """Which part of a checkpoint has no file among these, in words."""
    for what, patterns in _NEEDED.items():
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns):
            return f"it is without {what} ({patterns[0]})"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        # Windows opens no folders; there a rename is kept by the file system.
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
