"""Every verb that takes a model takes one of the Hub: revisions, folders, private ones, offline, and none at all.

The real clients talk to a server on 127.0.0.1 in processes with a cache of their own. A process runs many commands,
because importing costs more than running them, and marks the server's log before each.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.corpus import SMALL_RUN, write_corpus
from helpers.hub_server import TOKENS, Fault, HubServer, commit_of
from helpers.tiny import tiny_pair, tiny_tokenizer
from safetensors.torch import load_file

from modeling_electra_rtd.data.blocks import prepare_blocks
from modeling_electra_rtd.finetuning.run import weights_hash


RUN = """
import contextlib, io, json, os, sys, traceback, urllib.request
from modeling_electra_rtd.cli.main import main
for number, (token, command) in enumerate(json.load(sys.stdin)):
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"{sys.argv[1]}/mark/{number}")
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    out, error, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = main(command)
        except BaseException:
            traceback.print_exc()
    print("RESULT", json.dumps({"code": code, "out": out.getvalue(), "error": error.getvalue()}))
"""
TEXT = "the cat sat on the mat"
# What the private model is called: everything a name can have at once.
DEEP = "lab/secret@v1/runs/last"
SECRET = TOKENS["reader"]


def files_of(folder: Path, under: str = "") -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {under + path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Lab:
    """A server with models, the same models in folders, and what was run with them."""

    def __init__(self, folder: Path):
        self.folder, self.server = folder, HubServer()
        self.models: dict[str, Path] = {}
        for seed, name in enumerate(("main", "v1")):
            self.models[name] = folder / "models" / name
            tiny_pair("electra", seed).save_pretrained(self.models[name])
            tiny_tokenizer(self.models[name])
        corpus = write_corpus(folder / "corpus", documents=40)
        prepare_blocks(
            [corpus], str(self.models["main"]), str(folder / "blocks"), max_length=32, validation_fraction=0.3,
            num_proc=1, progress=False,
        )  # fmt: skip
        lines = "".join(f"the {('cat', 'dog')[i % 2]} sat,{i % 2}\n" for i in range(8))
        for name in ("train", "dev"):
            (folder / f"{name}.csv").write_text("text,label\n" + lines)
        main, v1 = (files_of(path) for path in self.models.values())
        self.server.add("models", "lab/pair", main)
        self.server.add("models", "lab/pair", v1, "v1")
        self.server.add("models", "lab/secret", {"README.md": b"# The first version has a model"})
        self.server.add("models", "lab/secret", files_of(self.models["v1"], "runs/last/"), "v1")
        self.server.private.add("lab/secret")
        self.server.add("models", "lab/gated", main)
        self.server.gated.add("lab/gated")
        generator = folder / "models" / "generator"
        tiny_pair("electra").generator.save_pretrained(generator)
        tiny_tokenizer(generator)
        self.server.add("models", "lab/release", main | files_of(generator, "generator/"))
        self.server.add("models", "lab/later", main)
        self.server.add("models", "lab/forbidden", main)
        self.server.faults.append(Fault("lab/forbidden/resolve", 403, times=1000))

    def run(self, commands: list[tuple[str | None, list[str]]], **environment: str) -> list[dict[str, Any]]:
        """`code`, `out`, `error` and the server's `requests` of each command; commands come with their token."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        ours |= {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(self.folder / "home"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        start = len(self.server.requests)
        done = subprocess.run(
            [sys.executable, "-c", RUN, self.address],
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            env={**ours, **environment},
            cwd=self.folder,
        )
        results = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert len(results) == len(commands), done.stderr[-3000:]
        assert SECRET not in done.stdout + done.stderr
        logged = "\n".join(self.server.requests[start:]).split("GET /mark/")[1:]
        for result, requests in zip(results, logged, strict=True):
            result["requests"] = requests.splitlines()[1:]
        return results

    def commands(self, model: str, name: str) -> dict[str, list[str]]:
        """A command of every verb for a model; what they write is called `name`."""
        own = ["--train-file", "train.csv", "--validation-file", "dev.csv"]
        tiny = ["--seeds", "0", "--max-steps", "1", "--from-scratch-seeds", "0", "--disable-tqdm", "true"]
        return {
            "inspect": ["inspect", model, TEXT],
            "evaluate": ["evaluate", model, "--data", "blocks", "--max-blocks", "4", "--json", f"{name}.json"],
            "export": ["export", model, "--output-dir", f"{name}-release"],
            "prepare": [
                *("prepare", "--tokenizer", model, "--corpus", "corpus", "--num-proc", "1"),
                *("--output-dir", f"{name}-blocks"),
            ],
            "finetune": ["finetune", "--model", model, *own, *tiny, "--output-dir", f"{name}-tuned"],
            "pretrain": self.pretrain(name, "discriminator-checkpoint", model, "none", tokenizer=model),
        }

    def pretrain(self, name: str, key: str, model: str, generator: str, tokenizer: str = "lab/pair") -> list[str]:
        recipe = "tiny" if key == "discriminator" else "small_from_google"
        small = [part for key, value in SMALL_RUN.items() for part in (f"--{key.replace('_', '-')}", value)]
        options = [f"--{key}", model, "--generator-checkpoint", generator, "--tokenizer", tokenizer]
        data = ["--blocks", "blocks", "--max-length", "32"]
        return ["pretrain", recipe, *options, *data, *small, "--output-dir", f"{name}-run"]

    def written(self, name: str) -> dict[str, Any]:
        """What the commands of a model wrote, without times and names; all but the release."""
        metrics = json.loads((self.folder / f"{name}.json").read_text())
        run = json.loads((self.folder / f"{name}-run" / "run.json").read_text())
        tuned = json.loads((self.folder / f"{name}-tuned" / "record.json").read_text())
        return {
            "evaluate": {key: value for key, value in metrics.items() if "loss" in key or "auc" in key},
            "prepare": json.loads((self.folder / f"{name}-blocks" / "manifest.json").read_text())["splits"],
            "finetune": (tuned["weights_sha256"], weights_hash(self.folder / f"{name}-tuned" / "seed-0")),
            "pretrain": (run["held_out"]["eval_loss"], weights_hash(self.folder / f"{name}-run")),
        }

    def released(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / f"{name}-release" / "model.safetensors")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    with lab.server.serve() as lab.address:
        yield lab


