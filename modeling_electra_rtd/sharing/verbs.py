"""`electra-rtd export`, `convert`, `push`, `inspect`, `score` and `demo`."""

import argparse
import sys
import time
from pathlib import Path

from ..verbs import MODEL, AddVerb


def add_verbs(add: AddVerb) -> None:
    _add_export(add)
    _add_convert(add)
    _add_push(add)
    _add_inspect(add)
    _add_score(add)
    _add_demo(add)


def _add_export(add: AddVerb) -> None:
    sub = add("export", _export, "write and verify a release that stock transformers loads")
    sub.add_argument("checkpoint", help=f"joint checkpoint: {MODEL}")
    sub.add_argument("--output-dir", required=True, help="a new folder for the release")
    sub.add_argument("--run-record", metavar="RUN.json", help="of the pre-training; by default the checkpoint's own")
    sub.add_argument("--results", nargs="+", metavar="RECORD.json", help="records of finetune from this checkpoint")
    sub.add_argument("--language", nargs="+", help="of the text, for the model card: en")
    sub.add_argument("--license", help="of the model, for the model card: apache-2.0")
    sub.add_argument(
        "--repo-id", metavar="OWNER/NAME", help="where it will go, for the lines of code in the model card"
    )
    sub.add_argument(
        "--remote-code",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add the code that trust_remote_code=True runs, which makes a pair of the two networks again",
    )


def _export(arguments: argparse.Namespace) -> None:
    from .export import export

    report = export(
        arguments.checkpoint,
        arguments.output_dir,
        run_record=arguments.run_record,
        results=arguments.results,
        language=arguments.language,
        license=arguments.license,
        remote_code=arguments.remote_code,
        repo_id=arguments.repo_id,
    )
    print(f"verified with stock transformers: {', '.join(report)} load with 0 missing keys and equal outputs")
    beside = ", generator in generator/" if "generator" in report else ""
    print(f"release in {arguments.output_dir} (discriminator at the root{beside}, card in README.md)")


def _add_convert(add: AddVerb) -> None:
    sub = add(
        "convert", _convert, "bring a pair from the original ELECTRA code, or DeBERTaV3's, and back to the former"
    )
    sub.add_argument(
        "source",
        help="prefix or folder of an original checkpoint, or a folder with a DeBERTaV3 pair in safetensors; with --to "
        f"original a pair: {MODEL}",
    )
    sub.add_argument("--output-dir", required=True, help="a new folder for the release, or the checkpoint")
    sub.add_argument("--to", choices=("native", "original"), default="native")
    sub.add_argument("--tokenizer", help=f"by default the source's own vocab.txt or tokenizer: {MODEL}")
    sub.add_argument(
        "--attention-heads", type=int, help="of the discriminator; by default one for each 64 of its width"
    )
    sub.add_argument("--generator-attention-heads", type=int, help="of the generator; by default the same")


def _convert(arguments: argparse.Namespace) -> None:
    from .convert import HYPERPARAMETERS, PREFIX, convert

    folder = Path(arguments.output_dir)
    done = convert(
        arguments.source,
        arguments.output_dir,
        to=arguments.to,
        tokenizer=arguments.tokenizer,
        attention_heads=arguments.attention_heads,
        generator_attention_heads=arguments.generator_attention_heads,
    )
    for line in done.left_out:
        print(f"left out: {line}")
    if arguments.to == "original":
        print(f"checkpoint {folder / PREFIX}, read back and equal; vocabulary and {HYPERPARAMETERS} beside it")
        return
    print(f"verified with stock transformers: {', '.join(done.networks)} load with 0 missing keys and equal outputs")
    print(f"release in {folder} (discriminator at the root, generator in generator/, card in README.md)")


def _add_push(add: AddVerb) -> None:
    sub = add("push", _push, "upload a release to the Hub in one commit, then read it back and compare")
    sub.add_argument("folder", help="what electra-rtd export or finetune left")
    sub.add_argument("repo_id", help="OWNER/NAME on the Hub")
    sub.add_argument(
        "--private", action=argparse.BooleanOptionalAction, help="of a new repository; by default the account's habit"
    )
    sub.add_argument("--dry-run", action="store_true", help="check everything and list files, sizes and hashes, only")
    sub.add_argument("--revision", help="branch to commit to, made where it is missing; by default main")
    sub.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    sub.add_argument("--space", metavar="OWNER/NAME", help="also upload the demo of it, as a Space of this name")


def _push(arguments: argparse.Namespace) -> None:
    from .hub import check_release, loading_lines, push
    from .space import check_space, push_space, space_files

    if arguments.space:
        if arguments.revision or arguments.create_pr:
            raise ValueError("--space goes without --revision and --create-pr: the demo loads the main branch")
        check_space(arguments.space, arguments.repo_id)
    if arguments.dry_run:
        for file in check_release(arguments.folder)[0]:
            print(f"{file.size_bytes:>12,}  {file.sha256}  {file.path}")
        card = Path(arguments.folder) / "README.md"
        print(f"\n{card.read_text(encoding='utf-8')}" if card.is_file() else "\nthere is no README.md")
        if arguments.space:
            print(f"\nthe Space {arguments.space}:")
            for path, content in space_files(arguments.repo_id).items():
                print(f"{len(content):>12,}  {path}")
        print(f"nothing was uploaded to {arguments.repo_id}")
        return
    done = push(
        arguments.folder,
        arguments.repo_id,
        private=arguments.private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
    )
    print(f"{len(done['files'])} files in {done['url']}, read back and equal; stock transformers loads them\n")
    print(loading_lines(done["repo_id"], arguments.folder, done["revision"]))
    if arguments.space:
        print(f"\ndemo in {push_space(arguments.space, arguments.repo_id, private=arguments.private)}")


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

    from ..data.new_folder import check_new_file, new_file
    from .inspect import inspect_file, inspect_text, load_for_inspection
    from .inspect_views import render_html, render_terminal

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
    from .text_scores import score_file

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
    mean = "none" if totals.mean_score is None else f"{totals.mean_score:.4f}"
    print(
        f"{totals.lines:,} lines, {totals.tokens:,} tokens, mean {totals.score_name} {mean}; {rate:,.0f} lines/s",
        file=sys.stdout if arguments.output else sys.stderr,
    )
    if arguments.output:
        print(f"scores in {arguments.output}")


def _score_pairs(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from .minimal_pairs import accuracy_rows, score_pairs

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
    from .demo import load_detector
    from .demo_app import build_app, check_gradio, launch

    check_gradio()
    app = build_app(load_detector(arguments.model), arguments.model)
    launch(app, arguments.port, arguments.share)
