"""`electra-rtd quickstart`: the whole way, offline and in minutes, on text that comes with the package."""

import importlib.resources
import lzma
import math
import os
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from rich.console import Console
from rich.table import Table

from .common.files import CURVES, RUN_RECORD, TASK_RECORD
from .data.blocks import TOKENIZER, load_blocks, prepare_blocks
from .data.tokenization import load_tokenizer
from .data.tokenizer_training import train_tokenizer
from .finetuning.reading import TaskData
from .finetuning.run import TABLE, finetune
from .finetuning.tasks import Task
from .finetuning.word_order import LABELS, word_order_examples
from .inspection.tokens import inspect_text, load_for_inspection
from .inspection.views import render_html, render_terminal
from .pretraining.recipes import read_recipe
from .pretraining.run import pretrain
from .pretraining.time_budget import TimeBudget
from .release.card import CARD, write_model_card
from .release.export import export


TRAINING_SECONDS = 250
# On the way of runs of this kind the AUC was 0.54 after 0.4 million tokens, 0.63 after one and 0.70 after two, from
# which the encoder has learned word order (docs/log/recipes.md).
FEWEST_TOKENS = 1_000_000
VOCAB_SIZE = 8192
# The seed of the fine-tuning at the end.
LABELLED_EXAMPLES = {"train": 4000, "validation": 1000}
FINETUNING = {"num_train_epochs": 3, "learning_rate": 3e-4, "max_length": 64}
# Every such document is kept from pre-training, for the labelled task.
_LABELLED_EVERY = 6
_SENTENCES = 3
# What counts as learned: by so much better than guessing by frequency, above chance, and than random weights.
_LEARNED = {"nats": 0.5, "auc": 0.6, "accuracy": 0.05}


