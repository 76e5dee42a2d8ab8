"""Text to blocks: the classic Python tokenizer, `datasets.map` as everybody writes it, and `prepare`, side by side.

    python benchmarks/preparation.py --corpus FOLDER --tokenizer FOLDER --json preparation.json

Each turn is a process of its own. Its seconds begin when the imports are done; CPU seconds are user and system time of
it and its children together, peak memory the largest sum of all their resident memory, shared pages counted each time.
Every size holds the beginnings of all files. The classic tokenizer gets a small sample, whose ids have to be ours.
"""

import argparse
import glob
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
from datasets import load_dataset
from records import write_record
from transformers import AutoTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from modeling_electra_rtd.data.blocks import prepare_blocks
from modeling_electra_rtd.data.documents import read_share
from modeling_electra_rtd.data.encoding import text_encoder
from modeling_electra_rtd.data.shares import cut_file, find_files, share_files
from modeling_electra_rtd.data.tokenization import load_tokenizer


LENGTH = 128
POLL_SECONDS = 0.05


def classic(files: list[str], tokenizer: str, folder: str) -> None:
    """`BasicTokenizer` and `WordpieceTokenizer`, in Python, one document after the other."""
    slow = legacy_tokenizer(tokenizer, folder)
    ids = np.fromiter(itertools.chain.from_iterable(map(slow, documents_of(files))), dtype=np.int32)
    np.save(Path(folder, "blocks.npy"), ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH))


def mapped(files: list[str], tokenizer: str, folder: str, processes: int | None = None) -> None:
    """The fast tokenizer and `group_texts` under `datasets.map`, as in the language modelling examples."""
    fast = AutoTokenizer.from_pretrained(tokenizer)

    def tokenize(rows: dict) -> dict:
        return fast(rows["text"], return_special_tokens_mask=True)

    def group_texts(rows: dict) -> dict:
        joined = {name: list(itertools.chain(*values)) for name, values in rows.items()}
        total = len(next(iter(joined.values()))) // LENGTH * LENGTH
        return {name: [ids[i : i + LENGTH] for i in range(0, total, LENGTH)] for name, ids in joined.items()}

    files = [glob.escape(file) for file in files]  # `datasets` takes names for globs
    rows = load_dataset("text", data_files=files, split="train", cache_dir=folder)
    rows = rows.map(tokenize, batched=True, num_proc=processes, remove_columns=["text"])
    rows.map(group_texts, batched=True, num_proc=processes).save_to_disk(str(Path(folder, "blocks")))


def mapped_by_two(files: list[str], tokenizer: str, folder: str) -> None:
    """`mapped` with `num_proc=2`."""
    mapped(files, tokenizer, folder, processes=2)


def prepared(files: list[str], tokenizer: str, folder: str, processes: int | None = None) -> None:
    """`electra-rtd prepare`, with a process for each core."""
    prepare_blocks(
        files, tokenizer, str(Path(folder, "blocks")), max_length=LENGTH, num_proc=processes, progress=False
    )


def prepared_by_one(files: list[str], tokenizer: str, folder: str) -> None:
    """`electra-rtd prepare --num-proc 1`."""
    prepared(files, tokenizer, folder, processes=1)


CONTENDERS: dict[str, Callable[[list[str], str, str], None]] = {
    "classic": classic,
    "datasets.map": mapped,
    "datasets.map, 2 processes": mapped_by_two,
    "electra-rtd, 1 process": prepared_by_one,
    "electra-rtd": prepared,
}


def legacy_tokenizer(tokenizer: str, folder: str) -> Callable[[str], list[int]]:
    """The tokenizer in Python with the same vocabulary: text -> ids, without special tokens."""
    fast = load_tokenizer(tokenizer)
    vocabulary = Path(folder, "vocab.txt")
    vocabulary.write_text("\n".join(sorted(fast.get_vocab(), key=fast.get_vocab().get)), encoding="utf-8")
    normalizer = json.loads(fast.backend_tokenizer.to_str())["normalizer"]
    slow = BertTokenizerLegacy(
        str(vocabulary), do_lower_case=normalizer["lowercase"], strip_accents=normalizer["strip_accents"]
    )
    return lambda text: slow.convert_tokens_to_ids(slow.tokenize(text))


def is_word_piece(tokenizer: str) -> bool:
    """Whether the classic tokenizer knows what to do with this vocabulary."""
    description = json.loads(load_tokenizer(tokenizer).backend_tokenizer.to_str())
    return (
        description["model"]["type"] == "WordPiece"
        and (description["normalizer"] or {}).get("type") == "BertNormalizer"
    )


def documents_of(files: list[str]) -> Iterator[str]:
    """The documents of text files."""
    for share in share_files(files):
        yield from read_share(share)


def write_sample(files: list[str], megabytes: float, folder: Path) -> list[str]:
    """Files of about `megabytes` altogether: whole documents from the beginning of the given ones."""
    folder.mkdir()
    fraction = megabytes * 1e6 / sum(os.path.getsize(file) for file in files)
    written, wanted = [], 0.0
    for number, file in enumerate(files):
        # Documents may be books: what one file gives too much, the next give less.
        wanted += os.path.getsize(file) * min(1, fraction)
        if wanted >= 1:
            first = cut_file(file, "blank_line", int(wanted))[0]
            wanted -= first.size
            target = folder / f"{number:03d}.txt"
            with open(file, "rb") as source:
                target.write_bytes(source.read(first.stop))
            written.append(str(target))
    return written


