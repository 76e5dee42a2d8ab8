"""`electra-rtd pretrain`, `plan` and `evaluate`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .verbs import MODEL, AddVerb


def add_verbs(add: AddVerb) -> None:
    _add_pretrain(add)
    _add_plan(add)
    _add_evaluate(add)


def _add_pretrain(add: AddVerb) -> None:
    sub = add("pretrain", _pretrain, "pre-train from a recipe; any of its fields can follow as --field value")
    sub.add_argument("recipe", help="a YAML file, or the name of a shipped recipe such as tiny")
    sub.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest complete checkpoint, or begin a run again that was killed before its first",
    )
    sub.set_defaults(overrides={})


def _pretrain(arguments: argparse.Namespace) -> None:
    from ..common.files import CURVES, RUN_RECORD
    from ..pretraining.recipes import read_recipe
    from ..pretraining.run import pretrain

    recipe = read_recipe(arguments.recipe, arguments.overrides)
    record = pretrain(recipe, resume=arguments.resume)
    if recipe.training.process_index == 0:
        folder = Path(recipe.values["training"]["output_dir"])
        _print_metrics({name.removeprefix("eval_"): value for name, value in record["held_out"].items()})
        # A run that is over before its first log has none.
        curves = f", curves in {folder / CURVES}" if (folder / CURVES).is_file() else ""
        print(f"model in {folder}{curves}, record in {folder / RUN_RECORD}")
        if "pushed_to" in record:
            print(f"release in {record['pushed_to']}, read back and equal")
        else:
            print(f"next: electra-rtd export {folder} --output-dir {folder}-release")


def _add_plan(add: AddVerb) -> None:
    sub = add("plan", _plan, "parameters, FLOPs, memory and hours of a recipe; its fields can follow as --field value")
    sub.add_argument("recipe", nargs="?", help="a YAML file, or the name of a shipped recipe such as tiny")
    sub.add_argument("--vocab-size", type=int, help="tokens, where no tokenizer and no blocks are at hand")
    sub.add_argument("--device", help="cpu, cuda, or a name for a GPU elsewhere; by default this machine's")
    sub.add_argument(
        "--calibration", metavar="FILE", help="of the machine to plan for; by default this one is measured"
    )
    sub.add_argument("--calibrate", metavar="FILE", help="measure this machine, compiled steps too, and write it here")
    sub.add_argument("--price-per-hour", type=float, help="of the device, in any currency")
    sub.add_argument("--json", metavar="FILE", help="write the plan here as well")
    sub.set_defaults(overrides={})


def _plan(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..pretraining.calibration import calibrate, save_calibration
    from ..pretraining.plan import plan, plan_rows
    from ..pretraining.recipes import read_recipe

    if arguments.recipe is None and arguments.calibrate is None:
        raise ValueError("give a recipe, or --calibrate FILE to measure this machine")
    if arguments.calibrate and arguments.calibration:
        raise ValueError("--calibrate measures this machine and --calibration reads a file; give one")
    recipe = None if arguments.recipe is None else read_recipe(arguments.recipe, arguments.overrides)
    for name in ("calibrate", "json"):
        _check_writable(f"--{name}", getattr(arguments, name))
    if arguments.calibrate:
        print("measuring this machine, compiled steps too; minutes ...", file=sys.stderr)
        save_calibration(calibrate(), arguments.calibrate)
        print(f"calibration in {arguments.calibrate}")
    if recipe is None:
        return
    values = plan(
        recipe,
        vocab_size=arguments.vocab_size,
        device=arguments.device,
        calibration_file=arguments.calibrate or arguments.calibration,
        price_per_hour=arguments.price_per_hour,
    )
    table = Table("plan", arguments.recipe)
    for row in plan_rows(values):
        table.add_row(*row)
    Console().print(table)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        print(f"plan in {arguments.json}")


def _add_evaluate(add: AddVerb) -> None:
    sub = add("evaluate", _evaluate, "held-out RTD metrics of a joint checkpoint")
    sub.add_argument("model", help=f"joint checkpoint: {MODEL}")
    sub.add_argument("--data", required=True, help="folder of blocks")
    sub.add_argument("--split", choices=("train", "validation"), default="validation")
    sub.add_argument("--max-blocks", type=int, default=None, help="use this many, evenly spread; by default all")
    sub.add_argument("--json", metavar="FILE", help="write the metrics here as well")


def _evaluate(arguments: argparse.Namespace) -> None:
    from ..pretraining.run import evaluate

    _check_writable("--json", arguments.json)
    metrics = evaluate(arguments.model, arguments.data, arguments.split, arguments.max_blocks)
    _print_metrics(metrics)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        print(f"metrics in {arguments.json}")


def _check_writable(option: str, file: str | None) -> None:
    """Refuse a file that could not be written, before the minutes of work whose result it is for."""
    if file is None:
        return
    path = Path(file)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{option} is {file!r}; it must be a file in a folder that exists")


def _print_metrics(metrics: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("held-out metric", "value")
    for name, value in metrics.items():
        if isinstance(value, float) and name not in ("epoch",):
            table.add_row(name.replace("_", " "), f"{value:.4f}")
    Console().print(table)
