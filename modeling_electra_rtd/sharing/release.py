"""A release of a model in memory: checkpoints of stock classes, and nothing that needs, or mentions, this package."""

from pathlib import Path

from safetensors.torch import save_file
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from ..configuration_electra_rtd import native_config
from ..modeling_electra_rtd import ElectraRtdForPreTraining


_WEIGHTS = "model.safetensors"


def write_release(
    model: ElectraRtdForPreTraining, tokenizer: PreTrainedTokenizerBase | None, folder: str | Path
) -> None:
    """Write the discriminator to the root of a folder and the generator to `generator/`, each with the tokenizer.

    Args:
        tokenizer: `None` leaves it out.
        folder: exists and is empty.
    """
    root = Path(folder)
    config = native_config(model.config.discriminator_config)
    config.architectures = model.config.to_dict()["architectures"]
    config.dtype = model.dtype
    config.save_pretrained(root)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("generator.")}
    save_file({name: value.contiguous() for name, value in state.items()}, root / _WEIGHTS, {"format": "pt"})
    _save_generator(model, root / "generator")
    if tokenizer is not None:
        for place in (root, root / "generator"):
            tokenizer.save_pretrained(place)


def _save_generator(model: ElectraRtdForPreTraining, folder: Path) -> None:
    # Into a stock model of its own: the generator in the pair shares its embedding module with the discriminator.
    stock = AutoModelForMaskedLM.from_config(native_config(model.config.generator_config))
    stock.load_state_dict(model.generator.state_dict())
    stock.tie_weights()
    stock.save_pretrained(folder)