def differing_documents(files: list[str], tokenizer: str, folder: str) -> tuple[int, int]:
    """How many documents get other ids from the classic tokenizer, and of how many."""
    slow, fast = (
        legacy_tokenizer(tokenizer, folder),
        text_encoder(load_tokenizer(tokenizer).backend_tokenizer.to_str()),
    )
    same = [slow(text) == fast.encode(text, add_special_tokens=False).ids for text in documents_of(files)]
    return same.count(False), len(same)


def measure(contender: str, files: list[str], tokenizer: str) -> dict[str, float]:
    """One turn: `seconds`, `cpu_seconds`, and `peak_bytes` of the process and its children."""
    with tempfile.TemporaryDirectory() as folder:
        turn = {"contender": contender, "files": files, "tokenizer": tokenizer, "folder": folder}
        # Not this file as the script: spawned processes would import all of it again, and `electra-rtd` is light.
        command = [sys.executable, "-c", "import preparation; preparation.work()", json.dumps(turn)]
        log = Path(folder, "log.txt")
        environment_of_turn = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "HF_DATASETS_CACHE": folder,
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
        with open(log, "w", encoding="utf-8") as errors:
            process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment_of_turn)
            peak = 0
            while process.poll() is None:
                peak = max(peak, _resident_bytes(process))
                time.sleep(POLL_SECONDS)
        if process.returncode:
            raise RuntimeError(f"{contender} ended with exit code {process.returncode}: {log.read_text()[-2000:]}")
        return {**json.loads(process.stdout.read().splitlines()[-1]), "peak_bytes": peak}


def _resident_bytes(process: psutil.Process) -> int:
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        # It ended between two questions; the next look counts those that are left.
        pass
    return total


def work() -> None:
    """Runs the turn that the command line holds as JSON, and prints its seconds."""
    turn = json.loads(sys.argv[1])
    before, started = os.times(), time.perf_counter()
    CONTENDERS[turn["contender"]](turn["files"], turn["tokenizer"], turn["folder"])
    seconds, after = time.perf_counter() - started, os.times()
    print(json.dumps({"seconds": seconds, "cpu_seconds": sum(after[:4]) - sum(before[:4])}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", nargs="+", required=True, help="text files, folders and globs")
    parser.add_argument("--tokenizer", required=True, help="folder or Hub id of a fast tokenizer")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[17, 50, 168], help="sizes of input")
    parser.add_argument("--classic-megabytes", type=float, default=2, help="size of the classic tokenizer's sample")
    parser.add_argument("--rounds", type=int, default=1, help="turns of every contender with every size")
    parser.add_argument("--without", nargs="+", default=[], choices=CONTENDERS, help="contenders to leave out")
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    arguments = parser.parse_args()
    contenders = [name for name in CONTENDERS if name not in arguments.without]
    if "classic" in contenders and not is_word_piece(arguments.tokenizer):
        print("the classic tokenizer is left out: it knows WordPiece only\n")
        contenders.remove("classic")
    differing = None
    with tempfile.TemporaryDirectory() as samples:
        files = find_files(arguments.corpus)
        sizes = sorted(arguments.megabytes)
        inputs = {size: write_sample(files, size, Path(samples, f"{size}")) for size in sizes}
        small = write_sample(files, arguments.classic_megabytes, Path(samples, "classic"))
        turns: dict[tuple[float, str], list[dict[str, float]]] = {}
        for _, size, name in itertools.product(range(arguments.rounds), sizes, contenders):
            of_turn = small if name == "classic" else inputs[size]
            megabytes = sum(map(os.path.getsize, of_turn)) / 1e6
            turn = measure(name, of_turn, arguments.tokenizer)
            turns.setdefault((size, name), []).append({**turn, "megabytes": megabytes})
            print(f"{name}, {megabytes:.1f} MB: {turn['seconds']:.1f} s", file=sys.stderr, flush=True)
        if "classic" in contenders:
            differing = differing_documents(small, arguments.tokenizer, samples)
    rows = []
    for (size, name), values in turns.items():
        median = {key: statistics.median(turn[key] for turn in values) for key in values[0]}
        rows.append({"input": size, "contender": name, **median, "turns": values})
    print("| input MB | contender | MB | seconds | MB/s | CPU seconds | MB per CPU second | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['input']:g} | {row['contender']} | {row['megabytes']:.1f} | {row['seconds']:.1f} "
            f"| {row['megabytes'] / row['seconds']:.2f} | {row['cpu_seconds']:.1f} "
            f"| {row['megabytes'] / row['cpu_seconds']:.2f} | {row['peak_bytes'] / 1e6:,.0f} |"
        )
    print()
    growth = {}
    for name in contenders:
        peaks = [row["peak_bytes"] for row in rows if row["contender"] == name]
        if name != "classic":
            growth[name] = peaks[-1] / peaks[0]
            print(f"{name}: {growth[name]:.2f} times the memory for {sizes[-1] / sizes[0]:.1f} times the input")
    if differing is not None:
        print(f"documents with other ids from the classic tokenizer: {differing[0]} of {differing[1]}")
    write_record(arguments, rows=rows, memory_growth=growth, documents_with_other_ids=differing)


if __name__ == "__main__":
    main()
