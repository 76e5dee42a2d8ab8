"""A run: from a recipe to a native checkpoint, its curves and its record. Also the evaluation of a checkpoint."""

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import transformers
from accelerate import PartialState
from torch.utils.data import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..common.asked import ASKED
from ..common.files import CURVES, RESOLVED_RECIPE, RUN_RECORD
from ..common.locks import sole_user
from ..common.machine import has_compiler, tune_cpu_memory
from ..common.pairs import holds_pair
from ..common.references import ModelReference, find_model
from ..common.stopping import Stopped
from ..common.training_arguments import ElectraRtdTrainingArguments
from ..data.blocks import TOKENIZER, describe_text, load_blocks, read_manifest
from ..data.streaming import stream_blocks
from ..data.tokenization import load_tokenizer
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.rules import check_rows
from .building import build_model
from .checkpoints import UNFINISHED, discard_unfinished
from .plots import plot_curves
from .recipes import DataRecipe, Recipe
from .resuming import asked_for, check_asked, checkpoint_to_resume, take_precision_that_ran, write_asked
from .schedules import step_shape
from .time_budget import TimeBudget
from .trainer import ElectraRtdTrainer


logger = logging.get_logger(__name__)


def pretrain(recipe: Recipe, resume: bool = False, time_budget: TimeBudget | None = None) -> dict[str, Any]:
    """Run a recipe.

    The output folder gets checkpoints, the final model and tokenizer at its root (a joint checkpoint that stock
    classes load), `curves.png`, the resolved `recipe.yaml` and the record `run.json`.

    Args:
        resume: continue from the newest complete checkpoint in the output folder, or from the beginning where a run
            was stopped before its first.
        time_budget: ends the run by the clock instead of `max_steps`, which then has to be `TimeBudget.MOST_STEPS`.

    Returns:
        The record; in addition to what `run.json` holds, `pushed_to`, the address of the last commit, if there was
        one.

    Raises:
        ValueError: before any work starts, for a taken output folder, nothing to resume, a run to resume that began
            with something else, data that does not fit, or a folder that a living process uses.
        TrainingFault: where training cannot go on (see `GuardedTrainer`).
        Stopped: after SIGTERM or SIGINT, when the checkpoint of the step is complete.
    """
    if recipe.values and recipe.values["training"].get("output_dir") is None:
        raise ValueError("output_dir is not set; give --output-dir FOLDER")
    output_dir = Path(recipe.training.output_dir)
    is_new = not output_dir.exists()
    if output_dir.is_file():
        raise ValueError(f"output_dir is {str(output_dir)!r}, which is a file; it must be a folder")
    if recipe.training.process_index:
        return _pretrain(recipe, resume, time_budget, is_new)
    with sole_user(output_dir):
        try:
            return _pretrain(recipe, resume, time_budget, is_new)
        finally:
            if is_new and not any(output_dir.iterdir()):
                output_dir.rmdir()


def _pretrain(recipe: Recipe, resume: bool, time_budget: TimeBudget | None, is_new: bool) -> dict[str, Any]:
    arguments = recipe.training
    output_dir = Path(arguments.output_dir)
    checkpoint = checkpoint_to_resume(output_dir) if resume else None
    if resume:
        take_precision_that_ran(output_dir, recipe)
    if not resume and arguments.process_index == 0 and output_dir.exists() and _is_taken(output_dir):
        raise ValueError(f"{output_dir} already holds a run; use --resume, or another --output-dir")
    train_blocks, held_out, tokenizer = load_data(recipe.data)
    _check_budget(arguments, train_blocks)
    if arguments.torch_compile and arguments.device.type == "cpu" and not has_compiler():
        logger.warning("torch_compile needs a C++ compiler and none was found: training goes on uncompiled")
        arguments.torch_compile = False
    if arguments.device.type == "cpu":
        tune_cpu_memory()
    transformers.set_seed(arguments.seed)
    checkpoints = recipe.model.checkpoints()
    model = build_model(recipe.model, tokenizer, checkpoints)
    length = row_length(recipe.data, recipe.data.blocks)
    check_rows(model.config, length)
    step_shape(arguments, length, 0, 1)
    if held_out is None and arguments.eval_strategy != "no":
        raise ValueError("eval_strategy is set, but the data has no validation blocks; set eval_strategy: 'no'")
    asked = asked_for(recipe, train_blocks, held_out, tokenizer, model, checkpoints, length)
    if resume:
        asked = check_asked(output_dir, checkpoint, recipe, asked)
    trainer = ElectraRtdTrainer(
        model=model,
        args=arguments,
        train_dataset=train_blocks,
        eval_dataset=held_out,
        processing_class=tokenizer,
        time_budget=time_budget,
    )
    # No process writes before all have compared.
    PartialState().wait_for_everyone()
    if trainer.is_world_process_zero():
        write_asked(output_dir, recipe, asked)
    data = describe_text(read_manifest(recipe.data.blocks)) if recipe.data.blocks else None
    trainer.run_facts = {
        "recipe": recipe.values,
        "data": data,
        "from_hub": _from_hub(recipe, data, checkpoints),
        "checkpoints_from_hub": {role: checkpoint.from_hub for role, checkpoint in checkpoints.items()},
        "resumed_with": asked["resumed_with"],
        "time_budget_seconds": None if time_budget is None else time_budget.seconds,
    }
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except BaseException:
        if trainer.is_world_process_zero():
            _leave(output_dir)
        raise
    if trainer.stop_request:
        raise Stopped(
            trainer.stop_request.signal_number,
            f"stopped by {signal.Signals(trainer.stop_request.signal_number).name} after step "
            f"{trainer.state.global_step:,} of {trainer.state.max_steps:,}; its checkpoint is complete, and --resume "
            "goes on from there",
        )
    if held_out is not None:
        trainer.evaluate()
    # Pushed at the very end, when all of it is on disk.
    trainer.save_model(_internal_call=True)
    trainer.save_state()
    record = trainer.run_record()
    if trainer.is_world_process_zero():
        (output_dir / RUN_RECORD).write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
        plot_curves(trainer.state.log_history, output_dir / CURVES, title=output_dir.name)
    if arguments.push_to_hub and (commit := trainer.push_to_hub()) is not None:
        record["pushed_to"] = commit.commit_url
    return record


