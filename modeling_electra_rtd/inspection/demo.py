"""What the demo shows: positions -> proposals of the generator -> a corrupted text -> verdicts of the discriminator.

A text's tokens are numbered from 0, those of the template (`[CLS]`, `[SEP]`) left out.
"""

import dataclasses
import difflib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.corruption import candidate_positions, choose_positions, drawing_bias, sample_tokens
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.pipeline_electra_rtd import ReplacedTokenDetectionPipeline, TokenizedText
from .tokens import InspectedToken, judge, load_for_inspection, token_names


# Tokens of a text that fit above one token of another.
_MOST_ABOVE = 3


@dataclass(frozen=True)
class ProposedToken:
    """A token that the generator could put somewhere.

    Attributes:
        token: of the vocabulary.
        probability: P_g, at temperature 1.
        is_original, is_drawn: whether the text has it there, and whether the corrupted text has.
    """

    token: str
    probability: float
    is_original: bool
    is_drawn: bool


@dataclass(frozen=True)
class Generated:
    """A text in which the generator has filled masked positions.

    Attributes:
        original: the text.
        positions: that were masked, in order.
        ids: of the corrupted text, one a token.
        proposals: for every masked position the most likely tokens, best first, then the original and the drawn
            token where they are not among these.
        text: the corrupted text, for a reader.
    """

    original: TokenizedText
    positions: list[int]
    ids: list[int]
    proposals: list[list[ProposedToken]]
    text: str


def load_detector(model: str) -> ReplacedTokenDetectionPipeline:
    """A joint checkpoint, a release or a lone discriminator, from a folder or the Hub.

    Raises:
        ValueError: for a model without the detection head, or a tokenizer that does not fit.
    """
    loaded, tokenizer = load_for_inspection(model)
    return ReplacedTokenDetectionPipeline(model=loaded, tokenizer=tokenizer, bf16=False)


def has_generator(detector: ReplacedTokenDetectionPipeline) -> bool:
    """Whether there is one that fills masks."""
    model = detector.model
    return isinstance(model, ElectraRtdForPreTraining) and model.config.has_masked_lm_generator


def tokens_of(detector: ReplacedTokenDetectionPipeline, text: str) -> list[str]:
    """The tokens of a text.

    Raises:
        ValueError: for a text without tokens.
    """
    return token_names(detector.tokenizer, detector.tokenize(text).ids)


