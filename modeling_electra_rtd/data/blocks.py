"""A corpus prepared once: packed blocks in a folder, split into train and validation, with a manifest."""

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from typing import Any

import datasets
import pyarrow.compute
from transformers import PreTrainedTokenizerBase

from .. import __version__
from ..common.new_folder import new_folder
from ..common.progress import progress_bar
from ..model.text_encoding import control_tokens, text_backend
from ..model.vocabulary import vocabulary_size
from .block_writing import HASH_BITS, SPLITS, BlockSettings, ShareReport, SplitCounts, block_features, write_share
from .documents import FileReport, check_files, hint_at_lines, share_dataset
from .encoding import explain_speed
from .remarks import own_special_ids, remark_on_control_tokens, remark_on_no_validation, remark_on_unknown_tokens
from .shares import Share, check_document_boundary, find_files, share_files
from .tokenization import load_tokenizer, tokenizer_fingerprint
from .unknown_tokens import count_ids, lost_characters
from .workers import run_tasks


FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"

logger = logging.getLogger(__name__)


def prepare_blocks(
    corpus: list[str] | None,
    tokenizer: str,
    output_dir: str,
    *,
    dataset: str | None = None,
    dataset_name: str | None = None,
    dataset_split: str = "train",
    text_column: str = "text",
    documents: str = "blank_line",
    max_length: int = 128,
    validation_fraction: float = 0.01,
    num_proc: int | None = None,
    skip_invalid_files: bool = False,
    seed: int = 42,
    progress: bool = True,
) -> dict[str, Any]:
    """Tokenize a corpus, pack it into blocks, write them to a new folder, and return its manifest.

    The result is the same for every `num_proc`. A document goes to train or validation by its content and the seed.
    If that leaves a split empty although the corpus has two different documents, one document moves there.

    Args:
        corpus: files, folders and globs (see `find_files`), or None to read `dataset`.
        tokenizer: Hub id or folder of a fast tokenizer.
        output_dir: a new or empty folder; gets `train/`, `validation/`, `tokenizer/` and `manifest.json`, or nothing.
        dataset, dataset_name, dataset_split: a Hub dataset, its configuration and split, read as a stream.
        text_column: column of the text in tables (.json .jsonl .parquet .csv .tsv) and in the dataset.
        documents: what separates documents in text files: "blank_line", "line" or "file".
        max_length: positions of a block, [CLS], [SEP] and padding included.
        validation_fraction: part of the documents held out, in [0, 1).
        num_proc: worker processes; None: one per core.
        skip_invalid_files: leave out files that cannot be read, with a warning, instead of refusing the corpus.

    Raises:
        ValueError: an argument is out of its range, the folder is taken, the tokenizer does not fit, a file cannot be
            read, there is no document, or nearly all its tokens are unknown.
    """
    if (corpus is None) == (dataset is None):
        raise ValueError("give either corpus or dataset, not both and not neither")
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}; it must be in [0, 1)")
    processes = (os.cpu_count() or 1) if num_proc is None else num_proc
    if processes < 1:
        raise ValueError(f"num_proc is {num_proc}; it must be at least 1")
    check_document_boundary(documents)
    loaded = load_tokenizer(tokenizer)
    settings = BlockSettings(
        tokenizer=text_backend(loaded),
        control_tokens=tuple(control_tokens(loaded)),
        cls_token_id=loaded.cls_token_id,
        sep_token_id=loaded.sep_token_id,
        pad_token_id=loaded.pad_token_id,
        unk_token_id=loaded.unk_token_id,
        max_length=max_length,
        documents=documents,
        text_column=text_column,
        seed=seed,
        validation_threshold=math.ceil(validation_fraction * 2**HASH_BITS),
    )
    settings.packer()  # refuses an impossible max_length before any work starts
    explain_speed(settings.tokenizer, tokenizer)
    if lost := lost_characters(loaded):
        logger.warning("tokenizer %r: %s", tokenizer, lost)
    started = time.perf_counter()
    with new_folder(output_dir) as folder, _quiet(not progress):
        skipped: list[FileReport] = []
        if corpus is not None:
            files, skipped = check_files(
                find_files(corpus, text_column), documents, text_column, skip_invalid_files, processes, progress
            )
            if hint := hint_at_lines(files, documents):
                logger.warning("%s", hint)
            sources = [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in files]
            shares = share_files([file.path for file in files], documents)
        else:
            sources = [{"dataset": dataset, "name": dataset_name, "split": dataset_split}]
            assert dataset is not None
            shares = share_dataset(dataset, dataset_name, dataset_split)
        reports = _write_shares(shares, settings, folder, processes, progress)
        counts = _assemble(reports, max_length, folder)
        rows = [datasets.load_from_disk(os.path.join(folder, split)) for split in SPLITS if counts[split].blocks]
        ids = count_ids([split.data.column("input_ids") for split in rows], loaded)
        remark_on_unknown_tokens(list(counts.values()), ids, loaded, tokenizer)
        written = sum((report.control_tokens for report in reports), Counter())
        remark_on_control_tokens(written)
        if validation_fraction and not counts["validation"].documents:
            remark_on_no_validation(counts["train"].documents, sources, documents)
        # Blocks are ids: without the tokenizer that made them they mean nothing, wherever the folder is moved.
        loaded.save_pretrained(os.path.join(folder, TOKENIZER))
        seconds = time.perf_counter() - started
        text_bytes = sum(report.text_bytes for report in reports)
        manifest = {
            "format_version": FORMAT_VERSION,
            "created_by": f"electra-rtd {__version__}",
            "sources": sources,
            "skipped_files": [{"path": file.path, "problem": file.problem} for file in skipped],
            "tokenizer": _describe_tokenizer(loaded, tokenizer),
            "documents": documents,
            "text_column": text_column,
            "max_length": max_length,
            "seed": seed,
            "validation_fraction": validation_fraction,
            "splits": {split: _describe_split(counts[split], max_length) for split in SPLITS},
            "own_special_tokens": {token: int(ids[i]) for token, i in own_special_ids(loaded).items()},
            "control_tokens_written": dict(written),
            "empty_documents": sum(report.empty_documents for report in reports),
            "seconds": round(seconds, 3),
            "bytes_per_second": round(text_bytes / seconds),
        }
        with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2, ensure_ascii=False)
            file.write("\n")
    return manifest