def evaluate(model: str, blocks: str, split: str = "validation", max_blocks: int | None = None) -> dict[str, float]:
    """Held-out RTD metrics of a joint checkpoint at temperature 1; arguments and errors of `evaluator`."""
    metrics = evaluator(model, blocks, split, max_blocks).evaluate()
    return {name.removeprefix("eval_"): value for name, value in metrics.items()}


def evaluator(model: str, blocks: str, split: str = "validation", max_blocks: int | None = None) -> ElectraRtdTrainer:
    """A trainer that holds a joint checkpoint and held-out blocks.

    Args:
        model: any name that `find_model` takes.
        blocks: a prepared folder.
        max_blocks: this many, evenly spread; `None` for all.

    Raises:
        ValueError: for a checkpoint without a generator, or blocks of another tokenizer.
    """
    checkpoint = find_model(model)
    if not holds_pair(checkpoint):
        raise ValueError(f"{model} holds no generator, and RTD is measured on a pair; evaluate the joint checkpoint")
    tokenizer = load_tokenizer(checkpoint)
    held_out = load_blocks(blocks, split, tokenizer)
    pair = ElectraRtdForPreTraining.from_pretrained(checkpoint.name, **checkpoint.arguments)
    arguments = ElectraRtdTrainingArguments(
        # Which the trainer would make, and nothing is written to.
        output_dir=tempfile.gettempdir(),
        per_device_eval_batch_size=32,
        evaluation_blocks=max_blocks,
        precision="auto",
        save_strategy="no",
    )
    return ElectraRtdTrainer(model=pair, args=arguments, eval_dataset=held_out, processing_class=tokenizer)


def row_length(data: DataRecipe, prepared: str | None) -> int:
    """Positions of a row: as the recipe says, as the blocks in a folder have, or 128 for a stream."""
    return data.max_length or (read_manifest(prepared)["max_length"] if prepared else 128)


def load_data(data: DataRecipe) -> tuple[Dataset | IterableDataset, Dataset | None, PreTrainedTokenizerBase]:
    """Training blocks or stream, held-out blocks if there are any, and the tokenizer they were made with.

    Raises:
        ValueError: when no source is given, or the blocks are another tokenizer's.
    """
    if data.blocks is None and not data.corpus and not data.dataset:
        raise ValueError("the recipe names no data; give --blocks FOLDER (from `electra-rtd prepare`)")
    prepared = data.blocks or data.validation_blocks
    manifest = None if prepared is None else read_manifest(prepared)
    if manifest is not None and data.max_length not in (None, manifest["max_length"]):
        raise ValueError(
            f"data.max_length is {data.max_length}, but {prepared} holds blocks of {manifest['max_length']}; prepare "
            f"them with --max-length {data.max_length}"
        )
    tokenizer = load_tokenizer(data.tokenizer or os.path.join(prepared, TOKENIZER))
    held_out = None
    if prepared is not None and manifest["splits"]["validation"]["blocks"]:
        held_out = load_blocks(prepared, "validation", tokenizer)
    if data.blocks is not None:
        return load_blocks(data.blocks, "train", tokenizer), held_out, tokenizer
    stream = stream_blocks(
        corpus=data.corpus,
        dataset=data.dataset,
        dataset_name=data.dataset_name,
        dataset_split=data.dataset_split,
        text_column=data.text_column,
        documents=data.documents,
        tokenizer=data.tokenizer,
        max_length=row_length(data, None),
    )
    return stream, held_out, tokenizer


def _from_hub(recipe: Recipe, data: dict[str, Any] | None, checkpoints: dict[str, ModelReference]) -> list[str]:
    """Ids of what was read from the Hub: once the run's folder is left, an id and a relative path look the same."""
    named = [recipe.data.dataset, *(data["datasets"] if data else [])]
    datasets = [name for name in named if name and not os.path.exists(name)]
    return datasets + [checkpoint.name for checkpoint in checkpoints.values() if checkpoint.from_hub]


def _is_taken(output_dir: Path) -> bool:
    return any(output_dir.iterdir())


def _leave(output_dir: Path) -> None:
    """Give a folder free for the next try, if a run that was cut off has saved nothing to go on from."""
    written = {RESOLVED_RECIPE, ASKED}
    if {path.name for path in output_dir.iterdir()} <= {*written, UNFINISHED}:
        discard_unfinished(output_dir)
        for name in written:
            (output_dir / name).unlink(missing_ok=True)


def _check_budget(arguments: ElectraRtdTrainingArguments, blocks: Any) -> None:
    if not hasattr(blocks, "__len__"):
        if arguments.max_steps <= 0:
            raise ValueError("a stream has no end: set max_steps")
        return
    batch = arguments.train_batch_size * arguments.world_size
    if len(blocks) < batch:
        raise ValueError(
            f"{len(blocks)} training blocks do not fill one batch of {batch}; lower per_device_train_batch_size or "
            "prepare more text"
        )
