"""Pre-train any Hugging Face encoder with replaced-token detection (the ELECTRA objective).

The folders, in the order in which one may import from another: model, common, data, finetuning, release, pretraining,
conversion, inspection, quickstart, cli. No file imports from a later folder, no two files import each other, and
`model`, which travels to the Hub as remote code, imports itself, torch, transformers and huggingface_hub alone.
"""

import importlib
from typing import TYPE_CHECKING, Any


__version__ = "0.2.0"

_PUBLIC_NAMES = {
    "ElectraRtdConfig": "model.configuration_electra_rtd",
    "ElectraRtdDiscriminator": "model.discriminator",
    "ElectraRtdForPreTraining": "model.modeling_electra_rtd",
    "ElectraRtdGenerator": "model.generators",
    "ElectraRtdTrainer": "pretraining.trainer",
    "ElectraRtdTrainingArguments": "common.training_arguments",
    "GruEncoderConfig": "model.gru_encoder",
    "GruEncoderForMaskedLM": "model.gru_encoder",
    "GruEncoderModel": "model.gru_encoder",
    "ReplacedTokenDetectionPipeline": "inspection.pipeline_task",
}

if TYPE_CHECKING:
    from .common.training_arguments import ElectraRtdTrainingArguments
    from .inspection.pipeline_task import ReplacedTokenDetectionPipeline
    from .model.configuration_electra_rtd import ElectraRtdConfig
    from .model.discriminator import ElectraRtdDiscriminator
    from .model.generators import ElectraRtdGenerator
    from .model.gru_encoder import GruEncoderConfig, GruEncoderForMaskedLM, GruEncoderModel
    from .model.modeling_electra_rtd import ElectraRtdForPreTraining
    from .pretraining.trainer import ElectraRtdTrainer

__all__ = [
    "ElectraRtdConfig",
    "ElectraRtdDiscriminator",
    "ElectraRtdForPreTraining",
    "ElectraRtdGenerator",
    "ElectraRtdTrainer",
    "ElectraRtdTrainingArguments",
    "GruEncoderConfig",
    "GruEncoderForMaskedLM",
    "GruEncoderModel",
    "ReplacedTokenDetectionPipeline",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that `electra-rtd --help` and a misspelt flag answer without the seconds it takes to import torch.
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
