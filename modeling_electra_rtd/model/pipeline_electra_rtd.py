"""`pipeline("replaced-token-detection")`: which tokens of a text does a discriminator take for replaced?

It travels with a release as code that runs without this package, and imports only what travels with it.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .backbones import longest_row
from .objectives import OBJECTIVES
from .precision import faster_precision, warn_of_slower
from .text_encoding import reading_tokenizer
from .vocabulary import padding_problem, vocabulary_size


logger = logging.get_logger(__name__)

TASK = "replaced-token-detection"
# How the probabilities of a word's tokens become one; "none" keeps the tokens apart.
_AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {
    "none": itemgetter(0),
    "first": itemgetter(0),
    "average": statistics.fmean,
    "max": max,
}
# The module that a model must have.
HEAD = "discriminator_predictions"

# Positions, padding included, that go through the model together where no `batch_size` is given. On a CPU what a
# layer makes of more of them leaves its caches (docs/log/speed.md).
_POSITIONS_ON_CPU = 1024
_POSITIONS_ELSEWHERE = 32768
# Texts are sorted by length within as many as have this many characters; of an iterator, whose texts may come slowly,
# within this many batches.
_POOL_CHARACTERS = 2**18
_POOL_BATCHES = 16


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


class Row(NamedTuple):
    """A window of a text as a model reads it.

    Attributes:
        ids: special tokens included.
        judged: the positions of the row that count.
        tokens: the tokens of the text that stand there.
    """

    ids: list[int]
    judged: slice
    tokens: slice


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


class ReplacedTokenDetectionPipeline(ChunkPipeline):
    """Judges every token of a text: the probability that it was replaced.

    ```python
    detect = pipeline("replaced-token-detection", model="OWNER/RELEASE", trust_remote_code=True)
    detect("The capital of France is a banana on the river Seine.")
    ```

    The model is a joint checkpoint, a release, or any discriminator (`ElectraForPreTraining`), by folder, Hub id or as
    an object. A text is a `str`; a list gives a list of results, a generator or `Dataset` an iterator.

    Each token is a dict: `index` (its number in the text), `token` (of the vocabulary), `text` (the characters
    `start` to `end` of the original), `start`, `end`, `probability` and `is_replaced`. Words have no `token`.

    Args (here, or with a call):
        batch_size: windows that go through the model together; by default as many as are fast. Results come in the
            order of the texts, but texts of like length are read together: a generator is read 16 batches ahead, and
            without a `batch_size` one text at a time.
        bf16: whether matrix products of a 32-bit model run in bf16. Twice as fast where the device has them, but it
            moves probabilities by a few thousandths; by default they are those of the model. `"auto"` takes bf16 where
            a measurement finds it faster.
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
            offsets, a text without tokens, or a value that is not allowed; when called, for one whose head gives
            energies (Electric), which `logits` returns.
    """

    # The base class allows for pipelines without them.
    model: Any
    tokenizer: Any

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, **arguments: Any):
        if not hasattr(model, HEAD):
            named = (getattr(model.config, "architectures", None) or [type(model).__name__])[0]
            raise ValueError(
                f"model {model.name_or_path!r} is {named} without {HEAD}.*, the head that detects replaced tokens; "
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
        if vocabulary_size(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {vocabulary_size(tokenizer)} tokens, the model {model.config.vocab_size}"
            )
        if problem := padding_problem(tokenizer, getattr(model.config, "discriminator_config", model.config)):
            logger.warning(f"model {model.name_or_path!r}: {problem}")
        _check_batch_size(arguments.get("batch_size"))
        arguments.setdefault("task", TASK)
        # Texts are read as in pre-training; the tokenizer itself stays as it was given.
        self._reader = reading_tokenizer(tokenizer)
        super().__init__(model=model.eval(), tokenizer=tokenizer, **arguments)

    def __call__(self, inputs: Any, batch_size: int | None = None, **arguments: Any) -> Any:
        """Tokens or words of a text; a list of them for a list, an iterator for a generator."""
        objective = objective_trained(self.model)
        if OBJECTIVES[objective].gives_energies:
            raise ValueError(
                f"model {self.model.name_or_path!r} has learned energies (objective {objective!r}), not which tokens "
                "are replaced; electra-rtd score and inspect read texts by them"
            )
        batch_size = self._batch_size if batch_size is None else batch_size
        _check_batch_size(batch_size)
        if isinstance(inputs, Sequence) and not isinstance(inputs, str):
            inputs = list(inputs)
            if not inputs:
                return []
        elif isinstance(inputs, Iterator):
            inputs = (text for text in inputs)
        # The base class takes None for 1, and hands 0 on.
        return super().__call__(inputs, batch_size=batch_size or 0, **arguments)

    def get_iterator(
        self,
        inputs: Iterable[str | TokenizedText],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[list[dict[str, Any]]]:
        """Results in the order of the texts."""
        # A data loader, as transformers has it here, would keep the order of the texts within its batches.
        texts_together = None if isinstance(inputs, Sized) else max(1, _POOL_BATCHES * batch_size)
        for pool in pools(inputs, texts_together):
            texts = self.tokenize_all(pool)
            for text in texts:
                _refuse_empty(text)
            judged = self.logits(texts, batch_size or None, **preprocess_params, **forward_params)
            for output in zip(texts, judged, strict=True):
                yield self.postprocess(output, **postprocess_params)

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        aggregation_strategy: str | None = None,
        max_length: int | None = None,
        stride: int | None = None,
        bf16: bool | str | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it must be in [0, 1]")
        if aggregation_strategy not in (None, *_AGGREGATIONS):
            raise ValueError(f"aggregation_strategy is {aggregation_strategy!r}; allowed: {', '.join(_AGGREGATIONS)}")
        if bf16 not in (None, True, False, "auto"):
            raise ValueError(f"bf16 is {bf16!r}; it must be True, False or 'auto'")
        sizes = _given(max_length=max_length, stride=stride)
        self._window_size(**{**getattr(self, "_preprocess_params", {}), **sizes})
        return sizes, _given(bf16=bf16), _given(threshold=threshold, aggregation_strategy=aggregation_strategy)

    def _window_size(self, max_length: int | None = None, stride: int | None = None) -> tuple[int, int]:
        """Tokens of a window without its special tokens, and tokens that two windows share."""
        config = getattr(self.model.config, "discriminator_config", self.model.config)
        longest = min(self.tokenizer.model_max_length, longest_row(config) or 512)
        special = self._reader.num_special_tokens_to_add()
        if max_length is not None and not special < max_length <= longest:
            raise ValueError(f"max_length is {max_length}; it must be in [{special + 1}, {longest}]")
        size = (max_length or longest) - special
        if stride is not None and not 0 <= stride < size:
            raise ValueError(f"stride is {stride}; it must be in [0, {size - 1}], below the tokens of a window")
        return size, size // 4 if stride is None else stride

    def tokenize(self, text: str) -> TokenizedText:
        """The tokens of a text of any length.

        Raises:
            ValueError: if an input is not a `str`, or a text has no tokens.
        """
        (tokenized,) = self.tokenize_all([text])
        _refuse_empty(tokenized)
        return tokenized

    def tokenize_all(self, texts: Sequence[str | TokenizedText]) -> list[TokenizedText]:
        """The tokens of texts of any length, of some perhaps none; what is tokenized already stays as it is.

        Raises:
            ValueError: if an input is not a `str`.
        """
        given = [text for text in texts if _characters_of(text) is text]
        made = iter(self._tokenized(given))
        return [next(made) if isinstance(text, str) else text for text in texts]

    def _tokenized(self, texts: list[str]) -> Iterator[TokenizedText]:
        if not texts:
            return
        encoding = self._reader(texts, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        for number, text in enumerate(texts):
            ids, special = encoding["input_ids"][number], encoding["special_tokens_mask"][number]
            first = special.index(0) if 0 in special else len(special)
            inner = slice(first, len(special) - special[::-1].index(0) if 0 in special else first)
            yield TokenizedText(
                text,
                ids[inner],
                ids[: inner.start],
                ids[inner.stop :],
                encoding["offset_mapping"][number][inner],
                encoding.word_ids(number)[inner],
            )

    def preprocess(self, text: str | TokenizedText, **sizes: int) -> list[Row]:
        """The windows of a text, or of one whose tokens are decided already."""
        tokenized = text if isinstance(text, TokenizedText) else self.tokenize(text)
        rows = []
        for window in windows_over(len(tokenized.ids), *self._window_size(**sizes)):
            shift = len(tokenized.prefix) - window.start
            rows.append(
                Row(
                    [*tokenized.prefix, *tokenized.ids[window.start : window.stop], *tokenized.suffix],
                    judged=slice(shift + window.first, shift + window.last),
                    tokens=slice(window.first, window.last),
                )
            )
        return rows

    def logits(self, texts: Sequence[TokenizedText], batch_size: int | None = None, **arguments: Any) -> list[Tensor]:
        """What the model says of every token of every text, whatever the order and lengths of the texts.

        Args:
            batch_size, arguments: those of the pipeline, where they differ from what it was made with.

        Returns:
            For each text `(n,)` float32 on the CPU; positive where a token looks replaced.
        """
        sizes, precision, _ = self._sanitize_parameters(**arguments)
        sizes = {**self._preprocess_params, **sizes}
        batch_size = self._batch_size if batch_size is None else batch_size
        _check_batch_size(batch_size)
        logits = [torch.empty(len(text.ids)) for text in texts]
        rows = []
        for text, found in zip(texts, logits, strict=True):
            if text.ids:
                rows += [(row, found[row.tokens]) for row in self.preprocess(text, **sizes)]
        # Around all batches: it casts the weights once, and forgets them at its end.
        with self.precision(**{**self._forward_params, **precision}):
            for batch in self.batches(rows, batch_size):
                inputs = self.padded([row for row, _ in batch])
                for (row, found), judged in zip(batch, self.forward(inputs), strict=True):
                    found.copy_(judged[row.judged])
        return logits

    def batches(self, rows: list[tuple[Row, Any]], batch_size: int | None = None) -> Iterator[list[tuple[Row, Any]]]:
        """Rows of like length together, the longest first, each with what stands next to it.

        Args:
            batch_size: `None` takes as many as are fast.
        """
        rows = sorted(rows, key=lambda row: len(row[0].ids), reverse=True)
        start = 0
        while start < len(rows):
            count = batch_size or max(1, self._positions // len(rows[start][0].ids))
            yield rows[start : start + count]
            start += count

    def precision(self, bf16: bool | str = False) -> AbstractContextManager:
        """Where the model runs in it."""
        if self.model.dtype != torch.float32 or not bf16:
            return contextlib.nullcontext()
        if bf16 == "auto" and faster_precision(self.device.type) != "bf16":
            return contextlib.nullcontext()
        if bf16 is True:
            warn_of_slower("bf16", self.device.type)
        return torch.autocast(self.device.type, torch.bfloat16)

    @property
    def _positions(self) -> int:
        return _POSITIONS_ON_CPU if self.device.type == "cpu" else _POSITIONS_ELSEWHERE

    def get_inference_context(self) -> Callable[[], AbstractContextManager]:
        return torch.inference_mode

    def padded(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, `(rows, positions)`."""
        ids = [torch.tensor(row.ids) for row in rows]
        input_ids = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0)
        lengths = torch.tensor([len(row) for row in ids])
        return {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        }

    def _forward(self, batch: dict[str, Tensor]) -> Tensor:
        """`(rows, positions)` float32 logits."""
        # Not the model's own forward: a joint model's corrupts the text first.
        hidden = self.model.base_model(**batch).last_hidden_state
        # The products of the head are few, and rounding to bf16 costs the most accuracy at the end.
        with torch.autocast(self.device.type, enabled=False):
            return getattr(self.model, HEAD)(hidden.to(self.model.dtype)).float()

    def postprocess(
        self, judged: tuple[TokenizedText, Tensor], threshold: float = 0.5, aggregation_strategy: str = "none"
    ) -> list[dict[str, Any]]:
        """The results of a text, from its tokens and their logits."""
        tokenized, logits = judged
        probabilities = logits.sigmoid().tolist()
        groups = [[index] for index in range(len(probabilities))]
        names = self.tokenizer.convert_ids_to_tokens(tokenized.ids)
        if aggregation_strategy != "none":
            groups = _words(tokenized.word_ids)
        results = []
        for number, group in enumerate(groups):
            start, end = tokenized.offsets[group[0]][0], tokenized.offsets[group[-1]][1]
            probability = _AGGREGATIONS[aggregation_strategy]([probabilities[index] for index in group])
            result = {"index": number, "text": tokenized.text[start:end], "start": start, "end": end}
            if aggregation_strategy == "none":
                result["token"] = names[number]
            results.append(result | {"probability": probability, "is_replaced": probability > threshold})
        return results