def read_manifest(folder: str) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        ValueError: the folder was not written by `prepare_blocks`, or by a version this one does not understand.
    """
    path = os.path.join(folder, MANIFEST)
    if not os.path.isdir(folder):
        raise ValueError(f"blocks {folder!r}: no such folder, make it with electra-rtd prepare")
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        version = manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"blocks {folder!r}: no valid {MANIFEST}, make it with electra-rtd prepare") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version}, allowed is {FORMAT_VERSION}")
    return manifest


def describe_text(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the text of a prepared folder was, for a record that travels: names without where they lay, and sizes."""
    sources, train = manifest["sources"], manifest["splits"]["train"]
    return {
        "datasets": [source["dataset"] for source in sources if "dataset" in source],
        "files": sorted({os.path.basename(source["path"]) for source in sources if "path" in source}),
        "sources": len(sources),
        "bytes": sum(source["bytes"] for source in sources) if all("bytes" in source for source in sources) else None,
        **{name: train[name] for name in ("documents", "tokens", "blocks")},
    }


def load_blocks(
    folder: str, split: str = "train", tokenizer: str | PreTrainedTokenizerBase | None = None
) -> datasets.Dataset:
    """One split of a prepared folder, memory-mapped: columns `input_ids` (max_length) and `document_lengths`.

    Args:
        tokenizer: if given, the blocks have to be made with this tokenizer, wherever either was loaded from.

    Raises:
        ValueError: the folder is not a prepared one, the split is unknown or empty, or the tokenizer is another.
    """
    manifest = read_manifest(folder)
    if split not in manifest["splits"]:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(manifest['splits'])}")
    if tokenizer is not None:
        given = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
        made_with = manifest["tokenizer"]
        fingerprint = tokenizer_fingerprint(given)
        if fingerprint != made_with["fingerprint"]:
            theirs = f"{made_with['name_or_path']!r} ({made_with['fingerprint'][:12]})"
            ours = f"{given.name_or_path!r} ({fingerprint[:12]})"
            raise ValueError(f"blocks {folder!r}: made with tokenizer {theirs}, not with {ours}")
    if manifest["splits"][split]["blocks"] == 0:
        raise _empty_split(folder, manifest, split)
    blocks = datasets.load_from_disk(os.path.join(folder, split))
    _check_rows(blocks, folder)
    return blocks


def _empty_split(folder: str, manifest: dict[str, Any], split: str) -> ValueError:
    """Say why a split is empty, and what fills it: any share does where there are two different documents."""
    other = next(name for name in SPLITS if name != split)
    count, share = manifest["splits"][other]["documents"], manifest["validation_fraction"]
    fraction = f"a --validation-fraction above 0, it was {share}"
    # With a share to hold out, documents are on one side only where they are one, or all alike.
    more = f"more than one different document (there {'was' if count == 1 else 'were'} {count}, by documents="
    more += f"{manifest['documents']})"
    ways = ([] if share else [fraction]) + ([more] if share or count == 1 else [])
    return ValueError(
        f"blocks {folder!r}: split {split!r} is empty, all of the text is in {other!r}; prepare again with "
        f"{' and '.join(ways)}, or evaluate with --split {other}"
    )


