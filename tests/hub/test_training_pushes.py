"""`electra-rtd pretrain --push_to_hub`: at every commit the repository is a release that a stranger loads."""

import getpass
import json
from pathlib import Path

import pytest
from helpers.corpus import SMALL_RUN
from helpers.hub_client import run_stranger
from helpers.hub_server import TOKENS, Fault

from modeling_electra_rtd.release.scan import uploadable_files


MODEL = {"model_type": "modernbert", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
OPTIONS = SMALL_RUN | {
    "discriminator": json.dumps(MODEL | {"num_attention_heads": 2}),
    "max_steps": "3",
    "save_strategy": "steps",
    "save_steps": "1",
    "push_to_hub": "true",
    "hub_model_id": "lab/run",
    "hub_always_push": "true",
}


@pytest.fixture
def blocks(data) -> str:
    return data[0]


def pretrain(client, blocks: str, folder: Path, **options: str):
    values = OPTIONS | {"blocks": blocks, "output_dir": str(folder)} | options
    return client.run(
        "pretrain", "quickstart", *(part for key, value in values.items() for part in (f"--{key}", value))
    )


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


LOAD = """
import json, sys
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer
sums = []
for commit in {commits}:
    where = {{"revision": commit}}
    encoder, info = AutoModel.from_pretrained("lab/run", output_loading_info=True, **where)
    generator, more = AutoModelForMaskedLM.from_pretrained(
        "lab/run", subfolder="generator", output_loading_info=True, **where
    )
    assert not info["missing_keys"] and not more["missing_keys"], (info, more)
    tokenizer = AutoTokenizer.from_pretrained("lab/run", **where)
    ids = tokenizer("The river keeps the garden.", return_tensors="pt").input_ids
    with torch.no_grad():
        sums.append([encoder.eval()(ids)[0].abs().sum().item(), generator.eval()(ids)[0].abs().sum().item()])
encoder = AutoModel.from_pretrained({folder!r}).eval()
with torch.no_grad():
    print(json.dumps([sums, encoder(ids)[0].abs().sum().item()]))
"""


def test_every_commit_is_a_release(hub, client, blocks, tmp_path):
    done = pretrain(
        client, blocks, tmp_path / "run", hub_strategy="every_save", hub_private_repo="true", hub_revision="next"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lab/run" in hub.private
    assert hub.find("models", "lab/run")[1].keys() == {".gitattributes"}
    *pushed, first = hub.commits("models", "lab/run", "next")
    # Three in the middle of training, the last of them after its last step, and the one that ends the run.
    assert len(pushed) == 4 and first[1].keys() == {".gitattributes"}
    private = [TOKENS["writer"], str(tmp_path), blocks, "training_args"]
    private += [getpass.getuser()] if getpass.getuser() not in ("root", "user") else []
    for number, (_, files) in enumerate(reversed(pushed)):
        # Nothing else is let through, optimizer state and pickles by name and by content.
        uploadable_files(written(files, tmp_path / f"commit-{number}"))
        card = files["README.md"].decode()
        assert f"| optimizer steps | {min(number + 1, 3)} |" in card and "Training began with random weights." in card
        assert 'name = "lab/run"' in card
        assert files["curves.png"].startswith(b"\x89PNG")
        for name, content in files.items():
            assert not [text for text in private if text.encode() in content], name
    # The last card is the one that the run's record gives.
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert f"| generator loss, nats | {record['held_out']['eval_generator_loss']:.4f} |" in card
    assert f"| training documents | {record['data']['documents']:,} |" in card
    commits = [commit for commit, _ in pushed]
    assert f"release in {hub.address}/lab/run/commit/{commits[0]}, read back" in done.stdout
    done = run_stranger(hub.address, tmp_path, LOAD.format(commits=commits, folder=str(tmp_path / "run")))
    assert done.returncode == 0, done.stderr[-3000:]
    sums, local = json.loads(done.stdout)
    assert sums[0] == sums[1] and sums[0][0] == pytest.approx(local, rel=1e-6)
    assert len({tuple(pair) for pair in sums}) == 3


def test_a_push_that_fails_on_the_way_does_not_stop_training(hub, client, blocks, tmp_path):
    hub.faults = [Fault("POST .*/commit/", 403), Fault("repos/create", 429, headers={"Retry-After": "1"})]
    done = pretrain(client, blocks, tmp_path / "run", hub_strategy="every_save", eval_steps="9")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lab/run: too many requests (HTTP 429); trying again in 1 s" in done.stderr
    assert "The push of step 1 failed, and training goes on: lab/run: this token may not write there" in done.stderr
    assert len(hub.commits("models", "lab/run")) == 4


def test_a_last_push_that_fails_leaves_the_model_on_disk(hub, client, blocks, tmp_path):
    hub.faults = [Fault("POST .*/commit/", 403, times=9)]
    done = pretrain(client, blocks, tmp_path / "run", hub_strategy="end", eval_steps="9")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "error: lab/run: this token may not write there (HTTP 403); nothing was changed" in done.stderr
    names = {"model.safetensors", "config.json", "run.json", "curves.png", "tokenizer.json"}
    assert names <= {path.name for path in (tmp_path / "run").iterdir()}
    assert hub.find("models", "lab/run")[1].keys() == {".gitattributes"}


@pytest.mark.parametrize(("account", "message"), [(None, "hf auth login"), ("reader", "may not write there")])
def test_who_may_not_write_learns_it_before_training(account, message, hub, client, blocks, tmp_path):
    values = OPTIONS | {"blocks": blocks, "output_dir": str(tmp_path / "run")}
    options = [part for key, value in values.items() for part in (f"--{key}", value)]
    done = client.run("pretrain", "quickstart", *options, account=account)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr[-3000:]
    assert not (tmp_path / "run").exists()
