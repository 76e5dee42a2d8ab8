"""Summaries and translations that are written: an encoder warm-started under an `EncoderDecoderModel`."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModel,
    DataCollatorForSeq2Seq,
    ElectraConfig,
    ElectraForCausalLM,
    EncoderDecoderModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from ...common.references import ModelReference
from ...data.text_files import text_lines
from ..scoring import compute
from ..tasks import SplitFile, Task
from .document_files import document_rows
from .heads import fresh, load_with_new_head
from .task_kind import TaskKind


_INSIDE_A_WORD = re.compile(r"(?<=\w) (-(?= \w)|['’](?= (?:s|t|re|ve|ll|d|m)\b)) ")
_BEFORE_NO_SPACE = re.compile(r" ([.,!?;:)\]%])")
_BEHIND_NO_SPACE = re.compile(r"([(\[$#]) ")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass
class SequenceToSequence(TaskKind):
    """The checkpoint's encoder reads; an ELECTRA decoder of the same sizes writes.

    What starts from pre-trained weights (Rothe et al. 2020): the encoder; of the decoder, for an ELECTRA checkpoint,
    embeddings and layers but their cross-attention, and for any other family the word embeddings alone, where they
    have the encoder's width. The rest is new, the transform before the output layer included. The output layer is tied
    to the decoder's word embeddings. `warm_started` says this of a model.

    Attributes:
        num_beams: of beam search.
        max_target_length: tokens of a target in training, and of what is generated; longer targets are cut, and
            counted.
        no_repeat_ngram_size: for summaries; translations repeat what their source repeats.
        length_penalty: exponent on the length that beams are divided by.
        early_stopping: whether the search ends as soon as `num_beams` beams are finished, though a longer one may be
            better.
    """

    num_beams: int = 4
    max_target_length: int = 64
    no_repeat_ngram_size: int = 3
    length_penalty: float = 1.0
    early_stopping: bool = False

    generates: ClassVar[bool] = True
    predicts_one_class: ClassVar[bool] = True
    # Whether what is written may hold no n-gram twice; translations repeat what their source repeats.
    forbids_repeats: ClassVar[bool] = False

    def load_model(self, checkpoint: str | ModelReference) -> PreTrainedModel:
        """
        Raises:
            ValueError: for a `max_target_length` beyond the decoder's positions; see `load_with_new_head`.
        """
        encoder = load_with_new_head(AutoModel, checkpoint)
        decoder = ElectraForCausalLM(self._decoder_config(encoder.config))
        # What is tied before and behind the copy is one tensor: the words of the decoder and its output layer.
        with torch.no_grad():
            if encoder.config.model_type == "electra":
                unknown = decoder.electra.load_state_dict(encoder.state_dict(), strict=False)
                assert not unknown.unexpected_keys and all("crossattention" in name for name in unknown.missing_keys)
            elif _shares_word_embeddings(encoder, decoder):
                words: Any = decoder.get_input_embeddings()
                words.weight.copy_(encoder.get_input_embeddings().weight)
        return self._joined(encoder, decoder)

    def fresh_model(self, config: PreTrainedConfig) -> PreTrainedModel:
        encoder, decoder = fresh(AutoModel, config.encoder), ElectraForCausalLM(config.decoder)
        return self._joined(encoder, decoder)

    def _decoder_config(self, config: PreTrainedConfig) -> ElectraConfig:
        if config.model_type == "electra":
            decoder: Any = copy.deepcopy(config)
        else:
            decoder = ElectraConfig(
                vocab_size=config.vocab_size,
                embedding_size=config.hidden_size,
                hidden_size=config.hidden_size,
                # A recurrent encoder has neither; these are ELECTRA's proportions.
                intermediate_size=getattr(config, "intermediate_size", 4 * config.hidden_size),
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=getattr(config, "num_attention_heads", max(1, config.hidden_size // 64)),
                max_position_embeddings=max(512, self.max_target_length),
            )
        if self.max_target_length > decoder.max_position_embeddings:
            raise ValueError(
                f"max_target_length is {self.max_target_length}; the decoder has the checkpoint's "
                f"{decoder.max_position_embeddings} positions"
            )
        decoder.is_decoder = decoder.add_cross_attention = decoder.tie_word_embeddings = True
        decoder.pad_token_id = self.tokenizer.pad_token_id
        return decoder

    def _joined(self, encoder: PreTrainedModel, decoder: PreTrainedModel) -> EncoderDecoderModel:
        model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
        tokens = {
            "decoder_start_token_id": self.tokenizer.cls_token_id,
            "bos_token_id": self.tokenizer.cls_token_id,
            "eos_token_id": self.tokenizer.sep_token_id,
            "pad_token_id": self.tokenizer.pad_token_id,
        }
        search = {
            "max_length": self.max_target_length,
            "num_beams": self.num_beams,
            "early_stopping": self.early_stopping,
            "length_penalty": self.length_penalty,
        }
        if self.forbids_repeats:
            search["no_repeat_ngram_size"] = self.no_repeat_ngram_size
        for name, value in tokens.items():
            setattr(model.config, name, value)
        for name, value in (tokens | search).items():
            setattr(model.generation_config, name, value)
        return model

    def features(self, examples: Dataset, training: bool) -> Dataset:
        """Sources and targets cut at their lengths."""
        cut = {"source": 0, "target": 0}

        def encode(batch: dict[str, list]) -> dict[str, list]:
            whole = self.tokenizer(batch["source"], add_special_tokens=False)["input_ids"]
            cut["source"] += sum(len(ids) > self.max_length - 2 for ids in whole)
            encoded = dict(self.tokenizer(batch["source"], truncation=True, max_length=self.max_length))
            # The decoder has its own segment.
            encoded.pop("token_type_ids", None)
            encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
            if training:
                targets = self.tokenizer(batch["target"], add_special_tokens=False)["input_ids"]
                cut["target"] += sum(len(ids) > self.max_target_length - 1 for ids in targets)
                encoded["labels"] = [
                    [*ids[: self.max_target_length - 1], self.tokenizer.sep_token_id] for ids in targets
                ]
            return encoded

        made = examples.map(
            encode, batched=True, remove_columns=examples.column_names, load_from_cache_file=False, desc="tokenizing"
        )
        for name, limit in (("source", self.max_length), ("target", self.max_target_length)):
            self.note_cut(f"{name}s", cut[name], len(examples), f"are longer than {limit} tokens and lose their end")
        return made

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        pad = DataCollatorForSeq2Seq(self.tokenizer, pad_to_multiple_of=self.pad_to_multiple_of)

        def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
            # Without labels the stock collator hands on `None`, which the trainer takes for labels.
            return {name: value for name, value in pad(rows).items() if value is not None}

        return collate

    def predictions(self, outputs: Any, features: Dataset, examples: Dataset) -> list[Any]:
        ids = outputs[0] if isinstance(outputs, tuple) else outputs
        ids = np.where(ids < 0, self.tokenizer.pad_token_id, ids)
        return [detokenized(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def metrics(self, predictions: list[Any], examples: Dataset) -> dict[str, float]:
        references = list(examples["references"])
        if self._writes_lower_case:
            references = [[text.lower() for text in row] for row in references]
            predictions = [text.lower() for text in predictions]
        return compute(self.task.metric, predictions, references)

    @property
    def _writes_lower_case(self) -> bool:
        # An uncased tokenizer cannot write capitals; both sides are compared in lower case, for baselines too.
        written: Any = self.tokenizer.decode(self.tokenizer("A", add_special_tokens=False)["input_ids"])
        return written.strip() == "a"

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """The source itself."""
        return list(examples["source"])


@dataclass
class Summarization(SequenceToSequence):
    """Summaries that are written."""

    name: ClassVar[str] = "summarization"
    hub_task_type: ClassVar[str] = "summarization"
    forbids_repeats: ClassVar[bool] = True

    @classmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        for sentences, references in document_rows(path):
            yield from _summaries(sentences, references, split)

    @classmethod
    def from_hub(cls, task: Task, rows: Dataset, split: str) -> Dataset:
        made = (_summaries(list(row["source"]), list(row["target"]), split) for row in rows)
        return Dataset.from_list(list(chain.from_iterable(made)))

    def trivial_predictions(self, train: Dataset, examples: Dataset) -> list[Any]:
        """The first sentence of the source."""
        return [_SENTENCE.split(source, maxsplit=1)[0] for source in examples["source"]]


@dataclass
class Translation(SequenceToSequence):
    """Translations."""

    name: ClassVar[str] = "translation"
    hub_task_type: ClassVar[str] = "translation"

    @classmethod
    def read_rows(cls, task: Task, path: Path, files: SplitFile, split: str) -> Iterator[dict[str, Any]]:
        other = path.parent / files.columns["target"]
        if not other.is_file():
            raise ValueError(f"{path}: its other side {other} is missing")
        sources, targets = list(text_lines(str(path))), list(text_lines(str(other)))
        if len(sources) != len(targets):
            raise ValueError(f"{path} has {len(sources)} lines, but {other} has {len(targets)}")
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), start=1):
            if not source.strip() and not target.strip():
                continue
            if not source.strip() or not target.strip():
                empty = path if not source.strip() else other
                raise ValueError(f"{empty}, line {number}: is empty, but the line of the other side is not")
            yield {"source": source, "target": target, "references": [target]}

    @classmethod
    def from_hub(cls, task: Task, rows: Dataset, split: str) -> Dataset:
        return Dataset.from_list(
            [{"source": row["source"], "target": row["target"], "references": [row["target"]]} for row in rows]
        )


def _summaries(sentences: list[str], references: list[str], split: str) -> Iterator[dict[str, Any]]:
    """Make one row for each summary of a text in training, and one row for the text elsewhere."""
    for target in references if split == "train" else references[:1]:
        yield {"source": " ".join(sentences), "target": target, "references": references}


def detokenized(text: str) -> str:
    """Decoded WordPiece as people write it: `don ' t, a t - shirt ( red )` becomes `don't, a t-shirt (red)`.

    WordPiece forgets where spaces were. Scores against plain text lose three BLEU to that alone.
    """
    text = _INSIDE_A_WORD.sub(r"\1", text.strip())
    text = _BEFORE_NO_SPACE.sub(r"\1", text)
    return _BEHIND_NO_SPACE.sub(r"\1", text)


def warm_started(model: PreTrainedModel) -> dict[str, str]:
    """What `SequenceToSequence.load_model` took from the checkpoint, for the record of a result.

    Returns:
        `encoder`, `decoder.embeddings`, `decoder.layers`, `decoder.cross_attention` and `decoder.output`, each
        "pre-trained" or "new", with what is excepted.
    """
    network: Any = model
    is_electra = network.config.encoder.model_type == "electra"
    words = "pre-trained words, the rest new" if _shares_word_embeddings(network.encoder, network.decoder) else "new"
    return {
        "encoder": "pre-trained",
        "decoder.embeddings": "pre-trained" if is_electra else words,
        "decoder.layers": "pre-trained" if is_electra else "new",
        "decoder.cross_attention": "new",
        "decoder.output": "new, tied to the decoder's words",
    }


def _shares_word_embeddings(encoder: PreTrainedModel, decoder: PreTrainedModel) -> bool:
    return encoder.get_input_embeddings().weight.shape == decoder.get_input_embeddings().weight.shape
