"""One number for every line of a file: how much a discriminator takes it for a text that nobody has changed, or, of
Electric, how likely it is."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.nn import functional
from transformers.utils import CONFIG_NAME

from ..configuration_electra_rtd import special_tokens_of
from ..cpu_attention import use_cpu_layers
from ..data.documents import read_lines
from ..data.new_folder import check_new_file, new_file
from ..data.shares import find_files
from ..data.tables import is_table
from ..data.text_files import compression
from ..data.tokenization import load_tokenizer
from ..data.workers import progress_bar
from ..model_reference import find_model
from ..objectives import OBJECTIVES
from ..pipeline_electra_rtd import ReplacedTokenDetectionPipeline, objective_trained, pools
from .pipeline_task import DiscriminatorLoader


# Of objectives whose head is asked.
OBJECTIVES_SCORED = tuple(name for name, learns in OBJECTIVES.items() if learns.detects)


@dataclass(frozen=True)
class TextScore:
    """A line and its score.

    Attributes:
        line: its number, from 1.
        total: the sum over its tokens, see `Scorer.log_probs`; `None` for a line without tokens.
        tokens: of the line, without those that the tokenizer puts around any text.
        text: the line.
    """

    line: int
    total: float | None
    tokens: int
    text: str

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
        if objective not in (None, *OBJECTIVES_SCORED):
            raise ValueError(f"objective is {objective!r}; allowed: {', '.join(OBJECTIVES_SCORED)}")
        self.objective = objective or objective_trained(self.model)
        self.is_sum = _is_sum(self.objective)
        self.score_name = "pseudo-log-likelihood" if self.is_sum else "RTD score"
        # As in training, where special tokens have no energy, wherever they stand.
        special = special_tokens_of(self.tokenizer)["special_token_ids"] if self.is_sum else []
        self._left_out = torch.tensor(special, dtype=torch.long)

    def log_probs(self, ids: list[int], logits: Tensor) -> Tensor:
        """Of the tokens that count, float64 in nats.

        Args:
            ids: `n` of them, of a text.
            logits: `(n,)` of the discriminator.
        """
        logits = logits[~torch.isin(torch.tensor(ids, dtype=torch.long), self._left_out)].double()
        return -logits if self.is_sum else functional.logsigmoid(-logits)

    def score_of(self, text: TextScore) -> float | None:
        """The score by its name: the sum or the mean."""
        return text.total if self.is_sum else text.mean


def _is_sum(objective: str) -> bool:
    return objective == "electric"


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
    if bf16 is None:
        bf16 = False if _is_sum(objective or objective_trained(discriminator)) else "auto"
    scorer = Scorer(model=discriminator, tokenizer=tokenizer, bf16=bf16, objective=objective, **arguments)
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
            yield TextScore(line, log_probs.sum().item() if len(log_probs) else None, len(log_probs), text.text)


@dataclass
class Totals:
    """What was scored: lines, their tokens, and of those with tokens the mean score in nats; `None` where no line has
    any."""

    score_name: str
    lines: int = 0
    tokens: int = 0
    mean_score: float | None = None

    def counting(self, scorer: Scorer, scores: Iterable[TextScore]) -> Iterator[TextScore]:
        """The same scores, counted on their way."""
        scored, total = 0, 0.0
        for score in scores:
            yield score
            self.lines += 1
            self.tokens += score.tokens
            if score.total is not None:
                scored, total = scored + 1, total + scorer.score_of(score)
                self.mean_score = total / scored


def score_file(
    model: str,
    file: str,
    output: str | None = None,
    text_column: str = "text",
    progress: bool = True,
    **arguments: bool | int | str | None,
) -> Totals:
    """Score every line of a text file, or every row of a table.

    Args:
        model: any name that `find_model` takes.
        file: `txt`, or a table (`jsonl`, `csv`, `tsv`, `parquet`), also compressed.
        output: a new file, `.jsonl` or `.tsv`, which appears whole or not at all; `None` prints a table.
        text_column: of a table.
        arguments: of `load_scorer`.

    Raises:
        ValueError: for a model, file, column, output or value that is not allowed.
    """
    if output is not None and os.path.splitext(output)[1] not in _WRITERS:
        raise ValueError(f"output={output!r}: allowed is a file that ends in {' or '.join(_WRITERS)}")
    if output is not None:
        check_new_file(output)
    path = file_to_score(file)
    scorer = load_scorer(model, **arguments)
    totals = Totals(scorer.score_name)
    size = None if is_table(path) or compression(path) else os.path.getsize(path)
    with progress_bar("scoring", size, progress) as bar:
        scores = totals.counting(scorer, score_texts(scorer, _reported(read_lines(path, text_column), bar.update)))
        if output is None:
            _print_table(scorer, scores)
        else:
            with new_file(output) as unfinished, open(unfinished, "x", encoding="utf-8", newline="") as written:
                _WRITERS[os.path.splitext(output)[1]](scorer, scores, written)
    return totals


def file_to_score(file: str) -> str:
    """
    Raises:
        ValueError: for what is no file, or cannot be read here.
    """
    if not os.path.isfile(file):
        raise ValueError(f"file {file!r}: no such file")
    (path,) = find_files([file])
    return path


def _reported(texts: Iterable[str], report: Callable[[int], Any]) -> Iterator[str]:
    for text in texts:
        yield text
        report(len(text.encode()) + 1)


def _row(scorer: Scorer, score: TextScore) -> dict[str, Any]:
    """A sum is named in full, beside the mean, which alone compares lines of different length."""
    values = (
        {"pseudo_log_likelihood": score.total, "per_token": score.mean} if scorer.is_sum else {"score": score.mean}
    )
    return {"line": score.line, **values, "tokens": score.tokens, "text": score.text}


def _columns(scorer: Scorer) -> list[str]:
    return list(_row(scorer, TextScore(0, None, 0, "")))


def _write_jsonl(scorer: Scorer, scores: Iterable[TextScore], file: TextIO) -> None:
    for score in scores:
        file.write(json.dumps(_row(scorer, score), ensure_ascii=False) + "\n")


def _write_tsv(scorer: Scorer, scores: Iterable[TextScore], file: TextIO) -> None:
    writer = csv.writer(file, "excel-tab", lineterminator="\n")
    writer.writerow(_columns(scorer))
    writer.writerows(_row(scorer, score).values() for score in scores)


_WRITERS = {".jsonl": _write_jsonl, ".tsv": _write_tsv}


def _print_table(scorer: Scorer, scores: Iterable[TextScore]) -> None:
    names = _columns(scorer)[1:-2]
    print("  ".join([f"{'line':>6}", *(f"{name:>8}" for name in names), f"{'tokens':>6}", "text"]))
    for score in scores:
        row = _row(scorer, score)
        numbers = ("" if row[name] is None else f"{row[name]:.4f}" for name in names)
        cells = (f"{number:>{max(8, len(name))}}" for name, number in zip(names, numbers, strict=True))
        print("  ".join([f"{score.line:>6}", *cells, f"{score.tokens:>6}", " ".join(score.text.split())]))
