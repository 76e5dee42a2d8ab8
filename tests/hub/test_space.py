"""The demo as a Space: pushed by the real client, and served from what arrived alone."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hub_server import TOKENS, Fault, HubServer
from helpers.release import quick_export
from helpers.tiny import tiny_pair, tiny_tokenizer

import modeling_electra_rtd
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.inspection.space import space_files


pytest.importorskip("gradio", reason="gradio is not installed: pip install electra-rtd[demo]")


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    # Of a family whose head no stock class has.
    tiny_pair("modernbert").save_pretrained(folder / "joint")
    tiny_tokenizer(folder / "joint")
    quick_export(str(folder / "joint"), str(folder / "out"))
    return folder / "out"


def environment(hub: HubServer, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GRADIO_"))}
    return kept | {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "HF_TOKEN": TOKENS["writer"]}


# In one process, for what it costs to start it: the release with its demo, a Space that is refused, one that is there.
PUSH = """
import sys
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.inspection.space import push_space
assert main(["push", sys.argv[1], "lab/pair", "--space", "lab/pair-demo", "--private"]) == 0
for space in ("lab/new", "lab/old"):
    try:
        push_space(space, "lab/pair")
    except ValueError as error:
        print(error)
"""


BUSY = [
    *(Fault(f"{request} /api/spaces/lab/pair-demo", 429, headers={"Retry-After": "0"}) for request in ("GET", "POST")),
    Fault("HEAD /spaces/lab/pair-demo/resolve/.*/app.py", 0),
    # It checks neither the card of the model nor that of the Space.
    Fault("validate-yaml", 404, times=2),
]


@pytest.fixture(scope="module")
def pushed(release, tmp_path_factory) -> Iterator[tuple[HubServer, Path, list[str]]]:
    """A Hub after three pushes, a home, and the last lines that were printed."""
    hub, folder = HubServer(), tmp_path_factory.mktemp("pushed")
    hub.add("spaces", "lab/old", {"modeling_electra_rtd/gone.py": b"old", "app.py": b"old", "notes.md": b"mine"})
    hub.faults = [Fault("POST .*/api/spaces/lab/new/commit/", 403), *BUSY]
    with hub.serve() as hub.address:
        done = subprocess.run(
            [sys.executable, "-c", PUSH, str(release)], capture_output=True, text=True, env=environment(hub, folder)
        )
        assert done.returncode == 0, done.stderr[-3000:]
        yield hub, folder, done.stdout.splitlines()


# The app in its own folder, then one call through the page's own interface.
ASK = """
import runpy, sys
import gradio
sys.path.insert(0, ".")
gradio.Blocks.block_thread = lambda app: asked.append(app)
asked = []
runpy.run_path("app.py")
import modeling_electra_rtd
assert modeling_electra_rtd.__file__.startswith(sys.argv[1]), modeling_electra_rtd.__file__
from gradio_client import Client
client = Client(asked[0].local_url, verbose=False)
print(client.predict("the dog sat", "the cat sat", api_name="/judge"))
"""


def test_the_space_is_the_demo_and_no_weights(pushed):
    hub, _, printed = pushed
    assert printed[-2] == f"demo in {hub.address}/spaces/lab/pair-demo"
    there = dict(hub.find("spaces", "lab/pair-demo")[1])
    there.pop(".gitattributes")
    assert there == space_files("lab/pair")
    assert "lab/pair-demo" in hub.private
    assert not [name for name in there if not name.endswith((".py", ".md", ".txt"))]
    assert sum("/api/spaces/lab/pair-demo/commit/main" in request for request in hub.requests) == 1
    front = there["README.md"].decode().split("---")[1]
    assert "sdk: gradio\n" in front and "models:\n- lab/pair\n" in front and "app_file: app.py\n" in front
    assert re.search(r"^sdk_version: \d+\.\d+\.\d+$", front, re.MULTILINE)
    pins = there["requirements.txt"].decode().splitlines()[1:]
    assert {"torch", "transformers"} < {pin.split("==")[0] for pin in pins}
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+(rc\d+)?", pin) for pin in pins)


def packages_of(distribution: str, found: set[str]) -> set[str]:
    """Names of the distributions that pip would install for one, itself among them; `found` grows by them."""
    name = re.sub(r"[-_.]+", "-", distribution).lower()
    if name not in found:
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            return found
        found.add(name)
        for requirement in required:
            if "extra ==" not in requirement:
                packages_of(re.match(r"[\w.-]+", requirement)[0], found)
    return found


# What a Space has: its own folder, and what its requirements install.
IMPORT_ALL = """
import importlib.machinery, json, pathlib, sys
refused, checkout = set(json.loads(sys.argv[1])), sys.argv[2]
sys.path = ["."] + [entry for entry in sys.path if entry not in ("", checkout)]

