"""`electra-rtd inspect`, `score` and `demo`."""

import argparse
import sys
import time

from .verbs import MODEL, AddVerb


def add_verbs(add: AddVerb) -> None:
    _add_inspect(add)
    _add_score(add)
    _add_demo(add)


def _add_inspect(add: AddVerb) -> None:
    sub = add("inspect", _inspect, "show what the generator replaces in a text and what the discriminator finds")
    sub.add_argument("model", help=f"joint checkpoint, or a discriminator alone: {MODEL}")
    sub.add_argument("text", nargs="*", help="texts")
    sub.add_argument("--html", metavar="FILE", help="a new page with a heat map of the first text")
    sub.add_argument("--seed", type=int, default=0, help="of the corruption, which is that of each text alone")
    sub.add_argument(
        "--file", help="instead, a text a line: txt, or a table (jsonl, csv, tsv, parquet), also compressed"
    )
    sub.add_argument("--text-column", default="text", help="of a table")
    sub.add_argument("--output", metavar="FILE", help="of a file: a new .jsonl file with the tokens of every line")
    sub.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="of a file: matrix products in bf16; by default in the precision that is faster here, by a measurement",
    )


def _inspect(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from ..common.new_folder import check_new_file, new_file
    from ..inspection.files import inspect_file
    from ..inspection.tokens import inspect_text, load_for_inspection
    from ..inspection.views import render_html, render_terminal

    if bool(arguments.text) == (arguments.file is not None) or (arguments.file is None) != (arguments.output is None):
        raise ValueError("give texts, or --file with --output, one of them")
    if arguments.html is not None and arguments.file is not None:
        raise ValueError("--html shows the first of the texts; --file has none, it writes to --output")
    if arguments.html is not None:
        check_new_file(arguments.html)
    if arguments.file is not None:
        started = time.perf_counter()
        lines = inspect_file(
            arguments.model,
            arguments.file,
            arguments.output,
            text_column=arguments.text_column,
            seed=arguments.seed,
            bf16=arguments.bf16,
        )
        print(f"{lines:,} lines, {lines / (time.perf_counter() - started):,.0f} a second, in {arguments.output}")
        return
    model, tokenizer = load_for_inspection(arguments.model)
    for number, text in enumerate(arguments.text):
        tokens = inspect_text(model, tokenizer, text, arguments.seed)
        render_terminal(tokens, Console())
        if number == 0 and arguments.html is not None:
            with new_file(arguments.html) as unfinished:
                render_html(tokens, unfinished)
            print(f"page in {arguments.html}")


def _add_score(add: AddVerb) -> None:
    sub = add("score", _score, "one number for every line of a file: how much it looks like a text nobody has changed")
    sub.add_argument("model", help=f"joint checkpoint, release, or a discriminator alone: {MODEL}")
    sub.add_argument("file", help="txt, or a table (jsonl, csv, tsv, parquet), also compressed")
    sub.add_argument("--text-column", default="text", help="of a table")
    sub.add_argument(
        "--objective", help="that the discriminator was trained with; by default what its config says, else rtd"
    )
    pairs = sub.add_argument_group("minimal pairs, instead of lines")
    pairs.add_argument(
        "--against", metavar="COLUMN", help="texts of a table that should score lower than those in --text-column"
    )
    pairs.add_argument("--group-by", nargs="+", default=[], metavar="COLUMN", help="also the accuracy of every value")
    pairs.add_argument("--json", metavar="FILE", help="a new file for the accuracies")
    sub.add_argument("--output", metavar="FILE", help="a new .jsonl or .tsv file; by default a table is printed")
    sub.add_argument("--batch-size", type=int, default=None, help="rows read together; by default what is fast")
    sub.add_argument(
        "--max-length", type=int, default=None, help="positions of a window of a longer line; by default the model's"
    )
    sub.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="matrix products in bf16; by default in the faster precision here, but for Electric's sums in fp32",
    )
    sub.epilog = (
        "The number is the RTD score: the mean, over the tokens of the line, of log P(original), the discriminator's "
        "probability that the token is the original one. It is in nats a token, at most 0, and higher for a line that "
        "looks unchanged. Of a model trained with the objective electric it is the pseudo-log-likelihood: minus the "
        "sum of the energies of the line's tokens, in nats. Tokens that the tokenizer puts around any text do not "
        "count; a line without tokens has no score, and keeps its place. A line longer than the model is read in "
        "overlapping windows. "
        "With --against every row is a pair; the accuracy is the share of pairs whose text in --text-column scores "
        "higher, a tie counted as half, by the sum over tokens and by their mean."
    )


def _score(arguments: argparse.Namespace) -> None:
    from ..inspection.files import score_file

    if arguments.against:
        _score_pairs(arguments)
        return
    for name in ("group_by", "json"):
        if getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} goes with --against")
    started = time.perf_counter()
    totals = score_file(
        arguments.model,
        arguments.file,
        arguments.output,
        text_column=arguments.text_column,
        progress=arguments.output is not None or not sys.stdout.isatty(),
        batch_size=arguments.batch_size,
        max_length=arguments.max_length,
        bf16=arguments.bf16,
        objective=arguments.objective,
    )
    rate = totals.lines / (time.perf_counter() - started)
    unknown = f" ({totals.unknown:,} unknown)" if totals.unknown else ""
    mean = "none" if totals.mean_score is None else f"{totals.mean_score:.4f}"
    print(
        f"{totals.lines:,} lines, {totals.tokens:,} tokens{unknown}, mean {totals.score_name} {mean}; "
        f"{rate:,.0f} lines/s",
        file=sys.stdout if arguments.output else sys.stderr,
    )
    if arguments.output:
        print(f"scores in {arguments.output}")


def _score_pairs(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..inspection.minimal_pairs import accuracy_rows, score_pairs

    if arguments.output:
        raise ValueError("--output goes without --against; --json FILE takes the accuracies of pairs")
    record = score_pairs(
        arguments.model,
        arguments.file,
        arguments.text_column,
        arguments.against,
        arguments.group_by,
        arguments.json,
        batch_size=arguments.batch_size,
        max_length=arguments.max_length,
        bf16=arguments.bf16,
        objective=arguments.objective,
    )
    table = Table("group", "", "pairs", "by sum", "by mean", title=f"{record['score']} (by {record['headline']})")
    for column, value, pairs, *accuracies in accuracy_rows(record):
        table.add_row(column, value, f"{pairs:,}", *accuracies)
    Console().print(table)
    if arguments.json:
        print(f"accuracies in {arguments.json}")


def _add_demo(add: AddVerb) -> None:
    sub = add("demo", _demo, "a page to corrupt a text on, by its generator or by hand, and to see what is found")
    sub.add_argument("model", help="joint checkpoint, release, or a discriminator alone")
    sub.add_argument("--port", type=int, default=None, help="on 127.0.0.1; by default the first free one from 7860")
    sub.add_argument("--share", action="store_true", help="make a public link, through Gradio's servers")


def _demo(arguments: argparse.Namespace) -> None:
    from ..inspection.demo import load_detector
    from ..inspection.demo_app import build_app, check_gradio, launch

    check_gradio()
    app = build_app(load_detector(arguments.model), arguments.model)
    launch(app, arguments.port, arguments.share)
