"""The generator, the discriminator and the pair that is pre-trained, composed of stock `transformers` modules.

In memory these are classes of this package; on disk each is a native checkpoint. The discriminator's encoder is an
attribute named by its own `base_model_prefix`, so its keys stand at the root as stock classes expect them, and the
generator, with the keys of a stock masked-LM model, stands next to it under `generator.` (a joint checkpoint) or in a
folder of its own (a release).

Shapes: `batch` rows of `sequence` positions, `k` slots a row for chosen positions (see `corruption`).
"""

import math
import re
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import initialization as init

from .backbones import backbone_of
from .configuration_electra_rtd import ElectraRtdConfig
from .corruption import (
    ChosenPositions,
    CorruptedText,
    at_positions,
    candidate_positions,
    choose_positions,
    chosen_per_row,
    drawing_bias,
    mask_tokens,
    number_of_uniforms,
    replace_tokens,
    sample_tokens,
    share_within_words,
    split_uniforms,
)
from .cpu_attention import ATTENTION, use_cpu_layers
from .discriminator import ElectraRtdDiscriminator
from .embedding_sharing import DisentangledEmbedding, share, words_name
from .encoder_inputs import token_mask_of
from .feedback import PolicyGradient, check_reads_embeddings, reversed_straight_through
from .generators import ElectraRtdGenerator, Proposal, TableGenerator, TwoTowerGenerator
from .gru_encoder import GruEncoderConfig
from .loading import LoadsPairs
from .objectives import LOSS_POSITIONS
from .output import Draw, ElectraRtdForPreTrainingOutput


# Behind the name of a family, that of its pair.
_PAIR_SUFFIX = "RtdForPreTraining"


