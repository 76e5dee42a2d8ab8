"""Files inspected or scored line by line: text and tables in, a file of results out, whole or not at all."""

import csv
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from transformers.utils import logging

from ..common.new_folder import check_new_file, new_file
from ..common.progress import progress_bar
from ..data.documents import read_lines
from ..data.shares import find_files
from ..data.tables import is_table
from ..data.text_files import compression
from ..data.unknown_tokens import unknown_share_problem
from ..model.cpu_attention import use_cpu_layers
from .scores import Scorer, TextScore, load_scorer, score_texts
from .tokens import inspect_texts, load_for_inspection


logger = logging.get_logger(__name__)


def inspect_file(
    model: str,
    file: str,
    output: str,
    text_column: str = "text",
    seed: int = 0,
    bf16: bool | None = None,
    progress: bool = True,
) -> int:
    """Inspect every line of a text file, or every row of a table.

    Args:
        model: any name that `find_model` takes.
        file: `txt`, or a table (`jsonl`, `csv`, `tsv`, `parquet`), also compressed.
        output: a new file, `.jsonl`, which appears whole or not at all: of every line its number, from 1, its text and
            the fields of its tokens.
        text_column: of a table.
        bf16: see the pipeline; `None` takes the faster precision.

    Returns:
        The number of lines.

    Raises:
        ValueError: for a model, file, column, output or value that is not allowed.
    """
    if os.path.splitext(output)[1] != ".jsonl":
        raise ValueError(f"output is {output!r}; it must end in .jsonl")
    check_new_file(output)
    if not os.path.isfile(file):
        raise ValueError(f"file {file!r}: no such file")
    (path,) = find_files([file])
    loaded, tokenizer = load_for_inspection(model)
    if loaded.device.type == "cpu":
        # For its attention, as `score`.
        use_cpu_layers(loaded)
    texts, to_read = itertools.tee(read_lines(path, text_column))
    inspected = inspect_texts(loaded, tokenizer, to_read, seed, "auto" if bf16 is None else bf16)
    size = None if is_table(path) or compression(path) else os.path.getsize(path)
    number = unknown = count = 0
    with new_file(output) as unfinished, open(unfinished, "x", encoding="utf-8") as written:
        with progress_bar("inspecting", size, progress) as bar:
            for number, (text, tokens) in enumerate(zip(texts, inspected, strict=True), start=1):
                line = {"line": number, "text": text, "tokens": [dataclasses.asdict(token) for token in tokens]}
                written.write(json.dumps(line, ensure_ascii=False) + "\n")
                bar.update(len(text.encode()) + 1)
                unknown += sum(token.original == tokenizer.unk_token for token in tokens)
                count += len(tokens)
    if problem := unknown_share_problem(unknown, count, file):
        logger.warning(problem)
    return number


@dataclass
class Totals:
    """What was scored: lines, their tokens, how many of these are unknown, and of lines with tokens the mean score in
    nats; `None` where no line has any."""

    score_name: str
    lines: int = 0
    tokens: int = 0
    unknown: int = 0
    mean_score: float | None = None

    def counting(self, scorer: Scorer, scores: Iterable[TextScore]) -> Iterator[TextScore]:
        """The same scores, counted on their way."""
        scored, total = 0, 0.0
        for score in scores:
            yield score
            self.lines += 1
            self.tokens += score.tokens
            self.unknown += score.unknown
            value = scorer.score_of(score)
            if value is not None:
                scored, total = scored + 1, total + value
                self.mean_score = total / scored


def score_file(
    model: str,
    file: str,
    output: str | None = None,
    text_column: str = "text",
    progress: bool = True,
    **arguments: Any,
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
        raise ValueError(f"output is {output!r}; it must end in {' or '.join(_WRITERS)}")
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
    if problem := unknown_share_problem(totals.unknown, totals.tokens, file):
        logger.warning(problem)
    return totals


def file_to_score(file: str) -> str:
    """
    Raises:
        ValueError: if it is not a file, or cannot be read here.
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
    """A sum is named in full, next to the mean, which alone compares lines of different length."""
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