REFUSED = {
    "lab/none": "no lab/none on the Hub, unless it is private: set HF_TOKEN, or run `hf auth login`",
    DEEP: "no lab/secret on the Hub, unless it is private: set HF_TOKEN",
    "lab/forbidden": "the Hub answers 403 Forbidden; is the token good for lab/forbidden? set HF_TOKEN",
    "lab/gated": "access to lab/gated is granted on its page",
    "lab/pair@v9": "lab/pair has no such revision",
    "lab/pair@" + "0" * 40: "cannot be loaded (lab/pair has no such revision)",
    "lab/pair/nowhere": "cannot be loaded (lab/pair/nowhere h",
    "lab/release/generator": None,
}


@pytest.fixture(scope="module")
def online(lab) -> dict[str, Any]:
    """Every verb with models of the Hub and the same ones in folders, then with those that it does not give."""
    named = {
        ("main", "inspect"): (None, ["inspect", "lab/pair", TEXT]),
        ("main", "evaluate"): (None, lab.commands("lab/pair", "main")["evaluate"]),
        **{("deep", verb): (SECRET, command) for verb, command in lab.commands(DEEP, "deep").items()},
        **{
            ("local", verb): (None, command)
            for verb, command in lab.commands("models/v1", "local").items()
            if verb != "export"
        },
        ("again", "inspect"): (None, ["inspect", "hf://lab/pair@main", TEXT]),
        ("two", "pretrain"): (
            None,
            lab.pretrain("two", "discriminator-checkpoint", "lab/pair", "lab/release/generator"),
        ),
        ("config", "pretrain"): (None, lab.pretrain("config", "discriminator", "lab/pair@v1", "none")),
        ("again", "prepare"): (SECRET, lab.commands(DEEP, "again")["prepare"]),
        **{
            (model, verb): (None, command)
            for model in REFUSED
            for verb, command in lab.commands(model, "refused").items()
            if model != "lab/release/generator" or verb in ("export", "finetune", "evaluate")
        },
    }
    return dict(zip(named, lab.run(list(named.values())), strict=True))


