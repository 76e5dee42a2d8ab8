"""`electra-rtd quickstart`: the whole way, offline and in minutes, on text every Python machine already has."""

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from rich.console import Console
from rich.table import Table

from .data.blocks import load_blocks, prepare_blocks
from .data.collator import BlockCollator
from .data.python_prose import collect_python_prose
from .data.tokenization import load_tokenizer
from .data.tokenizer_training import train_tokenizer
from .finetuning.reading import TaskData
from .finetuning.run import TABLE, finetune
from .finetuning.task_run import RECORD as TASK_RECORD
from .finetuning.tasks import Task
from .finetuning.word_order import LABELS, word_order_examples
from .pretraining.optimization import create_optimizer
from .pretraining.recipes import Recipe, read_recipe
from .pretraining.run import CURVES, RECORD, build_model, pretrain
from .sharing.export import export
from .sharing.inspect import inspect_text, load_for_inspection
from .sharing.inspect_views import render_html, render_terminal
from .sharing.model_card import CARD, write_model_card


TRAINING_SECONDS = 250
VOCAB_SIZE = 8192
# Of the fine-tuning at the end.
LABELLED_EXAMPLES = {"train": 4000, "validation": 1000}
FINETUNING = {"num_train_epochs": 3, "learning_rate": 3e-4, "max_length": 64}
# Every such document is kept from pre-training, for the labelled task.
_LABELLED_EVERY = 6
_SENTENCES = 3


def quickstart(output_dir: str, max_steps: int | None = None) -> dict[str, Any]:
    """Corpus, tokenizer, blocks, pre-training, evaluation, release, fine-tuning against the same model from scratch,
    and a look at what the pair sees.

    The labelled task is word order (`finetuning.word_order`): was a sentence written so, or were two neighbouring
    words swapped? Its sentences come from documents that pre-training has not read.

    Args:
        output_dir: a new or empty folder.
        max_steps: optimizer steps; `None` takes what fits `TRAINING_SECONDS` on this machine.

    Returns:
        The record of the pre-training run.

    Raises:
        ValueError: for an output folder that already holds something.
    """
    folder = Path(output_dir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"output_dir {output_dir!r} already holds something; choose a new one")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    console = Console()

    with _stage(console, "1/7 corpus: English prose from the documentation of the installed Python packages"):
        documents = collect_python_prose()
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
    if max_steps is None:
        max_steps = _steps_that_fit(read_recipe("quickstart", overrides))
    with _stage(console, f"4/7 pre-training: {max_steps} steps"):
        record = pretrain(read_recipe("quickstart", {**overrides, "max_steps": str(max_steps)}))
    with _stage(console, "5/7 release: written, and verified by stock transformers in a fresh process"):
        release = export(str(folder / "model"), str(folder / "release"))
    with _stage(console, "6/7 fine-tuning: were two neighbouring words swapped? pre-trained against from scratch"):
        tuned = finetune(
            _word_order(), _labelled(labelled), str(folder / "release"), str(folder / "word-order"), [0], FINETUNING
        )
        results = [folder / "word-order" / TASK_RECORD]
        write_model_card(folder / "release", folder / "model" / RECORD, results, language=["en"])
    console.rule("7/7 held-out text: [red]replaced and found[/], [yellow]missed[/], [magenta]false alarm[/]")
    _show(folder, console)

    held_out = record["held_out"]
    table = Table(title="quickstart", show_header=False)
    rows = {
        "text": f"{corpus.stat().st_size / 1e6:.1f} MB, {len(documents):,} documents",
        "blocks": f"{manifest['splits']['train']['blocks']:,} of {manifest['max_length']} tokens, "
        f"{manifest['splits']['train']['fill_fraction']:.1%} filled",
        "parameters": f"discriminator {record['parameters']['discriminator']:,}, "
        f"generator {record['parameters']['generator_not_shared']:,} more",
        "training": f"{record['steps']:,} steps, {record['tokens_seen']:,} tokens, {record['training_seconds']:.0f} s",
        "held-out generator loss": f"{held_out['eval_generator_loss']:.3f} nats",
        "held-out AUC on replaced tokens": f"{held_out['eval_discriminator_auc']:.3f}",
        "word order, accuracy": f"{_accuracy(tuned['fine_tuned']):.3f} pre-trained, "
        f"{_accuracy(tuned['from_scratch']):.3f} from scratch",
        "stock transformers": ", ".join(f"{name}: {len(found['missing'])} missing" for name, found in release.items()),
        "whole time": f"{time.perf_counter() - started:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
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
        sources=dict.fromkeys(splits, "documentation of the installed Python packages"),
        stand_ins={},
    )


def _accuracy(runs: dict[str, Any]) -> float:
    return runs["summary"]["validation"]["accuracy"]["median"]


def _steps_that_fit(recipe: Recipe) -> int:
    """Optimizer steps that fit the time here, from a few steps of a throw-away model."""
    tokenizer = load_tokenizer(recipe.data.tokenizer)
    model = build_model(recipe.model, tokenizer)
    optimizer = create_optimizer(model, recipe.training)
    rows = load_blocks(recipe.data.blocks, "train", tokenizer)
    rows = [rows[i] for i in range(min(recipe.training.per_device_train_batch_size, len(rows)))]
    batch = BlockCollator(pad_token_id=tokenizer.pad_token_id)(rows)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.training.bf16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return max(50, min(3000, int(TRAINING_SECONDS / sorted(times)[2])))


def _show(folder: Path, console: Console) -> None:
    model, tokenizer = load_for_inspection(str(folder / "model"))
    held_out = load_blocks(str(folder / "blocks"), "validation", tokenizer)
    for number in range(min(_SENTENCES, len(held_out))):
        row = held_out[number * len(held_out) // _SENTENCES]
        text = tokenizer.decode(row["input_ids"][1 : min(48, row["document_lengths"][0]) - 1])
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
