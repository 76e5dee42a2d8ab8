"""The share of a training run that is spent waiting for data, with the recipe's own trainer and data loader.

    python benchmarks/loading.py --blocks runs/blocks [--corpus FOLDER --tokenizer FOLDER] --json loading.json

Prepared blocks, and, if a corpus is given, the same text tokenized while training reads it.
"""

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
from records import write_record
from transformers import PrinterCallback

from modeling_electra_rtd import ElectraRtdTrainer
from modeling_electra_rtd.common.machine import keep_freed_memory
from modeling_electra_rtd.pretraining.building import build_model
from modeling_electra_rtd.pretraining.recipes import DataRecipe, Recipe, read_recipe
from modeling_electra_rtd.pretraining.run import load_data


# Memory pools, and the shuffle buffer of a stream, fill up first.
WARM_UP_STEPS = 3


class WatchedTrainer(ElectraRtdTrainer):
    """Keeps when each optimizer step began, and how long it waited for its batches, in seconds."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.starts: list[float] = []
        self.waits: list[float] = []

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple:
        """What the trainer gets, timed."""
        self.starts.append(time.perf_counter())
        self.waits.append(0.0)
        return super().get_batch_samples(self._timed(epoch_iterator), num_batches, device)

    def _timed(self, batches: Iterator) -> Iterator:
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waits[-1] += time.perf_counter() - started
            yield batch


def measure(recipe: Recipe) -> dict[str, float]:
    """Median seconds of a step and of its waiting, and the share of all waiting after the warm-up."""
    if recipe.training.device.type == "cpu":
        keep_freed_memory()
    blocks, _, tokenizer = load_data(recipe.data)
    torch.manual_seed(0)
    trainer = WatchedTrainer(
        model=build_model(recipe.model, tokenizer),
        args=recipe.training,
        train_dataset=blocks,
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    starts = [*trainer.starts, time.perf_counter()]
    seconds = [later - earlier for earlier, later in itertools.pairwise(starts)][WARM_UP_STEPS:]
    waits = trainer.waits[WARM_UP_STEPS:]
    return {
        "step_seconds": statistics.median(seconds),
        "wait_seconds": statistics.median(waits),
        "share": sum(waits) / sum(seconds),
        "first_wait_seconds": trainer.waits[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="tiny", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("--blocks", required=True, help="a folder that `prepare` has made")
    parser.add_argument("--corpus", nargs="+", help="measure a stream of this text as well")
    parser.add_argument("--tokenizer", help="of the stream")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps, the first of them not counted")
    parser.add_argument(
        "--field", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a field of the recipe"
    )
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP_STEPS or bool(arguments.corpus) != bool(arguments.tokenizer):
        parser.error(f"allowed are more than {WARM_UP_STEPS} steps, and --corpus with --tokenizer")
    sources = {"prepared blocks": DataRecipe(blocks=arguments.blocks)}
    if arguments.corpus:
        sources["stream"] = DataRecipe(corpus=arguments.corpus, tokenizer=arguments.tokenizer)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        fields = {
            "output_dir": folder,
            "max_steps": str(arguments.steps),
            "eval_strategy": "no",
            "save_strategy": "no",
            "disable_tqdm": "true",
            "logging_strategy": "no",
        }
        for name, data in sources.items():
            recipe = read_recipe(arguments.recipe, {**fields, **dict(arguments.field)})
            rows[name] = measure(dataclasses.replace(recipe, data=data))
    print("| data | ms a step | ms waiting | share of waiting | ms until the first batch |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['step_seconds'] * 1e3:.1f} | {row['wait_seconds'] * 1e3:.2f} | {row['share']:.2%} "
            f"| {row['first_wait_seconds'] * 1e3:.0f} |"
        )
    write_record(arguments, rows=rows)


if __name__ == "__main__":
    main()
