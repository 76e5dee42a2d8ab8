"""What a generator and a discriminator hold in common.

`embedding_sharing` is one of

- `none`: nothing.
- `tied`: the whole embedding block, i.e. words, positions, types and norm (the reference).
- `tied_words`: the table of words alone, also between families.
- `all`: the whole encoder, of equal sizes (ELECTRA paper, section 3.2).
- `gdes`: the words in one direction. The discriminator's are the generator's, which its loss does not move, plus a
  difference that starts at zero (gradient-disentangled embedding sharing, DeBERTaV3, section 3.3).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel


class DisentangledEmbedding(nn.Module):
    """Words of a discriminator: those of a generator without their gradient, plus a difference of its own.

    Two look-ups instead of a sum of two tables. A checkpoint holds the sum as `weight`, as stock classes read it (see
    `native_state`), and `difference` next to it, because a sum and a subtraction round.

    Attributes:
        difference: `(vocab_size, embedding_size)`.
    """

    def __init__(self, base: nn.Embedding):
        super().__init__()
        # Not registered: it is the generator's, and is saved and moved there.
        self.__dict__["_base"] = base
        self.difference = nn.Parameter(torch.zeros_like(base.weight))

    @property
    def weight(self) -> Tensor:
        """The sum, `(vocab_size, embedding_size)`, detached."""
        return self._base.weight.detach() + self.difference.detach()

    def forward(self, input_ids: Tensor) -> Tensor:
        base, padding = self._base.weight.detach(), self._base.padding_idx
        return functional.embedding(input_ids, base) + functional.embedding(input_ids, self.difference, padding)

    def follow(self, base: nn.Embedding) -> None:
        """Take another table of words; a longer one's new rows have no difference."""
        self.__dict__["_base"] = base
        kept = self.difference.detach()[: base.num_embeddings]
        self.difference = nn.Parameter(torch.zeros_like(base.weight))
        with torch.no_grad():
            self.difference[: len(kept)] = kept

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments) -> None:
        total = state_dict.pop(prefix + "weight", None)
        if total is not None and prefix + "difference" not in state_dict:
            state_dict[prefix + "difference"] = total - self._base.weight.detach().to(total)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def share(
    discriminator: PreTrainedModel, generators: dict[str, PreTrainedModel], sharing: str, block: str
) -> dict[str, str]:
    """Make encoders share what `sharing` says.

    Args:
        discriminator: its encoder.
        generators: the encoders of the generator by their names below the pair.
        block: the name of the embedding block in the discriminator's family.

    Returns:
        The weights that are one: names below the pair, of the generator's and of the discriminator's encoder, the
        latter without the prefix.
    """
    tied = {}
    for prefix, encoder in generators.items():
        if sharing == "tied":
            # One module, so that moving, sharding or resizing it happens once.
            embeddings = getattr(discriminator, block)
            setattr(encoder, block, embeddings)
            tied |= {f"{prefix}.{block}.{name}": f"{block}.{name}" for name in _weights(embeddings)}
        elif sharing == "tied_words":
            encoder.set_input_embeddings(discriminator.get_input_embeddings())
            words = encoder.get_input_embeddings()
            tied[f"{prefix}.{_name_of(words, encoder)}.weight"] = f"{_name_of(words, discriminator)}.weight"
        elif sharing == "all":
            # A pooler is the discriminator's alone.
            encoder._modules.update({name: discriminator._modules[name] for name in encoder._modules})
            tied |= {f"{prefix}.{name}": name for name in _weights(encoder)}
    if sharing == "gdes":
        first, *others = generators.values()
        for encoder in others:
            encoder.set_input_embeddings(first.get_input_embeddings())
        discriminator.set_input_embeddings(DisentangledEmbedding(first.get_input_embeddings()))
    return tied


def native_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights as stock classes name them."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, DisentangledEmbedding):
            del state[f"{name}.difference"]
            state[f"{name}.weight"] = module.weight
    return state


def words_name(model: PreTrainedModel) -> str:
    """The name of the module that holds a model's words."""
    return _name_of(model.get_input_embeddings(), model)


def _name_of(module: nn.Module, model: nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)


def _weights(module: nn.Module) -> list[str]:
    return list(module.state_dict())