def _check_rows(blocks: datasets.Dataset, folder: str) -> None:
    # Four bytes a document: seconds even for a billion of them, against a loss that is silently made of nothing.
    lengths = blocks.data.column("document_lengths")
    counts = pyarrow.compute.list_value_length(lengths)
    if pyarrow.compute.min(counts).as_py() == 0:
        row = pyarrow.compute.index(counts, 0).as_py()
        raise ValueError(f"blocks {folder!r}: row {row} holds no document; prepare them again")
    shortest = pyarrow.compute.min(pyarrow.compute.list_flatten(lengths)).as_py()
    if shortest < 3:
        raise ValueError(
            f"blocks {folder!r}: a document of {shortest} positions has special tokens only; prepare them again"
        )


def _write_shares(
    shares: list[Share], settings: BlockSettings, folder: str, processes: int, progress: bool
) -> list[ShareReport]:
    parts = os.path.join(folder, "parts")
    os.mkdir(parts)
    tasks = [(share, settings, os.path.join(parts, f"{index:05d}")) for index, share in enumerate(shares)]
    total = sum(piece.size for share in shares for piece in share)
    with progress_bar("preparing blocks", total or None, progress) as bar:
        reports = run_tasks(write_share, tasks, processes, bar.update)
    if not any(report.splits[split].tokens for report in reports for split in SPLITS):
        raise ValueError("corpus: empty, there is no document with a token in it")
    threshold = _threshold_for_two_splits(reports, settings.validation_threshold)
    if threshold == settings.validation_threshold:
        return reports
    # The hash put every document on one side, which happens to corpora of a few documents: a second pass is cheap.
    shutil.rmtree(parts)
    return _write_shares(shares, settings._replace(validation_threshold=threshold), folder, processes, progress)


def _threshold_for_two_splits(reports: list[ShareReport], threshold: int) -> int:
    smallest = min(report.smallest_hash for report in reports if report.smallest_hash is not None)
    largest = max(report.largest_hash for report in reports if report.largest_hash is not None)
    if threshold == 0 or smallest == largest:
        return threshold
    return min(max(threshold, smallest + 1), largest)


def _assemble(reports: list[ShareReport], max_length: int, folder: str) -> dict[str, SplitCounts]:
    """Make one dataset of the parts of each split, and return the sizes of the splits."""
    counts = {}
    features = block_features(max_length)
    for split in SPLITS:
        counts[split] = reduce(SplitCounts.plus, (report.splits[split] for report in reports))
        saved = os.path.join(folder, split)
        with _quiet(True):
            datasets.Dataset.from_dict({column: [] for column in features}, features=features).save_to_disk(saved)
        _move_into([report.files[split] for report in reports if report.splits[split].blocks], saved)
    shutil.rmtree(os.path.join(folder, "parts"))
    return counts


def _move_into(files: list[str], saved: str) -> None:
    """Make Arrow files the rows of an empty dataset that `save_to_disk` has written.

    Saving a dataset of them would copy every block, and hold the whole corpus in memory on the way.
    """
    if not files:
        return
    description = os.path.join(saved, "state.json")
    with open(description, encoding="utf-8") as file:
        state = json.load(file)
    for empty in state["_data_files"]:
        os.remove(os.path.join(saved, empty["filename"]))
    names = [f"data-{number:05d}-of-{len(files):05d}.arrow" for number in range(len(files))]
    # `datasets` keeps results of `map` by it: other rows, another fingerprint.
    fingerprint = hashlib.sha256()
    for part, name in zip(files, names, strict=True):
        with open(part, "rb") as file:
            fingerprint.update(hashlib.file_digest(file, "sha256").digest())
        os.replace(part, os.path.join(saved, name))
    state.update(_data_files=[{"filename": name} for name in names], _fingerprint=fingerprint.hexdigest()[:16])
    with open(description, "w", encoding="utf-8") as file:
        json.dump(state, file, indent=2)


def _describe_split(counts: SplitCounts, max_length: int) -> dict[str, Any]:
    positions = counts.blocks * max_length
    return {
        "documents": counts.documents,
        "tokens": counts.tokens,
        "unknown_tokens": counts.unknown_tokens,
        "blocks": counts.blocks,
        "positions": positions,
        "fill_fraction": round(counts.filled / positions, 6) if positions else 0.0,
    }


def _describe_tokenizer(tokenizer: PreTrainedTokenizerBase, name_or_path: str) -> dict[str, Any]:
    return {
        "name_or_path": name_or_path,
        "fingerprint": tokenizer_fingerprint(tokenizer),
        "vocab_size": vocabulary_size(tokenizer),
        "mask_token_id": tokenizer.mask_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "special_token_ids": sorted(tokenizer.all_special_ids),
    }


@contextlib.contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Turns the progress bars of `datasets` off while the block runs, if they are on."""
    switch = quiet and not datasets.utils.are_progress_bars_disabled()
    if switch:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if switch:
            datasets.enable_progress_bars()
