"""Releases on the Hub, by the real client: the pair with the flag and without this package, revisions, subfolders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.hub_server import TOKENS, HubServer
from helpers.release import FLAG_PROCESS, REFUSE, check_what_a_stranger_saw, released
from helpers.tiny import FAMILIES
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    root = tmp_path_factory.mktemp("releases")
    return root, {family: released(root, family) for family in FAMILIES}


def files_of(folder: Path, below: str = "") -> dict[str, bytes]:
    return {
        below + path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def run(hub: HubServer, folder: Path, command: list[str], account: str | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    if account is not None:
        environment["HF_TOKEN"] = TOKENS[account]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert not any(token in done.stdout + done.stderr for token in TOKENS.values())
    return done.stdout


def test_strangers_get_the_pair_of_a_revision(releases, tmp_path):
    root, pairs = releases
    hub = HubServer()
    for family in FAMILIES:
        # What is on `main` would fail; the revision that is asked for must be used for every file.
        broken = {"config.json": b"{}", "modeling_electra_rtd.py": b"raise SystemExit('main was run')"}
        hub.add("models", f"lab/{family}", broken)
        hub.add("models", f"lab/{family}", files_of(root / family), "v1")
        hub.private.add(f"lab/{family}")
    sources = {family: f"lab/{family}" for family in FAMILIES}
    arguments = [str(tmp_path), json.dumps(sources), json.dumps({"revision": "v1"})]
    with hub.serve() as hub.address:
        printed = run(hub, tmp_path, ["-I", "-c", REFUSE + FLAG_PROCESS, *arguments], account="reader")
    report = json.loads(printed.strip().splitlines()[-1])
    outputs = load_file(tmp_path / "outputs.safetensors")
    for family in FAMILIES:
        check_what_a_stranger_saw(report[family], outputs, family, pairs[family])


# Arguments: a folder for what it makes, and the token.
PACKAGE_PROCESS = """
import sys
from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdDiscriminator, ElectraRtdForPreTraining
from modeling_electra_rtd import ElectraRtdGenerator
from modeling_electra_rtd.model.checkpoint_layout import holds_pair
place = {"revision": "v1", "subfolder": "small", "token": sys.argv[2], "cache_dir": f"{sys.argv[1]}/cache"}
pair, info = ElectraRtdForPreTraining.from_pretrained("lab/pair", output_loading_info=True, **place)
assert not any(info.values()), info
pair.save_pretrained(f"{sys.argv[1]}/pair")
assert holds_pair("lab/pair", **place) and not holds_pair("lab/lone")
config = ElectraRtdConfig.from_pretrained("lab/pair", **place)
assert config.generator_config.hidden_size == pair.generator.config.hidden_size
for loaded, network in (
    (ElectraRtdGenerator.from_pretrained("lab/pair", **place), pair.generator),
    (ElectraRtdDiscriminator.from_pretrained("lab/pair", **place), pair),
    (ElectraRtdForPreTraining.from_pair("lab/pair", **place), pair),
):
    weights = network.state_dict()
    assert all((weights[name] == weight).all() for name, weight in loaded.state_dict().items())
try:
    ElectraRtdForPreTraining.from_pretrained("lab/lone")
except ValueError as error:
    assert "holds no generator" in str(error), error
else:
    raise SystemExit("a discriminator alone was taken for a pair")
offline = ElectraRtdForPreTraining.from_pretrained("lab/pair", local_files_only=True, **place)
"""


def test_the_package_reads_revisions_and_subfolders(releases, tmp_path):
    root, pairs = releases
    hub = HubServer()
    hub.add("models", "lab/pair", {"config.json": b"{}"})
    hub.add("models", "lab/pair", files_of(root / "electra", "small/"), "v1")
    hub.private.add("lab/pair")
    lone = {name: content for name, content in files_of(root / "electra").items() if "generator/" not in name}
    hub.add("models", "lab/lone", lone)
    with hub.serve() as hub.address:
        run(hub, tmp_path, ["-c", PACKAGE_PROCESS, str(tmp_path), TOKENS["reader"]])
    weights = load_file(tmp_path / "pair" / "model.safetensors")
    state = pairs["electra"].state_dict()
    assert weights and all(torch.equal(state[name], weight) for name, weight in weights.items())
    assert {"generator", "electra"} <= {name.partition(".")[0] for name in weights}
