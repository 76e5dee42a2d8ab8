"""`push_to_hub` of models: what arrives is a release, by the commit and with the refusals of `electra-rtd push`."""

import json
from pathlib import Path

import pytest
import torch
from helpers.hub_client import run_stranger
from helpers.hub_server import TOKENS, Fault
from helpers.tiny import tiny_pair, tiny_tokenizer
from huggingface_hub import ModelCard

import modeling_electra_rtd
from modeling_electra_rtd.release.remote_code import remote_code_files


PUSH = """
from transformers import AutoTokenizer
from modeling_electra_rtd import ElectraRtdDiscriminator, ElectraRtdForPreTraining, ElectraRtdGenerator
model = {model}.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
print(model.push_to_hub({repository!r}, {arguments}).oid)
"""

STOCK_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def joint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("joint")
    tiny_pair("electra").save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def push(client, joint, model="ElectraRtdForPreTraining", repository="lab/pair", arguments="", **options):
    code = PUSH.format(model=model, folder=str(joint), repository=repository, arguments=arguments)
    return client.execute(code, **options)


@pytest.mark.parametrize("family", ["electra", pytest.param("modernbert", marks=pytest.mark.slow)])
def test_a_pair_arrives_as_a_release(family, hub, client, tmp_path):
    tiny_pair(family).save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    given = "tokenizer=tokenizer, private=True, commit_message='One pair', tags=['mine']"
    # Loaded by stock classes on the way, here and as it was read back.
    done = push(client, tmp_path, arguments=given, loads=family == "modernbert")
    assert done.returncode == 0, done.stderr[-3000:]
    commit, there = hub.find("models", "lab/pair")
    assert done.stdout.split() == [commit] and "lab/pair" in hub.private
    assert len(hub.commits("models", "lab/pair")) == 2
    expected = {*STOCK_FILES, *(f"generator/{name}" for name in STOCK_FILES), "README.md"}
    expected |= set(remote_code_files())
    assert there.keys() - {".gitattributes"} == expected
    assert json.loads(there["config.json"])["electra_rtd"]["generator_subfolder"] == "generator"
    card = ModelCard(there["README.md"].decode())
    assert "mine" in card.data.tags and "# pair\n" in card.text and "not measured" in card.text
    assert 'name = "lab/pair"' in card.text
    # Nothing says where its training began.
    assert "random weights" not in card.text
    content = b"".join(there.values())
    assert TOKENS["writer"].encode() not in content and str(tmp_path).encode() not in content


LOAD = """
import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer
for name, stock in {"Discriminator": AutoModelForPreTraining, "Generator": AutoModelForMaskedLM}.items():
    model, info = stock.from_pretrained(f"lab/{name}", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    AutoTokenizer.from_pretrained(f"lab/{name}")
    with torch.no_grad():
        print(model.eval()(torch.arange(16)[None]).logits.double().abs().sum().item())
"""


def test_a_network_alone_arrives_as_a_stock_checkpoint(hub, client, joint, tmp_path):
    for network in ("Discriminator", "Generator"):
        done = push(client, joint, f"ElectraRtd{network}", f"lab/{network}", "processing_class=tokenizer")
        assert done.returncode == 0, done.stderr[-3000:]
        there = hub.find("models", f"lab/{network}")[1]
        assert there.keys() - {".gitattributes"} == {*STOCK_FILES, "README.md"}
        # It does not claim to be a pair.
        assert "electra_rtd" not in json.loads(there["config.json"])
    done = run_stranger(hub.address, tmp_path, LOAD)
    assert done.returncode == 0, done.stderr[-3000:]
    pair, ids = tiny_pair("electra"), torch.arange(16)[None]
    with torch.no_grad():
        logits = [pair.discriminate(ids), pair.generator(ids).logits]
    assert [float(value) for value in done.stdout.split()] == pytest.approx(
        [value.double().abs().sum().item() for value in logits], rel=1e-5
    )


def test_a_name_without_an_owner_is_the_accounts_own(hub, client, joint):
    hub.add("models", "lab/pair", {"config.json": b"{}"})
    done = push(client, joint, repository="pair", arguments="revision='next', create_pr=False")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "gets no tokenizer" in done.stderr
    assert hub.find("models", "lab/pair")[1] == {"config.json": b"{}"}
    assert "generator/config.json" in hub.find("models", "lab/pair", "next")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("max_shard_size='10KB'", "max_shard_size is '10KB'"),
        ("token='hf_' + 'x' * 34", "not logged in, or the token is not valid"),
        ("tags=['hf_' + 'x' * 34]", "the card would show"),
    ],
)
def test_what_is_refused_changes_nothing(arguments, message, hub, client, joint):
    before = {"config.json": b"{}"}
    hub.add("models", "lab/pair", before)
    done = push(client, joint, arguments=arguments)
    assert done.returncode != 0 and message in done.stderr, done.stderr[-3000:]
    assert hub.find("models", "lab/pair")[1] == before


def test_a_failure_leaves_no_repository(hub, client, joint):
    hub.faults = [Fault("POST .*/commit/", 403)]
    done = push(client, joint)
    assert done.returncode != 0 and "may not write there (HTTP 403); nothing was changed" in done.stderr
    assert hub.find("models", "lab/pair") == "RepoNotFound"


REMOTE = """
import sys
from transformers import AutoTokenizer
sys.path.insert(0, {folder!r})
from remote.modeling_electra_rtd import ElectraRtdForPreTraining
model = ElectraRtdForPreTraining.from_pretrained({joint!r})
model.push_to_hub("lab/pair", tokenizer=AutoTokenizer.from_pretrained({joint!r}), tags=["mine"])
"""


def test_without_the_package_it_is_what_transformers_does(hub, joint, tmp_path):
    # As it travels to the Hub: flat siblings under another name.
    (tmp_path / "remote").mkdir()
    for path in Path(modeling_electra_rtd.__file__).parent.joinpath("model").glob("*.py"):
        (tmp_path / "remote" / path.name).write_bytes(path.read_bytes())
    done = run_stranger(hub.address, tmp_path, REMOTE.format(folder=str(tmp_path), joint=str(joint)))
    assert done.returncode == 0, done.stderr[-3000:]
    there = hub.find("models", "lab/pair")[1]
    assert there.keys() - {".gitattributes"} == {*STOCK_FILES, "README.md"}
    # The joint checkpoint as it is on disk.
    assert there["config.json"] == (joint / "config.json").read_bytes()