def quickstart(output_dir: str, max_steps: int | None = None, seconds: float = TRAINING_SECONDS) -> dict[str, Any]:
    """Corpus, tokenizer, blocks, pre-training, evaluation, release, fine-tuning against the same model from scratch,
    and a look at what the pair sees.

    The labelled task is word order (`finetuning.word_order`): was a sentence written so, or were two neighbouring
    words swapped? Its sentences come from documents that pre-training has not read.

    Args:
        output_dir: a new or empty folder.
        max_steps: optimizer steps; `None` goes by the clock.
        seconds: of pre-training, whatever this machine does in them.

    Returns:
        The record of the pre-training run.

    Raises:
        ValueError: for an output folder that already holds something, and for a time that is not above 0.
    """
    budget = None if max_steps is not None else TimeBudget(seconds)
    folder = Path(output_dir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"output_dir {output_dir!r} already holds something; choose a new one")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    console = Console()

    with _stage(console, "1/7 corpus: English prose from the documentation of Python, NumPy, SciPy and others"):
        documents = quickstart_documents()
        labelled = documents[::_LABELLED_EVERY]
        read = [text for number, text in enumerate(documents) if number % _LABELLED_EVERY]
        corpus = folder / "corpus.txt"
        corpus.write_text("\n\n".join(read) + "\n", encoding="utf-8")
    with _stage(console, f"2/7 tokenizer: WordPiece, {VOCAB_SIZE} tokens"):
        train_tokenizer([str(corpus)], str(folder / "tokenizer"), vocab_size=VOCAB_SIZE)
    with _stage(console, "3/7 blocks: packed, with held-out documents"):
        manifest = prepare_blocks(
            [str(corpus)], str(folder / "tokenizer"), str(folder / "blocks"), validation_fraction=0.05
        )
    overrides = {
        "blocks": str(folder / "blocks"),
        "tokenizer": str(folder / "tokenizer"),
        "output_dir": str(folder / "model"),
    }
    length = f"{seconds:g} seconds" if max_steps is None else f"{max_steps} steps"
    recipe = read_recipe("quickstart", {**overrides, "max_steps": str(max_steps or TimeBudget.MOST_STEPS)})
    with _stage(console, f"4/7 pre-training: {length}, in {recipe.training.precision}"):
        record = pretrain(recipe, time_budget=budget)
    with _stage(console, "5/7 release: written, and verified by stock transformers in a fresh process"):
        release = export(str(folder / "model"), str(folder / "release"))
    with _stage(console, "6/7 fine-tuning: were two neighbouring words swapped? pre-trained against from scratch"):
        tuned = finetune(
            _word_order(), _labelled(labelled), str(folder / "release"), str(folder / "word-order"), [0], FINETUNING
        )
        results = [folder / "word-order" / TASK_RECORD]
        write_model_card(folder / "release", folder / "model" / RUN_RECORD, results, language=["en"])
    console.rule("7/7 held-out text: [red]replaced and found[/], [yellow]missed[/], [magenta]false alarm[/]")
    _show(folder, console)

    held_out = record["held_out"]
    pre_trained, from_scratch = _accuracy(tuned["fine_tuned"]), _accuracy(tuned["from_scratch"])
    table = Table(title="quickstart", show_header=False)
    rows = {
        "text": f"{corpus.stat().st_size / 1e6:.1f} MB, {len(documents):,} documents",
        "blocks": f"{manifest['splits']['train']['blocks']:,} of {manifest['max_length']} tokens, "
        f"{manifest['splits']['train']['fill_fraction']:.1%} filled",
        "parameters": f"discriminator {record['parameters']['discriminator']:,}, "
        f"generator {record['parameters']['generator_not_shared']:,} more",
        "training": f"{record['steps']:,} steps, {record['tokens_seen']:,} tokens, {record['training_seconds']:.0f} s "
        f"in {record['precision']['ran']}",
        "held-out generator loss": f"{held_out['eval_generator_loss']:.3f} nats",
        "held-out AUC on replaced tokens": f"{held_out['eval_discriminator_auc']:.3f}",
        "word order, accuracy": f"{pre_trained:.3f} pre-trained, {from_scratch:.3f} from scratch",
        "stock transformers": ", ".join(f"{name}: {len(found['missing'])} missing" for name, found in release.items()),
        "whole time": f"{time.perf_counter() - started:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    unigram = unigram_loss(folder / "blocks")
    for line in verdict(record, unigram, math.log(VOCAB_SIZE), pre_trained, from_scratch):
        console.print(line, highlight=False)
    files = {
        "release": folder / "release",
        "model card": folder / "release" / CARD,
        "joint model": folder / "model",
        "curves": folder / "model" / CURVES,
        "fine-tuned model": folder / "word-order" / "seed-0",
        "its table": folder / "word-order" / TABLE,
        "heat map": folder / "inspect.html",
    }
    for name, path in files.items():
        # Paths are there to be copied: a line each, whatever the terminal's width.
        console.print(f"{name:<18}{path}", soft_wrap=True, highlight=False, markup=False)
    return record


def quickstart_documents() -> list[str]:
    """The texts that come with the package; `LICENCES.md` next to them says where they are from."""
    packed = importlib.resources.files(__package__) / "quickstart_text" / "text.txt.xz"
    return lzma.decompress(packed.read_bytes()).decode().strip().split("\n\n")


def unigram_loss(blocks: Path) -> float:
    """What guessing held-out tokens by how often training has them costs, in nats a token; special tokens left out."""
    tokenizer = load_tokenizer(str(blocks / TOKENIZER))
    counts: dict[str, Counter[int]] = {split: Counter() for split in ("train", "validation")}
    for split, counter in counts.items():
        for row in load_blocks(str(blocks), split, tokenizer):
            counter.update(row["input_ids"])
        for special in tokenizer.all_special_ids:
            counter.pop(special, None)
    # Each token once more than it was seen, so that none is impossible.
    total = counts["train"].total() + len(tokenizer)
    losses = {token: -math.log((counts["train"][token] + 1) / total) for token in counts["validation"]}
    return sum(losses[token] * n for token, n in counts["validation"].items()) / counts["validation"].total()


def verdict(
    record: dict[str, Any], unigram: float, random_weights: float, pre_trained: float, from_scratch: float
) -> list[str]:
    """What was learned, against chance and random weights, in lines for people.

    Args:
        record: of the pre-training.
        unigram, random_weights: generator losses in nats, of guessing by frequency and of weights as they begin.
        pre_trained, from_scratch: accuracies of word order.
    """
    held_out, tokens = record["held_out"], record["tokens_seen"]
    loss, auc = held_out["eval_generator_loss"], held_out["eval_discriminator_auc"]
    found = {
        "hidden words": (
            loss < unigram - _LEARNED["nats"],
            f"{loss:.2f} nats; guessing by frequency costs {unigram:.2f}, random weights {random_weights:.2f}",
        ),
        "replaced words": (auc > _LEARNED["auc"], f"AUC {auc:.3f}; chance and random weights are at 0.5"),
        "word order": (
            pre_trained > from_scratch + _LEARNED["accuracy"],
            f"{pre_trained:.3f} right after fine-tuning; {from_scratch:.3f} from random weights, and chance is 0.5",
        ),
    }
    lines = [
        f"[{'green' if learned else 'red'}]{'learned' if learned else 'not learned'}[/]  {name}: {figures}"
        for name, (learned, figures) in found.items()
    ]
    if tokens < FEWEST_TOKENS:
        seconds = record["training_seconds"]
        rate = tokens / max(seconds, 1e-9)
        lines.append(
            f"[yellow]This run was too short for the model to learn: {tokens:,} tokens, {rate:,.0f} a second, and it "
            f"needs at least {FEWEST_TOKENS:,}. On this machine: electra-rtd quickstart --seconds "
            f"{math.ceil(1.2 * FEWEST_TOKENS / max(rate, 1e-9) / 10) * 10}[/]"
        )
    return lines


def _word_order() -> Task:
    return Task(
        name="word_order",
        kind="classification",
        text_columns=("sentence",),
        labels=LABELS,
        metric="classification",
        headline="accuracy",
        folder=".",
        files={},
    )


def _labelled(documents: list[str]) -> TaskData:
    parts = {"train": documents[::2], "validation": documents[1::2]}
    splits = {name: word_order_examples(part, LABELLED_EXAMPLES[name]) for name, part in parts.items()}
    return TaskData(
        splits=DatasetDict(splits),
        labels=LABELS,
        sources=dict.fromkeys(splits, "documentation of Python packages, which comes with electra-rtd"),
        stand_ins={},
    )


def _accuracy(runs: dict[str, Any]) -> float:
    return runs["summary"]["validation"]["accuracy"]["median"]


def _show(folder: Path, console: Console) -> None:
    model, tokenizer = load_for_inspection(str(folder / "model"))
    held_out = load_blocks(str(folder / "blocks"), "validation", tokenizer)
    for number in range(min(_SENTENCES, len(held_out))):
        row = held_out[number * len(held_out) // _SENTENCES]
        text: Any = tokenizer.decode(row["input_ids"][1 : min(48, row["document_lengths"][0]) - 1])
        tokens = inspect_text(model, tokenizer, text)
        render_terminal(tokens, console)
        if number == 0:
            render_html(tokens, str(folder / "inspect.html"))


@contextmanager
def _stage(console: Console, title: str):
    console.rule(f"[bold]{title}")
    started = time.perf_counter()
    yield
    console.print(f"{time.perf_counter() - started:.0f} s", style="dim", highlight=False)
    # Stages before training leave threads of the tokenizer behind; forking data workers would warn about them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
