"""`electra-rtd convert`."""

import argparse
from pathlib import Path

from .verbs import MODEL, AddVerb


def add_verbs(add: AddVerb) -> None:
    _add_convert(add)


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
    from ..conversion.convert import HYPERPARAMETERS, PREFIX, convert

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
        print(f"checkpoint {folder / PREFIX}, read back and equal; vocabulary and {HYPERPARAMETERS} next to it")
        return
    print(f"verified with stock transformers: {', '.join(done.networks)} load with 0 missing keys and equal outputs")
    print(f"release in {folder} (discriminator at the root, generator in generator/, card in README.md)")
