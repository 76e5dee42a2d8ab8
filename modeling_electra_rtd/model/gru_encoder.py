"""A recurrent encoder: the baseline that shows what the Transformer buys, in the form of a `transformers` model.

Layers of `torch.nn.GRU` with residual connections, over the embeddings and under the heads that ELECTRA has. Stock
`transformers` knows no such family, so every checkpoint brings its code along and loads with
`trust_remote_code=True`; where this file has been imported, the Auto classes know the family without the flag.
"""

from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.electra.modeling_electra import ElectraClassificationHead, ElectraGeneratorPredictions
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .document_gru import DocumentGru, document_borders


@strict
class GruEncoderConfig(PreTrainedConfig):
    """Configuration of `GruEncoderModel`; fields of the same name mean what they mean for ELECTRA.

    Args:
        embedding_size: width of the embeddings; where it is not `hidden_size` they are projected.
        hidden_size: width of the hidden states. With `bidirectional` each direction has half of it.
        num_hidden_layers: GRU layers, each with a residual connection and a layer norm behind it.
        bidirectional: whether a token's state knows what stands to its right. Without it, nothing in a state tells of
            the right context, whatever the model is used for.
        hidden_act: of the head that finds replaced tokens.
        hidden_dropout_prob: of embeddings and of each layer's output.
        classifier_dropout: of the heads; `None` takes `hidden_dropout_prob`.
        initializer_range: standard deviation of embeddings and linear layers; the GRUs start as `torch.nn.GRU` does.

    Raises:
        ValueError: for an odd `hidden_size` with two directions.
    """

    model_type = "gru_encoder"
    # Wherever it is written, this file goes with it.
    _auto_class: ClassVar[str | None] = "AutoConfig"

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 3
    bidirectional: bool = True
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    classifier_dropout: float | int | None = None
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any):
        super().__post_init__(**kwargs)
        # The strict dataclass runs it again, but wraps what it raises.
        self.validate_directions()

    @property
    def num_directions(self) -> int:
        """Directions that share `hidden_size`: 2 or 1."""
        return 2 if self.bidirectional else 1

    def validate_directions(self) -> None:
        if self.hidden_size % self.num_directions:
            raise ValueError(f"hidden_size is {self.hidden_size}; two directions need an even one")

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        # Every head, whichever is saved: what comes from one checkpoint may be loaded under another.
        return {**values, "auto_map": {**values.get("auto_map", {}), **AUTO_MAP}}


class GruEncoderEmbeddings(nn.Module):
    """Words and segments, normalised; a recurrent encoder counts positions itself."""

    def __init__(self, config: GruEncoderConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.embedding_size)
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor | None, token_type_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            token_type_ids = torch.zeros(words.shape[:2], dtype=torch.int64, device=words.device)
        return self.dropout(self.LayerNorm(words + self.token_type_embeddings(token_type_ids)))


class GruEncoderLayer(GradientCheckpointingLayer):
    """A GRU, a residual connection and a layer norm behind them, as in ELECTRA's blocks."""

    def __init__(self, config: GruEncoderConfig):
        super().__init__()
        self.gru = DocumentGru(
            config.hidden_size,
            config.hidden_size // config.num_directions,
            batch_first=True,
            bidirectional=config.bidirectional,
        )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor, borders: Tensor) -> Tensor:
        return self.LayerNorm(hidden_states + self.dropout(self.gru(hidden_states, borders)))


class GruEncoderPreTrainedModel(PreTrainedModel):
    config_class = GruEncoderConfig
    base_model_prefix = "gru_encoder"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _input_embed_layer = "word_embeddings"
    _no_split_modules: ClassVar[list[str]] = ["GruEncoderLayer"]
    _can_record_outputs: ClassVar[dict[str, Any]] = {"hidden_states": GruEncoderLayer}
    # There is no attention, so any implementation of it that the other network of a pair has will do.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, DocumentGru):
            for parameter in module.parameters():
                init.uniform_(parameter, -(module.hidden_size**-0.5), module.hidden_size**-0.5)