VERBS = ("inspect", "evaluate", "export", "prepare", "finetune", "pretrain")


def test_a_model_of_the_hub_does_what_its_folder_does(lab, online):
    for name, verb in [("main", "evaluate"), *((name, verb) for name in ("deep", "local") for verb in VERBS)]:
        if (name, verb) != ("local", "export"):
            assert online[name, verb]["code"] == 0, (name, verb, online[name, verb]["error"][-2000:])
    assert online["deep", "inspect"]["out"] == online["local", "inspect"]["out"]
    assert lab.written("deep") == lab.written("local")
    trained = load_file(lab.models["v1"] / "model.safetensors")
    released = lab.released("deep")
    assert released.keys() == {name for name in trained if not name.startswith("generator.")}
    assert all(torch.equal(weight, trained[name]) for name, weight in released.items())
    # The branches differ in their weights, or nothing would be told by this.
    assert online["main", "inspect"]["out"] != online["deep", "inspect"]["out"]


def test_records_say_which_commit_was_loaded(lab, online):
    commit = commit_of(files_of(lab.models["v1"], "runs/last/"))
    hub = {"id": "lab/secret", "revision": "v1", "subfolder": "runs/last", "commit": commit}
    for name in ("record.json", "asked.json"):
        tuned = json.loads((lab.folder / "deep-tuned" / name).read_text())
        assert (tuned["model"], tuned["model_from_hub"]) == (DEEP, hub)
    run = json.loads((lab.folder / "deep-run" / "run.json").read_text())
    assert run["from_hub"] == ["lab/secret"] and run["checkpoints_from_hub"] == {"discriminator_checkpoint": hub}
    assert run["recipe"]["model"]["discriminator_checkpoint"] == DEEP
    tuned = json.loads((lab.folder / "local-tuned" / "record.json").read_text())
    assert tuned["model_from_hub"] is None
    # The first commit that was seen is the one that everything was read from.
    for verb in VERBS:
        files = [line for line in online["deep", verb]["requests"] if "/resolve/" in line]
        assert all("/resolve/v1/" not in line and f"/resolve/{commit}/" in line for line in files)


def test_a_recipe_names_two_checkpoints_or_a_config(lab, online):
    for name in ("two", "config"):
        assert online[name, "pretrain"]["code"] == 0, online[name, "pretrain"]["error"][-2000:]
    run = json.loads((lab.folder / "two-run" / "run.json").read_text())
    found = run["checkpoints_from_hub"]
    assert run["from_hub"] == ["lab/pair", "lab/release"]
    assert found["discriminator_checkpoint"]["id"] == "lab/pair"
    assert (found["generator_checkpoint"]["id"], found["generator_checkpoint"]["subfolder"]) == (
        ("lab/release", "generator")
    )
    ours, given = (
        json.loads((folder / "config.json").read_text()) for folder in (lab.folder / "config-run", lab.models["v1"])
    )
    same = ("model_type", "hidden_size", "embedding_size", "num_hidden_layers", "num_attention_heads")
    assert [ours[key] for key in same] == [given[key] for key in same]
    run = json.loads((lab.folder / "config-run" / "run.json").read_text())
    assert run["from_hub"] == [] and run["checkpoints_from_hub"] == {}


