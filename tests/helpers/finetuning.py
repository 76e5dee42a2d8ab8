"""Checkpoints, examples and trainers small enough to check by hand."""

from pathlib import Path

import torch
from datasets import Dataset
from transformers import ElectraForPreTraining, PreTrainedModel

from helpers.tiny import randomize, tiny_config, tiny_tokenizer
from modeling_electra_rtd.finetuning.kinds.task_kind import TaskKind
from modeling_electra_rtd.finetuning.trainer import FinetuningTrainer, inputs_only
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments


def checkpoint(folder: Path, **overrides) -> str:
    """A tiny stock discriminator with its tokenizer."""
    torch.manual_seed(0)
    randomize(ElectraForPreTraining(tiny_config("electra", **overrides))).save_pretrained(folder)
    tiny_tokenizer(folder)
    return str(folder)


def trainer_of(kind: TaskKind, model: PreTrainedModel, train: Dataset, folder: Path, **values) -> FinetuningTrainer:
    values = {"num_train_epochs": 1, "logging_steps": 1, "eval_strategy": "no", "bf16": False, "seed": 0, **values}
    arguments = FinetuningArguments(output_dir=str(folder), disable_tqdm=True, use_cpu=True, **values)
    return FinetuningTrainer(
        model=model,
        args=arguments,
        label_names=kind.label_names,
        loss=kind.loss,
        train_dataset=kind.features(train, training=True),
        data_collator=inputs_only(kind.collator(), kind.label_names),
        processing_class=kind.tokenizer,
    )
