"""What a pair sees in a text: the original, what the generator makes of it, and what the discriminator thinks."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..common.pairs import holds_pair
from ..common.references import find_model
from ..data.tokenization import load_tokenizer
from ..data.unknown_tokens import unknown_share_problem
from ..data.word_starts import continuing_tokens
from ..model.corruption import split_uniforms
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.objectives import OBJECTIVES
from ..model.pipeline_electra_rtd import ReplacedTokenDetectionPipeline, Row, TokenizedText, objective_trained, pools
from .pipeline_task import DiscriminatorLoader


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class InspectedToken:
    """One position of a text.

    Attributes:
        original: the token of the text.
        shown: the token the discriminator read.
        is_chosen: whether the generator was asked for it.
        is_replaced: whether it differs from the original.
        generated_probability: P_g, the generator's probability of what it put there; `None` where not asked.
        replaced_probability: P_d, the discriminator's probability that the token was replaced. Of a discriminator that
            gives energies: of what it takes for a token's probability, exp(-energy), what is missing to 1.
        energy: of a discriminator that gives energies (objective `electric`), in nats; of any other `None`.
    """

    original: str
    shown: str
    is_chosen: bool
    is_replaced: bool
    generated_probability: float | None
    replaced_probability: float
    energy: float | None = None


@dataclass
class _Corrupted:
    """What a generator made of a text of `n` tokens.

    Attributes:
        ids: `(n,)`, what the discriminator reads.
        generated_log_probs: `(n,)`, log P_g; NaN where the generator was not asked.
        logits: `(n,)` of the discriminator.
        is_judged: whether `logits` are of this very text. The windows of a longer one have been corrupted one by one,
            what they share in both.
    """

    ids: Tensor
    generated_log_probs: Tensor
    logits: Tensor
    is_judged: bool


def load_for_inspection(model: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pair (joint checkpoint or release), or a lone discriminator, with its tokenizer.

    Args:
        model: any name that `find_model` takes.

    Raises:
        ValueError: for a model that cannot be loaded, or that detects nothing.
    """
    reference = find_model(model)
    model_class = ElectraRtdForPreTraining if holds_pair(reference) else DiscriminatorLoader
    loaded = model_class.from_pretrained(reference.name, **reference.arguments).eval()
    if isinstance(loaded, ElectraRtdForPreTraining) and not loaded.config.objective_spec.has_detection_head:
        raise ValueError(
            f"{model} has learned objective {loaded.config.objective!r}, which predicts tokens and detects nothing; "
            "its masked-LM head is what AutoModelForMaskedLM loads"
        )
    return loaded, load_tokenizer(reference)


def inspect_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, seed: int = 0
) -> list[InspectedToken]:
    """Corrupt a text with the pair's own generator and judge every token; a lone discriminator judges it as it is.

    Text beyond the model's length is corrupted, and then judged, in the windows of the pipeline.

    Raises:
        ValueError: for a text without tokens, and a model without a discriminator.
    """
    # In bf16 the last digits shown would not be the model's own.
    pipeline = ReplacedTokenDetectionPipeline(model=model, tokenizer=tokenizer, device=model.device, bf16=False)
    (tokens,) = _inspected(pipeline, [pipeline.tokenize(text)], seed)
    unknown = sum(token.original == tokenizer.unk_token for token in tokens)
    if problem := unknown_share_problem(unknown, len(tokens), "the text"):
        logger.warning(problem)
    return tokens


def inspect_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    seed: int = 0,
    bf16: bool | str = False,
) -> Iterator[list[InspectedToken]]:
    """The same for any number of texts, of which those of like length are read together.

    The corruption of a text depends on the seed and the text alone, not on the other texts.

    Args:
        bf16: see the pipeline; with it here and there another token is drawn.

    Yields:
        Tokens in the order of the texts; none for a text without tokens.
    """
    pipeline = ReplacedTokenDetectionPipeline(model=model, tokenizer=tokenizer, device=model.device, bf16=bf16)
    for pool in pools(texts):
        yield from _inspected(pipeline, pipeline.tokenize_all(pool), seed)


def _inspected(
    pipeline: ReplacedTokenDetectionPipeline, originals: Sequence[TokenizedText], seed: int
) -> Iterator[list[InspectedToken]]:
    if not isinstance(pipeline.model, ElectraRtdForPreTraining):
        for original, logits in zip(originals, pipeline.logits(originals), strict=True):
            yield _tokens(pipeline, original, original.ids, {}, logits)
        return
    corrupted = _corrupt(pipeline, originals, seed)
    again = [number for number, text in enumerate(corrupted) if not text.is_judged]
    texts = [dataclasses.replace(originals[number], ids=corrupted[number].ids.tolist()) for number in again]
    for number, logits in zip(again, pipeline.logits(texts), strict=True):
        corrupted[number].logits = logits
    for original, text in zip(originals, corrupted, strict=True):
        probabilities = text.generated_log_probs.exp().tolist()
        generated = {i: probability for i, probability in enumerate(probabilities) if not math.isnan(probability)}
        yield _tokens(pipeline, original, text.ids.tolist(), generated, text.logits)


