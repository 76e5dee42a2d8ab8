"""Objectives, sharing, noise and backbones at equal FLOPs, pre-trained and then fine-tuned on one task:

    python scripts/ablation.py --blocks runs/blocks --output-dir runs/ablation --task ewt_pos --data-dir ud_ewt_pos

Every variant changes one thing of the `tiny` recipe; its number of steps is what the first one's FLOPs buy. Losses of
different objectives do not compare, so each encoder is fine-tuned on the task, and so is one of random weights. The
same command again goes on where it was stopped; `ablation.json` in the output folder holds the table and what stands
behind it.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from compare_training import METRICS, compare, execute, overrides_of, table

from modeling_electra_rtd.common.files import TASK_RECORD as RESULTS
from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.finetuning.reading import read_task
from modeling_electra_rtd.finetuning.recipes import kind_options, read_finetuning_recipe
from modeling_electra_rtd.finetuning.run import ASKED
from modeling_electra_rtd.finetuning.tasks import find_task


RECIPE = "tiny"
RECORD = "ablation.json"
# Fields of fine-tuning that have an option of their own.
TAKEN_OF_TASK = {"seed": "--task-seeds", "from_scratch_seeds": "--task-seeds", "output_dir": "--output-dir"}
# Of the size of the recipe's own encoder, as far as families allow.
_SIZES = "hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4"
_TRANSFORMER = f"{_SIZES}, intermediate_size: 1024, max_position_embeddings: 512"
VARIANTS = {
    # The recipe as it is.
    "rtd": [],
    # What the discriminator learns.
    "rtd_15": ["objective=rtd_15"],
    "rtd_mlm": ["objective=rtd_mlm"],
    "mlm": ["objective=mlm", "generator_depth=none"],
    "replace_mlm": ["objective=replace_mlm"],
    "all_tokens_mlm": ["objective=all_tokens_mlm"],
    "electric": ["objective=electric", "generator_kind=two_tower", "initial_sampling_temperature=none"],
    # What the two networks share.
    "sharing_none": ["embedding_sharing=none"],
    "sharing_words": ["embedding_sharing=tied_words"],
    "sharing_all": ["embedding_sharing=all", "generator_depth=1"],
    "sharing_gdes": ["embedding_sharing=gdes"],
    # Where replacements come from.
    "noise_two_tower": ["generator_kind=two_tower"],
    "noise_unigram": ["generator_kind=unigram", "generator_depth=none"],
    "noise_uniform": ["generator_kind=uniform", "generator_depth=none"],
    "whole_words": ["masking_strategy=whole_word"],
    # What reads the text.
    "electra": [f"discriminator={{model_type: electra, embedding_size: 256, {_TRANSFORMER}}}"],
    "bert": [f"discriminator={{model_type: bert, {_TRANSFORMER}}}"],
    "gru": ["discriminator={model_type: gru_encoder, embedding_size: 256, hidden_size: 256, num_hidden_layers: 3}"],
}
OBJECTIVES = ("rtd", "rtd_15", "rtd_mlm", "mlm", "replace_mlm", "all_tokens_mlm", "electric")


def changes_of(variant: str) -> list[str]:
    """What a variant changes of the recipe, as `field=value`."""
    changes = VARIANTS[variant]
    # The recipe's attention is ModernBERT's; not every family has it.
    other_family = any(change.startswith("discriminator=") for change in changes)
    return [*changes, *(["attn_implementation=none"] if other_family else [])]


def check_task(arguments: argparse.Namespace) -> None:
    """
    Raises:
        ValueError: for what fine-tuning would refuse only after all of the pre-training.
    """
    if not arguments.task:
        for option, is_given in (("--data-dir", arguments.data_dir), ("--task-set", arguments.task_set)):
            if is_given:
                raise ValueError(f"{option} goes with --task")
        return
    if arguments.task_seeds < 1:
        raise ValueError(f"--task-seeds is {arguments.task_seeds}; it must be at least 1")
    changes = overrides_of(arguments.task_set, TAKEN_OF_TASK)
    # Options of `finetune` that are no fields of its recipe.
    recipe, fraction = changes.pop("recipe", None), changes.pop("validation_fraction", None)
    task = find_task(arguments.task)
    kind_options(read_finetuning_recipe(recipe, changes), task)
    splits = read_task(task, arguments.data_dir, None if fraction is None else float(fraction)).splits
    for split in ("train", "validation"):
        if split not in splits:
            raise ValueError(f"--task {task.name} has no {split} split")


def fine_tuned(model: Path, folder: Path, arguments: argparse.Namespace, from_scratch_seeds: int) -> dict[str, Any]:
    """What fine-tuning a model reached, by `fine_tuned` and `from_scratch`; seeds that are finished are read.

    Raises:
        ValueError: if fine-tuning fails, or the folder holds that of another model or of other settings.
    """
    command = ["finetune", "--task", arguments.task, "--model", str(model), "--output-dir", str(folder)]
    command += ["--seeds", *map(str, range(arguments.task_seeds)), "--from-scratch-seeds", str(from_scratch_seeds)]
    for name, value in overrides_of(arguments.task_set, TAKEN_OF_TASK).items():
        command += [f"--{name}", value]
    if arguments.data_dir:
        command += ["--data-dir", arguments.data_dir]
    # What is finished is asked for as well: `finetune` holds its settings, data and weights against these.
    if (folder / ASKED).is_file():
        command.append("--resume")
    print(f"\n$ electra-rtd {shlex.join(command)}", flush=True)
    execute(command)
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    kinds = [kind for kind in ("fine_tuned", "from_scratch") if results[kind]["summary"]]
    split = results["validation_splits"][0]
    return {"metric": results["headline"], **{kind: results[kind]["summary"][split] for kind in kinds}}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--blocks", required=True, help="a folder that `prepare` has made")
    parser.add_argument("--output-dir", required=True, help="a folder for the runs, each in one of its own")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="by default all")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="changes of all pre-training runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42], help="of pre-training")
    parser.add_argument("--task", help="fine-tune on this one of the table of tasks; by default on none")
    parser.add_argument("--data-dir", help="its folder in the official layout; by default the Hub is read")
    parser.add_argument("--task-seeds", type=int, default=1, help="fine-tuning runs of every encoder")
    parser.add_argument("--task-set", nargs="+", default=[], metavar="FIELD=VALUE", help="changes of fine-tuning")
    arguments = parser.parse_args(argv)
    output_dir = Path(arguments.output_dir)
    try:
        check_task(arguments)
        runs = compare(
            argparse.Namespace(
                recipe=RECIPE,
                variant=[[name, *changes_of(name)] for name in arguments.variants],
                set=[f"blocks={arguments.blocks}", *arguments.set],
                seeds=arguments.seeds,
                equal="flops",
                output_dir=str(output_dir),
            )
        )
        if arguments.task:
            for number, run in enumerate(runs):
                name = f"{run['variant']}-seed{run['seed']}"
                folder = output_dir / f"{name}-{arguments.task}"
                # From random weights once: the encoder of most variants is the same.
                results = fine_tuned(output_dir / name, folder, arguments, arguments.task_seeds * (not number))
                run["task"] = results
                run["held_out"]["task"] = results["fine_tuned"][results["metric"]]["median"]
    except ValueError as error:
        print(f"ablation: error: {error}", file=sys.stderr)
        return 2
    (output_dir / RECORD).write_text(json.dumps({"runs": runs, **environment()}, indent=2) + "\n", encoding="utf-8")
    print(f"\n{table(runs, (*METRICS, (arguments.task, 'task', 4)))}")
    if arguments.task:
        scratch = runs[0]["task"]["from_scratch"][runs[0]["task"]["metric"]]["median"]
        print(f"\n{arguments.task} of the first one's encoder from random weights: {scratch:.4f}")
    print(f"\nrecord in {output_dir / RECORD}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
