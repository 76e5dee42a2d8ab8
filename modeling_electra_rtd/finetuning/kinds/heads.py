"""A pre-trained encoder under a stock head that is new; whatever else would be new is refused."""

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME

from ...common.references import ModelReference, find_model
from ...model.checkpoint_layout import native_config
from ...model.stock_models import without_loading_reports


# Stock architectures whose checkpoints hold a generator: as encoders they are the weaker half of a pair.
_GENERATORS = ("ElectraForMaskedLM",)


def load_with_new_head(auto_class: Any, checkpoint: str | ModelReference, **config_overrides: Any) -> PreTrainedModel:
    """The encoder of a checkpoint under the head of a task, in 32-bit floats whatever it was saved in.

    The head is always new, also where the checkpoint has one of the same kind: only so do seeds differ by their heads.
    A pooler counts as part of the head.

    Args:
        auto_class: `AutoModelForSequenceClassification`, ..., or `AutoModel` for the encoder alone.
        checkpoint: joint or released checkpoint of this package, stock checkpoint, or Hub id.
        config_overrides: fields of the config, such as `num_labels`.

    Raises:
        ValueError: for a checkpoint that is missing, is a generator, or lacks weights of the encoder.
    """
    checkpoint = find_model(checkpoint)
    refuse_generator(checkpoint)
    model = fresh(auto_class, load_config(checkpoint, **config_overrides))
    try:
        # What would be reported, another head and a generator next to the discriminator, is meant to be so.
        with without_loading_reports():
            encoder_class: Any = type(model.base_model)
            encoder, report = encoder_class.from_pretrained(
                checkpoint.name,
                **checkpoint.arguments,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, KeyError, SafetensorError) as error:
        raise _cannot_be_loaded(checkpoint, error) from error
    absent = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    needed = model.base_model.state_dict()
    missing = sorted(name for name in absent if name in needed and not name.startswith("pooler."))
    if missing:
        raise ValueError(
            f"model {str(checkpoint)!r}: {len(missing)} weights of the encoder are missing or have another size, "
            f"{missing[0]} among them"
        )
    model.base_model.load_state_dict({name: weight for name, weight in encoder.state_dict().items() if name in needed})
    return model


def fresh(auto_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """The same architecture from random weights, in 32-bit floats."""
    return auto_class.from_config(config, dtype=torch.float32)


def load_config(checkpoint: str | ModelReference, **overrides: Any) -> PreTrainedConfig:
    """The config of a checkpoint with some fields overridden; of a pair, nothing but its discriminator's.

    Raises:
        ValueError: in one line, for a checkpoint without a readable one.
    """
    checkpoint = find_model(checkpoint)
    checkpoint.require(CONFIG_NAME)
    try:
        return native_config(AutoConfig.from_pretrained(checkpoint.name, **checkpoint.arguments, **overrides))
    except (OSError, ValueError) as error:
        raise _cannot_be_loaded(checkpoint, error) from error


def _cannot_be_loaded(checkpoint: ModelReference, error: Exception) -> ValueError:
    reason = str(error).strip().partition("\n")[0]
    return ValueError(f"model {str(checkpoint)!r}: cannot be loaded ({reason})")


def refuse_generator(checkpoint: str | ModelReference) -> None:
    """Say so when a checkpoint is the generator of a pair.

    Raises:
        ValueError: for a stock ELECTRA generator, or the `generator/` of a release.
    """
    checkpoint = find_model(checkpoint)
    beside = checkpoint.parent if checkpoint.folder_name == "generator" else None
    if beside is not None and beside.find(CONFIG_NAME) is not None:
        raise ValueError(f"model {str(checkpoint)!r} is a generator; fine-tune the discriminator, {beside}")
    architectures = list(load_config(checkpoint).architectures or ())
    if set(architectures) & set(_GENERATORS):
        raise ValueError(f"model {str(checkpoint)!r} is a generator ({architectures[0]}); fine-tune a discriminator")
