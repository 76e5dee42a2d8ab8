"""A pre-trained encoder under a stock head that is new; whatever else would be new is refused."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging


# Stock architectures whose checkpoints hold a generator: as encoders they are the weaker half of a pair.
_GENERATORS = ("ElectraForMaskedLM",)


def load_with_new_head(auto_class: Any, checkpoint: str, **config_overrides: Any) -> PreTrainedModel:
    """The encoder of a checkpoint under the head of a task.

    Args:
        auto_class: `AutoModelForSequenceClassification`, ..., or `AutoModel` for the encoder alone.
        checkpoint: joint or released checkpoint of this package, stock checkpoint, or Hub id.
        config_overrides: fields of the config, such as `num_labels`; `attn_implementation` is passed on.

    Raises:
        ValueError: for a checkpoint that is missing, is a generator, or lacks weights of the encoder.
    """
    if not Path(checkpoint).is_dir() and (checkpoint.startswith((".", "/")) or checkpoint.count("/") > 1):
        raise ValueError(f"model {checkpoint!r}: no such folder")
    refuse_generator(checkpoint)
    # What stock loading reports, a new head and a generator beside the discriminator, is meant to be so.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, report = auto_class.from_pretrained(
            checkpoint, ignore_mismatched_sizes=True, output_loading_info=True, **config_overrides
        )
    except (OSError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"model {checkpoint!r}: cannot be loaded ({reason})") from error
    finally:
        logging.set_verbosity(verbosity)
    encoder = f"{model.base_model_prefix}."
    is_encoder_alone = model.base_model is model
    # With ignored sizes a checkpoint of another task gives its encoder, and its head is new again.
    missing = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    missing = sorted(name for name in missing if is_encoder_alone or name.startswith(encoder))
    if missing:
        raise ValueError(
            f"model {checkpoint!r}: {len(missing)} weights of the encoder are missing or have another size, "
            f"{missing[0]} among them"
        )
    return model


def fresh(auto_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """The same architecture from random weights."""
    return auto_class.from_config(config)


def refuse_generator(checkpoint: str) -> None:
    """Say so when a checkpoint is the generator of a pair.

    Raises:
        ValueError: for a stock ELECTRA generator, or the `generator/` of a release.
    """
    folder = Path(checkpoint)
    beside = folder.is_dir() and folder.resolve().name == "generator" and (folder.resolve().parent / "config.json")
    if beside and beside.is_file():
        raise ValueError(f"model {checkpoint!r} is a generator; fine-tune the discriminator, {beside.parent}")
    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"model {checkpoint!r}: cannot be loaded ({reason})") from error
    if set(config.architectures or ()) & set(_GENERATORS):
        raise ValueError(f"model {checkpoint!r} is a generator ({config.architectures[0]}); fine-tune a discriminator")
