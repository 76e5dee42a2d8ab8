"""`electra-rtd <verb>`: parse, call one function of the package, print where the output went.

Flags take `--like-this` and `--like_this`. Bad input ends in one line and exit code 2; `--debug` shows the traceback.
Everything heavy is imported by the verb that needs it, so that help and typing errors answer at once.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import __version__


_MODEL = "a folder, or of the Hub OWNER/NAME[@REVISION][/FOLDER]"


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    argv = [_dashed(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    if argv[:1] == ["finetune"]:
        argv = _with_named_recipe(argv)
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not hasattr(arguments, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if hasattr(arguments, "overrides"):
            arguments.overrides = _overrides(rest)
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("electra-rtd: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.debug or not _is_user_error(error):
            raise
        print(f"electra-rtd {arguments.verb}: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="electra-rtd", description="Pre-train any Hugging Face encoder with replaced-token detection."
    )
    parser.add_argument("--version", action="version", version=f"electra-rtd {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], None], help_text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name, help=help_text, description=help_text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(run=run)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    sub = verb("quickstart", _quickstart, "the whole way in minutes, offline: corpus, tokenizer, pre-training, export")
    sub.add_argument("--output-dir", default="runs/quickstart", help="a new folder for everything it makes")
    sub.add_argument("--max-steps", type=int, default=None, help="optimizer steps; by default what fits the time")

    sub = verb("tokenizer", _tokenizer, "train a fast tokenizer")
    _add_corpus(sub, required=True)
    sub.add_argument("--output-dir", required=True, help="a new folder for the tokenizer")
    sub.add_argument("--algorithm", choices=("wordpiece", "bpe", "unigram"), default="wordpiece")
    sub.add_argument("--vocab-size", type=int, default=30522)
    sub.add_argument("--min-frequency", type=int, default=2, help="occurrences a piece needs")
    sub.add_argument("--lowercase", action=argparse.BooleanOptionalAction, default=True)

    sub = verb("prepare", _prepare, "turn text into packed blocks with a train and a validation split")
    _add_corpus(sub, required=False)
    sub.add_argument("--dataset", help="Hub dataset id, instead of --corpus")
    sub.add_argument("--dataset-name", help="configuration of the Hub dataset")
    sub.add_argument("--dataset-split", default="train", help="split of the Hub dataset")
    sub.add_argument("--tokenizer", required=True, help=f"a fast tokenizer with a mask token: {_MODEL}")
    sub.add_argument("--output-dir", required=True, help="a new folder for the blocks")
    sub.add_argument("--max-length", type=int, default=128, help="positions of a block")
    sub.add_argument("--validation-fraction", type=float, default=0.01, help="share of documents held out")
    sub.add_argument("--num-proc", type=int, default=None, help="processes; by default one a core")
    sub.add_argument("--seed", type=int, default=42, help="of the split")

    sub = verb("pretrain", _pretrain, "pre-train from a recipe; any of its fields can follow as --field value")
    sub.add_argument("recipe", help="a YAML file, or the name of a shipped recipe such as tiny")
    sub.add_argument("--resume", action="store_true", help="continue from the newest complete checkpoint")
    sub.set_defaults(overrides={})

    sub = verb(
        "plan", _plan, "parameters, FLOPs, memory and hours of a recipe; its fields can follow as --field value"
    )
    sub.add_argument("recipe", nargs="?", help="a YAML file, or the name of a shipped recipe such as tiny")
    sub.add_argument("--vocab-size", type=int, help="tokens, where no tokenizer and no blocks are at hand")
    sub.add_argument("--device", help="cpu, cuda, or a name for a GPU elsewhere; by default this machine's")
    sub.add_argument(
        "--calibration", metavar="FILE", help="of the machine to plan for; by default this one is measured"
    )
    sub.add_argument("--calibrate", metavar="FILE", help="measure this machine, compiled steps too, and write it here")
    sub.add_argument("--price-per-hour", type=float, help="of the device, in any currency")
    sub.add_argument("--json", metavar="FILE", help="write the plan here as well")
    sub.set_defaults(overrides={})

    sub = verb(
        "finetune",
        _finetune,
        "fine-tune on a task, or on your own labelled files; fields of the recipe can follow as --field value",
    )
    sub.add_argument("--task", nargs="+", help="one or more of the table of tasks, or glue for its nine")
    sub.add_argument("--model", required=True, help=f"checkpoint of this package or of stock transformers: {_MODEL}")
    sub.add_argument("--output-dir", required=True, help="a new folder for models, predictions, record and table")
    sub.add_argument("--data-dir", help="folder in the task's official layout; by default the Hub is read")
    sub.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each; medians are reported")
    sub.add_argument("--resume", action="store_true", help="keep the seeds that an interrupted run has finished")
    sub.add_argument("--recipe", help="a YAML file (it can also stand alone), or the name of a shipped recipe")
    sub.add_argument("--validation-fraction", type=float, help="make a validation split of this share of train")
    own = sub.add_argument_group("your own task, instead of --task")
    own.add_argument("--train-file", help="csv, tsv, jsonl, parquet, or conll for tagging")
    own.add_argument("--validation-file", help="the same, to report results on")
    own.add_argument("--test-file", help="the same, to predict")
    own.add_argument("--text-columns", nargs="+", help="one text, or a pair; inferred where there is no choice")
    own.add_argument("--label-column", help="what is predicted")
    own.add_argument("--kind", choices=("classification", "regression", "tagging"), help="by default inferred")
    sub.epilog = (
        "Fields of a recipe, as --field value: num_train_epochs, learning_rate, layerwise_lr_decay, max_length, "
        "max_train_samples, from_scratch_seeds, per_device_train_batch_size, early_stopping_patience and all of "
        "TrainingArguments; for one kind of task doc_stride, num_beams, max_target_length and others "
        "(docs/finetuning.md). Shipped recipes: tiny, small, base, large, reference."
    )
    sub.set_defaults(overrides={})

    sub = verb("evaluate", _evaluate, "held-out RTD metrics of a joint checkpoint")
    sub.add_argument("model", help=f"joint checkpoint: {_MODEL}")
    sub.add_argument("--data", required=True, help="folder of blocks")
    sub.add_argument("--split", choices=("train", "validation"), default="validation")
    sub.add_argument("--max-blocks", type=int, default=None, help="use this many, evenly spread; by default all")
    sub.add_argument("--json", metavar="FILE", help="write the metrics here as well")

    sub = verb("export", _export, "write and verify a release that stock transformers loads")
    sub.add_argument("checkpoint", help=f"joint checkpoint: {_MODEL}")
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

    sub = verb(
        "convert", _convert, "bring a pair from the original ELECTRA code, or DeBERTaV3's, and back to the former"
    )
    sub.add_argument(
        "source",
        help="prefix or folder of an original checkpoint, or a folder with a DeBERTaV3 pair in safetensors; with --to "
        f"original a pair: {_MODEL}",
    )
    sub.add_argument("--output-dir", required=True, help="a new folder for the release, or the checkpoint")
    sub.add_argument("--to", choices=("native", "original"), default="native")
    sub.add_argument("--tokenizer", help=f"by default the source's own vocab.txt or tokenizer: {_MODEL}")
    sub.add_argument(
        "--attention-heads", type=int, help="of the discriminator; by default one for each 64 of its width"
    )
    sub.add_argument("--generator-attention-heads", type=int, help="of the generator; by default the same")

    sub = verb("push", _push, "upload a release to the Hub in one commit, then read it back and compare")
    sub.add_argument("folder", help="what electra-rtd export or finetune left")
    sub.add_argument("repo_id", help="OWNER/NAME on the Hub")
    sub.add_argument(
        "--private", action=argparse.BooleanOptionalAction, help="of a new repository; by default the account's habit"
    )
    sub.add_argument("--dry-run", action="store_true", help="check everything and list files, sizes and hashes, only")
    sub.add_argument("--revision", help="branch to commit to, made where it is missing; by default main")
    sub.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    sub.add_argument("--space", metavar="OWNER/NAME", help="also upload the demo of it, as a Space of this name")

    sub = verb("inspect", _inspect, "show what the generator replaces in a text and what the discriminator finds")
    sub.add_argument("model", help=f"joint checkpoint, or a discriminator alone: {_MODEL}")
    sub.add_argument("text", nargs="*", help="texts")
    sub.add_argument("--html", metavar="FILE", help="write a page with a heat map of the first text")
    sub.add_argument("--seed", type=int, default=0, help="of the corruption, which is that of each text alone")
    sub.add_argument(
        "--file", help="instead, a text a line: txt, or a table (jsonl, csv, tsv, parquet), also compressed"
    )
    sub.add_argument("--text-column", default="text", help="of a table")
    sub.add_argument("--output", metavar="FILE", help="of a file: a new .jsonl file with the tokens of every line")
    sub.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="of a file: matrix products in bf16; by default where it is native",
    )

    sub = verb(
        "score", _score, "one number for every line of a file: how much it looks like a text nobody has changed"
    )
    sub.add_argument("model", help=f"joint checkpoint, release, or a discriminator alone: {_MODEL}")
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
        "--bf16", action=argparse.BooleanOptionalAction, help="matrix products in bf16; by default where it is native"
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

    sub = verb("demo", _demo, "a page to corrupt a text on, by its generator or by hand, and to see what is found")
    sub.add_argument("model", help="joint checkpoint, release, or a discriminator alone")
    sub.add_argument("--port", type=int, default=None, help="on 127.0.0.1; by default the first free one from 7860")
    sub.add_argument("--share", action="store_true", help="make a public link, through Gradio's servers")
    return parser


def _add_corpus(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--corpus", nargs="+", required=required, help="files, folders or globs of text")
    parser.add_argument(
        "--documents",
        choices=("blank_line", "line", "file"),
        default="blank_line",
        help="what separates documents in text files",
    )
    parser.add_argument("--text-column", default="text", help="column of jsonl, csv and parquet files")
    parser.add_argument("--skip-invalid-files", action="store_true", help="pass over binary and non-UTF-8 files")


def _quickstart(arguments: argparse.Namespace) -> None:
    from .quickstart import quickstart

    quickstart(arguments.output_dir, arguments.max_steps)


def _tokenizer(arguments: argparse.Namespace) -> None:
    from .data.tokenizer_training import train_tokenizer

    tokenizer = train_tokenizer(
        arguments.corpus,
        arguments.output_dir,
        algorithm=arguments.algorithm,
        vocab_size=arguments.vocab_size,
        min_frequency=arguments.min_frequency,
        lowercase=arguments.lowercase,
        documents=arguments.documents,
        text_column=arguments.text_column,
        skip_invalid_files=arguments.skip_invalid_files,
    )
    print(f"{len(tokenizer)} tokens; tokenizer in {arguments.output_dir}")


def _prepare(arguments: argparse.Namespace) -> None:
    from .data.blocks import prepare_blocks

    manifest = prepare_blocks(
        arguments.corpus,
        arguments.tokenizer,
        arguments.output_dir,
        dataset=arguments.dataset,
        dataset_name=arguments.dataset_name,
        dataset_split=arguments.dataset_split,
        text_column=arguments.text_column,
        documents=arguments.documents,
        max_length=arguments.max_length,
        validation_fraction=arguments.validation_fraction,
        num_proc=arguments.num_proc,
        skip_invalid_files=arguments.skip_invalid_files,
        seed=arguments.seed,
    )
    for split, counts in manifest["splits"].items():
        print(
            f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens in {counts['blocks']:,} blocks "
            f"({counts['fill_fraction']:.1%} filled)"
        )
    print(f"{manifest['bytes_per_second'] / 1e6:.1f} MB/s; blocks in {arguments.output_dir}")


def _pretrain(arguments: argparse.Namespace) -> None:
    from .pretraining.recipes import read_recipe
    from .pretraining.run import CURVES, RECORD, pretrain

    recipe = read_recipe(arguments.recipe, arguments.overrides)
    record = pretrain(recipe, resume=arguments.resume)
    if recipe.training.process_index == 0:
        folder = Path(recipe.training.output_dir)
        _print_metrics({name.removeprefix("eval_"): value for name, value in record["held_out"].items()})
        print(f"model in {folder}, curves in {folder / CURVES}, record in {folder / RECORD}")
        if "pushed_to" in record:
            print(f"release in {record['pushed_to']}, read back and equal")
        else:
            print(f"next: electra-rtd export {folder} --output-dir {folder}-release")


def _plan(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from .pretraining.calibration import calibrate, save_calibration
    from .pretraining.plan import plan, plan_rows
    from .pretraining.recipes import read_recipe

    if arguments.recipe is None and arguments.calibrate is None:
        raise ValueError("give a recipe, or --calibrate FILE to measure this machine")
    if arguments.calibrate and arguments.calibration:
        raise ValueError("--calibrate measures this machine and --calibration reads a file; give one")
    recipe = None if arguments.recipe is None else read_recipe(arguments.recipe, arguments.overrides)
    if arguments.calibrate:
        print("measuring this machine, compiled steps too; minutes ...", file=sys.stderr)
        save_calibration(calibrate(), arguments.calibrate)
        print(f"calibration in {arguments.calibrate}")
    if recipe is None:
        return
    values = plan(
        recipe,
        vocab_size=arguments.vocab_size,
        device=arguments.device,
        calibration_file=arguments.calibrate or arguments.calibration,
        price_per_hour=arguments.price_per_hour,
    )
    table = Table("plan", arguments.recipe)
    for row in plan_rows(values):
        table.add_row(*row)
    Console().print(table)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        print(f"plan in {arguments.json}")


_OWN_TASK_OPTIONS = ("validation_file", "test_file", "text_columns", "label_column", "kind")


def _finetune(arguments: argparse.Namespace) -> None:
    from .finetuning.own_task import explain, own_task
    from .finetuning.reading import read_task
    from .finetuning.recipes import read_finetuning_recipe
    from .finetuning.run import TABLE, finetune
    from .finetuning.task_set import finetune_set, read_diagnostics
    from .finetuning.tasks import GLUE, find_task

    if bool(arguments.task) == bool(arguments.train_file):
        raise ValueError("give --task, or --train-file with your own examples, one of them")
    foreign = ("data_dir", "validation_fraction") if arguments.train_file else _OWN_TASK_OPTIONS
    for name in foreign:
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} goes with {'--task' if arguments.train_file else '--train-file'}"
            )
    values = read_finetuning_recipe(arguments.recipe, arguments.overrides)
    common = (arguments.model, arguments.output_dir, arguments.seeds, values)
    if arguments.train_file:
        task, data = own_task(
            arguments.train_file,
            arguments.validation_file,
            test_file=arguments.test_file,
            text_columns=arguments.text_columns,
            label_column=arguments.label_column,
            kind=arguments.kind,
        )
        print(explain(task, data))
        records = [finetune(task, data, *common, resume=arguments.resume)]
    else:
        names = [name for given in arguments.task for name in (GLUE if given == "glue" else [given])]
        tasks = [find_task(name) for name in names]
        for task in tasks:
            if "train" not in task.files:
                raise ValueError(f"{task.name} is not trained on, but predicted by a model for mnli: --task mnli")
        if len(tasks) == 1:
            data = read_task(tasks[0], arguments.data_dir, validation_fraction=arguments.validation_fraction)
            diagnostics = read_diagnostics(arguments.data_dir) if tasks[0].name == "mnli" else None
            records = [finetune(tasks[0], data, *common, resume=arguments.resume, diagnostics=diagnostics)]
        else:
            records = finetune_set(
                tasks,
                *common,
                data_dir=arguments.data_dir,
                resume=arguments.resume,
                skip_missing="glue" in arguments.task,
                validation_fraction=arguments.validation_fraction,
            )
    table = Path(arguments.output_dir) / TABLE
    print(f"\n{table.read_text(encoding='utf-8')}")
    print(f"table in {table}; {len(records)} record(s), models and predictions beside it")


def _evaluate(arguments: argparse.Namespace) -> None:
    from .pretraining.run import evaluate

    metrics = evaluate(arguments.model, arguments.data, arguments.split, arguments.max_blocks)
    _print_metrics(metrics)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        print(f"metrics in {arguments.json}")


def _export(arguments: argparse.Namespace) -> None:
    from .sharing.export import export

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


def _convert(arguments: argparse.Namespace) -> None:
    from .sharing.convert import HYPERPARAMETERS, PREFIX, convert

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


def _push(arguments: argparse.Namespace) -> None:
    from .sharing.hub import check_release, loading_lines, push
    from .sharing.space import check_space, push_space, space_files

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


def _inspect(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from .sharing.inspect import inspect_file, inspect_text, load_for_inspection
    from .sharing.inspect_views import render_html, render_terminal

    if bool(arguments.text) == (arguments.file is not None) or (arguments.file is None) != (arguments.output is None):
        raise ValueError("give texts, or --file with --output, one of them")
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
        if number == 0 and arguments.html:
            render_html(tokens, arguments.html)
            print(f"page in {arguments.html}")


def _score(arguments: argparse.Namespace) -> None:
    from .sharing.text_scores import score_file

    if arguments.against:
        _score_pairs(arguments)
        return
    for name in ("group_by", "json"):
        if getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} goes with --against")
    started = time.perf_counter()
    try:
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
    except BrokenPipeError:
        # The reader has what it wanted, as `head` does; what is still in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    rate = totals.lines / (time.perf_counter() - started)
    print(
        f"{totals.lines:,} lines, {totals.tokens:,} tokens, mean {totals.score_name} {totals.mean_score:.4f}; "
        f"{rate:,.0f} lines/s",
        file=sys.stdout if arguments.output else sys.stderr,
    )
    if arguments.output:
        print(f"scores in {arguments.output}")


def _score_pairs(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from .sharing.minimal_pairs import accuracy_rows, score_pairs

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


def _demo(arguments: argparse.Namespace) -> None:
    from .sharing.demo import load_detector
    from .sharing.demo_app import build_app, check_gradio, launch

    check_gradio()
    app = build_app(load_detector(arguments.model), arguments.model)
    launch(app, arguments.port, arguments.share)


def _print_metrics(metrics: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("held-out metric", "value")
    for name, value in metrics.items():
        if isinstance(value, float) and name not in ("epoch",):
            table.add_row(name.replace("_", " "), f"{value:.4f}")
    Console().print(table)


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _with_named_recipe(argv: list[str]) -> list[str]:
    """`... RECIPE.yaml` as `--recipe RECIPE.yaml`: an option that takes any number of values would swallow it."""
    for position, argument in enumerate(argv):
        if argument.endswith((".yaml", ".yml")) and not argument.startswith("--") and argv[position - 1] != "--recipe":
            return [*argv[:position], *argv[position + 1 :], "--recipe", argument]
    return argv


def _overrides(rest: list[str]) -> dict[str, str]:
    """`--field value`, `--field=value` and lone `--flag` (true) as a dict of field names."""
    overrides: dict[str, str] = {}
    position = 0
    while position < len(rest):
        name, equals, value = rest[position].partition("=")
        if not name.startswith("--"):
            raise ValueError(f"{name!r} stands alone; options look like --field value")
        if not equals and position + 1 < len(rest) and not rest[position + 1].startswith("--"):
            position += 1
            value = rest[position]
        elif not equals:
            value = "true"
        overrides[name[2:].replace("-", "_")] = value
        position += 1
    return overrides


def _is_user_error(error: Exception) -> bool:
    """Errors that say what the user can change; anything else is ours and keeps its traceback."""
    from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError

    return isinstance(error, ValueError | OSError | StrictDataclassError | HfHubHTTPError)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    # The strict dataclass puts the reason on its last line, below a heading.
    return (
        (lines[-1] if type(error).__name__.startswith("StrictDataclass") else " ".join(lines))
        if lines
        else repr(error)
    )


if __name__ == "__main__":
    sys.exit(main())
