"""Train variants of a recipe in turn and print what each of them reached:

    python scripts/compare_training.py tiny --output-dir runs/compare --set blocks=runs/blocks max_steps=300 \\
        --variant muon --variant adamw muon_learning_rate=none --seeds 1 2 --equal flops

A variant is a name and the fields of the recipe it changes; every run is an `electra-rtd pretrain` of its own, in a
folder of its own, so the same command again goes on where it was stopped. With `--equal tokens` or `--equal flops`
every variant gets as many steps as bring it nearest to what the first one reads or computes in its `max_steps`.
`comparison.json` in the output folder holds the table and what stands behind it.
"""

import argparse
import bisect
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.common.files import RESOLVED_RECIPE, RUN_RECORD
from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.common.recipe_files import located
from modeling_electra_rtd.data.blocks import read_manifest
from modeling_electra_rtd.pretraining.plan import planned_config, planned_steps
from modeling_electra_rtd.pretraining.recipes import Recipe, read_recipe
from modeling_electra_rtd.pretraining.step_cost import count_run


COMPARISON = "comparison.json"
STEPS, TOKENS, FLOPS = "steps", "tokens", "flops"
# Fields that have an option of their own.
TAKEN = {"seed": "--seeds", "output_dir": "--output-dir"}
# Of the held-out metrics: heading, name, digits. What no variant's objective has is no column.
METRICS = (
    ("generator loss", "eval_generator_loss", 3),
    ("discriminator loss", "eval_discriminator_loss", 4),
    ("AUC", "eval_discriminator_auc", 3),
    ("masked-LM loss", "eval_masked_lm_loss", 3),
    ("recovered", "eval_recovered_accuracy", 3),
)


def overrides_of(texts: list[str], taken: Mapping[str, str] = TAKEN) -> dict[str, str]:
    """`field=value` texts as a dictionary.

    Args:
        taken: fields that are not set so, by the option that sets them.

    Raises:
        ValueError: for a text without `=`, a field that is given twice, and one that is taken.
    """
    overrides: dict[str, str] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not FIELD=VALUE")
        if field in overrides:
            raise ValueError(f"{field} is given twice, as {overrides[field]!r} and as {value!r}; give it once")
        if field in taken:
            raise ValueError(f"{text!r}: {field} is given by {taken[field]}")
        overrides[field] = value
    return overrides


def named_variants(groups: list[list[str]]) -> dict[str, dict[str, str]]:
    """Overrides by the name of their variant.

    Raises:
        ValueError: for a name that is given twice, or cannot be a folder's.
    """
    variants: dict[str, dict[str, str]] = {}
    for name, *texts in groups:
        if name in variants or "=" in name or "/" in name or name.startswith("."):
            raise ValueError(f"variant {name!r}: a name is given once, and has no '=', no '/' and no '.' in front")
        variants[name] = overrides_of(texts)
    return variants


def costs_of(recipe: Recipe) -> Callable[[int], dict[str, int]]:
    """Number of steps -> positions and FLOPs of the whole run, on all of its devices."""
    config, length = planned_config(recipe)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    known: dict = {}

    def cost(steps: int) -> dict[str, int]:
        counted = count_run(
            lambda: ElectraRtdForPreTraining(config), recipe.training, length, device, steps, known=known
        )
        ranks = recipe.training.world_size
        return {
            STEPS: steps,
            TOKENS: ranks * sum(count * shape.positions for count, shape, _ in counted),
            FLOPS: ranks * sum(count * of_step.flops() for count, _, of_step in counted),
        }

    return cost


def steps_for(budget: int, cost: Callable[[int], int]) -> int:
    """The number of steps whose cost, which grows with it, is nearest to a budget; at least 1."""
    most = 1
    while cost(most) < budget:
        most *= 2
    above = bisect.bisect_left(range(1, most + 1), budget, key=cost) + 1
    return min((step for step in (above - 1, above) if step), key=lambda step: abs(cost(step) - budget))


def planned_runs(
    recipe: str, variants: dict[str, dict[str, str]], common: dict[str, str], equal: str
) -> dict[str, tuple[dict[str, str], dict[str, int]]]:
    """Overrides and cost of every variant, its `max_steps` included.

    Raises:
        ValueError: for whatever `electra-rtd pretrain` refuses before it works, and for a number of steps of its own
            where the budget sets it.
    """
    planned, budget = {}, None
    for name, changes in variants.items():
        overrides = {**common, **changes}
        built = read_recipe(recipe, overrides)
        for blocks in (built.data.blocks, built.data.validation_blocks):
            if blocks is not None:
                # Costs can be counted without data, and a run cannot be made.
                read_manifest(blocks)
        cost = costs_of(built)
        steps = planned_steps(built)
        if equal != STEPS and budget is not None:
            if "max_steps" in changes:
                raise ValueError(f"variant {name!r} sets max_steps, which --equal {equal} does")
            steps = steps_for(budget, lambda steps, cost=cost: cost(steps)[equal])
        planned[name] = {**overrides, "max_steps": str(steps)}, cost(steps)
        budget = planned[name][1][equal] if budget is None else budget
    return planned