class ElectraRtdForPreTraining(LoadsPairs, ElectraRtdDiscriminator):
    """Generator and discriminator, trained together: the RTD step.

    The joint model is the discriminator with a generator next to it, in memory and on disk.

    On a machine without an accelerator it has the dropout and the attention of `cpu_attention`, which are faster
    there, unless the config or `from_pretrained` is given an `attn_implementation`. `use_stock_layers` takes them
    back.
    """

    # No part of a release, and of a joint checkpoint only where it was trained with it.
    _keys_to_ignore_on_load_missing = [r"^feedback\."]
    _keys_to_ignore_on_load_unexpected = [r"^feedback\."]

    def __init__(self, config: ElectraRtdConfig):
        asked = config._attn_implementation
        super().__init__(config)
        if self.config.is_alone:
            raise ValueError("generator_config is None; a pair needs the stock config of its generator")
        self.generator = self._new_generator()
        tied = {}
        if self.config.has_generator_network:
            encoders = {f"generator.{name}": encoder for name, encoder in self.generator.encoders().items()}
            block = backbone_of(self.config.discriminator_config).embeddings
            shared = share(self.encoder, encoders, self.config.embedding_sharing, block)
            tied = {name: f"{self.base_model_prefix}.{source}" for name, source in shared.items()}
        # The modules are one already; saving and loading need to know it.
        self._tied_weights_keys = {**(self._tied_weights_keys or {}), **tied}
        if self.config.embedding_sharing == "gdes":
            # The sum, for stock classes.
            self._keys_to_ignore_on_load_unexpected = [
                *self._keys_to_ignore_on_load_unexpected,
                re.escape(f"{self._disentangled_words()[0]}.weight"),
            ]
        if isinstance(self.generator, TableGenerator):
            # No part of a release: a table is made again, and begins to count again.
            missing = [*(self._keys_to_ignore_on_load_missing or []), r"^generator\.token_counts$"]
            self._keys_to_ignore_on_load_missing = missing
        if self.config.generator_feedback == "reinforce":
            self.feedback = PolicyGradient(self.config.generator_config.hidden_size)
        elif self.config.generator_feedback == "gumbel_softmax":
            check_reads_embeddings(self.encoder)
        special_token_ids = self.config.special_token_ids or []
        self.register_buffer("special_token_ids", torch.tensor(special_token_ids), persistent=False)
        self.post_init()
        # post_init adds what the stock encoders name, ModernBERT's embedding block among it: as a unit of FSDP2 it
        # would hold the word embeddings, which the generator's output layer holds in another.
        self._no_split_modules = {backbone_of(self.config.discriminator_config).layer_class}
        if asked in (None, ATTENTION) and not torch.accelerator.is_available():
            use_cpu_layers(self)
        self.train()

    def _new_generator(self) -> nn.Module | None:
        config = self.config
        if not config.objective_spec.corrupts:
            return None
        if config.generator_kind == "masked_lm":
            return ElectraRtdGenerator(config.generator_config)
        if config.generator_kind == "two_tower":
            return TwoTowerGenerator(config.generator_config)
        no_tokens = range(config.number_of_tokens or config.vocab_size, config.vocab_size)
        never_drawn = [*(config.special_token_ids or []), *no_tokens]
        return TableGenerator(config.vocab_size, never_drawn, config.generator_kind == "unigram")

    def train(self, mode: bool = True) -> "ElectraRtdForPreTraining":
        super().train(mode)
        if self.config.freeze_generator:
            # Without dropout, as it was measured; and frozen here, because loading makes every parameter trainable
            # again and ends with a call of this.
            self.generator.eval().requires_grad_(False)
        return self

    def save_pretrained(self, save_directory: str, state_dict: dict[str, Tensor] | None = None, **kwargs: Any) -> None:
        """Write a joint checkpoint, which stock classes load as the discriminator that it holds."""
        state_dict = self.state_dict() if state_dict is None else dict(state_dict)
        if self.config.embedding_sharing == "gdes":
            words, base = self._disentangled_words()
            state_dict[f"{words}.weight"] = state_dict[f"{words}.difference"] + state_dict[base]
        super().save_pretrained(save_directory, state_dict=state_dict, **kwargs)

    def _disentangled_words(self) -> tuple[str, str]:
        """Under `gdes`: the module of the discriminator's words, and the weight of the generator's."""
        name, encoder = next(iter(self.generator.encoders().items()))
        return f"{self.base_model_prefix}.{words_name(self.encoder)}", f"generator.{name}.{words_name(encoder)}.weight"

    def get_output_embeddings(self) -> nn.Module | None:
        """The generator's output layer where it is tied to the input embeddings, so that sharding puts both in one
        unit; FSDP2 refuses a parameter that two units hold."""
        output = self.generator.get_output_embeddings() if isinstance(self.generator, ElectraRtdGenerator) else None
        words = self.get_input_embeddings()
        return output if output is not None and output.weight is words.weight else None

    def get_parameter(self, target: str) -> Tensor:
        """A parameter, or a weight that is a buffer because no gradient reaches it; those are shared as well."""
        try:
            return super().get_parameter(target)
        except AttributeError:
            return self.get_buffer(target)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        # Sharing between the two networks does not depend on `tie_word_embeddings`, which ties a network's own head.
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys or {})

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            # Not in the checkpoint: `from_pretrained` leaves it unset unless it is written here.
            ids = torch.tensor(self.config.special_token_ids or [], device=self.special_token_ids.device)
            self.special_token_ids.copy_(ids)
        elif isinstance(module, DisentangledEmbedding):
            init.zeros_(module.difference)
        elif isinstance(module, PolicyGradient):
            init.zeros_(module.baseline)
        elif isinstance(module, TableGenerator):
            module.reset()

    def count_loss_terms(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        mask_probability: float | None = None,
        **inputs: Any,
    ) -> Tensor:
        """`(3,)` float32: `LOSS_POSITIONS` of a batch, the terms of its losses, before any forward."""
        token_mask = token_mask_of(input_ids, attention_mask, document_ids)
        special_token_ids = self.special_token_ids.to(input_ids.device)
        candidates = candidate_positions(input_ids, token_mask, special_token_ids)
        chosen = chosen_per_row(
            candidates, self.config.mask_probability if mask_probability is None else mask_probability
        )
        return torch.stack([chosen.sum(), candidates.sum(), token_mask.sum()]).float()

    def number_of_uniforms(self, sequence_length: int, mask_probability: float | None = None) -> int:
        """Uniform numbers that decide the corruption of one row.

        Args:
            mask_probability: the largest of a schedule; `None` takes the config's.
        """
        config = self.config
        probability = config.mask_probability if mask_probability is None else mask_probability
        return number_of_uniforms(sequence_length, probability, config.joins_words)

    def parameter_counts(self) -> dict[str, int]:
        """Count the parameters: `discriminator`, with everything that is shared, and `generator_not_shared`."""
        counts = {name: parameter.numel() for name, parameter in self.named_parameters()}
        generator = sum(count for name, count in counts.items() if name.startswith("generator."))
        return {"discriminator": sum(counts.values()) - generator, "generator_not_shared": generator}

    def positions_of_losses(self) -> dict[str, str]:
        """What each loss of the objective is a mean over, by the loss's name in the output; `LOSS_POSITIONS`."""
        objective = self.config.objective_spec
        positions = {
            "generator_loss": self.generator.loss_positions if self.config.has_generator_network else None,
            "discriminator_loss": objective.detection_loss_positions,
            "masked_lm_loss": objective.masked_lm_loss_positions,
            "generator_feedback_loss": "chosen" if self.config.generator_feedback == "reinforce" else None,
        }
        return {name: value for name, value in positions.items() if value is not None}

    def resize_token_embeddings(self, new_num_tokens: int | None = None, **kwargs: Any) -> nn.Embedding:
        """Resize the vocabulary of both networks, their tied heads and configs."""
        # The generator first: its stock model knows the output layer; shared embeddings are then the right size.
        if isinstance(self.generator, ElectraRtdGenerator):
            self.generator._stock.resize_token_embeddings(new_num_tokens, **kwargs)
        elif self.generator is not None:
            raise ValueError(f"generator_kind {self.config.generator_kind!r} cannot change its vocabulary")
        if new_num_tokens is not None:
            # All that is asked for is tokens; rows that fill up to a multiple are not.
            self.config.number_of_tokens = new_num_tokens
        words = self.get_input_embeddings()
        if isinstance(words, DisentangledEmbedding):
            words.follow(self.generator.get_input_embeddings())
            self.encoder.config.vocab_size = len(words.difference)
        elif self.config.objective_spec.has_masked_lm_head:
            self._stock.resize_token_embeddings(new_num_tokens, **kwargs)
            for name, module in self._stock.named_children():
                self.add_module(name, module)
        else:
            self.encoder.resize_token_embeddings(new_num_tokens, **kwargs)
        self.tie_weights()
        self.train(self.training)
        return self.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        word_starts: Tensor | None = None,
        corruption_uniforms: Tensor | None = None,
        sampling_temperature: Tensor | float | None = None,
        mask_probability: Tensor | float | None = None,
        loss_normalizers: Tensor | None = None,
        return_loss: bool = True,
    ) -> ElectraRtdForPreTrainingOutput:
        """One step over clean text: choose, mask, generate, sample, and what the objective makes of it.

        Args:
            input_ids: `(batch, sequence)`, the text.
            attention_mask: `(batch, sequence)`, 1 for tokens and 0 for padding.
            document_ids: `(batch, sequence)`, 0 for padding, else the number of the packed document; replaces
                `attention_mask`.
            position_ids: `(batch, sequence)`, restarting with every packed document.
            word_starts: `(batch, sequence)` bool, where a word starts; for a `masking_strategy` other than `"token"`.
            corruption_uniforms: `(batch, number_of_uniforms(sequence))` in [0, 1), which decide the corruption;
                `None` draws them from the global generator of the device.
            sampling_temperature: overrides the config's; a tensor does not make a compiled graph specialise.
            mask_probability: likewise; the number of slots stays that of `corruption_uniforms`, or the config's.
            loss_normalizers: `(3,)`, numbers in the order of `LOSS_POSITIONS` that the sums of losses are divided by,
                when this batch is a part of a larger one; `None` counts this batch.
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
        encoder_inputs = {
            "attention_mask": attention_mask,
            "document_ids": document_ids,
            "position_ids": position_ids,
            "token_type_ids": token_type_ids,
        }
        if corruption_uniforms is None:
            count = self.number_of_uniforms(input_ids.shape[1])
            corruption_uniforms = torch.rand(len(input_ids), count, device=input_ids.device)
        text, draw = self._corrupt(
            input_ids,
            corruption_uniforms,
            config.mask_probability if mask_probability is None else mask_probability,
            config.sampling_temperature if sampling_temperature is None else sampling_temperature,
            word_starts,
            encoder_inputs,
        )
        discriminator_inputs = encoder_inputs
        if config.generator_feedback == "gumbel_softmax" and torch.is_grad_enabled():
            embedded = reversed_straight_through(
                text.corrupted_input_ids,
                self.get_input_embeddings(),
                draw.to_draw,
                draw.sampled_ids,
                text.chosen,
                config.generator_feedback_weight,
            )
            discriminator_inputs = {**encoder_inputs, "inputs_embeds": embedded}
        hidden = self.encode(self.encoder, text.corrupted_input_ids, **discriminator_inputs)
        verdict = config.objective_spec(hidden, self.heads, text)

        of_positions = {
            "generator_loss": None if draw is None else draw.proposal.losses,
            "discriminator_loss": verdict.detection_losses,
            "masked_lm_loss": verdict.masked_lm_losses,
        }
        if config.generator_feedback == "reinforce":
            rewards = verdict.detection_losses.detach().gather(1, text.chosen.positions)
            of_positions["generator_feedback_loss"] = self.feedback(
                draw.proposal.states, draw.to_draw, draw.sampled_ids, rewards, text.chosen
            )
        counts = torch.stack([text.chosen.weights.sum(), text.candidates.sum().float(), text.token_mask.sum().float()])
        normalizers = (counts if loss_normalizers is None else loss_normalizers).clamp(min=1.0)
        positions = self.positions_of_losses()
        losses = {
            name: values.sum() / normalizers[LOSS_POSITIONS.index(positions[name])]
            for name, values in of_positions.items()
            if values is not None
        }
        logits = None if verdict.logits is None else verdict.logits.detach()
        recovered = verdict.is_recovered
        return ElectraRtdForPreTrainingOutput(
            loss=sum(config.loss_weights[name] * loss for name, loss in losses.items()),
            **{name: loss.detach() for name, loss in losses.items()},
            logits=logits,
            replaced_probs=None if logits is None else logits.float().sigmoid(),
            corrupted_input_ids=text.corrupted_input_ids,
            is_replaced=text.is_replaced,
            is_chosen=text.is_chosen,
            sampled_log_probs=None if draw is None else draw.sampled_log_probs,
            generator_is_correct=None if draw is None else draw.is_correct,
            is_recovered=None if recovered is None else at_positions(recovered, text.chosen, input_ids),
            token_mask=text.token_mask,
            loss_terms=counts,
        )

    def _corrupt(
        self,
        input_ids: Tensor,
        uniforms: Tensor,
        mask_probability: Tensor | float,
        sampling_temperature: Tensor | float,
        word_starts: Tensor | None,
        encoder_inputs: dict[str, Tensor | None],
    ) -> tuple[CorruptedText, Draw | None]:
        """Choose, mask, generate, sample, label; without a generator the masked text is what is read."""
        config = self.config
        to_choose, to_mask, to_sample, to_join = split_uniforms(uniforms, input_ids.shape[1], config.joins_words)
        token_mask = token_mask_of(input_ids, encoder_inputs["attention_mask"], encoder_inputs["document_ids"])
        candidates = candidate_positions(input_ids, token_mask, self.special_token_ids)
        if config.masking_strategy != "token":
            if word_starts is None:
                raise ValueError(
                    f"masking_strategy {config.masking_strategy!r} needs to know where words start; give word_starts, "
                    "as BlockCollator(continues_word=...) does"
                )
            to_choose = share_within_words(to_choose, candidates, word_starts, to_join)
        chosen = choose_positions(candidates, mask_probability, to_choose, slots=to_mask.shape[1])
        is_chosen = at_positions(chosen.weights > 0, chosen, input_ids)
        masked = mask_tokens(input_ids, chosen, config.mask_token_id, config.mask_token_probability, to_mask)
        corrupted, draw, noise_log_probs = masked, None, None
        if self.generator is not None:
            bias = drawing_bias(config.vocab_size, config.number_of_tokens, self.special_token_ids)
            with torch.set_grad_enabled(torch.is_grad_enabled() and not config.freeze_generator):
                proposal = self.generator.propose(input_ids, masked, chosen, candidates, bias, **encoder_inputs)
            draw = self._draw(proposal, bias, input_ids, chosen, sampling_temperature, to_sample)
            corrupted = replace_tokens(input_ids, chosen, draw.sampled_ids)
            if proposal.text_log_probs is not None:
                noise_log_probs = torch.where(is_chosen, draw.sampled_log_probs, proposal.text_log_probs)
        text = CorruptedText(
            input_ids=input_ids,
            token_mask=token_mask,
            candidates=candidates,
            chosen=chosen,
            is_chosen=is_chosen,
            mask_probability=mask_probability,
            corrupted_input_ids=corrupted,
            is_replaced=corrupted != input_ids,
            noise_log_probs=noise_log_probs,
        )
        return text, draw

    def _draw(
        self,
        proposal: Proposal,
        bias: Tensor,
        input_ids: Tensor,
        chosen: ChosenPositions,
        temperature: Tensor | float,
        uniforms: Tensor,
    ) -> Draw:
        original = input_ids.gather(1, chosen.positions)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.generator_feedback != "none"):
            allowed = proposal.scores + bias
            to_draw = allowed / temperature
            if self.config.disallow_correct:
                to_draw = to_draw.scatter(1, original.view(-1, 1), -math.inf)
        with torch.no_grad():
            scores = proposal.scores.detach()
            sampled_ids = sample_tokens(to_draw, uniforms.flatten()).view_as(original)
            of_samples, of_text = (scores.gather(1, ids.view(-1, 1)) for ids in (sampled_ids, original))
            # Written out: torch's logsumexp, compiled for a CPU, takes as long as the whole draw.
            highest = allowed.detach().amax(dim=-1, keepdim=True)
            log_normalizers = highest + (allowed.detach() - highest).exp_().sum(dim=-1, keepdim=True).log()
            log_probs = (of_samples - log_normalizers).view_as(original)
            is_best = (of_text == scores.amax(dim=-1, keepdim=True)).view_as(original)
            return Draw(
                proposal=proposal,
                to_draw=to_draw,
                sampled_ids=sampled_ids,
                sampled_log_probs=at_positions(log_probs * chosen.weights, chosen, input_ids),
                is_correct=at_positions(is_best & (chosen.weights > 0), chosen, input_ids),
            )


ElectraRtdGenerator.pair_class = ElectraRtdForPreTraining


class GruEncoderRtdForPreTraining(ElectraRtdForPreTraining):
    """The pair under the name of the family that `transformers` does not know; see below."""

    config_class = GruEncoderConfig


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