def objective_trained(model: PreTrainedModel) -> str:
    """What a discriminator has learned by what its config says, which may be a stock one; `"rtd"` where it says
    nothing."""
    values = vars(model.config)
    return values.get("objective") or (values.get("electra_rtd") or {}).get("objective", "rtd")


def pools(texts: Iterable[str | TokenizedText], most: int | None = None) -> Iterator[list[str | TokenizedText]]:
    """Neighbouring texts that are worth sorting by length, of which there may be any number in all.

    Args:
        most: texts of a pool; `None` counts their characters.

    Raises:
        ValueError: if an input is not a `str`.
    """
    pool: list[str | TokenizedText] = []
    characters = 0
    for text in texts:
        pool.append(text)
        characters += 1 + len(_characters_of(text))
        if len(pool) == most or characters > _POOL_CHARACTERS:
            yield pool
            pool, characters = [], 0
    if pool:
        yield pool


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")


def _characters_of(text: str | TokenizedText) -> str:
    characters = text.text if isinstance(text, TokenizedText) else text
    if not isinstance(characters, str):
        raise ValueError(f"a text is of type {type(characters).__name__}; allowed: str")
    return characters


def _refuse_empty(tokenized: TokenizedText) -> None:
    if not tokenized.ids:
        raise ValueError(f"the text {tokenized.text!r} has no tokens")


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