def execute(command: list[str]) -> None:
    """`electra-rtd` with these arguments, in a process of its own: libraries keep precision and compiler of a run.

    Raises:
        ValueError: if it fails.
    """
    code = "import sys; from modeling_electra_rtd.cli.main import main; sys.exit(main())"
    if subprocess.run([sys.executable, "-c", code, *command], check=False).returncode:
        raise ValueError(f"electra-rtd {shlex.join(command)} failed")


def trained(recipe: str, overrides: dict[str, str], folder: Path) -> dict[str, Any]:
    """The record of a run, which is trained, or trained on, unless it is finished.

    Raises:
        ValueError: if the folder holds the run of another recipe, or training fails.
    """
    values = read_recipe(recipe, {**overrides, "output_dir": str(folder)}).values
    record, resolved = folder / RUN_RECORD, folder / RESOLVED_RECIPE
    if not record.is_file():
        command = ["pretrain", recipe, "--output-dir", str(folder)]
        if resolved.is_file():
            check_settings(folder, yaml.safe_load(resolved.read_text(encoding="utf-8")), values)
            command.append("--resume")
        for field, value in overrides.items():
            command += [f"--{field}", value]
        print(f"\n$ electra-rtd {shlex.join(command)}", flush=True)
        execute(command)
    finished = json.loads(record.read_text(encoding="utf-8"))
    check_settings(folder, finished["recipe"], values)
    return finished


def check_settings(folder: Path, before: dict[str, dict[str, Any]], values: dict[str, dict[str, Any]]) -> None:
    """Raises ValueError if the run in a folder has other values than these, naming them."""
    old, new = settings_of(before), settings_of(values)
    if differing := sorted(name for name in {*old, *new} if old.get(name, ...) != new.get(name, ...)):
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(differing)}); use another --output-dir"
        )


def settings_of(values: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What decides a run, by `section.field`: a recipe's values as JSON has them, `located`, without its folder."""
    plain = json.loads(json.dumps(values, default=str))
    settings = {f"{section}.{name}": value for section, fields in plain.items() for name, value in fields.items()}
    return {name: located(value) for name, value in settings.items() if name != "training.output_dir"}


def table(runs: list[dict[str, Any]], metrics: Iterable[tuple[str, str, int]] = METRICS) -> str:
    """The runs as Markdown, one line a variant: means over its seeds, and their standard deviation where there are
    several.

    Args:
        metrics: heading, name and digits of those of `held_out` that are shown where any run has them.
    """

    def cell(values: list[float | None], digits: int) -> str:
        if None in values:
            return "-"
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):,.{digits}f}{spread}"

    metrics = [metric for metric in metrics if any(metric[1] in run["held_out"] for run in runs)]
    headings = ["variant", "seeds", "steps", "M tokens", "FLOPs", *(heading for heading, _, _ in metrics), "seconds"]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name in dict.fromkeys(run["variant"] for run in runs):
        of_variant = [run for run in runs if run["variant"] == name]
        cells = [name, str(len(of_variant)), f"{of_variant[0]['steps']:,}"]
        cells += [cell([run["tokens_seen"] / 1e6 for run in of_variant], 2), f"{of_variant[0]['flops']:.3g}"]
        cells += [cell([run["held_out"].get(key) for run in of_variant], digits) for _, key, digits in metrics]
        cells.append(cell([run["training_seconds"] for run in of_variant], 0))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train what is missing, and return a description of every run.

    Raises:
        ValueError: before any work starts, for variants that cannot be trained.
    """
    output_dir = Path(arguments.output_dir)
    if len(set(arguments.seeds)) < len(arguments.seeds):
        raise ValueError(f"--seeds is {' '.join(map(str, arguments.seeds))}; give each seed once")
    variants = named_variants(arguments.variant)
    planned = planned_runs(arguments.recipe, variants, overrides_of(arguments.set), arguments.equal)
    runs: list[dict[str, Any]] = []
    # Seed by seed, so that every variant has been seen once before any is seen again.
    for seed in arguments.seeds:
        for name, (overrides, cost) in planned.items():
            record = trained(arguments.recipe, {**overrides, "seed": str(seed)}, output_dir / f"{name}-seed{seed}")
            known = ("steps", "tokens_seen", "training_seconds", "resumed_from", "held_out")
            runs.append(
                {
                    "variant": name,
                    "seed": seed,
                    "overrides": variants[name],
                    "flops": cost[FLOPS],
                    **{key: record[key] for key in known},
                }
            )
            comparison = {
                "recipe": arguments.recipe,
                "set": overrides_of(arguments.set),
                "equal": arguments.equal,
                "runs": runs,
                **environment(),
            }
            (output_dir / COMPARISON).write_text(json.dumps(comparison, indent=2) + "\n", encoding="utf-8")
    return runs


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a path, or the name of a shipped recipe")
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "FIELD=VALUE"),
        help="a variant: its name, and what it changes (nothing: the recipe as it is)",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="changes of all variants")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--equal", choices=(STEPS, TOKENS, FLOPS), default=STEPS, help="what all variants have alike")
    parser.add_argument("--output-dir", required=True, help="a folder for the runs, each in one of its own")
    arguments = parser.parse_args(argv)
    try:
        runs = compare(arguments)
    except ValueError as error:
        print(f"compare_training: error: {error}", file=sys.stderr)
        return 2
    print(f"\n{table(runs)}\n\nrecord in {Path(arguments.output_dir) / COMPARISON}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