class GruEncoderModel(GruEncoderPreTrainedModel):
    """The encoder alone."""

    def __init__(self, config: GruEncoderConfig):
        super().__init__(config)
        self.embeddings = GruEncoderEmbeddings(config)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)
        self.layers = nn.ModuleList(GruEncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        document_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """
        Args:
            input_ids, token_type_ids: `(batch, sequence)`.
            attention_mask: see `document_borders`. A run of equal values is a document: zeros amid a text part it.
            document_ids: `(batch, sequence)`, number of each packed document and 0 for padding, instead of a mask.
            position_ids: not looked at.
            inputs_embeds: `(batch, sequence, embedding_size)`, instead of `input_ids`.

        Returns:
            `last_hidden_state`: `(batch, sequence, hidden_size)`, the left-to-right half first. On request
            `hidden_states`, as of any encoder; there are no attentions.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        hidden_states = self.embeddings(input_ids, token_type_ids, inputs_embeds)
        mask = attention_mask if document_ids is None else document_ids
        borders = document_borders(mask, *hidden_states.shape[:2], hidden_states.device)
        borders = borders[..., : self.config.num_directions]
        if hasattr(self, "embeddings_project"):
            hidden_states = self.embeddings_project(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, borders)
        return BaseModelOutput(last_hidden_state=hidden_states)


class GruEncoderWithHead(GruEncoderPreTrainedModel):
    """The encoder under a head: what every task has in common."""

    output_class: ClassVar[type] = TokenClassifierOutput

    def __init__(self, config: GruEncoderConfig):
        super().__init__(config)
        self.gru_encoder = GruEncoderModel(config)
        self.add_head(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """As of any model for the task; the inputs are those of `GruEncoderModel`."""
        encoded = self.gru_encoder(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.logits(encoded.last_hidden_state, attention_mask)
        loss = None if labels is None else self.loss(logits, labels)
        return self.output_class(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


class GruEncoderForMaskedLM(GruEncoderWithHead):
    """ELECTRA's masked-LM head, whose output layer is tied to the word embeddings; logits for every position."""

    output_class = MaskedLMOutput
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "generator_lm_head.weight": "gru_encoder.embeddings.word_embeddings.weight"
    }

    def add_head(self, config: GruEncoderConfig) -> None:
        self.generator_predictions = ElectraGeneratorPredictions(config)
        self.generator_lm_head = nn.Linear(config.embedding_size, config.vocab_size)

    def logits(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Tensor:
        return self.generator_lm_head(self.generator_predictions(hidden_states))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.loss_function(logits, labels, self.config.vocab_size)

    def get_output_embeddings(self) -> nn.Module:
        return self.generator_lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.generator_lm_head = new_embeddings


class GruEncoderForSequenceClassification(GruEncoderWithHead):
    """ELECTRA's classification head on the mean over a row's tokens: read in one direction, the first token, which
    ELECTRA's reads, knows nothing of the others."""

    output_class = SequenceClassifierOutput

    def add_head(self, config: GruEncoderConfig) -> None:
        self.classifier = ElectraClassificationHead(config)

    def logits(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Tensor:
        if attention_mask is None:
            return self.classifier(hidden_states.mean(dim=1, keepdim=True))
        weights = (attention_mask > 0).to(hidden_states.dtype)[..., None]
        count = weights.sum(dim=1, keepdim=True).clamp(min=1)
        return self.classifier((hidden_states * weights).sum(dim=1, keepdim=True) / count)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.loss_function(labels, logits, self.config)


class GruEncoderForMultipleChoice(GruEncoderForSequenceClassification):
    """The same head with one logit for every choice."""

    def add_head(self, config: GruEncoderConfig) -> None:
        super().add_head(config)
        self.classifier.out_proj = nn.Linear(config.hidden_size, 1)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Inputs `(batch, choices, sequence)`; `logits` `(batch, choices)`; labels `(batch,)`."""
        inputs = (input_ids, attention_mask, token_type_ids)
        encoded = self.gru_encoder(*(None if values is None else values.flatten(0, 1) for values in inputs), **kwargs)
        mask = None if attention_mask is None else attention_mask.flatten(0, 1)
        logits = self.logits(encoded.last_hidden_state, mask).view(input_ids.shape[:2])
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


class GruEncoderForTokenClassification(GruEncoderWithHead):
    """A linear layer for every token."""

    def add_head(self, config: GruEncoderConfig) -> None:
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def logits(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Tensor:
        return self.classifier(self.dropout(hidden_states))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.loss_function(logits, labels, self.config)


class GruEncoderForQuestionAnswering(GruEncoderPreTrainedModel):
    """A linear layer that says where an answer starts and where it ends."""

    def __init__(self, config: GruEncoderConfig):
        super().__init__(config)
        self.gru_encoder = GruEncoderModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """`start_logits` and `end_logits`: `(batch, sequence)`; positions `(batch,)`."""
        encoded = self.gru_encoder(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        starts, ends = self.qa_outputs(encoded.last_hidden_state).unbind(dim=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(starts, ends, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss=loss, start_logits=starts, end_logits=ends, hidden_states=encoded.hidden_states
        )


_MODELS = {
    AutoModel: GruEncoderModel,
    AutoModelForMaskedLM: GruEncoderForMaskedLM,
    AutoModelForSequenceClassification: GruEncoderForSequenceClassification,
    AutoModelForMultipleChoice: GruEncoderForMultipleChoice,
    AutoModelForTokenClassification: GruEncoderForTokenClassification,
    AutoModelForQuestionAnswering: GruEncoderForQuestionAnswering,
}
# What a config says about its code, in the words of `transformers`.
AUTO_MAP = {
    auto_class.__name__: f"{__name__.rpartition('.')[2]}.{code.__name__}"
    for auto_class, code in {AutoConfig: GruEncoderConfig, **_MODELS}.items()
}
# As remote code this file may be here several times; a config of each copy finds the models of its own.
AutoConfig.register(GruEncoderConfig.model_type, GruEncoderConfig, exist_ok=True)
for _auto_class, _model in _MODELS.items():
    _auto_class.register(GruEncoderConfig, _model, exist_ok=True)
