"""The generator, the discriminator and the pair that is pre-trained, composed of stock `transformers` modules.

In memory these are classes of this package; on disk each is a native checkpoint. The discriminator's encoder is an
attribute named by its own `base_model_prefix`, so its keys stand at the root as stock classes expect them, and the
generator, with the keys of a stock masked-LM model, stands beside it under `generator.` (a joint checkpoint) or in a
folder of its own (a release).

Shapes: `batch` rows of `sequence` positions, `k` slots a row for chosen positions (see `corruption`).
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import ElectraConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput
from transformers.models.electra.modeling_electra import ElectraDiscriminatorPredictions, ElectraForPreTrainingOutput
from transformers.utils import ModelOutput, logging
from transformers.utils.hub import resolve_revision

from .backbones import (
    HUB_ARGUMENTS,
    backbone_of,
    build_encoder,
    build_masked_lm,
    config_from,
    generator_config_for,
)
from .configuration_electra_rtd import (
    GENERATOR_SUBFOLDER,
    ElectraRtdConfig,
    generator_config_in,
    holds_pair,
    joined,
    native_config,
    objective_of,
    special_tokens_of,
)
from .corruption import (
    candidate_positions,
    choose_positions,
    chosen_per_row,
    mask_tokens,
    number_of_uniforms,
    replace_tokens,
    sample_tokens,
    split_uniforms,
)
from .encoder_inputs import EncoderInputs, token_mask_of
from .stock_models import hidden_activation, masked_lm_head, masked_lm_logits


logger = logging.get_logger(__name__)

# Behind the name of a family, that of its pair.
_PAIR_SUFFIX = "RtdForPreTraining"


@dataclass
class ElectraRtdForPreTrainingOutput(ModelOutput):
    """Everything one RTD step knows, aligned position by position.

    Attributes:
        loss: scalar; `generator_loss_weight * generator_loss + discriminator_loss_weight * discriminator_loss`.
        generator_loss: scalar, detached; masked-LM cross-entropy over the chosen positions, in nats.
        discriminator_loss: scalar, detached; binary cross-entropy over all tokens, in nats.
        logits: `(batch, sequence)`, detached; discriminator logits, positive where it says "replaced".
        replaced_probs: `(batch, sequence)` float32, P_d: the probability it gives "replaced".
        corrupted_input_ids: `(batch, sequence)`, what the discriminator read.
        is_replaced: `(batch, sequence)` bool, the labels: the id changed.
        is_chosen: `(batch, sequence)` bool, positions the generator was asked for.
        sampled_log_probs: `(batch, sequence)` float32, log P_g: the generator's log-probability (at temperature 1) of
            what stands at a chosen position; 0 elsewhere.
        generator_is_correct: `(batch, sequence)` bool, chosen positions where the generator's first guess is the text.
        token_mask: `(batch, sequence)` bool, positions that are not padding.
    """

    loss: Tensor | None = None
    generator_loss: Tensor | None = None
    discriminator_loss: Tensor | None = None
    logits: Tensor | None = None
    replaced_probs: Tensor | None = None
    corrupted_input_ids: Tensor | None = None
    is_replaced: Tensor | None = None
    is_chosen: Tensor | None = None
    sampled_log_probs: Tensor | None = None
    generator_is_correct: Tensor | None = None
    token_mask: Tensor | None = None


class _PushedAsRelease:
    """Pushes a model as checkpoints that stock classes load, whatever it is in memory."""

    def push_to_hub(self, repo_id: str, *, tokenizer: Any = None, processing_class: Any = None, **arguments: Any):
        """Upload a release in one commit, and read it back: the discriminator at the root, the generator in
        `generator/`, and a model card. What must not be public (secrets, paths, pickles) is refused before anything
        is sent.

        Without the package (this file being remote code) it uploads what `save_pretrained` writes.

        Args:
            repo_id: `OWNER/NAME`, or a name of the account's own.
            tokenizer, processing_class: the tokenizer under either name; goes with each network.
            arguments: `commit_message`, `commit_description`, `private`, `token`, `revision`, `create_pr`,
                `max_shard_size` and `tags`, as of every model in `transformers`.

        Returns:
            The client's `CommitInfo`.

        Raises:
            ValueError: in one line, for what must not be uploaded, and for what the Hub refused or could not do.
        """
        tokenizer = processing_class if tokenizer is None else tokenizer
        try:
            from modeling_electra_rtd.sharing.model_push import push_model
        except ModuleNotFoundError:
            info = super().push_to_hub(repo_id, **arguments)
            if tokenizer is not None:
                kept = ("private", "token", "revision", "create_pr")
                tokenizer.push_to_hub(repo_id, **{name: arguments[name] for name in kept if name in arguments})
            return info
        tags = arguments.pop("tags", None) or []
        tags = [*(self.model_tags or []), *([tags] if isinstance(tags, str) else tags)]
        return push_model(self, repo_id, tokenizer, tags=list(dict.fromkeys(tags)), **arguments)


class ElectraRtdGenerator(_PushedAsRelease, PreTrainedModel, EncoderInputs):
    """A stock masked-LM model that projects onto the vocabulary only where it is asked to.

    It holds the stock model's modules under their own names, so its state dict is the stock one; `config` is the
    stock config.
    """

    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: PreTrainedConfig):
        # First, because it chooses the attention: not every family has what this class could do.
        stock = build_masked_lm(config)
        super().__init__(config)
        # Not registered as a child: it is the same model under another forward. One dict of modules serves both, so
        # whatever stock code replaces (resized embeddings, a new head) is replaced here as well.
        self.__dict__["_stock"] = stock
        self.__dict__["_modules"] = stock._modules
        self.base_model_prefix = stock.base_model_prefix
        self._head = masked_lm_head(stock)
        self._tied_weights_keys = stock._tied_weights_keys
        self._no_split_modules = [backbone_of(config).layer_class]
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *args: Any, **kwargs: Any) -> "ElectraRtdGenerator":
        """Load a stock masked-LM checkpoint, or the generator of a pair."""
        config = kwargs.pop("config", None) or config_from(pretrained_model_name_or_path, **_hub_arguments(kwargs))
        objective = objective_of(config)
        if objective is not None and GENERATOR_SUBFOLDER in objective:
            kwargs["subfolder"] = joined(kwargs.get("subfolder"), objective[GENERATOR_SUBFOLDER])
            config = config_from(pretrained_model_name_or_path, **_hub_arguments(kwargs))
        elif objective is not None:
            return ElectraRtdForPreTraining.from_pretrained(pretrained_model_name_or_path, *args, **kwargs).generator
        return super().from_pretrained(pretrained_model_name_or_path, *args, config=config, **kwargs)

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write a stock masked-LM checkpoint."""
        self._stock.save_pretrained(save_directory, **kwargs)

    def _init_weights(self, module: nn.Module) -> None:
        self._stock._init_weights(self._stock if module is self else module)

    def get_input_embeddings(self) -> nn.Module:
        return self._stock.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self._stock.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self._stock.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self._stock.set_output_embeddings(new_embeddings)

    @property
    def encoder(self) -> PreTrainedModel:
        """The stock encoder."""
        return self._modules[self.base_model_prefix]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> MaskedLMOutput:
        """Vocabulary logits.

        Args:
            input_ids: `(batch, sequence)`.
            attention_mask: `(batch, sequence)`, 1 for tokens; ignored where `document_ids` says more.
            positions: `(batch, k)`; only these are projected. `None` projects all, as the stock model does.
            document_ids: `(batch, sequence)`, 0 for padding; documents packed into a row do not see each other.

        Returns:
            `logits`: `(batch, k, vocab_size)`, or `(batch, sequence, vocab_size)` without `positions`.
        """
        hidden = self.encode(
            self.encoder,
            input_ids,
            attention_mask,
            document_ids,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
        )
        if positions is not None:
            hidden = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))
        return MaskedLMOutput(logits=masked_lm_logits(self, self._head, hidden))


