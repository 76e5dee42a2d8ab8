"""What may be uploaded: the files of a release and nothing else, every one of them looked into."""

import fnmatch
import getpass
import json
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

from ..model.checkpoint_layout import is_joint, objective_of
from .remote_code import CUSTOM_PIPELINES, auto_map_of, family_code_files, remote_code_files


# What a release and its card are made of. Anything else is refused by name rather than passed over.
ALLOWED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "README.md",
    "LICENSE*",
    "*.png",
    "recipe.yaml",
    ".gitattributes",
)
# What `electra-rtd finetune` leaves next to a model: it stays, so that the folder can be uploaded as it is.
STAYS = ("record.json", "predictions_*.jsonl")
# Vocabularies hold any word there is: paths and names in them say nothing about a machine.
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.model")
_BINARY = ("*.safetensors", "*.png", "*.model")
_TRAINING_LEFTOVERS = {
    "optimizer.pt": "the optimizer's state",
    "scheduler.pt": "the scheduler's state",
    "rng_state*": "the state of random numbers",
    "training_args.bin": "pickled training arguments",
    "trainer_state.json": "the trainer's state",
    "telemetry.safetensors": "the trainer's state",
    "checkpoint.json": "the list of a checkpoint's files",
}
# First bytes of a pickle (protocols 2 to 5), and of the archives that torch.save and others put pickles into.
_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"\x1f\x8b")
_SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
_ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|Users|root|mnt|media|tmp|var|opt|scratch|work|workspace|data|private|content)/[\w.@-]+"
    r"|\b[A-Za-z]:\\\\?(?:Users|Documents)"
    r"|\bfile:///?\w"
)
# Accounts that every machine has name nobody.
_NOBODY = {"root", "user", "users", "admin", "ubuntu", "debian", "runner", "jovyan", "colab", "docker", "nobody"}


