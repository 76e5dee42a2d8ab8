"""A release of a model in memory: stock checkpoints, and the code that makes a pair of them again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save

from ..model.checkpoint_layout import GENERATOR_SUBFOLDER, RTD_KEY, lacks_generator, native_config, role_of
from ..model.discriminator import ElectraRtdDiscriminator
from ..model.embedding_sharing import native_state
from ..model.generators import ElectraRtdGenerator
from .remote_code import add_remote_code


_WEIGHTS = "model.safetensors"
_GENERATOR = "generator"


def write_release(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: str | Path,
    remote_code: bool = True,
) -> None:
    """Write a pair's discriminator to the root of a folder and its masked-LM generator to `generator/`, each with the
    tokenizer; a network that stands alone goes to the root. Towers and tables stay behind: no stock class knows them.

    Args:
        tokenizer: `None` leaves it out.
        folder: exists and is empty.
        remote_code: add a pair's objective to the root's config and the files that `trust_remote_code=True` runs,
            which give back the pair; without it the release does not mention this package. Of a pair that its files
            cannot give back, because its towers stay behind, the objective alone.
    """
    root = Path(folder)
    role = role_of(model.config)
    # What its role says it is: a pair or a discriminator, perhaps of classes that came with the checkpoint.
    network: Any = model
    generator = network.generator if role == "pair" and model.config.has_masked_lm_generator else None
    if role == "stock":
        _save_generator(network, root)
    else:
        _save_discriminator(network, root, remote_code and role == "pair")
    if generator is not None:
        _save_generator(generator, root / _GENERATOR)
        if generator.config._auto_class is not None:
            # Code is looked for at the root of a repository, whatever folder names it.
            custom_object_save(generator.config, root)
    if tokenizer is not None:
        for place in (root, root / _GENERATOR) if generator is not None else (root,):
            tokenizer.save_pretrained(place)


def check_finite(source: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that nobody should be given.

    Args:
        source: what they were read from.
        weights: by the names that they have there.

    Raises:
        ValueError: in one line, for the first of them with a value that is infinite or no number.
    """
    for name, weight in weights.items():
        wrong = weight.numel() - int(weight.isfinite().sum())
        if wrong:
            raise ValueError(
                f"{source}: {wrong:,} of the {weight.numel():,} values of {name} are not finite; take a checkpoint "
                "from before its training diverged, or an undamaged copy"
            )


def _save_discriminator(model: ElectraRtdDiscriminator, folder: Path, remote_code: bool) -> None:
    config = native_config(model.config.discriminator_config)
    config.architectures = model.config.to_dict()["architectures"]
    config.dtype = model.dtype
    if remote_code:
        folder_of_generator = _GENERATOR if model.config.has_masked_lm_generator else None
        fields = {GENERATOR_SUBFOLDER: folder_of_generator, **model.config.objective_fields()}
        setattr(config, RTD_KEY, fields)
        if not lacks_generator(fields):
            add_remote_code(folder, config)
    config.save_pretrained(folder)
    of_pair = ("generator.", "feedback.")
    # A tied head is saved once, as stock classes do.
    state = {
        name: value
        for name, value in native_state(model).items()
        if not name.startswith(of_pair) and name not in (model._tied_weights_keys or {})
    }
    save_file({name: value.contiguous() for name, value in state.items()}, folder / _WEIGHTS, {"format": "pt"})


def _save_generator(generator: ElectraRtdGenerator, folder: Path) -> None:
    # Into a stock model of its own: the generator in a pair shares its embedding module with the discriminator. Its
    # weights are drawn and overwritten; a training that goes on must draw what it would have drawn without it.
    with torch.random.fork_rng(devices=[]):
        stock = AutoModelForMaskedLM.from_config(native_config(generator.config))
    stock.load_state_dict(generator.state_dict())
    stock.tie_weights()
    stock.save_pretrained(folder)
