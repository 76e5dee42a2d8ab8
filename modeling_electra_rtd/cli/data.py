"""`electra-rtd tokenizer` and `prepare`: text to blocks."""

import argparse

from .verbs import MODEL, AddVerb


def add_verbs(add: AddVerb) -> None:
    _add_tokenizer(add)
    _add_prepare(add)


def _add_tokenizer(add: AddVerb) -> None:
    sub = add("tokenizer", _tokenizer, "train a fast tokenizer")
    _add_corpus(sub, required=True)
    sub.add_argument("--output-dir", required=True, help="a new folder for the tokenizer")
    sub.add_argument("--algorithm", choices=("wordpiece", "bpe", "unigram"), default="wordpiece")
    sub.add_argument("--vocab-size", type=int, default=30522)
    sub.add_argument("--min-frequency", type=int, default=2, help="occurrences a piece needs")
    sub.add_argument("--lowercase", action=argparse.BooleanOptionalAction, default=True)
    sub.add_argument(
        "--strip-accents",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="take the marks off letters, as uncased BERT does",
    )


def _tokenizer(arguments: argparse.Namespace) -> None:
    from ..data.tokenizer_training import train_tokenizer

    tokenizer = train_tokenizer(
        arguments.corpus,
        arguments.output_dir,
        algorithm=arguments.algorithm,
        vocab_size=arguments.vocab_size,
        min_frequency=arguments.min_frequency,
        lowercase=arguments.lowercase,
        strip_accents=arguments.strip_accents,
        documents=arguments.documents,
        text_column=arguments.text_column,
        skip_invalid_files=arguments.skip_invalid_files,
    )
    print(f"{len(tokenizer)} tokens; tokenizer in {arguments.output_dir}")


def _add_prepare(add: AddVerb) -> None:
    sub = add("prepare", _prepare, "turn text into packed blocks with a train and a validation split")
    _add_corpus(sub, required=False)
    sub.add_argument("--dataset", help="Hub dataset id, instead of --corpus")
    sub.add_argument("--dataset-name", help="configuration of the Hub dataset")
    sub.add_argument("--dataset-split", default="train", help="split of the Hub dataset")
    sub.add_argument("--tokenizer", required=True, help=f"a fast tokenizer with a mask token: {MODEL}")
    sub.add_argument("--output-dir", required=True, help="a new folder for the blocks")
    sub.add_argument("--max-length", type=int, default=128, help="positions of a block")
    sub.add_argument("--validation-fraction", type=float, default=0.01, help="share of documents held out")
    sub.add_argument("--num-proc", type=int, default=None, help="processes; by default one a core")
    sub.add_argument("--seed", type=int, default=42, help="of the split")


def _prepare(arguments: argparse.Namespace) -> None:
    from ..data.blocks import prepare_blocks

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
            f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens "
            f"({counts['unknown_tokens']:,} unknown) in {counts['blocks']:,} blocks "
            f"({counts['fill_fraction']:.1%} filled)"
        )
    if own := manifest["own_special_tokens"]:
        print(f"special tokens found whole: {', '.join(f'{token} {count:,}' for token, count in own.items())}")
    print(f"{manifest['bytes_per_second'] / 1e6:.1f} MB/s; blocks in {arguments.output_dir}")


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