def draw_positions(detector: ReplacedTokenDetectionPipeline, text: str, share: float, seed: int) -> list[int]:
    """Positions chosen as in training: uniformly and without replacement, one at least, no special token.

    Args:
        share: of the tokens, in (0, 1].

    Raises:
        ValueError: for a text without tokens, or a share out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be in (0, 1]")
    ids = torch.tensor([detector.tokenize(text).ids])
    special = detector.model.special_token_ids.to(ids.device)
    candidates = candidate_positions(ids, torch.ones_like(ids, dtype=torch.bool), special)
    uniforms = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed))
    chosen = choose_positions(candidates, share, uniforms)
    return sorted(chosen.positions[0, chosen.weights[0] > 0].tolist())


def generate(
    detector: ReplacedTokenDetectionPipeline,
    text: str,
    positions: list[int],
    temperature: float = 1.0,
    seed: int = 0,
    top_k: int = 5,
) -> Generated:
    """Mask positions and let the generator fill them.

    Args:
        positions: at least one.
        temperature: divides the generator's logits when tokens are drawn; 0 takes the most likely ones.
        seed: of the draw.
        top_k: proposals shown for a position.

    Raises:
        ValueError: for a text without tokens, no positions or ones it does not have, a negative temperature, or a
            `top_k` below 1.
    """
    original = detector.tokenize(text)
    count = len(original.ids)
    positions = sorted(set(positions))
    if not positions or not 0 <= positions[0] <= positions[-1] < count:
        raise ValueError(f"positions are {positions}; allowed: one or more in [0, {count - 1}]")
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be at least 0")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1")
    log_probs = _log_probs(detector, original, positions)
    if temperature:
        uniforms = torch.rand(len(positions), generator=torch.Generator().manual_seed(seed))
        drawn = sample_tokens(log_probs / temperature, uniforms).tolist()
    else:
        drawn = log_probs.argmax(dim=1).tolist()
    ids = list(original.ids)
    proposals = []
    for position, row, new in zip(positions, log_probs, drawn, strict=True):
        old, ids[position] = ids[position], new
        shown = list(dict.fromkeys([*row.topk(min(top_k, len(row))).indices.tolist(), old, new]))
        probabilities = row[shown].exp().tolist()
        proposals.append(
            [
                ProposedToken(name, probability, token == old, token == new)
                for token, name, probability in zip(
                    shown, token_names(detector.tokenizer, shown), probabilities, strict=True
                )
            ]
        )
    return Generated(original, positions, ids, proposals, _written(detector, original, positions, ids))


def verdicts(detector: ReplacedTokenDetectionPipeline, generated: Generated) -> list[InspectedToken]:
    """What the discriminator thinks of every token of a generated text."""
    drawn = [next(proposal for proposal in row if proposal.is_drawn) for row in generated.proposals]
    probabilities = {
        position: proposal.probability for position, proposal in zip(generated.positions, drawn, strict=True)
    }
    return judge(detector, generated.original, generated.ids, probabilities)


def verdicts_on_edit(
    detector: ReplacedTokenDetectionPipeline, edited: str, original: str | None = None
) -> list[InspectedToken]:
    """What the discriminator thinks of every token of a text that someone has written or changed.

    Args:
        original: what it was before; tokens that differ count as replaced. `None` compares with nothing.

    Raises:
        ValueError: for a text without tokens.
    """
    tokenized = detector.tokenize(edited)
    judged = judge(detector, tokenized, tokenized.ids, {})
    if original is None:
        return judged
    before = tokens_of(detector, original)
    after = [token.shown for token in judged]
    for kind, first, last, start, stop in difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes():
        if kind in ("replace", "insert"):
            # Where lengths differ, all that was there stands above the first new token, if it is little.
            was = before[first:last]
            if last - first != stop - start:
                was = [" ".join(was) if len(was) <= _MOST_ABOVE else "…"]
            was += [""] * (stop - start - len(was))
            for offset, index in enumerate(range(start, stop)):
                judged[index] = dataclasses.replace(judged[index], original=was[offset], is_replaced=True)
    return judged


@torch.no_grad()
def _log_probs(detector: ReplacedTokenDetectionPipeline, original: TokenizedText, positions: list[int]) -> Tensor:
    """`(len(positions), vocab_size)` float32 on the CPU: log P_g where a text is masked, -inf for what is never
    drawn."""
    mask = detector.model.config.mask_token_id
    masked = [mask if index in positions else token for index, token in enumerate(original.ids)]
    rows = []
    device = detector.model.device
    for row in detector.preprocess(dataclasses.replace(original, ids=masked)):
        shift = row.judged.start - row.tokens.start
        wanted = [shift + position for position in positions if row.tokens.start <= position < row.tokens.stop]
        if wanted:
            ids, asked = (torch.tensor([numbers], device=device) for numbers in (row.ids, wanted))
            rows.append(detector.model.generator(ids, positions=asked).logits[0].float().cpu())
    scores, config = torch.cat(rows), detector.model.config
    special = detector.model.special_token_ids.cpu()
    return (scores + drawing_bias(scores.shape[1], config.number_of_tokens, special)).log_softmax(dim=-1)


def _written(
    detector: ReplacedTokenDetectionPipeline, original: TokenizedText, positions: list[int], ids: list[int]
) -> str:
    """The text with the characters of replaced tokens exchanged, all others as they were."""
    text = original.text
    for position in reversed(positions):
        if ids[position] != original.ids[position]:
            start, end = original.offsets[position]
            new = detector.tokenizer.decode([ids[position]]).strip().removeprefix("##")
            # Some tokenizers count the blank before a word as its own.
            piece = text[start:end]
            blanks = piece[: len(piece) - len(piece.lstrip())]
            text = text[:start] + blanks + new + text[end:]
    return text
