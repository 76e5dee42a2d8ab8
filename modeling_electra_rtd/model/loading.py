"""How a pair is read: from one file, from the two folders of a release, or from checkpoints that never met."""

import os
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import resolve_revision

from .backbones import (
    HUB_ARGUMENTS,
    backbone_of,
    config_from,
    hub_arguments_in,
)
from .checkpoint_layout import (
    GENERATOR_SUBFOLDER,
    generator_config_in,
    generator_kind_of,
    holds_pair,
    joined,
    lacks_generator,
    objective_of,
    role_of,
)
from .composition import brings_generator, continued_config
from .configuration_electra_rtd import ElectraRtdConfig, special_tokens_of
from .discriminator import ElectraRtdDiscriminator
from .embedding_sharing import native_state
from .generators import ElectraRtdGenerator, TableGenerator, TwoTowerGenerator


logger = logging.get_logger(__name__)

# Generators that are no stock masked-LM model.
_NO_MASKED_LM = (TableGenerator, TwoTowerGenerator)


class LoadsPairs:
    """The ways to a pair from what is on disk; mixed into its class, before the class of the discriminator."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *args: Any, **kwargs: Any):
        """Load a joint checkpoint, or the two networks of a release.

        Args:
            kwargs: as of any `from_pretrained`: `revision`, `subfolder`, `token`, `dtype`, `output_loading_info`, ...

        Raises:
            ValueError: for a checkpoint without a generator; `from_pair` builds one.
        """
        source = pretrained_model_name_or_path
        # One state of a repository for both networks and their configs, whatever is committed meanwhile.
        named = {key: kwargs[key] for key in ("token", "local_files_only", "cache_dir") if key in kwargs}
        kwargs["revision"] = resolve_revision(source, kwargs.get("revision", "main"), **named)
        hub = hub_arguments_in(kwargs)
        config = kwargs.pop("config", None)
        # What an auto class hands over is stock, and carries the key; a pair's own does not say where it was read.
        is_stock = isinstance(config, PreTrainedConfig) and role_of(config) == "stock"
        objective = objective_of(config if is_stock else config_from(source, **hub))
        if objective is None:
            raise _no_generator(source)
        if lacks_generator(objective):
            raise _no_generator(source)
        folder = objective.get(GENERATOR_SUBFOLDER)
        generator_config = None if folder is None else generator_config_in(source, folder, **hub)
        if folder is not None and generator_config is None:
            raise _no_generator(source)
        # Apart: a config would take it for its own.
        dtype = {key: kwargs.pop(key) for key in ("dtype", "torch_dtype") if key in kwargs}
        wants_report = kwargs.pop("output_loading_info", False)
        if is_stock:
            config = ElectraRtdConfig.from_native(config, generator_config)
        elif not isinstance(config, PreTrainedConfig):
            config, rest = ElectraRtdConfig.from_pretrained(config or source, return_unused_kwargs=True, **kwargs)
            kwargs = {**rest, **hub}
        if folder is None:
            model, report = super().from_pretrained(
                source, *args, config=config, output_loading_info=True, **dtype, **kwargs
            )
        else:
            with torch.device("meta"):
                pair = cls(config)
            state, unexpected = _state_of_release(pair, source, folder, {**hub, **dtype})
            kwargs = {key: value for key, value in kwargs.items() if key not in HUB_ARGUMENTS}
            model, report = super().from_pretrained(
                None, *args, config=config, state_dict=state, output_loading_info=True, **dtype, **kwargs
            )
            model.name_or_path = model.config.name_or_path = str(source)
            report["unexpected_keys"] |= unexpected
        # Stock classes keep the key in a config when they save the discriminator of a joint checkpoint alone.
        if any(name.startswith("generator.") for name in report["missing_keys"]):
            raise _no_generator(source)
        if not wants_report:
            check_whole(source, report)
        return (model, report) if wants_report else model

    @classmethod
    def from_pair(
        cls,
        discriminator: str | os.PathLike | PreTrainedModel,
        generator: str | os.PathLike | PreTrainedModel | None = None,
        *,
        tokenizer: Any = None,
        embedding_sharing: str | None = None,
        generator_width: float | None = None,
        generator_depth: float | None = None,
        objective: dict[str, Any] | None = None,
        **hub_arguments: Any,
    ) -> "PreTrainedModel":
        """Continue from existing checkpoints: two, or a discriminator whose generator is built.

        Args:
            discriminator: folder or Hub id of any checkpoint of the encoder, or a model; the heads that the objective
                asks for are the checkpoint's, where it has them. A pair brings its generator along when `generator`
                is `None` and `generator_kind` is its own.
            generator: folder, Hub id or model of a masked-LM checkpoint. `None` builds one that shares the
                discriminator's embeddings and, where it is as wide, starts from its first layers.
            tokenizer: sets the special token ids; needed for any vocabulary but the family's own.
            embedding_sharing: `None` ties the tables when they are equal and otherwise keeps both, which changes
                neither network; `"tied"` takes the discriminator's for both.
            generator_width, generator_depth: of a generator that is built; one that is there has to have them.
            objective: further fields of `ElectraRtdConfig`.
            hub_arguments: `revision`, `subfolder`, `token`, ... of `from_pretrained`.

        Raises:
            ValueError: for different vocabularies, tables that cannot be shared, or a generator of another size than
                `generator_width` and `generator_depth` say.
        """
        objective = objective or {}
        first, second = discriminator, generator
        if not isinstance(first, PreTrainedModel):
            first = _loaded_first(cls, discriminator, generator is None, objective, hub_arguments)
        brought = second is None and brings_generator(first.config, objective)
        if brought:
            second = first.generator
        elif second is not None and not isinstance(second, PreTrainedModel):
            second = ElectraRtdGenerator.from_pretrained(second, **hub_arguments)
        if embedding_sharing is None and second is not None and not brought and not _same_embeddings(first, second):
            embedding_sharing = "none"
            logger.warning(
                "The pair's embedding tables differ: both are kept (embedding_sharing='none'). "
                "Pass embedding_sharing='tied' to continue with the discriminator's for both."
            )
        config = continued_config(
            first.config,
            second.config if isinstance(second, PreTrainedModel) and not brought else None,
            embedding_sharing=embedding_sharing,
            generator_width=generator_width,
            generator_depth=generator_depth,
            special_tokens=special_tokens_of(tokenizer) if tokenizer is not None else None,
            objective=objective,
        )
        model = cls(config)
        if second is not None:
            model.load_generator(second)
        elif config.has_generator_network:
            for encoder in model.generator.encoders().values():
                _start_from(first.base_model, encoder)
        # After the generator's, so that what is shared is the discriminator's.
        _start_from(first.base_model, model.encoder)
        # The baseline of feedback is of the samples of its own generator.
        apart = ("generator", model.base_model_prefix, *(() if brought else ("feedback",)))
        for name, head in model.named_children():
            if name not in apart and isinstance(getattr(first, name, None), nn.Module):
                state, learned = head.state_dict(), getattr(first, name).state_dict()
                # A class for pre-training has more in it than the one for masked LM.
                head.load_state_dict({**state, **{key: learned[key] for key in state.keys() & learned.keys()}})
        return model

    def load_generator(self, generator: nn.Module) -> None:
        """Start the generator from another of its kind and sizes.

        Raises:
            ValueError: for one of another kind.
        """
        if any(isinstance(generator, kind) != isinstance(self.generator, kind) for kind in _NO_MASKED_LM):
            found = type(generator).__name__
            raise ValueError(
                f"generator_kind is {self.config.generator_kind!r}, but the given generator is of class {found}"
            )
        self.generator.load_state_dict(generator.state_dict())


def _state_of_release(
    pair: PreTrainedModel, source: str | os.PathLike, folder: str, arguments: dict[str, Any]
) -> tuple[dict[str, Tensor], set[str]]:
    """The weights of a release under the names of a pair, and names of weights that neither network has.

    Args:
        pair: one of the release's config; its weights do not matter.

    Raises:
        ValueError: where weights that the two share are different ones.
    """
    places = {"": arguments, "generator.": {**arguments, "subfolder": joined(arguments.get("subfolder"), folder)}}
    state, unexpected = {}, set()
    for prefix, model_class in (("", ElectraRtdDiscriminator), ("generator.", ElectraRtdGenerator)):
        model, report = model_class.from_pretrained(source, output_loading_info=True, **places[prefix])
        unexpected |= {prefix + name for name in report["unexpected_keys"]}
        # What is missing stays missing, for the pair's own report.
        state |= {
            prefix + name: value for name, value in model.state_dict().items() if name not in report["missing_keys"]
        }
    for shared, name in pair._tied_weights_keys.items():
        if shared in state and name in state and not _equal(state[shared], state[name]):
            raise ValueError(
                f"embedding_sharing is {pair.config.embedding_sharing!r}, but the generator in {source} has other "
                f"weights than the discriminator ({name}); load the two with from_pair(..., embedding_sharing='none')"
            )
    if pair.config.embedding_sharing == "gdes":
        words, base = pair._disentangled_words()
        state[f"{words}.difference"] = state.pop(f"{words}.weight") - state[base]
    return state, unexpected


def check_whole(source: str | os.PathLike, report: dict[str, Any], encoder: PreTrainedModel | None = None) -> None:
    """Refuse a checkpoint of which a part is missing, or that holds more than its config says.

    Stock loading draws what is missing at random, and leaves out what has no place, with a report that scrolls by.

    Args:
        report: what `from_pretrained` gives with `output_loading_info`.
        encoder: a model of whose weights those of the encoder alone have to be whole, but for its pooler; heads are
            new for other objectives and tasks. `None` for a model that has to be whole.

    Raises:
        ValueError: in one line, naming the first weight.
    """
    begin = "" if encoder is None else f"{encoder.base_model_prefix}."
    pooler = f"{begin}pooler."
    for what, key in (("missing", "missing_keys"), ("left over", "unexpected_keys")):
        found = sorted(
            name for name in report[key] if name.startswith(begin) and (not begin or not name.startswith(pooler))
        )
        if found:
            raise ValueError(
                f"{source}: {len(found)} weights are {what}, {found[0]} first; the checkpoint is damaged, or its "
                "config.json is another model's"
            )


def _no_generator(source: str | os.PathLike) -> ValueError:
    return ValueError(
        f"{source} holds no generator; continue from it with "
        f"ElectraRtdForPreTraining.from_pair(discriminator={str(source)!r})"
    )


def _loaded_first(
    pair_class: type[PreTrainedModel],
    source: str | os.PathLike,
    takes_generator: bool,
    objective: dict[str, Any],
    arguments: dict[str, Any],
) -> PreTrainedModel:
    """Load what `from_pair` continues from: a pair, if its generator is of the kind that the objective needs, or a
    discriminator.

    Args:
        takes_generator: whether a pair's generator would be taken along.
    """
    hub = hub_arguments_in(arguments)
    known = objective_of(config_from(source, **hub))
    if known is None:
        # A stock checkpoint does not say which heads it has, so it is asked for those of the objective.
        heads = {name: objective[name] for name in ("objective", "generator_kind") if name in objective}
        return _whole_discriminator(source, **arguments, **heads)
    kind = generator_kind_of(objective) if takes_generator else None
    if kind is not None and generator_kind_of(known) == kind and holds_pair(source, **hub):
        return pair_class.from_pretrained(source, **arguments)
    return _whole_discriminator(source, **arguments)


def _whole_discriminator(source: str | os.PathLike, **arguments: Any) -> PreTrainedModel:
    model, report = ElectraRtdDiscriminator.from_pretrained(source, output_loading_info=True, **arguments)
    check_whole(source, report, model)
    return model


def _same_embeddings(first: PreTrainedModel, second: PreTrainedModel) -> bool:
    """Whether two models hold equal embedding blocks, values included."""
    one, other = (_embeddings(model.base_model).state_dict() for model in (first, second))
    return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)


def _embeddings(encoder: PreTrainedModel) -> nn.Module:
    return getattr(encoder, backbone_of(encoder.config).embeddings)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.cpu(), other.cpu())


def _start_from(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Start an encoder from the embeddings of another and, where it is as wide, from its layers, as many as it has.

    A pooler, which a family's encoder has and its masked-LM model has not, is taken where it is there.
    """
    backbone = backbone_of(source.config)
    state, wanted = native_state(source), native_state(target)
    as_wide = source.config.hidden_size == target.config.hidden_size
    names = [name for name in wanted if as_wide or name.startswith(f"{backbone.embeddings}.")]
    found = {name: state[name] for name in names if name in state or name.partition(".")[0] not in backbone.unused}
    target.load_state_dict({**wanted, **found})
