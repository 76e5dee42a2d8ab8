"""Where replacements come from: a masked-LM model, two towers that read from both sides, or a table.

Every generator has `propose`, which gives the distribution it draws from at the chosen positions, and `terms`, what
its own loss is a mean over.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import MaskedLMOutput

from .backbones import backbone_of, build_encoder, build_masked_lm, config_from, hub_arguments_in
from .checkpoint_layout import GENERATOR_SUBFOLDER, generates_by_masked_lm, joined, objective_of, root_architecture
from .corruption import ChosenPositions
from .encoder_inputs import EncoderInputs, check_attention, token_mask_of
from .objectives import LossPositions, token_log_probs, token_losses
from .push import PushedAsRelease
from .stock_models import masked_lm_head, masked_lm_logits


class Proposal(NamedTuple):
    """What a generator says of a text.

    Attributes:
        scores: `(batch * k, vocab_size)` float32, at the chosen positions, log-probabilities up to a constant of the
            row; of all tokens, those that are never drawn too.
        losses: float32 in nats, minus log-probabilities of the text, `(batch, k)` or `(batch, sequence)`, 0 outside
            the terms; `None` where nothing learns.
        text_log_probs: `(batch, sequence)` float32 without gradient, of every token among those that may be drawn;
            `None` where only the chosen positions are known.
        states: `(batch, k, hidden_size)`, what a masked-LM generator projects onto the vocabulary.
    """

    scores: Tensor
    losses: Tensor | None
    text_log_probs: Tensor | None = None
    states: Tensor | None = None


class ElectraRtdGenerator(PushedAsRelease, EncoderInputs, PreTrainedModel):
    """A stock masked-LM model that projects onto the vocabulary only where it is asked to.

    It holds the stock model's modules under their own names, so its state dict is the stock one; `config` is the
    stock config.
    """

    loss_positions: LossPositions = "chosen"
    # The class of a pair, whose joint checkpoint may hold the generator that is asked for; the pair's module sets it.
    pair_class: ClassVar[type[PreTrainedModel] | None] = None

    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: PreTrainedConfig):
        check_attention(config._attn_implementation)
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
        """Load a stock masked-LM checkpoint, or the generator of a pair.

        Raises:
            ValueError: for a pair without a masked-LM generator, unless its discriminator is a masked-LM model.
        """
        config = kwargs.pop("config", None) or config_from(pretrained_model_name_or_path, **hub_arguments_in(kwargs))
        objective = objective_of(config)
        if objective is not None and objective.get(GENERATOR_SUBFOLDER) is not None:
            kwargs["subfolder"] = joined(kwargs.get("subfolder"), objective[GENERATOR_SUBFOLDER])
            config = config_from(pretrained_model_name_or_path, **hub_arguments_in(kwargs))
        elif objective is not None and generates_by_masked_lm(objective):
            return cls.pair_class.from_pretrained(pretrained_model_name_or_path, *args, **kwargs).generator
        elif objective is not None and config.architectures != [root_architecture(config.model_type, "mlm")]:
            raise ValueError(f"{pretrained_model_name_or_path} has no masked-LM generator")
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

    def encoders(self) -> dict[str, PreTrainedModel]:
        """Its encoders by name."""
        return {self.base_model_prefix: self.encoder}

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
            `hidden_states`: one, what they are projected from.
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
        return MaskedLMOutput(logits=masked_lm_logits(self, self._head, hidden), hidden_states=(hidden,))

    def propose(
        self,
        input_ids: Tensor,
        masked_input_ids: Tensor,
        chosen: ChosenPositions,
        candidates: Tensor,
        bias: Tensor,
        **inputs: Any,
    ) -> Proposal:
        """What it fills the `[MASK]`s with.

        Args:
            input_ids, masked_input_ids: `(batch, sequence)`, the text, and what is shown of it.
            bias: `(vocab_size,)`, see `drawing_bias`; the loss is over the whole vocabulary.
            inputs: of `forward`.
        """
        output = self(masked_input_ids, positions=chosen.positions, **inputs)
        # fp32 from here, for sums over the vocabulary; under autocast the logits themselves are bf16.
        scores = output.logits.flatten(0, 1).float()
        original = input_ids.gather(1, chosen.positions)
        losses = token_losses(scores, original.flatten())[0].view_as(original)
        return Proposal(scores, losses * chosen.weights, states=output.hidden_states[0])


class TwoTowerGenerator(EncoderInputs, PreTrainedModel):
    """Says of every token what it could have been, from the text on its left and, by a second encoder, on its right
    (Electric, section 2.3). Nothing is masked, so one pass knows all positions.

    Both towers are the family's encoder under a one-sided attention mask, and share their embedding block. The head is
    ELECTRA's generator head over both states; its output layer is the table of words.
    """

    loss_positions: LossPositions = "candidates"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: PreTrainedConfig):
        check_attention(config._attn_implementation)
        # First, because they choose the attention: not every family has what this class could do.
        left_to_right, right_to_left = build_encoder(config), build_encoder(config)
        super().__init__(config)
        self.left_to_right, self.right_to_left = left_to_right, right_to_left
        block = backbone_of(config).embeddings
        embeddings = getattr(self.left_to_right, block)
        setattr(self.right_to_left, block, embeddings)
        words = self.left_to_right.get_input_embeddings().weight
        self.dense = nn.Linear(2 * config.hidden_size, words.shape[1])
        self.activation = ACT2FN["gelu"]
        self.norm = nn.LayerNorm(words.shape[1])
        self.bias = nn.Parameter(torch.zeros(len(words)))
        self._tied_weights_keys = {
            f"right_to_left.{block}.{name}": f"left_to_right.{block}.{name}"
            for name, _ in embeddings.named_parameters()
        }
        self._no_split_modules = [backbone_of(config).layer_class]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        self.left_to_right._init_weights(module)
        if module is self:
            init.zeros_(self.bias)

    def get_input_embeddings(self) -> nn.Module:
        return self.left_to_right.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        for encoder in self.encoders().values():
            encoder.set_input_embeddings(value)

    def encoders(self) -> dict[str, PreTrainedModel]:
        """Its encoders by name."""
        return {"left_to_right": self.left_to_right, "right_to_left": self.right_to_left}

    def propose(
        self,
        input_ids: Tensor,
        masked_input_ids: Tensor,
        chosen: ChosenPositions,
        candidates: Tensor,
        bias: Tensor,
        **inputs: Any,
    ) -> Proposal:
        """See `ElectraRtdGenerator.propose`; the text is read unmasked, and every candidate is a term of the loss."""
        return self(input_ids, chosen, candidates, bias, **inputs)

    def forward(
        self,
        input_ids: Tensor,
        chosen: ChosenPositions,
        candidates: Tensor,
        bias: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        **inputs: Any,
    ) -> Proposal:
        """What stands at every position of a text, by both of its sides; see `propose`."""
        if document_ids is None:
            # One document a row, and a text does not go on in its padding.
            document_ids = token_mask_of(input_ids, attention_mask, None).long()
        whole = (input_ids, None, document_ids)
        before = self.encode(self.left_to_right, *whole, context="left", **inputs)
        after = self.encode(self.right_to_left, *whole, context="right", **inputs)
        # A token does not see itself: the state before it knows its left, the one after it its right, and at an end of
        # its document there is none.
        goes_on = (document_ids[:, 1:] == document_ids[:, :-1])[..., None]
        nothing = torch.zeros_like(before[:, :1])
        left = torch.cat([nothing, before[:, :-1] * goes_on], dim=1)
        right = torch.cat([after[:, 1:] * goes_on, nothing], dim=1)
        context = torch.cat([left, right], dim=-1)
        states = self.norm(self.activation(self.dense(context)))

        log_probs, noise_log_probs = (
            values.view_as(input_ids)
            for values in token_log_probs(self._logits, states.flatten(0, 1), input_ids.flatten(), bias)
        )
        with torch.no_grad():
            at_chosen = states.gather(1, chosen.positions[..., None].expand(-1, -1, states.shape[-1]))
            noise = self._logits(at_chosen.flatten(0, 1)).float()
        return Proposal(noise, -log_probs * candidates, noise_log_probs)

    def _logits(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.get_input_embeddings().weight, self.bias)


class TableGenerator(nn.Module):
    """Draws tokens without reading the text: all alike, or as often as they have been seen in training.

    Attributes:
        token_counts: `(vocab_size,)` int64; 0 for what is never drawn. Every other token has been seen once to begin
            with.
    """

    loss_positions: LossPositions = "chosen"

    def __init__(self, vocab_size: int, never_drawn: list[int], counts_tokens: bool):
        super().__init__()
        self.counts_tokens = counts_tokens
        self.never_drawn = never_drawn
        self.register_buffer("token_counts", torch.empty(vocab_size, dtype=torch.int64))
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self.token_counts.fill_(1)
        self.token_counts[self.never_drawn] = 0

    @torch.no_grad()
    def propose(
        self,
        input_ids: Tensor,
        masked_input_ids: Tensor,
        chosen: ChosenPositions,
        candidates: Tensor,
        bias: Tensor,
        **inputs: Any,
    ) -> Proposal:
        """See `ElectraRtdGenerator.propose`."""
        if self.training and self.counts_tokens:
            self.token_counts.scatter_add_(0, input_ids.flatten(), candidates.flatten().long())
        log_probs = (self.token_counts.float().log() + bias).log_softmax(dim=0)
        return Proposal(log_probs.expand(chosen.positions.numel(), -1), None, log_probs[input_ids])
