"""Judge the replacements of every pair's generator by every pair's discriminator:

    python scripts/compare_discriminators.py runs/tiny runs/gdes --data runs/blocks --max-blocks 512

The AUC that a run logs is on the replacements of its own generator, and a worse generator's are easier to find, so two
runs do not compare by it. Here all discriminators read the same texts: held-out blocks, corrupted as `electra-rtd
evaluate` corrupts them, by one generator after the other. The pairs have the tokenizer of the blocks.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.common.new_folder import check_new_file, new_file
from modeling_electra_rtd.pretraining.health import RtdTelemetry, rtd_metrics
from modeling_electra_rtd.pretraining.run import evaluator


METRICS = ("discriminator_auc", "discriminator_recall", "discriminator_precision")


@torch.inference_mode()
def judged_by_all(models: Sequence[str], blocks: str, max_blocks: int | None = None) -> list[dict[str, float | str]]:
    """`METRICS` for every generator and discriminator, by their `generator` and `discriminator`.

    Raises:
        ValueError: for a model that holds no pair, or whose objective detects nothing, and for other blocks.
    """
    evaluators = {model: evaluator(model, blocks, max_blocks=max_blocks) for model in models}
    for model, trainer in evaluators.items():
        trainer.model.eval()
        if not trainer.model.config.objective_spec.has_detection_head:
            raise ValueError(f"{model} has learned {trainer.model.config.objective!r}, which detects nothing")
    rows = []
    for generator, trainer in evaluators.items():
        device = trainer.args.device
        terms = trainer.model.positions_of_losses()
        telemetry = {discriminator: RtdTelemetry(device, terms) for discriminator in models}
        for batch in trainer.get_eval_dataloader():
            with torch.autocast(device.type, torch.bfloat16, enabled=trainer.args.bf16):
                output = trainer.model(**batch)
                places = {name: batch[name] for name in ("document_ids", "position_ids")}
                for discriminator, counted in telemetry.items():
                    logits = evaluators[discriminator].model.discriminate(output.corrupted_input_ids, **places)
                    counted.add(dataclasses.replace(output, logits=logits))
        for discriminator, counted in telemetry.items():
            metrics = rtd_metrics(counted.packed())
            rows.append(
                {
                    "generator": generator,
                    "discriminator": discriminator,
                    **{name: metrics[name] for name in METRICS},
                }
            )
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="joint checkpoints")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="of blocks")
    parser.add_argument("--max-blocks", type=int, help="use this many, evenly spread; by default all")
    parser.add_argument("--json", metavar="FILE", help="write the rows here as well, a new file")
    arguments = parser.parse_args(argv)
    try:
        if arguments.json:
            check_new_file(arguments.json)
        rows = judged_by_all(arguments.models, arguments.data, arguments.max_blocks)
        print("| generator | discriminator | AUC | recall | precision |\n|---|---|---|---|---|")
        for row in rows:
            figures = (f"{row[name]:.3f}" for name in METRICS)
            print(f"| {' | '.join((row['generator'], row['discriminator'], *figures))} |")
        if arguments.json:
            record = {"data": Path(arguments.data).name, "max_blocks": arguments.max_blocks, "rows": rows}
            with new_file(arguments.json) as unfinished:
                text = json.dumps({**record, **environment()}, indent=2) + "\n"
                Path(unfinished).write_text(text, encoding="utf-8")
            print(f"\nrecord in {arguments.json}")
    except (OSError, ValueError) as error:
        print(f"compare_discriminators: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
