"""One number for every line of a file: how much a discriminator takes it for a text that nobody has changed."""

import csv
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from torch import Tensor
from torch.nn import functional
from transformers.utils import CONFIG_NAME

from ..cpu_dropout import use_cpu_dropout
from ..data.documents import read_lines
from ..data.new_folder import check_new_file, new_file
from ..data.shares import compression, find_files, table_reader
from ..data.tokenization import load_tokenizer
from ..data.workers import progress_bar
from ..machine import bf16_is_fast
from ..model_reference import find_model
from ..pipeline_electra_rtd import ReplacedTokenDetectionPipeline, pools
from .pipeline_task import DiscriminatorLoader


@dataclass(frozen=True)
class TextScore:
    """A line and its score.

    Attributes:
        line: its number, from 1.
        score: see `rtd_score`; `None` for a line without tokens.
        tokens: of the line, without those that the tokenizer puts around any text.
        text: the line.
    """

    line: int
    score: float | None
    tokens: int
    text: str


def rtd_score(logits: Tensor) -> float:
    """The mean over a text's tokens of log P(original), in nats: at most 0, and higher for a text that looks
    unchanged.

    Args:
        logits: `(n,)` of the discriminator, positive where a token looks replaced; `n` at least 1.
    """
    return functional.logsigmoid(-logits).mean().item()


def load_scorer(model: str, bf16: bool | None = None, **arguments: int | None) -> ReplacedTokenDetectionPipeline:
    """The discriminator of a joint checkpoint or a release, or one alone, from a folder or the Hub.

    Args:
        model: any name that `find_model` takes.
        bf16: see the pipeline; `None` where it is native, because a mean over a line hardly moves.
        arguments: of the pipeline.

    Raises:
        ValueError: for a model without the detection head, a tokenizer that does not fit, or a value that is not
            allowed.
    """
    reference = find_model(model)
    reference.require(CONFIG_NAME)
    tokenizer = load_tokenizer(reference)
    discriminator = DiscriminatorLoader.from_pretrained(reference.name, **reference.arguments)
    bf16 = bf16_is_fast() if bf16 is None else bf16
    scorer = ReplacedTokenDetectionPipeline(model=discriminator, tokenizer=tokenizer, bf16=bf16, **arguments)
    if scorer.device.type == "cpu":
        # For its attention: matrix products are faster than the fused kernel on rows as short as sentences.
        use_cpu_dropout(discriminator)
    return scorer


def score_texts(scorer: ReplacedTokenDetectionPipeline, texts: Iterable[str]) -> Iterator[TextScore]:
    """Scores in the order of the texts, of which there may be any number."""
    line = 0
    for pool in pools(texts):
        tokenized = scorer.tokenize_all(pool)
        for text, logits in zip(tokenized, scorer.logits(tokenized), strict=True):
            line += 1
            yield TextScore(line, rtd_score(logits) if text.ids else None, len(text.ids), text.text)


@dataclass
class Totals:
    """What was scored: lines, their tokens, and of those with tokens the mean score in nats."""

    lines: int = 0
    tokens: int = 0
    mean_score: float = math.nan

    def counting(self, scores: Iterable[TextScore]) -> Iterator[TextScore]:
        """The same scores, counted on their way."""
        scored, total = 0, 0.0
        for score in scores:
            yield score
            self.lines += 1
            self.tokens += score.tokens
            if score.score is not None:
                scored, total = scored + 1, total + score.score
                self.mean_score = total / scored


def score_file(
    model: str,
    file: str,
    output: str | None = None,
    text_column: str = "text",
    progress: bool = True,
    **arguments: bool | int | None,
) -> Totals:
    """Score every line of a text file, or every row of a table.

    Args:
        model: any name that `find_model` takes.
        file: `txt`, or a table (`jsonl`, `csv`, `tsv`, `parquet`), also compressed.
        output: a new file, `.jsonl` or `.tsv`, which appears whole or not at all; `None` prints a table.
        text_column: of a table.
        bf16: see the pipeline; `None` where it is native, because a mean over a line hardly moves.
        arguments: of the pipeline.

    Raises:
        ValueError: for a model, file, column, output or value that is not allowed.
    """
    if output is not None and os.path.splitext(output)[1] not in _WRITERS:
        raise ValueError(f"output={output!r}: allowed is a file that ends in {' or '.join(_WRITERS)}")
    if output is not None:
        check_new_file(output)
    if not os.path.isfile(file):
        raise ValueError(f"file {file!r}: no such file")
    (path,) = find_files([file])
    scorer = load_scorer(model, **arguments)
    totals = Totals()
    size = None if table_reader(path) or compression(path) else os.path.getsize(path)
    with progress_bar("scoring", size, progress) as bar:
        scores = totals.counting(score_texts(scorer, _reported(read_lines(path, text_column), bar.update)))
        if output is None:
            _print_table(scores)
        else:
            with new_file(output) as unfinished, open(unfinished, "x", encoding="utf-8", newline="") as written:
                _WRITERS[os.path.splitext(output)[1]](scores, written)
    return totals


def _reported(texts: Iterable[str], report: Callable[[int], Any]) -> Iterator[str]:
    for text in texts:
        yield text
        report(len(text.encode()) + 1)


def _write_jsonl(scores: Iterable[TextScore], file: TextIO) -> None:
    for score in scores:
        file.write(json.dumps(dataclasses.asdict(score), ensure_ascii=False) + "\n")


def _write_tsv(scores: Iterable[TextScore], file: TextIO) -> None:
    writer = csv.writer(file, "excel-tab", lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(TextScore))
    writer.writerows(map(dataclasses.astuple, scores))


_WRITERS = {".jsonl": _write_jsonl, ".tsv": _write_tsv}


def _print_table(scores: Iterable[TextScore]) -> None:
    print(f"{'line':>6}  {'score':>8}  {'tokens':>6}  text")
    for score in scores:
        number = "" if score.score is None else f"{score.score:.4f}"
        print(f"{score.line:>6}  {number:>8}  {score.tokens:>6}  {' '.join(score.text.split())}")