def test_a_second_call_downloads_nothing(lab, online):
    for verb in ("inspect", "prepare"):
        again = online["again", verb]
        assert again["code"] == 0, again["error"][-2000:]
        assert again["requests"] and not [line for line in again["requests"] if line.startswith("GET /lab/")]
    assert online["again", "inspect"]["out"] == online["main", "inspect"]["out"]


@pytest.mark.parametrize("model", REFUSED)
def test_what_the_hub_does_not_give_ends_in_one_line(model, lab, online):
    found = {verb: result for (name, verb), result in online.items() if name == model}
    assert found
    for verb, result in found.items():
        lines = [line for line in result["error"].splitlines() if line.startswith("electra-rtd ")]
        assert result["code"] == 2 and len(lines) == 1, (verb, result["error"][-2000:])
        assert "Traceback" not in result["error"] and repr(model)[1:-1] in lines[0]
        if REFUSED[model] is not None:
            assert REFUSED[model] in lines[0], verb
    assert not list(lab.folder.glob("refused*"))


def test_a_generator_on_the_hub_is_no_discriminator(online):
    refused = "lab/release/generator"
    assert "is a generator; fine-tune the discriminator, lab/release" in online[refused, "finetune"]["error"]
    assert "is not a joint checkpoint" in online[refused, "export"]["error"]
    assert "holds no generator" in online[refused, "evaluate"]["error"]


@pytest.mark.slow
def test_offline_what_is_cached_loads_without_a_request(lab, online):
    moved = json.loads((lab.folder / "deep-tuned" / "asked.json").read_text())
    commit, moved["model_from_hub"]["commit"] = moved["model_from_hub"]["commit"], "0" * 40
    (lab.folder / "moved-tuned").mkdir()
    (lab.folder / "moved-tuned" / "asked.json").write_text(json.dumps(moved))
    commands = lab.commands(DEEP, "offline") | {
        "resumed": [*lab.commands(DEEP, "deep")["finetune"], "--resume"],
        "moved": [*lab.commands(DEEP, "moved")["finetune"], "--resume"],
        "other model": ["inspect", "lab/later", TEXT],
        "other model, finetune": lab.commands("lab/later", "refused")["finetune"],
        "other revision": ["evaluate", "lab/pair@v1", "--data", "blocks"],
    }
    results = lab.run([(None, command) for command in commands.values()], HF_HUB_OFFLINE="1")
    found = dict(zip(commands, results, strict=True))
    for name in (*VERBS, "resumed"):
        assert found[name]["code"] == 0, (name, found[name]["error"][-2000:])
    assert lab.written("offline") == lab.written("deep")
    assert found["inspect"]["out"] == online["deep", "inspect"]["out"]
    for name in ("other model", "other model, finetune", "other revision"):
        assert "offline mode is on (HF_HUB_OFFLINE), and the cache does not hold it" in found[name]["error"]
        assert found[name]["code"] == 2 and "Traceback" not in found[name]["error"]
    assert f"holds a run with commit '{'0' * 40}', not '{commit}'" in found["moved"]["error"]
    assert [line for result in results for line in result["requests"]] == []


def test_without_a_network_the_cache_serves(lab, online):
    # Nobody listens on the port of "discard".
    commands = [(None, ["inspect", model, TEXT]) for model in ("lab/pair", "lab/later")]
    cached, later = lab.run(commands, HF_ENDPOINT="http://127.0.0.1:9")
    assert cached["code"] == 0 and cached["out"] == online["main", "inspect"]["out"]
    assert later["code"] == 2 and "the Hub cannot be reached, and the cache does not hold it" in later["error"]
    assert "Traceback" not in later["error"] and cached["requests"] == later["requests"] == []


def test_no_token_is_written_anywhere(lab, online):
    written = [path for path in lab.folder.rglob("*") if path.is_file()]
    assert len(written) > 50 and not [path for path in written if SECRET.encode() in path.read_bytes()]