def uploadable_files(folder: str | Path) -> list[Path]:
    """The files of a folder, after looking into each: kind, code, symbolic links, secrets, paths, user names, weights.

    Returns:
        Paths relative to the folder, sorted; without what `STAYS` names.

    Raises:
        ValueError: naming every file that must not be uploaded, and where in it what was found.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{folder}: no such folder")
    if _is_joint(root):
        raise ValueError(
            f"{folder} must not be uploaded: it is a training checkpoint; make a release of it with "
            f"electra-rtd export {folder} --output-dir RELEASE"
        )
    files, problems = [], []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            inside = path.resolve().is_relative_to(root.resolve())
            problems.append(f"{name} is a symbolic link" + ("" if inside else " out of the folder"))
        elif not name.isprintable():
            problems.append(f"{ascii(name)} has a name that does not print")
        elif not path.is_file():
            problems += [] if path.is_dir() else [f"{name} is no file"]
        elif not any(fnmatch.fnmatch(name, pattern) for pattern in STAYS):
            files.append(Path(name))
            problems += [f"{name}{found}" for found in _problems_of(path, name)]
    problems += _problems_of_code(root, files)
    if not files and not problems:
        problems.append("it is empty")
    elif "config.json" not in {path.as_posix() for path in files} or not list(root.glob("*.safetensors")):
        problems.append("it has no config.json with *.safetensors next to it")
    if problems:
        raise ValueError(f"{folder} must not be uploaded: {'; '.join(problems)}")
    return files


def _problems_of(path: Path, name: str) -> list[str]:
    for pattern, what in _TRAINING_LEFTOVERS.items():
        if fnmatch.fnmatch(path.name, pattern):
            return [f" is {what}"]
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_PICKLE):
        return [" is a pickle or an archive of one"]
    if path.suffix == ".py":
        return []  # see _problems_of_code
    if not any(fnmatch.fnmatch(path.name, pattern) for pattern in ALLOWED):
        return [" is no part of a release"]
    if not path.stat().st_size:
        return [" is empty"]
    if path.suffix == ".safetensors":
        return _problems_of_weights(path)
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in _BINARY):
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return [" is not text"]
    is_vocabulary = any(fnmatch.fnmatch(path.name, pattern) for pattern in _VOCABULARIES)
    problems = [
        f", line {number}: {what}"
        for number, line in enumerate(lines, start=1)
        for what in found_in_text(line, is_vocabulary)
    ]
    if path.name.endswith("config.json"):
        problems += _problems_of_code_names(path)
    elif path.name == "README.md":
        problems += _problems_of_card(path)
    return problems[:5]


def _is_joint(folder: Path) -> bool:
    return is_joint(objective_of(_values_of(folder / "config.json")))


def _problems_of_code(folder: Path, files: list[Path]) -> list[str]:
    """Code runs wherever somebody trusts it: what is not this package's own, byte for byte, is not uploaded; nor is a
    config that names it without it. The pair's lies at the root, a family's in every folder with a model of it."""
    pair, family = (
        {name: path.read_bytes() for name, path in own.items()} for own in (remote_code_files(), family_code_files())
    )
    problems, changed, missing = [], set(), set()
    for place in sorted({file.parent for file in files}):
        own = pair if place == Path() else family
        for file in (file for file in files if file.parent == place and file.suffix == ".py"):
            if file.name not in own:
                problems.append(f"{file.as_posix()} is code, and none of what electra-rtd export writes")
            elif (folder / file).read_bytes() != own[file.name]:
                changed.add(file)
        values = _values_of(folder / place / "config.json")
        names_pair = "custom_pipelines" in values or "AutoModelForPreTraining" in values.get("auto_map", {})
        needed = pair if names_pair else family if "auto_map" in values else ()
        missing |= {place / name for name in needed} - set(files)
    for found, what in (
        (changed, "not of this version"),
        (missing, "not there, but config.json names the code"),
    ):
        if found:
            names = ", ".join(sorted(file.as_posix() for file in found))
            are = "is" if len(found) == 1 else "are"
            problems.append(f"{names} {are} {what} of electra-rtd; export the checkpoint again")
    return problems


def _values_of(config: Path) -> dict[str, Any]:
    """What a JSON object holds; nothing where there is none."""
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _problems_of_code_names(path: Path) -> list[str]:
    """A config can also name code that lies elsewhere, in another repository."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return [" is not JSON"]
    if not isinstance(values, dict):
        return [" is no JSON object"]
    family = values.get("model_type")
    own: dict[str, dict[str, Any]] = {
        "auto_map": auto_map_of(str(family)) if family in CONFIG_MAPPING else {},
        "custom_pipelines": CUSTOM_PIPELINES,
    }
    return [
        f": {key} names code that is not electra-rtd's"
        for key in sorted(own.keys() & values.keys())
        # A generator's names no pair.
        if not isinstance(values[key], dict) or not values[key].items() <= own[key].items()
    ]


def _problems_of_card(path: Path) -> list[str]:
    try:
        ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        return [f": its metadata cannot be read ({' '.join(str(error).split())})"]
    return []


def found_in_text(text: str, is_vocabulary: bool = False) -> list[str]:
    """Names of what a text must not hold; never the secret itself, which would then be in a log."""
    found = [what for what, pattern in _SECRETS.items() if pattern.search(text)]
    if is_vocabulary:
        return found
    if path := _ABSOLUTE_PATH.search(text):
        found.append(f"an absolute path, {path[0]}")
    user = _user_name()
    if user is not None and re.search(rf"\b{re.escape(user)}\b", text):
        found.append("the name of this machine's user")
    return found


def _problems_of_weights(path: Path) -> list[str]:
    try:
        with safe_open(path, "pt") as weights:
            metadata = " ".join(f"{name} {value}" for name, value in (weights.metadata() or {}).items())
            for name in weights.keys():  # noqa: SIM118  (an open file of tensors is no dict)
                tensor = weights.get_tensor(name)
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    return [f": weight {name} is not finite"]
    except SafetensorError as error:
        return [f" is broken ({str(error).partition(chr(10))[0]})"]
    return [f", metadata: {what}" for what in found_in_text(metadata)]


def _user_name() -> str | None:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        return None
    return user if len(user) > 2 and user.lower() not in _NOBODY else None
