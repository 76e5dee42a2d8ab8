"""`pipeline("replaced-token-detection")`: which tokens of a text does a discriminator take for replaced?

Importing this module registers the task with `transformers`.
"""

import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from transformers import (
    MODEL_FOR_PRETRAINING_MAPPING,
    AutoModelForPreTraining,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from ..backbones import HUB_ARGUMENTS, config_from
from ..configuration_electra_rtd import RTD_KEY
from ..modeling_electra_rtd import ElectraRtdDiscriminator


TASK = "replaced-token-detection"
# Of the probabilities of a word's tokens; "none" keeps the tokens apart.
_AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {
    "none": itemgetter(0),
    "first": itemgetter(0),
    "average": statistics.fmean,
    "max": max,
}
_HEAD = "discriminator_predictions"


@dataclass(frozen=True)
class TokenizedText:
    """A text and its tokens, those of the template (`[CLS]`, `[SEP]`) kept apart.

    Attributes:
        text: as it was given.
        ids: of the text's own tokens, `n` of them.
        prefix, suffix: ids that the tokenizer puts before and after any text.
        offsets: `n` pairs of characters `(start, end)` into `text`.
        word_ids: `n` numbers of the words that the tokens are pieces of; `None` for a token outside words.
    """

    text: str
    ids: list[int]
    prefix: list[int]
    suffix: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` are read together; `first` to `last` are judged (ends exclusive, counted in tokens)."""

    start: int
    stop: int
    first: int
    last: int


def windows_over(count: int, size: int, stride: int) -> list[Window]:
    """Overlapping windows, spread evenly, that judge every token once: in the window whose edges are farthest from it.

    Args:
        count: tokens of the text, at least one.
        size: tokens of a window, special tokens not counted.
        stride: tokens that two windows share, at least.
    """
    number = 1 + max(0, -((size - count) // (size - stride)))
    starts = [index * (count - size) // (number - 1) for index in range(number)] if number > 1 else [0]
    # The middle of what two neighbours share.
    borders = [(later + earlier + size) // 2 for earlier, later in zip(starts, starts[1:], strict=False)]
    return [
        Window(start, min(start + size, count), first, last)
        for start, first, last in zip(starts, [0, *borders], [*borders, count], strict=True)
    ]


class DiscriminatorLoader:
    """What `pipeline` loads a checkpoint with."""

    @classmethod
    def from_pretrained(cls, name_or_path: str, **arguments: Any) -> PreTrainedModel:
        """A discriminator in evaluation mode, from a folder or the Hub.

        A stock model where one has the head (`ElectraForPreTraining`), else `ElectraRtdDiscriminator`: for a joint
        checkpoint, and for an encoder with the head beside it. A checkpoint without the head is loaded without it,
        for the pipeline to refuse: `pipeline` hides what a loader raises behind pages of tracebacks.
        """
        config = config_from(name_or_path, **{key: arguments[key] for key in HUB_ARGUMENTS if key in arguments})
        stock = type(config) in MODEL_FOR_PRETRAINING_MAPPING and not hasattr(config, RTD_KEY)
        model_class = AutoModelForPreTraining if stock else ElectraRtdDiscriminator
        model, report = model_class.from_pretrained(name_or_path, output_loading_info=True, **arguments)
        if any(key.startswith(_HEAD) for key in report["missing_keys"]):
            delattr(model, _HEAD)
            # What the checkpoint calls itself, for the refusal.
            model.config.architectures = config.architectures
        return model


class ReplacedTokenDetectionPipeline(ChunkPipeline):
    """Judges every token of a text: the probability that it was replaced.

    ```python
    from transformers import pipeline
    from modeling_electra_rtd import ReplacedTokenDetectionPipeline  # registers the task

    detect = pipeline("replaced-token-detection", model="google/electra-small-discriminator")
    detect("The capital of France is a banana on the river Seine.")
    ```

    The model is a joint checkpoint, a release, or any discriminator (`ElectraForPreTraining`), by folder, Hub id or as
    an object. A text is a `str`; a list gives a list of results, a generator or `Dataset` an iterator.

    Each token is a dict: `index` (its number in the text), `token` (of the vocabulary), `text` (the characters
    `start` to `end` of the original), `start`, `end`, `probability` and `is_replaced`. Words have no `token`.

    Args (here, or with a call):
        batch_size: windows that go through the model together.
        device: as for any pipeline.
        threshold: `is_replaced` is `probability > threshold`; in [0, 1], 0.5 unless given.
        aggregation_strategy: `"none"` for tokens; for words the probability of their `"first"` token, the `"average"`
            or the `"max"`.
        max_length: positions of a window, special tokens included; by default all that the model has. Give the length
            it was trained on where that is less.
        stride: tokens that neighbouring windows of a longer text share, at least; by default a quarter of them. Each
            token is judged once, in the window that shows most around it.

    Raises:
        ValueError: for a model without the detection head (a generator, a masked-LM model), a tokenizer without
            offsets, a text without tokens, or a value that is not allowed.
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, **arguments: Any):
        if not hasattr(model, _HEAD):
            named = (getattr(model.config, "architectures", None) or [type(model).__name__])[0]
            raise ValueError(
                f"model {model.name_or_path!r} is {named} without {_HEAD}.*, the head that detects replaced tokens; "
                "allowed: a joint checkpoint, a release of one, or an ElectraForPreTraining"
            )
        if tokenizer is None or not tokenizer.is_fast:
            raise ValueError(
                f"tokenizer is {'None' if tokenizer is None else type(tokenizer).__name__}, which gives no offsets; "
                "allowed: a fast tokenizer"
            )
        if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
            raise ValueError(
                f"tokenizer {tokenizer.name_or_path!r} knows special tokens only; is its tokenizer.json missing?"
            )
        if len(tokenizer) > model.config.vocab_size:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}")
        if tokenizer.padding_side != "right":
            # Batches would shift positions, and with them probabilities. A copy: the caller's stays as it is.
            tokenizer = copy.deepcopy(tokenizer)
            tokenizer.padding_side = "right"
        arguments.setdefault("task", TASK)
        super().__init__(model=model.eval(), tokenizer=tokenizer, **arguments)

    def __call__(self, inputs: Any, **arguments: Any) -> Any:
        """Tokens or words of a text; a list of them for a list, an iterator for a generator."""
        if isinstance(inputs, Sequence) and not isinstance(inputs, str):
            inputs = list(inputs)
            if not inputs:
                return []
        elif isinstance(inputs, Iterator):
            inputs = (text for text in inputs)
        return super().__call__(inputs, **arguments)

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        aggregation_strategy: str | None = None,
        max_length: int | None = None,
        stride: int | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it must be in [0, 1]")
        if aggregation_strategy not in (None, *_AGGREGATIONS):
            raise ValueError(f"aggregation_strategy is {aggregation_strategy!r}; allowed: {', '.join(_AGGREGATIONS)}")
        sizes = _given(max_length=max_length, stride=stride)
        self._window_size(**{**getattr(self, "_preprocess_params", {}), **sizes})
        return sizes, {}, _given(threshold=threshold, aggregation_strategy=aggregation_strategy)

    def _window_size(self, max_length: int | None = None, stride: int | None = None) -> tuple[int, int]:
        """Tokens of a window without its special tokens, and tokens that two windows share."""
        longest = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", 512))
        special = self.tokenizer.num_special_tokens_to_add()
        if max_length is not None and not special < max_length <= longest:
            raise ValueError(f"max_length is {max_length}; it must be in [{special + 1}, {longest}]")
        size = (max_length or longest) - special
        if stride is not None and not 0 <= stride < size:
            raise ValueError(f"stride is {stride}; it must be in [0, {size - 1}], below the tokens of a window")
        return size, size // 4 if stride is None else stride

    def tokenize(self, text: str) -> TokenizedText:
        """The tokens of a text of any length.

        Raises:
            ValueError: for what is no `str`, and for a text without tokens.
        """
        if not isinstance(text, str):
            raise ValueError(f"a text is of type {type(text).__name__}; allowed: str")
        encoding = self.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        ids, special = encoding["input_ids"], encoding["special_tokens_mask"]
        if all(special):
            raise ValueError(f"the text {text!r} has no tokens")
        # Only what the template adds counts as special here: a "[SEP]" that is written in a text is a token of it.
        first, last = special.index(0), len(special) - special[::-1].index(0)
        inner = slice(first, last)
        return TokenizedText(
            text, ids[inner], ids[:first], ids[last:], encoding["offset_mapping"][inner], encoding.word_ids()[inner]
        )

    def preprocess(self, text: str | TokenizedText, **sizes: int) -> Iterator[dict[str, Any]]:
        """Windows of a text, or of one whose tokens are decided already: `input_ids` and `attention_mask`,
        `(1, positions)`, and `judged`, the slice of positions that count."""
        tokenized = text if isinstance(text, TokenizedText) else self.tokenize(text)
        windows = windows_over(len(tokenized.ids), *self._window_size(**sizes))
        for window in windows:
            row = [*tokenized.prefix, *tokenized.ids[window.start : window.stop], *tokenized.suffix]
            input_ids = torch.tensor([row])
            shift = len(tokenized.prefix) - window.start
            yield {
                "input_ids": input_ids,
                "attention_mask": torch.ones_like(input_ids),
                "judged": slice(shift + window.first, shift + window.last),
                "tokenized": tokenized,
                "is_last": window is windows[-1],
            }

    def _forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        rest = dict(inputs)
        batch = {name: rest.pop(name) for name in ("input_ids", "attention_mask")}
        # A joint model's own forward corrupts the text first.
        ours = isinstance(self.model, ElectraRtdDiscriminator)
        logits = self.model.discriminate(**batch) if ours else self.model(**batch).logits
        return {"probabilities": logits.float().sigmoid(), **rest}

    def postprocess(
        self, outputs: list[dict[str, Any]], threshold: float = 0.5, aggregation_strategy: str = "none"
    ) -> list[dict[str, Any]]:
        tokenized: TokenizedText = outputs[0]["tokenized"]
        probabilities: list[float] = []
        for output in outputs:
            probabilities += output["probabilities"][0, output["judged"]].tolist()
        groups = [[index] for index in range(len(probabilities))]
        if aggregation_strategy != "none":
            groups = _words(tokenized.word_ids)
        results = []
        for number, group in enumerate(groups):
            start, end = tokenized.offsets[group[0]][0], tokenized.offsets[group[-1]][1]
            judged = [probabilities[index] for index in group]
            probability = _AGGREGATIONS[aggregation_strategy](judged)
            result = {"index": number, "text": tokenized.text[start:end], "start": start, "end": end}
            if aggregation_strategy == "none":
                result["token"] = self.tokenizer.convert_ids_to_tokens(tokenized.ids[group[0]])
            results.append(result | {"probability": probability, "is_replaced": probability > threshold})
        return results


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _words(word_ids: list[int | None]) -> list[list[int]]:
    """Numbers of the tokens of each word; a token outside words is one of its own."""
    groups: list[list[int]] = []
    for index, word in enumerate(word_ids):
        if index and word is not None and word == word_ids[index - 1]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=ReplacedTokenDetectionPipeline,
    pt_model=DiscriminatorLoader,
    default={"model": ("google/electra-small-discriminator", "main")},
    type="text",
)
# With it, `save_pretrained` of the pipeline would copy this file into the checkpoint and name it in the config; what
# is saved here stays a native checkpoint.
del ReplacedTokenDetectionPipeline._registered_impl
