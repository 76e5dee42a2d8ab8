"""Pairs and arguments whose steps are counted."""

import os

from helpers.tiny import OBJECTIVE, tiny_electra_config, tiny_modernbert_config
from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdTrainingArguments


CONFIGS = {"electra": tiny_electra_config, "modernbert": tiny_modernbert_config}


def pair(family: str, width: float | None = None, **objective) -> ElectraRtdConfig:
    dropout = objective.pop("dropout", 0.0)
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob") if family == "electra" else ("attention_dropout",)
    config = CONFIGS[family](**dict.fromkeys(names, dropout))
    return ElectraRtdConfig.from_discriminator(config, width, **OBJECTIVE, **objective)


def run(rows: int, **more) -> ElectraRtdTrainingArguments:
    return ElectraRtdTrainingArguments(output_dir=os.devnull, use_cpu=True, per_device_train_batch_size=rows, **more)
