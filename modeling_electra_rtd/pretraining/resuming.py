"""What began a run, held against what `--resume` asks for; what changes the run is refused before anything is written.

The settings that may change are named here. All others decide weights, and are compared as they were built rather than
as they were written: blocks and text by what they hold, a model by its configuration, precision by what ran.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import yaml
from torch.utils.data import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import SchedulerType
from transformers.utils import logging

from ..common.asked import ASKED, Difference, differences, read_json, refuse_differences, write_json, write_whole
from ..common.files import RESOLVED_RECIPE, RUN_RECORD, weights_hash
from ..common.recipe_files import located, read_yaml
from ..common.references import ModelReference
from ..common.training_arguments import ElectraRtdTrainingArguments
from ..data.blocks import read_manifest
from ..data.shares import find_files
from ..data.tokenization import tokenizer_fingerprint
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.precision import DTYPES, take_precision
from .checkpoints import newest_complete, processes_of
from .recipes import DataRecipe, Recipe


logger = logging.get_logger(__name__)

# A file of a stream that is longer than all of these together is told by them, evenly spread over it: a corpus that is
# streamed is too large to be read twice. An edit between them that keeps the size is not seen.
_PIECE_BYTES, _PIECES = 4 * 2**20, 16
# Training arguments, by the beginnings of their names or by whole names.
_LOGGING = ("logging_", "log_", "trackio_", "report_to", "run_name", "project", "disable_tqdm", "health_checks")
_LOGGING += ("skip_memory_metrics", "debug")
_EVALUATION = ("eval_", "evaluation_", "per_device_eval_batch_size", "do_eval", "prediction_loss_only")
_EVALUATION += ("include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval")
_SAVING = ("save_", "output_dir", "enable_jit_checkpoint")
_PUSHING = ("push_to_hub", "hub_")
_LOADING = ("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory")
_LOADING += ("dataloader_persistent_workers", "dataloader_multiprocessing_context")
_OTHERS = ("do_train", "do_predict", "max_skipped_steps", "resume_from_checkpoint", "local_rank", "ddp_timeout")
# Where the whole length of the run decides nothing but its end.
_CONSTANT = (SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP, SchedulerType.INVERSE_SQRT)
_BY_EVALUATIONS = (SchedulerType.REDUCE_ON_PLATEAU,)
_LENGTHS = ("max_steps", "num_train_epochs")


def checkpoint_to_resume(output_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end; `None` for a run that was killed before its first.

    Raises:
        ValueError: for a folder without a run, and for a finished run that kept no checkpoint.
    """
    if (checkpoint := newest_complete(output_dir)) is not None:
        return checkpoint
    if not (output_dir / RESOLVED_RECIPE).is_file():
        raise ValueError(f"nothing to resume: {output_dir} holds no run")
    if (output_dir / RUN_RECORD).is_file():
        raise ValueError(f"nothing to resume: the run in {output_dir} is finished")
    logger.warning(f"{output_dir} holds no complete checkpoint: the run begins again")
    return None


def asked_for(
    recipe: Recipe,
    blocks: Dataset | IterableDataset,
    held_out: Dataset | None,
    tokenizer: PreTrainedTokenizerBase,
    model: ElectraRtdForPreTraining,
    checkpoints: dict[str, ModelReference],
    length: int,
) -> dict[str, Any]:
    """What decides a run, as `ASKED` holds it.

    Args:
        blocks, held_out: to train and to evaluate on.
        checkpoints: that the model continues from.
        length: positions of a row.
    """
    arguments, data = recipe.training, recipe.data
    training = {**_fields(ElectraRtdTrainingArguments), **recipe.values.get("training", {})}
    # As they are after `TrainingArguments` has read them.
    training |= {name: getattr(arguments, name) for name in ("precision", "lr_scheduler_type")}
    training["data_seed"] = None if arguments.data_seed == arguments.seed else arguments.data_seed
    # Which the precision that ran, and the device, say.
    for name in ("bf16", "fp16", "use_cpu"):
        del training[name]
    asked: dict[str, Any] = {
        "data": {"source": _source(data), "max_length": length},
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "model": _described_model(recipe, model, checkpoints),
        "training": training,
        "processes": arguments.world_size,
        "device": arguments.device.type,
        "resumed_with": [],
    }
    if data.blocks is not None:
        asked["data"]["blocks"] = _described_blocks(data.blocks, blocks)
    else:
        names = ("dataset", "dataset_name", "dataset_split") if data.dataset else ()
        asked["data"] |= {name: getattr(data, name) for name in ("text_column", "documents", *names)}
        if data.corpus:
            files = find_files(data.corpus, data.text_column)
            asked["data"]["corpus"] = {f"file_{number}": _described_file(path) for number, path in enumerate(files)}
    if held_out is not None:
        asked["data"]["held_out"] = _described_blocks(data.blocks or data.validation_blocks, held_out)
    return json.loads(json.dumps(asked, default=_plain))


