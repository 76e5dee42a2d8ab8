"""Blocks of code in Markdown, and how a test runs them: as they stand, on folders that hold what they name.

Names such as `my_corpus`, `runs/tiny` and `google/electra-small-discriminator` are folders of the workplace, where a
folder that exists wins over a name on the Hub. Only sizes are changed: steps, epochs, seeds, vocabularies and layers.
"""

import ast
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from helpers.calibration import measure_little
from helpers.checkpoints import google_like_pair
from helpers.corpus import SMALL_RUN, write_corpus
from helpers.deberta_v3 import published_pair, write_deberta
from helpers.original import original_checkpoint, write_vocabulary
from helpers.release import quick_export
from modeling_electra_rtd.cli.main import build_parser, main
from modeling_electra_rtd.conversion.tensorflow_bundle import write_bundle
from modeling_electra_rtd.finetuning.recipes import read_finetuning_recipe
from modeling_electra_rtd.pretraining.recipes import build_recipe, read_recipe


ROOT = Path(__file__).parents[2]
LANGUAGES = ("bash", "python", "yaml", "text")
SMALL_MODEL = {
    "model_type": "modernbert",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}
# Verbs whose runs other tests hold: the demo serves until it is stopped, and the quickstart goes by the clock.
_PARSED_ONLY = ("demo", "quickstart", "--help")
# What makes an example of Python small.
_SMALLER = {
    "max_steps=1000": "max_steps=2, per_device_train_batch_size=4",
    "num_hidden_layers=6": "num_hidden_layers=1",
}
# What lasts for a whole process, which here goes on to other tests.
_NEEDS_OWN_PROCESS = ("tune_cpu_memory",)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        place: its page and line, for messages.
        language: what stands behind the fence.
        code: what stands between the fences.
        not_run: the reason that the page gives above the fence, or `None`.
    """

    place: str
    language: str
    code: str
    not_run: str | None


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order.

    Raises:
        AssertionError: for a fence that is indented, has no language, or is not closed.
    """
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = []
    for match in pattern.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(f"{page.relative_to(ROOT)}:{line}", match[2], match[3], match[1]))
    fences = len(re.findall(r"^\s*```", text, re.MULTILINE))
    assert fences == 2 * len(found), f"{page}: {fences} fences, {len(found)} blocks of a known form"
    assert {block.language for block in found} <= set(LANGUAGES), page
    return found


def command_lines(block: Block) -> list[list[str]]:
    """The words of every command; a backslash joins lines, and what follows `#` is a remark."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def write_labelled(folder: Path) -> None:
    """Write MRPC in its official layout, and tables of one's own."""
    (folder / "glue" / "MRPC").mkdir(parents=True)
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    rows = "".join(f"{i % 2}\t1\t2\tThe river rises .\tThe river {('falls', 'rises')[i % 2]} .\n" for i in range(20))
    table = "text,title,body,topic\n" + (
        "The river rises.,The river,It rises.,water\nThe city grows.,The city,It grows.,land\n" * 8
    )
    for name in ("train", "dev"):
        (folder / "glue" / "MRPC" / f"{name}.tsv").write_text(header + rows)
        (folder / f"{name}.csv").write_text(table)
    pair = {"sentence_good": "The river rises.", "sentence_bad": "The rises river."}
    pair |= {"field": "syntax", "UID": "word_order"}
    for name in ("blimp", "pairs"):
        (folder / f"{name}.jsonl").write_text(json.dumps(pair) + "\n")


def write_materials(folder: Path) -> None:
    """Write all that pages name and do not make themselves: text, tables, checkpoints, a run and its release."""
    write_corpus(folder / "my_corpus", documents=300)
    write_labelled(folder)
    (folder / "notes").mkdir()
    (folder / "notes" / "notes.jsonl").write_text('{"text": "The river rises. The city grows."}\n' * 3)
    tokenizer, blocks, run = "runs/tokenizer", "runs/blocks", "runs/tiny"
    with contextlib.chdir(folder):
        assert main(["tokenizer", "--corpus", "my_corpus", "--output-dir", tokenizer, "--vocab-size", "150"]) == 0
        prepare = ["prepare", "--corpus", "my_corpus", "--tokenizer", tokenizer, "--num-proc", "1"]
        assert main([*prepare, "--output-dir", blocks]) == 0
        assert main(["pretrain", "tiny", "--blocks", blocks, "--output-dir", run, *_options(["tiny"])]) == 0
        quick_export(run, "runs/tiny-release")
        quick_export(run, "OWNER/NAME")
        _write_stock_checkpoints(AutoTokenizer.from_pretrained(tokenizer))
    (folder / "electra_small").mkdir()
    write_bundle(folder / "electra_small" / "model.ckpt-3", original_checkpoint())
    write_vocabulary(folder / "electra_small")
    (folder / "deberta-v3-small").mkdir()
    write_deberta(folder / "deberta-v3-small", *published_pair()[:2])


