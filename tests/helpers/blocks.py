"""Blocks, a joint model and arguments small enough to train in a test."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ElectraConfig

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining, ElectraRtdTrainingArguments
from modeling_electra_rtd.data.collator import IndexedBlocks
from modeling_electra_rtd.pretraining.trainer import ElectraRtdTrainer


TINY_VOCABULARY = 60
CLS, SEP, MASK = 2, 3, 4


def random_blocks(count: int, filled: tuple[int, int] = (20, 33), length: int = 32, seed: int = 0) -> list[dict]:
    """Rows of one or two documents, `filled[0] <= positions < filled[1]`, the rest padding."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        positions = int(random.integers(*filled))
        lengths = (
            [positions] if positions < 12 or random.random() < 0.5 else [positions // 2, positions - positions // 2]
        )
        ids = np.zeros(length, dtype=np.int64)
        start = 0
        for size in lengths:
            ids[start : start + size] = random.zipf(1.5, size) % (TINY_VOCABULARY - 5) + 5
            ids[start], ids[start + size - 1] = CLS, SEP
            start += size
        rows.append({"input_ids": ids, "document_lengths": lengths})
    return rows


def tiny_joint_model(seed: int = 1, dropout: float = 0.1) -> ElectraRtdForPreTraining:
    """A two-layer pair, the same weights for the same seed."""
    torch.manual_seed(seed)
    discriminator = ElectraConfig(
        vocab_size=TINY_VOCABULARY,
        embedding_size=16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=40,
        pad_token_id=0,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    config = ElectraRtdConfig.from_discriminator(
        discriminator, generator_width=0.5, mask_token_id=MASK, special_token_ids=[0, CLS, SEP, MASK]
    )
    return ElectraRtdForPreTraining(config)


def tiny_arguments(folder: Path, **overrides: Any) -> ElectraRtdTrainingArguments:
    """Arguments that log every step and save nothing."""
    values = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        **overrides,
    }
    return ElectraRtdTrainingArguments(**values)


def tiny_trainer(folder: Path, **overrides: Any) -> ElectraRtdTrainer:
    """A trainer of the tiny pair with a checkpoint after each of three steps."""
    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "lr_scheduler_type": "constant"}
    return ElectraRtdTrainer(
        model=tiny_joint_model(),
        args=tiny_arguments(folder, **settings | overrides),
        train_dataset=IndexedBlocks(random_blocks(24)),
        eval_dataset=random_blocks(8, seed=1),
    )