def take_precision_that_ran(output_dir: Path, recipe: Recipe) -> None:
    """Let a resumed run of `precision: auto` have the precision that it has had so far, whatever is faster here."""
    begun = _begun(output_dir)
    asked = recipe.values.get("training", {})
    ran = begun.get("training", {}).get("precision")
    if asked.get("precision") != "auto" or asked.get("bf16") is not None or asked.get("fp16") or ran not in DTYPES:
        return
    arguments = recipe.training
    if arguments.precision != ran:
        logger.warning(
            f"precision is auto, which would be {arguments.precision} on this machine; the run in {output_dir} began "
            f"with {ran} and goes on with it"
        )
        take_precision(arguments, ran)


def check_asked(output_dir: Path, checkpoint: Path | None, recipe: Recipe, asked: dict[str, Any]) -> dict[str, Any]:
    """Hold what is asked for against what began the run in a folder.

    Args:
        checkpoint: to go on from; `None` where the run begins again.

    Returns:
        `asked`, whose `resumed_with` has an entry for every resume that changed something it may change: `from`, a
        checkpoint's name, and `changed`, `{setting: [before, now]}`.

    Raises:
        ValueError: in one line, for what would change the run, with both values of each.
    """
    begun = _begun(output_dir)
    resumed_with = begun.get("resumed_with", [])
    found = _differences(begun, asked) if begun else _differences_of_recipe(output_dir, checkpoint, recipe, asked)
    allowed = [item for item in found if _is_allowed(item, asked)]
    refuse_differences(
        output_dir, [item._replace(key=_name(item.key)) for item in found if not _is_allowed(item, asked)]
    )
    # Where a run lies is no setting of it.
    changed = {_name(key): [before, now] for key, before, now in allowed if key != "training.output_dir"}
    if changed:
        resumed_with = [*resumed_with, {"from": None if checkpoint is None else checkpoint.name, "changed": changed}]
        shown = ", ".join(f"{name} {before!r} -> {now!r}" for name, (before, now) in changed.items())
        logger.warning(f"{output_dir} is resumed with other settings, as its record will say: {shown}")
    return {**asked, "resumed_with": resumed_with}


def write_asked(output_dir: Path, recipe: Recipe, asked: dict[str, Any]) -> None:
    """Write what a run is asked for, for a later resume, and its recipe for people."""
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(output_dir / ASKED, asked)
    write_whole(output_dir / RESOLVED_RECIPE, yaml.safe_dump(recipe.values, sort_keys=False))


def _begun(output_dir: Path) -> dict[str, Any]:
    path = output_dir / ASKED
    begun = read_json(path) if path.is_file() else {}
    if not isinstance(begun, dict):
        raise ValueError(f"{path} is no record of what began a run")
    return begun


def _differences(begun: dict[str, Any], asked: dict[str, Any]) -> list[Difference]:
    now, defaults = asked["training"], json.loads(json.dumps(_fields(ElectraRtdTrainingArguments), default=_plain))
    # Another version may have more settings, or fewer.
    before = {name: begun.get("training", {}).get(name, defaults.get(name)) for name in now}
    found = differences({**begun, "training": before}, asked, ignored=("resumed_with",))
    if any(item.key == "data.source" for item in found):
        # All else that is said of one says nothing of the other.
        found = [item for item in found if item.key == "data.source" or not item.key.startswith("data.")]
    of_model = _by_recipe([item for item in found if item.key.startswith("model")])
    return [item for item in found if not item.key.startswith("model")] + of_model


def _differences_of_recipe(
    output_dir: Path, checkpoint: Path | None, recipe: Recipe, asked: dict[str, Any]
) -> list[Difference]:
    """For a run of an earlier version, which left its recipe and nothing else of what began it."""
    path = output_dir / RESOLVED_RECIPE
    found = []
    if path.is_file():
        before = read_yaml(path)
        if not isinstance(before, dict):
            raise ValueError(f"{path}: no recipe")
        before, now = (json.loads(json.dumps(values, default=_plain)) for values in (before, recipe.values))
        found = differences(before, now)
    if checkpoint is not None and processes_of(checkpoint) != asked["processes"]:
        found.append(Difference("processes", processes_of(checkpoint), asked["processes"]))
    logger.warning(
        f"{output_dir} holds no {ASKED}, as runs of earlier versions: its recipe is compared, but whether its data, "
        "tokenizer and checkpoints are still the same cannot be told"
    )
    return found


