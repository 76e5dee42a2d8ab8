"""The discriminator: a stock encoder with the heads that an objective asks for."""

from typing import Any

from torch import Tensor, nn
from transformers import ElectraConfig, PreTrainedModel
from transformers.models.electra.modeling_electra import ElectraDiscriminatorPredictions, ElectraForPreTrainingOutput

from .backbones import backbone_of, build_encoder, build_masked_lm
from .configuration_electra_rtd import ElectraRtdConfig
from .encoder_inputs import EncoderInputs, token_mask_of
from .objectives import Heads, detection_losses
from .push import PushedAsRelease
from .stock_models import hidden_activation, masked_lm_head, masked_lm_logits


class ElectraRtdDiscriminator(PushedAsRelease, EncoderInputs, PreTrainedModel):
    """A stock encoder and the ELECTRA head that says, for every token, whether it was replaced.

    For ELECTRA its keys are those of `ElectraForPreTraining`; for other families those of the encoder, and
    `discriminator_predictions.*`, which stock classes ignore. Alone it is saved under a stock config.
    """

    config_class = ElectraRtdConfig
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_attention_backend = True
    _keys_to_ignore_on_load_unexpected = [r"^generator\.", r"^feedback\."]

    def __init__(self, config: ElectraRtdConfig):
        config = ElectraRtdConfig.from_native(config)
        is_alone = type(self) is ElectraRtdDiscriminator
        super().__init__(config.of_discriminator_alone() if is_alone else config)
        if config.objective_spec.has_masked_lm_head:
            self._add_stock_masked_lm()
        else:
            encoder = build_encoder(config.discriminator_config)
            self.base_model_prefix = encoder.base_model_prefix
            self.add_module(self.base_model_prefix, encoder)
        if config.objective_spec.has_detection_head:
            activation = hidden_activation(config.discriminator_config)
            # The head reads two fields of a config, under ELECTRA's names.
            head_config = ElectraConfig(hidden_size=config.hidden_size, hidden_act=activation)
            self.discriminator_predictions = ElectraDiscriminatorPredictions(head_config)
        self._no_split_modules = [backbone_of(config.discriminator_config).layer_class]
        if is_alone:
            self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # A head that a checkpoint lacks: biases of its own are known to the family's class alone.
        if self.config.objective_spec.has_masked_lm_head:
            self._stock._init_weights(module)
        else:
            super()._init_weights(module)

    @property
    def encoder(self) -> PreTrainedModel:
        """The stock encoder."""
        return self._modules[self.base_model_prefix]

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write a checkpoint that stock classes load.

        Weights keep the names they have in memory, by which a resumed training finds them; by default `transformers`
        gives them back the names of a family's first code, where those were others.
        """
        super().save_pretrained(save_directory, **{"save_original_format": False, **kwargs})

    def _add_stock_masked_lm(self) -> None:
        """Hold the modules of a stock masked-LM model under their own names."""
        # An encoder that is to be loaded as such is whole, with the pooler that masked-LM models go without.
        stock = build_masked_lm(
            self.config.discriminator_config, self.config.objective_spec.detection_loss_positions is not None
        )
        for name, module in stock.named_children():
            self.add_module(name, module)
        self.base_model_prefix = stock.base_model_prefix
        is_tied = self.config.discriminator_config.tie_word_embeddings
        self._tied_weights_keys = dict(stock._tied_weights_keys) if is_tied else {}
        # Not registered, because all of it is here already.
        self.__dict__["_stock"] = stock
        self._masked_lm_head = masked_lm_head(stock)

    @property
    def heads(self) -> Heads:
        """What the objective may ask of the hidden states."""
        objective = self.config.objective_spec

        def predict(hidden: Tensor) -> Tensor:
            return masked_lm_logits(self._stock, self._masked_lm_head, hidden)

        return Heads(
            detect=self.discriminator_predictions if objective.has_detection_head else None,
            predict=predict if objective.has_masked_lm_head else None,
        )

    def discriminate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor:
        """`(batch, sequence)` logits, positive where a token looks replaced.

        Raises:
            ValueError: for an objective without the detection head.
        """
        if not self.config.objective_spec.has_detection_head:
            raise ValueError(
                f"objective {self.config.objective!r} has no detection head, and cannot tell replaced tokens"
            )
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
            loss = detection_losses(logits, labels, token_mask).sum() / token_mask.sum()
        return ElectraForPreTrainingOutput(loss=loss, logits=logits)
