"""One number for every line of a file: how much a discriminator takes it for a text that nobody has changed, or, of
Electric, how likely it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.utils import CONFIG_NAME, logging

from ..common.references import find_model
from ..data.tokenization import load_tokenizer
from ..model.configuration_electra_rtd import special_tokens_of
from ..model.cpu_attention import use_cpu_layers
from ..model.objectives import OBJECTIVES
from ..model.pipeline_electra_rtd import ReplacedTokenDetectionPipeline, objective_trained, pools
from .pipeline_task import DiscriminatorLoader


logger = logging.get_logger(__name__)

# The objectives whose detection head can be asked.
OBJECTIVES_SCORED = tuple(name for name, objective in OBJECTIVES.items() if objective.has_detection_head)


@dataclass(frozen=True)
class TextScore:
    """A line and its score.

    Attributes:
        line: its number, from 1.
        total: the sum over its tokens, see `Scorer.log_probs`; `None` for a line without tokens.
        tokens: of the line, without those that the tokenizer puts around any text.
        text: the line.
        unknown: how many of its tokens are the unknown one.
    """

    line: int
    total: float | None
    tokens: int
    text: str
    unknown: int = 0

    @property
    def mean(self) -> float | None:
        """The sum divided by the tokens."""
        return None if self.total is None else self.total / self.tokens


class Scorer(ReplacedTokenDetectionPipeline):
    """Scores texts by what a discriminator says of their tokens, in one pass.

    Attributes:
        objective: what the discriminator was trained with.
        score_name: `"RTD score"`, the mean of log P(original) over a text's tokens, in nats: at most 0, and higher for
            a text that looks unchanged. For Electric `"pseudo-log-likelihood"`, the sum over its tokens of minus their
            energies: log-probabilities of each token given all others, up to a constant that training makes 0.
        is_sum: whether the score is a sum over tokens rather than their mean.
    """

    def __init__(self, *arguments: Any, objective: str | None = None, **named: Any):
        super().__init__(*arguments, **named)
        _check_objective(objective)
        self.objective = objective or objective_trained(self.model)
        self.is_sum = _is_sum(self.objective)
        self.score_name = "pseudo-log-likelihood" if self.is_sum else "RTD score"
        # As in training, where special tokens have no energy, wherever they stand.
        special = special_tokens_of(self.tokenizer)["special_token_ids"] if self.is_sum else []
        self._left_out = torch.tensor(special, dtype=torch.long)

    def log_probs(self, ids: list[int], logits: Tensor) -> Tensor:
        """Compute the log-probabilities of the tokens that count, float64 in nats.

        Args:
            ids: `n` of them, of a text.
            logits: `(n,)` of the discriminator.
        """
        logits = logits[~torch.isin(torch.tensor(ids, dtype=torch.long), self._left_out)].double()
        return -logits if self.is_sum else functional.logsigmoid(-logits)

    def score_of(self, text: TextScore) -> float | None:
        """The score by its name: the sum or the mean."""
        return text.total if self.is_sum else text.mean


def _check_objective(objective: str | None) -> None:
    if objective not in (None, *OBJECTIVES_SCORED):
        raise ValueError(f"objective is {objective!r}; allowed: {', '.join(OBJECTIVES_SCORED)}")


def _is_sum(objective: str) -> bool:
    return OBJECTIVES[objective].gives_energies


def load_scorer(model: str, bf16: bool | None = None, objective: str | None = None, **arguments: int | None) -> Scorer:
    """The discriminator of a joint checkpoint or a release, or one alone, from a folder or the Hub.

    Args:
        model: any name that `find_model` takes.
        bf16: see the pipeline; `None` takes the faster precision for a mean over a line, which hardly moves, and fp32
            for a sum.
        objective: what the discriminator was trained with; `None` takes what its config says, and `"rtd"` where it
            says nothing.
        arguments: of the pipeline.

    Raises:
        ValueError: for a model without the detection head, a tokenizer that does not fit, or a value that is not
            allowed.
    """
    reference = find_model(model)
    reference.require(CONFIG_NAME)
    tokenizer = load_tokenizer(reference)
    discriminator = DiscriminatorLoader.from_pretrained(reference.name, **reference.arguments)
    _check_objective(objective)
    precision: bool | str | None = bf16
    if precision is None:
        precision = False if _is_sum(objective or objective_trained(discriminator)) else "auto"
    scorer = Scorer(model=discriminator, tokenizer=tokenizer, bf16=precision, objective=objective, **arguments)
    if scorer.device.type == "cpu":
        # For its attention: matrix products are faster than the fused kernel on rows as short as sentences.
        use_cpu_layers(discriminator)
    return scorer


def score_texts(scorer: Scorer, texts: Iterable[str]) -> Iterator[TextScore]:
    """Scores in the order of the texts, of which there may be any number."""
    line = 0
    for pool in pools(texts):
        tokenized = scorer.tokenize_all(pool)
        for text, logits in zip(tokenized, scorer.logits(tokenized), strict=True):
            line += 1
            log_probs = scorer.log_probs(text.ids, logits)
            total = log_probs.sum().item() if len(log_probs) else None
            yield TextScore(line, total, len(log_probs), text.text, text.ids.count(scorer.tokenizer.unk_token_id))
