"""One rank of a small training, started by test_two_processes.py: FOLDER OPTIONS(json)."""

import json
import os
import sys
from pathlib import Path

from safetensors.torch import save_file

from helpers.blocks import random_blocks, tiny_arguments, tiny_joint_model
from modeling_electra_rtd.data.collator import BlockCollator, IndexedBlocks
from modeling_electra_rtd.model.corruption import number_of_uniforms
from modeling_electra_rtd.pretraining.trainer import ElectraRtdTrainer


def main(folder: Path, options: dict) -> None:
    model = tiny_joint_model(dropout=options.pop("dropout", 0.1))
    # Rows of one text show whether ranks corrupt alike; rows of many lengths show whether losses are weighted right.
    blocks = random_blocks(1) * 96 if options.pop("same_rows", False) else random_blocks(96, filled=(6, 24))
    collator = None
    if options.pop("fixed_corruption", False):
        collator = BlockCollator(corruption_seed=7, number_of_uniforms=lambda length: number_of_uniforms(length, 0.15))
    resume = options.pop("resume", None)
    trainer = ElectraRtdTrainer(
        model=model,
        args=tiny_arguments(folder, **options),
        train_dataset=IndexedBlocks(blocks),
        eval_dataset=random_blocks(11, filled=(6, 24)),
        data_collator=collator,
    )
    drawn = []
    model.register_forward_hook(lambda module, inputs, output: drawn.append(output.is_chosen.int().tolist()))
    trainer.train(resume_from_checkpoint=None if resume is None else str(folder / resume))
    (folder / f"drawn-{trainer.args.process_index}.json").write_text(json.dumps(drawn))
    if trainer.is_world_process_zero():
        save_file({name: p.detach().clone() for name, p in model.named_parameters()}, folder / "weights.safetensors")
        log = [
            {name: value for name, value in entry.items() if name != "tokens_per_second"}
            for entry in trainer.state.log_history
            if "generator_loss" in entry
        ]
        (folder / "log.json").write_text(json.dumps(log))
    held_out = trainer.evaluate()
    if trainer.is_world_process_zero():
        (folder / "held_out.json").write_text(json.dumps(held_out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
    # Everything is written. gloo's threads can hang an interpreter that takes itself down in an orderly way.
    os._exit(0)