def _is_allowed(found: Difference, asked: dict[str, Any]) -> bool:
    """Whether a setting of training may be another one when a run goes on."""
    section, _, name = found.key.partition(".")
    name = name.partition(".")[0]
    training = asked["training"]
    if section == "device":
        # Said, since no two kinds compute to the bit alike.
        return True
    if section != "training":
        return False
    if name in _LENGTHS:
        return _is_longer(found, training)
    decides_by_evaluation = training["load_best_model_at_end"] or training["lr_scheduler_type"] in _BY_EVALUATIONS
    freely = _LOGGING + _PUSHING + _OTHERS + ("output_dir",)
    if not decides_by_evaluation:
        freely += _EVALUATION + _SAVING
    if "blocks" in asked["data"]:
        # Workers of a stream divide its text, and so decide the order of the blocks.
        freely += _LOADING
    return any(name == allowed or (allowed.endswith("_") and name.startswith(allowed)) for allowed in freely)


def _is_longer(found: Difference, training: dict[str, Any]) -> bool:
    """Whether a run may be made longer so: nothing in it is a part of its whole length."""
    if found.before is None or found.now is None or not 0 < found.before < found.now:
        return False
    if training["lr_scheduler_type"] not in _CONSTANT:
        return False
    fractions = {
        f"initial_{name}": f"{name}_{change}_steps"
        for name, change in (
            ("sampling_temperature", "decay"),
            ("mask_probability", "decay"),
            ("batch_size", "warmup"),
            ("sequence_length", "warmup"),
        )
    }
    lengths = [training[steps] for initial, steps in fractions.items() if training[initial] is not None]
    if training["lr_scheduler_type"] != SchedulerType.CONSTANT:
        lengths.append(training["warmup_steps"])
    return all(value == 0 or value > 1 or (value == 1 and isinstance(value, int)) for value in lengths)


def _source(data: DataRecipe) -> str:
    return next(name for name in ("blocks", "corpus", "dataset") if getattr(data, name))


def _described_blocks(folder: str, rows: Dataset) -> dict[str, Any]:
    manifest = read_manifest(folder)
    return {
        "fingerprint": rows._fingerprint,
        "rows": len(rows),
        "max_length": manifest["max_length"],
        "tokenizer": manifest["tokenizer"]["fingerprint"],
    }


def _described_model(
    recipe: Recipe, model: ElectraRtdForPreTraining, checkpoints: dict[str, ModelReference]
) -> dict[str, Any]:
    config = model.config.to_dict()
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name in ("transformers_version", "_name_or_path"):
            part.pop(name, None)
    identities = {
        # A commit stands for the weights of the Hub.
        role: checkpoint.from_hub or weights_hash(checkpoint.folder)
        for role, checkpoint in checkpoints.items()
    }
    return {
        "built": {"config": config, **identities, "attn_implementation": recipe.model.attn_implementation},
        "recipe": {name: located(value) for name, value in vars(recipe.model).items()},
    }


def _by_recipe(found: list[Difference]) -> list[Difference]:
    """Other models, in the words of the recipe where it says what is other; none for a recipe of the same model."""
    of_recipe = [item for item in found if item.key.startswith("model.recipe.")]
    built = [item for item in found if not item.key.startswith("model.recipe.")]
    return (of_recipe or built) if built else []


def _described_file(path: str) -> str:
    """A file of a stream by name, size and content."""
    size = os.path.getsize(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if size <= _PIECE_BYTES * _PIECES:
            digest = hashlib.file_digest(file, "sha256")
        else:
            for number in range(_PIECES):
                file.seek(number * (size - _PIECE_BYTES) // (_PIECES - 1))
                digest.update(file.read(_PIECE_BYTES))
    return f"{os.path.basename(path)}, {size} bytes, sha256 {digest.hexdigest()[:32]}"


def _name(key: str) -> str:
    """A setting as the recipe has it: the sections it stands in here say nothing to a user."""
    for section in ("training.", "model.recipe.", "model.built.", "model."):
        if key.startswith(section):
            return key.removeprefix(section)
    return key


def _fields(owner: type) -> dict[str, Any]:
    """The default of every field of a dataclass."""
    defaults = {}
    for item in dataclasses.fields(owner):
        if item.init:
            made = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
            defaults[item.name] = None if made is dataclasses.MISSING else made
    return defaults


def _plain(value: Any) -> Any:
    """What JSON does not know: an enum as its value, another object as its words."""
    return getattr(value, "value", None) or str(value)