def _write_stock_checkpoints(tokenizer: Any) -> None:
    google_like_pair(Path("google"), len(tokenizer))
    for role in ("discriminator", "generator"):
        Path("google", role).rename(Path("google", f"electra-small-{role}"))
        tokenizer.save_pretrained(f"google/electra-small-{role}")
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 160,
    }
    BertForMaskedLM(BertConfig(**sizes)).save_pretrained("google-bert/bert-base-uncased")
    tokenizer.save_pretrained("google-bert/bert-base-uncased")
    RobertaForMaskedLM(RobertaConfig(**sizes)).save_pretrained("FacebookAI/roberta-base")


def workplace_for(blocks: list[Block], materials: Path, folder: Path) -> Path:
    """Copy the materials into a folder, but for what the blocks themselves make."""
    made = set()
    for block in blocks:
        if block.not_run is None and block.language == "bash":
            for words in command_lines(block):
                made |= {words[at + 1] for at, word in enumerate(words) if word == "--output-dir"}
        elif block.not_run is None and block.language == "python":
            made |= set(re.findall(r'output_dir="([^"]+)"', block.code))
            made |= set(re.findall(r'prepare_blocks\([^)]*?"(runs/[^"]+)"', block.code))
    shutil.copytree(materials, folder, dirs_exist_ok=True)
    for name in made:
        shutil.rmtree(folder / name, ignore_errors=True)
    return folder