class ElectraRtdDiscriminator(_PushedAsRelease, PreTrainedModel, EncoderInputs):
    """A stock encoder and the ELECTRA head that says, for every token, whether it was replaced.

    For ELECTRA its keys are those of `ElectraForPreTraining`; for other families those of the encoder, and
    `discriminator_predictions.*`, which stock classes ignore. Alone it is saved under a stock config.
    """

    config_class = ElectraRtdConfig
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keys_to_ignore_on_load_unexpected = [r"^generator\."]

    def __init__(self, config: ElectraRtdConfig):
        config = ElectraRtdConfig.from_native(config)
        is_alone = type(self) is ElectraRtdDiscriminator
        super().__init__(config.of_discriminator_alone() if is_alone else config)
        encoder = build_encoder(config.discriminator_config)
        self.base_model_prefix = encoder.base_model_prefix
        self.add_module(self.base_model_prefix, encoder)
        # The head reads two fields of a config, under ELECTRA's names.
        activation = hidden_activation(config.discriminator_config)
        head_config = ElectraConfig(hidden_size=config.hidden_size, hidden_act=activation)
        self.discriminator_predictions = ElectraDiscriminatorPredictions(head_config)
        self._no_split_modules = [backbone_of(config.discriminator_config).layer_class]
        if is_alone:
            self.post_init()

    @property
    def encoder(self) -> PreTrainedModel:
        """The stock encoder."""
        return self._modules[self.base_model_prefix]

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def discriminate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor:
        """`(batch, sequence)` logits, positive where a token looks replaced."""
        return self.discriminator_predictions(
            self.encode(self.encoder, input_ids, attention_mask, document_ids, **inputs)
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> ElectraForPreTrainingOutput:
        """Detect replaced tokens in a text as it is.

        Args:
            labels: `(batch, sequence)`, 1 for replaced tokens; gives a loss over all tokens that are not padding.
        """
        logits = self.discriminate(
            input_ids, attention_mask, document_ids, position_ids=position_ids, token_type_ids=token_type_ids
        )
        loss = None
        if labels is not None:
            token_mask = token_mask_of(input_ids, attention_mask, document_ids)
            loss = replaced_token_loss(logits, labels, token_mask, token_mask.sum())
        return ElectraForPreTrainingOutput(loss=loss, logits=logits)


class ElectraRtdForPreTraining(ElectraRtdDiscriminator):
    """Generator and discriminator, trained together: the RTD step.

    The joint model is the discriminator with a generator beside it, in memory and on disk.
    """

    _keys_to_ignore_on_load_unexpected = None

    def __init__(self, config: ElectraRtdConfig):
        super().__init__(config)
        if self.config.generator_config is None:
            raise ValueError("generator_config is None; a pair needs the stock config of its generator")
        self.generator = ElectraRtdGenerator(self.config.generator_config)
        if self.config.embedding_sharing == "tied":
            # One module, so that moving, sharding or resizing it happens once; the mapping is for saving and loading.
            block = backbone_of(self.config.discriminator_config).embeddings
            embeddings = getattr(self.encoder, block)
            setattr(self.generator.encoder, block, embeddings)
            self._tied_weights_keys = {
                f"generator.{self.generator.base_model_prefix}.{block}.{name}": (
                    f"{self.base_model_prefix}.{block}.{name}"
                )
                for name, _ in embeddings.named_parameters()
            }
        special_token_ids = self.config.special_token_ids or []
        self.register_buffer("special_token_ids", torch.tensor(special_token_ids), persistent=False)
        self.post_init()
        # post_init adds what the stock encoders name, ModernBERT's embedding block among it: as a unit of FSDP2 it
        # would hold the word embeddings, which the generator's output layer holds in another.
        self._no_split_modules = {backbone_of(self.config.discriminator_config).layer_class}

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
        hub = _hub_arguments(kwargs)
        config = kwargs.pop("config", None)
        # What an auto class hands over is stock, and carries the key; a pair's own does not say where it was read.
        is_stock = isinstance(config, PreTrainedConfig) and not hasattr(config, "generator_config")
        objective = objective_of(config if is_stock else config_from(source, **hub))
        if objective is None:
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
            is_tied = config.embedding_sharing == "tied"
            state, unexpected = _state_of_release(source, folder, is_tied, {**hub, **dtype})
            kwargs = {key: value for key, value in kwargs.items() if key not in HUB_ARGUMENTS}
            model, report = super().from_pretrained(
                None, *args, config=config, state_dict=state, output_loading_info=True, **dtype, **kwargs
            )
            model.name_or_path = model.config.name_or_path = str(source)
            report["unexpected_keys"] |= unexpected
        # Stock classes keep the key in a config when they save the discriminator of a joint checkpoint alone.
        if any(name.startswith("generator.") for name in report["missing_keys"]):
            raise _no_generator(source)
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
    ) -> "ElectraRtdForPreTraining":
        """Continue from existing checkpoints: two, or a discriminator whose generator is built.

        Args:
            discriminator: folder or Hub id of any checkpoint of the encoder (its RTD head is used if there is one),
                or a model. A pair brings its generator along when `generator` is `None`.
            generator: folder, Hub id or model of a masked-LM checkpoint. `None` builds one that shares the
                discriminator's embeddings and, where it is as wide, starts from its first layers.
            tokenizer: sets the special token ids; needed for any vocabulary but the family's own.
            embedding_sharing: `None` ties the tables when they are equal and otherwise keeps both, which changes
                neither network; `"tied"` takes the discriminator's for both.
            generator_width, generator_depth: of a generator that is built.
            objective: further fields of `ElectraRtdConfig`.
            hub_arguments: `revision`, `subfolder`, `token`, ... of `from_pretrained`.

        Raises:
            ValueError: for different vocabularies, or tables that cannot be shared.
        """
        first = _loaded(ElectraRtdDiscriminator, discriminator, hub_arguments)
        if (
            generator is None
            and not isinstance(discriminator, PreTrainedModel)
            and holds_pair(discriminator, **_hub_arguments(hub_arguments))
        ):
            generator = discriminator
            embedding_sharing = embedding_sharing or first.config.embedding_sharing
        second = None if generator is None else _loaded(ElectraRtdGenerator, generator, hub_arguments)
        first_config = native_config(getattr(first.config, "discriminator_config", first.config))
        if second is None:
            second_config = generator_config_for(first_config, generator_width, generator_depth)
        else:
            second_config = native_config(second.config)
        if embedding_sharing is None:
            embedding_sharing = "tied" if second is None or _same_embeddings(first, second) else "none"
            if embedding_sharing == "none":
                logger.warning(
                    "The pair's embedding tables differ: both are kept (embedding_sharing='none'). "
                    "Pass embedding_sharing='tied' to continue with the discriminator's for both."
                )
        objective = {
            # What a pair knows of its vocabulary.
            **{name: getattr(first.config, name, None) for name in ("mask_token_id", "special_token_ids")},
            **(special_tokens_of(tokenizer) if tokenizer is not None else {}),
            **(objective or {}),
        }
        config = ElectraRtdConfig(
            discriminator_config=first_config,
            generator_config=second_config,
            embedding_sharing=embedding_sharing,
            **objective,
        )
        model = cls(config)
        if second is not None:
            model.generator.load_state_dict(second.state_dict())
        # After the generator's, so that a shared table is the discriminator's.
        model.encoder.load_state_dict(first.base_model.state_dict())
        if hasattr(first, "discriminator_predictions"):
            model.discriminator_predictions.load_state_dict(first.discriminator_predictions.state_dict())
        if second is None and second_config.hidden_size == first_config.hidden_size:
            _copy_first_layers(model.encoder, model.generator.encoder)
        return model

    def get_output_embeddings(self) -> nn.Module | None:
        """The generator's output layer where it is tied to the input embeddings, so that sharding puts both in one
        unit; FSDP2 refuses a parameter that two units hold."""
        output = self.generator.get_output_embeddings()
        return output if output.weight is self.get_input_embeddings().weight else None

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        # Sharing between the two networks does not hang on `tie_word_embeddings`, which ties a network's own head.
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys or {})

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            # Not in the checkpoint: `from_pretrained` leaves it unset unless it is written here.
            ids = torch.tensor(self.config.special_token_ids or [], device=self.special_token_ids.device)
            self.special_token_ids.copy_(ids)

    def count_loss_terms(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor:
        """`(2,)` float32: chosen positions and tokens of a batch, the terms of its two losses, before any forward."""
        token_mask = token_mask_of(input_ids, attention_mask, document_ids)
        special_token_ids = self.special_token_ids.to(input_ids.device)
        chosen = chosen_per_row(
            candidate_positions(input_ids, token_mask, special_token_ids), self.config.mask_probability
        )
        return torch.stack([chosen.sum(), token_mask.sum()]).float()

    def resize_token_embeddings(self, new_num_tokens: int | None = None, **kwargs: Any) -> nn.Embedding:
        """Resize the vocabulary of both networks, their tied heads and configs."""
        # The generator first: its stock model knows the output layer; shared embeddings are then the right size.
        self.generator._stock.resize_token_embeddings(new_num_tokens, **kwargs)
        resized = self.encoder.resize_token_embeddings(new_num_tokens, **kwargs)
        self.tie_weights()
        return resized

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        corruption_uniforms: Tensor | None = None,
        sampling_temperature: Tensor | float | None = None,
        loss_normalizers: Tensor | None = None,
        return_loss: bool = True,
    ) -> ElectraRtdForPreTrainingOutput:
        """One RTD step over clean text: choose, mask, generate, sample, detect.

        Args:
            input_ids: `(batch, sequence)`, the text.
            attention_mask: `(batch, sequence)`, 1 for tokens and 0 for padding.
            document_ids: `(batch, sequence)`, 0 for padding, else the number of the packed document; replaces
                `attention_mask`.
            position_ids: `(batch, sequence)`, restarting with every packed document.
            corruption_uniforms: `(batch, number_of_uniforms(sequence))` in [0, 1), which decide the corruption;
                `None` draws them from the global generator of the device.
            sampling_temperature: overrides the config's; a tensor does not make a compiled graph specialise.
            loss_normalizers: `(2,)`, the number of chosen positions and of tokens that the two sums of losses are
                divided by, when this batch is a part of a larger one; `None` counts this batch.
            return_loss: always; `Trainer` looks for the argument to know that a batch without labels has a loss.

        Raises:
            ValueError: when the mask token of the vocabulary is not known.
        """
        config = self.config
        if config.mask_token_id is None or not config.special_token_ids:
            raise ValueError(
                f"mask_token_id and special_token_ids are not set, and a vocabulary of {config.vocab_size} is not "
                "the family's published one; build the config with tokenizer=..."
            )
        batch, sequence = input_ids.shape
        encoder_inputs = {
            "attention_mask": attention_mask,
            "document_ids": document_ids,
            "position_ids": position_ids,
            "token_type_ids": token_type_ids,
        }
        token_mask = token_mask_of(input_ids, attention_mask, document_ids)
        if corruption_uniforms is None:
            count = number_of_uniforms(sequence, config.mask_probability)
            corruption_uniforms = torch.rand(batch, count, device=input_ids.device)
        to_choose, to_mask, to_sample = split_uniforms(corruption_uniforms, sequence)

        candidates = candidate_positions(input_ids, token_mask, self.special_token_ids)
        chosen = choose_positions(candidates, config.mask_probability, to_choose)
        masked_input_ids = mask_tokens(input_ids, chosen, config.mask_token_id, config.mask_token_probability, to_mask)
        logits = self.generator(masked_input_ids, positions=chosen.positions, **encoder_inputs).logits

        # fp32 from here: bf16 logits would quantise the sampling distribution.
        log_probs = logits.flatten(0, 1).float().log_softmax(dim=-1)
        original = input_ids.gather(1, chosen.positions)
        original_log_probs = log_probs.gather(1, original.view(-1, 1)).view(original.shape)
        counts = torch.stack([chosen.weights.sum(), token_mask.sum().float()])
        normalizers = (counts if loss_normalizers is None else loss_normalizers).clamp(min=1.0)
        generator_loss = -(original_log_probs * chosen.weights).sum() / normalizers[0]

        with torch.no_grad():
            if sampling_temperature is None:
                sampling_temperature = config.sampling_temperature
            sampled = sample_tokens(log_probs.detach() / sampling_temperature, to_sample.flatten()).view_as(original)
            corrupted_input_ids = replace_tokens(input_ids, chosen, sampled)
            is_replaced = corrupted_input_ids != input_ids
            sampled_log_probs = log_probs.gather(1, sampled.view(-1, 1)).view(sampled.shape) * chosen.weights
            is_correct = (original_log_probs == log_probs.amax(dim=-1).view_as(original)) & (chosen.weights > 0)

            def at_positions(values: Tensor) -> Tensor:
                return torch.zeros_like(input_ids, dtype=values.dtype).scatter(1, chosen.positions, values)

        logits = self.discriminate(corrupted_input_ids, **encoder_inputs)
        discriminator_loss = replaced_token_loss(logits, is_replaced, token_mask, normalizers[1])
        loss = config.generator_loss_weight * generator_loss + config.discriminator_loss_weight * discriminator_loss
        return ElectraRtdForPreTrainingOutput(
            loss=loss,
            generator_loss=generator_loss.detach(),
            discriminator_loss=discriminator_loss.detach(),
            logits=logits.detach(),
            replaced_probs=logits.detach().float().sigmoid(),
            corrupted_input_ids=corrupted_input_ids,
            is_replaced=is_replaced,
            is_chosen=at_positions(chosen.weights > 0),
            sampled_log_probs=at_positions(sampled_log_probs),
            generator_is_correct=at_positions(is_correct),
            token_mask=token_mask,
        )