def judge(
    pipeline: ReplacedTokenDetectionPipeline, original: TokenizedText, shown: list[int], generated: dict[int, float]
) -> list[InspectedToken]:
    """What the discriminator thinks of ids that stand in the place of a text's own.

    Args:
        shown: as many ids as the text has tokens.
        generated: P_g of what the generator put there, by position; for the positions it was asked for.
    """
    (logits,) = pipeline.logits([dataclasses.replace(original, ids=shown)])
    return _tokens(pipeline, original, shown, generated, logits)


def _tokens(
    pipeline: ReplacedTokenDetectionPipeline,
    original: TokenizedText,
    shown: list[int],
    generated: dict[int, float],
    logits: Tensor,
) -> list[InspectedToken]:
    names, shown_names = token_names(pipeline.tokenizer, original.ids), token_names(pipeline.tokenizer, shown)
    # An energy is the head's output as it is.
    energies = logits.tolist() if _gives_energies(pipeline.model) else [None] * len(shown)
    probabilities = (
        1 - (-logits).exp().clamp(max=1.0) if _gives_energies(pipeline.model) else logits.sigmoid()
    ).tolist()
    return [
        InspectedToken(
            original=names[i],
            shown=shown_names[i],
            is_chosen=i in generated,
            is_replaced=shown[i] != original.ids[i],
            generated_probability=generated.get(i),
            replaced_probability=probabilities[i],
            energy=energies[i],
        )
        for i in range(len(shown))
    ]


def _gives_energies(model: PreTrainedModel) -> bool:
    return OBJECTIVES[objective_trained(model)].gives_energies


@torch.inference_mode()
def _corrupt(
    pipeline: ReplacedTokenDetectionPipeline, originals: Sequence[TokenizedText], seed: int
) -> list[_Corrupted]:
    """Texts as the pair's generator leaves them, every one by random numbers of its own."""
    model = pipeline.model
    continues = None
    if model.config.masking_strategy != "token":
        continues = continuing_tokens(pipeline.tokenizer)
    texts, rows = [], []
    for original in originals:
        count = len(original.ids)
        windows = pipeline.preprocess(original) if count else []
        # The energy of Electric is not what its step gives: that weighs it against the noise.
        is_judged = len(windows) <= 1 and not _gives_energies(model)
        text = _Corrupted(torch.empty(count, dtype=torch.int64), torch.empty(count), torch.empty(count), is_judged)
        texts.append(text)
        generator = torch.Generator().manual_seed(seed)
        for row in windows:
            uniforms = torch.rand(1, model.number_of_uniforms(len(row.ids)), generator=generator)
            rows.append((row, (text, uniforms)))
    with pipeline.precision(**pipeline._forward_params):
        for batch in pipeline.batches(rows):
            inputs = pipeline.padded([row for row, _ in batch])
            if continues is not None:
                inputs["word_starts"] = torch.from_numpy(~continues[inputs["input_ids"].numpy()])
            inputs["corruption_uniforms"] = _beside_padding(model, batch, inputs["input_ids"].shape[1])
            output = model(**{name: value.to(model.device) for name, value in inputs.items()})
            log_probs = torch.where(output.is_chosen, output.sampled_log_probs, math.nan).cpu()
            ids, logits = output.corrupted_input_ids.cpu(), output.logits.float().cpu()
            for number, (row, (text, _)) in enumerate(batch):
                text.ids[row.tokens] = ids[number, row.judged]
                text.generated_log_probs[row.tokens] = log_probs[number, row.judged]
                text.logits[row.tokens] = logits[number, row.judged]
    return texts


def _beside_padding(model: ElectraRtdForPreTraining, batch: list[tuple[Row, Any]], length: int) -> Tensor:
    """`(rows, number_of_uniforms(length))`: the random numbers of rows, at the places where longer ones have theirs.

    Padding is never chosen, and chosen positions fill the first slots, so a row is corrupted as without padding.
    """
    joins = model.config.joins_words
    padded = torch.zeros(len(batch), model.number_of_uniforms(length))
    for number, (row, (_, uniforms)) in enumerate(batch):
        places = split_uniforms(padded[number : number + 1], length, joins)
        for place, numbers in zip(places, split_uniforms(uniforms, len(row.ids), joins), strict=True):
            place[:, : numbers.shape[1]] = numbers
    return padded


def token_names(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """Tokens of the vocabulary; `[id 123]` for an id that has none."""
    # A vocabulary rounded up for speed has rows without a token, and an untrained generator samples them too.
    names = tokenizer.convert_ids_to_tokens(ids)
    return [f"[id {i}]" if name is None else name for i, name in zip(ids, names, strict=True)]