def run_blocks(blocks: list[Block], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the blocks of a page one after another in a folder.

    Returns:
        The names that the blocks of Python have made, which they share.
    """
    measure_little(monkeypatch)
    monkeypatch.setattr("modeling_electra_rtd.release.export.verify_release", lambda *_: {})
    monkeypatch.setattr("modeling_electra_rtd.conversion.convert.verify_release", lambda *_: {"root": {}})
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        if block.not_run is not None:
            check_unrun(block)
        elif block.language == "bash":
            for words in command_lines(block):
                run_command(words, block.place)
        elif block.language == "python":
            run_python(block, names)
        elif block.language == "yaml":
            check_yaml(block)
    return names


def run_command(words: list[str], place: str) -> None:
    """Run one command with small sizes.

    Raises:
        AssertionError: for a command that fails, or that nothing is known of.
    """
    if words[0] == "electra-rtd":
        if words[1] in _PARSED_ONLY:
            check_options(words[1:])
            return
        assert main(_smaller(words[1:])) == 0, (place, words)
    elif words[:2] == ["python", "-c"] or words[0] == "python" and words[1].startswith("scripts/"):
        script = words[1:2] if words[1] == "-c" else [str(ROOT / words[1])]
        done = subprocess.run([sys.executable, *script, *words[2:]], capture_output=True, text=True)
        assert done.returncode == 0, (place, done.stderr)
    else:
        check_setup(words, place)


def check_setup(words: list[str], place: str) -> None:
    """Check a line that makes an environment, without making one: tests/test_readme.py and test_wheel.py install."""
    if words[0] == "make":
        targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets, (place, words)
    else:
        assert words in (["pip", "install", "."], ["source", ".venv/bin/activate"]), (place, words)


def smaller_python(block: Block) -> str:
    """An example of Python with small sizes.

    Raises:
        AssertionError: for one with a number of steps that is not known here, and would stay.
    """
    code = block.code
    for text, smaller in _SMALLER.items():
        code = code.replace(text, smaller)
    assert not re.search(r"max_steps=\d{2,}", code), block.place
    return code


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Run an example of Python with small sizes, in this process where that leaves nothing behind."""
    code = smaller_python(block)
    if any(name in code for name in _NEEDS_OWN_PROCESS):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, (block.place, done.stderr)
        return
    exec(compile(code, block.place, "exec"), names)


def check_yaml(block: Block) -> None:
    """Build what looks like a recipe; any other YAML has to parse."""
    values = yaml.safe_load(block.code)
    if isinstance(values, dict) and values.keys() <= {"data", "model", "training"}:
        build_recipe({section: values.get(section, {}) for section in ("data", "model", "training")})


def check_unrun(block: Block) -> None:
    """Check a block that no test can run: its syntax, and every option of a command that is known here.

    Raises:
        AssertionError: for a command that nothing is known of.
    """
    if block.language == "python":
        ast.parse(block.code)
        return
    assert block.language == "bash", block.place
    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    for words in command_lines(block):
        if words[0] == "electra-rtd":
            check_options(words[1:])
        elif words[:2] == ["accelerate", "launch"]:
            _check_accelerate(words[2:])
        elif words[0] == "torchrun":
            _check_torchrun(words[1:])
        elif words[0] == "python" and words[1] == "run_pretraining.py":
            # Of google-research/electra.
            assert words[2::2] == ["--data-dir", "--model-name", "--hparams"], block.place
        else:
            assert words[0] == "python" and (ROOT / words[1]).is_file(), (block.place, words)
            source = (ROOT / words[1]).read_text(encoding="utf-8")
            source += (ROOT / "benchmarks" / "training_steps.py").read_text(encoding="utf-8")
            unknown = [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in source]
            assert not unknown, (block.place, unknown)


def check_options(words: list[str]) -> None:
    """Hold `VERB OPTIONS` against the parser, and fields of a recipe against the recipe.

    Raises:
        SystemExit, ValueError: for what the command would refuse before it begins.
    """
    if words == ["--help"]:
        return
    arguments, rest = build_parser().parse_known_args(words)
    assert not rest or hasattr(arguments, "overrides"), rest
    assert len(rest) % 2 == 0 and all(name.startswith("--") for name in rest[::2]), rest
    overrides = {name[2:].replace("-", "_"): value for name, value in zip(rest[::2], rest[1::2], strict=True)}
    if words[0] == "finetune":
        read_finetuning_recipe(arguments.recipe, overrides)
    elif words[0] in ("pretrain", "plan"):
        read_recipe(arguments.recipe, overrides)


def _check_accelerate(words: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    arguments = launch_command_parser().parse_args(words)
    assert arguments.module and arguments.training_script == "modeling_electra_rtd.cli"
    assert arguments.config_file is None or (ROOT / arguments.config_file).is_file()
    check_options(arguments.training_script_args)


def _check_torchrun(words: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    arguments = get_args_parser().parse_args(words)
    assert arguments.module and arguments.training_script == "modeling_electra_rtd.cli"
    check_options(arguments.training_script_args)


def _smaller(words: list[str]) -> list[str]:
    """A command of `electra-rtd` with small sizes; what the page gives stays, but for those."""
    verb, *rest = words
    rest = list(_globbed(rest))
    if verb == "tokenizer":
        rest = _with(rest, {"vocab-size": "150"})
    if verb == "prepare":
        rest = _with(rest, {"num-proc": "1"})
    if verb == "pretrain":
        rest += _options(rest)
    if verb == "finetune":
        rest = _with(rest, {"num-train-epochs": "1", "max-length": "32"})
        if "--seeds" in rest:
            start = rest.index("--seeds")
            end = next((at for at in range(start + 1, len(rest)) if rest[at].startswith("--")), len(rest))
            rest = rest[:start] + rest[end:]
        rest += ["--seeds", "0"]
    return [verb, *rest]


def _globbed(words: list[str]) -> Iterator[str]:
    """What a shell makes of patterns; JSON holds no star."""
    for word in words:
        yield from sorted(map(str, Path().glob(word))) if "*" in word else [word]


def _with(words: list[str], options: dict[str, str]) -> list[str]:
    words = list(words)
    for name, value in options.items():
        if f"--{name}" in words:
            words[words.index(f"--{name}") + 1] = value
        else:
            words += [f"--{name}", value]
    return words


def _options(words: list[str]) -> list[str]:
    """What makes a run of a recipe small, where the page does not say otherwise; the number of steps is always 2."""
    options = dict(SMALL_RUN)
    given = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
    if words[0] != "small_from_google" and not given & {"discriminator", "discriminator_checkpoint"}:
        options["discriminator"] = json.dumps(SMALL_MODEL)
    kept = {name: value for name, value in options.items() if name not in given or name == "max_steps"}
    return [part for name, value in kept.items() for part in (f"--{name}", value)]
