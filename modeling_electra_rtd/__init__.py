"""Pre-train any Hugging Face encoder with replaced-token detection (the ELECTRA objective)."""

import importlib
from typing import Any


__version__ = "0.1.0"

_PUBLIC_NAMES = {
    "ElectraRtdConfig": "configuration_electra_rtd",
    "ElectraRtdDiscriminator": "discriminator",
    "ElectraRtdForPreTraining": "modeling_electra_rtd",
    "ElectraRtdGenerator": "generators",
    "ElectraRtdTrainer": "pretraining.trainer",
    "ElectraRtdTrainingArguments": "pretraining.training_args",
    "GruEncoderConfig": "gru_encoder",
    "GruEncoderForMaskedLM": "gru_encoder",
    "GruEncoderModel": "gru_encoder",
    "ReplacedTokenDetectionPipeline": "sharing.pipeline_task",
}

__all__ = ["__version__", *_PUBLIC_NAMES]


def __getattr__(name: str) -> Any:
    # Lazy, so that `electra-rtd --help` and a misspelt flag answer without the seconds it takes to import torch.
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