class Installed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in refused:
            return super().find_spec(name, path, target)

# Without the finder of an editable installation, which would find the checkout.
sys.meta_path = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, Installed]
for path in sorted(pathlib.Path("modeling_electra_rtd").rglob("*.py")):
    module = importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    assert pathlib.Path(module.__file__).resolve().is_relative_to(pathlib.Path.cwd()), module.__file__
"""


def write_files(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def installed(monkeypatch) -> dict[str, list[str]]:
    """The installed packages and their distributions; ours is among them, whichever way it came here."""
    found = {**importlib.metadata.packages_distributions(), "modeling_electra_rtd": ["electra-rtd"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: found)
    return found


def pins_of(files: dict[str, bytes]) -> set[str]:
    return {line.split("==")[0] for line in files["requirements.txt"].decode().splitlines()[1:]}


def test_an_optional_package_that_is_absent_is_no_requirement(installed):
    before = pins_of(space_files("lab/pair"))
    assert "zstandard" in before and "electra-rtd" not in before
    del installed["zstandard"]
    assert pins_of(space_files("lab/pair")) == before - {"zstandard"}


def test_its_modules_import_with_its_requirements_alone(installed, tmp_path):
    files = space_files("lab/pair")
    allowed = packages_of("gradio", set())
    for pin in pins_of(files):
        packages_of(pin, allowed)
    write_files(files, tmp_path)
    refused = [
        name
        for name, owners in installed.items()
        if name != "modeling_electra_rtd" and not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & allowed
    ]
    checkout = str(Path(modeling_electra_rtd.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(refused), checkout],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_app_serves_the_model_from_the_hub(pushed, tmp_path):
    hub, folder, _ = pushed
    # In a folder of its own, with nothing of this checkout in sight.
    space = tmp_path / "space"
    write_files(hub.find("spaces", "lab/pair-demo")[1], space)
    clean = environment(hub, folder) | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(space)], capture_output=True, text=True, env=clean, cwd=space
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ">dog</b>" in done.stdout and "<s>cat</s>" in done.stdout


def test_a_dry_run_lists_the_space(release, capsys):
    assert main(["push", str(release), "lab/pair", "--space", "lab/demo", "--dry-run"]) == 0
    assert "modeling_electra_rtd/inspection/demo_app.py" in capsys.readouterr().out


def test_what_passes_is_tried_again(pushed):
    hub, _, _ = pushed
    assert not [fault for fault in hub.faults if fault.times]


def test_a_failure_leaves_no_empty_space_and_a_success_keeps_what_is_not_ours(pushed):
    hub, _, printed = pushed
    assert printed[-1].startswith("Space lab/new: this token may not write there (HTTP 403)")
    assert hub.find("spaces", "lab/new") == "RepoNotFound"
    assert hub.find("spaces", "lab/old")[1] == space_files("lab/pair") | {"notes.md": b"mine"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lab/pair", "--space", "demo"], "--space is 'demo'; it must be OWNER/NAME"),
        (["lab/pair", "--space", "a/b/c"], "--space is 'a/b/c'; it must be OWNER/NAME"),
        (["pair", "--space", "lab/demo"], "the repository of its model is 'pair'; it must be OWNER/NAME"),
        (["lab/pair", "--space", "lab/demo", "--create-pr"], "--space goes without --revision and --create-pr"),
    ],
)
def test_impossible_spaces_are_refused_first(arguments, message, capsys):
    assert main(["push", "no-such-folder", *arguments]) == 2
    assert message in capsys.readouterr().err