def __getattr__(name: str) -> type[ElectraRtdForPreTraining]:
    """`ModernBertRtdForPreTraining` and the like: the pair under the name of a family.

    Where `transformers` has no pre-training class for a family, `AutoModelForPreTraining` registers the class that it
    loads under the family's config, and wants to find that config named there. Otherwise it is
    `ElectraRtdForPreTraining`.
    """
    family = name.removesuffix(_PAIR_SUFFIX)
    config_class = None if family in ("", name) else getattr(transformers, f"{family}Config", None)
    if config_class is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    code = type(name, (ElectraRtdForPreTraining,), {"config_class": config_class, "__module__": __name__})
    globals()[name] = code
    return code


def replaced_token_loss(logits: Tensor, is_replaced: Tensor, token_mask: Tensor, normalizer: Tensor) -> Tensor:
    """Binary cross-entropy over every token that is not padding, special tokens included, in float32.

    Args:
        logits, is_replaced, token_mask: `(batch, sequence)`.
        normalizer: scalar the sum is divided by.
    """
    losses = functional.binary_cross_entropy_with_logits(logits.float(), is_replaced.float(), reduction="none")
    return (losses * token_mask).sum() / normalizer


def _hub_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}


def _state_of_release(
    source: str | os.PathLike, folder: str, is_tied: bool, arguments: dict[str, Any]
) -> tuple[dict[str, Tensor], set[str]]:
    """The weights of a release under the names of a pair, and names of weights that neither network has.

    Raises:
        ValueError: where embeddings that the two share are different ones.
    """
    places = {"": arguments, "generator.": {**arguments, "subfolder": joined(arguments.get("subfolder"), folder)}}
    networks, state, unexpected = {}, {}, set()
    for prefix, model_class in (("", ElectraRtdDiscriminator), ("generator.", ElectraRtdGenerator)):
        model, report = model_class.from_pretrained(source, output_loading_info=True, **places[prefix])
        networks[prefix] = model
        unexpected |= {prefix + name for name in report["unexpected_keys"]}
        # What is missing stays missing, for the pair's own report.
        state |= {
            prefix + name: value for name, value in model.state_dict().items() if name not in report["missing_keys"]
        }
    if is_tied and not _same_embeddings(*networks.values()):
        raise ValueError(
            f"embedding_sharing is 'tied', but the generator in {source} has other embeddings than the discriminator; "
            "load the two with from_pair(..., embedding_sharing='none')"
        )
    return state, unexpected


def _no_generator(source: str | os.PathLike) -> ValueError:
    return ValueError(
        f"{source} holds no generator; continue from it with "
        f"ElectraRtdForPreTraining.from_pair(discriminator={str(source)!r})"
    )


def _loaded(
    model_class: type[PreTrainedModel], source: str | os.PathLike | PreTrainedModel, arguments: dict
) -> PreTrainedModel:
    return source if isinstance(source, PreTrainedModel) else model_class.from_pretrained(source, **arguments)


def _same_embeddings(first: PreTrainedModel, second: PreTrainedModel) -> bool:
    """Whether two models hold equal embedding blocks, values included."""
    one, other = (_embeddings(model.base_model).state_dict() for model in (first, second))
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape and torch.equal(one[name].cpu(), other[name].cpu()) for name in one
    )


def _embeddings(encoder: PreTrainedModel) -> nn.Module:
    return getattr(encoder, backbone_of(encoder.config).embeddings)


def _copy_first_layers(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Start an equally wide, shallower encoder from the weights of a deeper one that have the same names."""
    state, wanted = source.state_dict(), target.state_dict()
    target.load_state_dict({name: state[name] for name in wanted})
