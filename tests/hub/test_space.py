"""The demo as a Space: pushed by the real client, and served from what arrived alone."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKENS, Fault, HubServer
from release_for_tests import quick_export
from tiny import tiny_pair, tiny_tokenizer

from modeling_electra_rtd.cli import main
from modeling_electra_rtd.sharing import space
from modeling_electra_rtd.sharing.space import space_files


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
from modeling_electra_rtd.cli import main
from modeling_electra_rtd.sharing.space import push_space
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
    # No index has this package; its modules lie in the Space.
    assert not [pin for pin in pins if "electra" in pin]


# In the Space's folder, with no more than its requirements and what they require themselves.
IMPORT_ALL = r"""
import importlib.machinery, pathlib, re, sys
from importlib import metadata
needed = [line.split("==")[0] for line in open("requirements.txt").read().splitlines()[1:]] + ["gradio"]
known = set()
while needed:
    name = re.match(r"[\w.-]+", needed.pop())[0].lower().replace("_", "-")
    if name in known:
        continue
    known.add(name)
    try:
        needed += [line for line in metadata.requires(name) or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        pass
owners = metadata.packages_distributions()

found = importlib.machinery.PathFinder.find_spec

def find_spec(name, path=None, target=None):
    top = name.split(".")[0]
    owned = {owner.lower().replace("_", "-") for owner in owners.get(top, [])}
    return None if owned and not owned & known and top != "modeling_electra_rtd" else found(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
sys.path.insert(0, ".")
import modeling_electra_rtd
assert pathlib.Path(modeling_electra_rtd.__file__).resolve().is_relative_to(pathlib.Path.cwd()), "not the Space's own"
for file in sorted(pathlib.Path("modeling_electra_rtd").rglob("*.py")):
    importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
"""


def test_a_space_needs_no_more_than_its_requirements(tmp_path):
    for name, content in space_files("lab/pair").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_optional_package_that_is_absent_is_no_requirement(monkeypatch):
    there = space.metadata.packages_distributions()
    assert "zstandard==" in space_files("lab/pair")["requirements.txt"].decode()
    monkeypatch.setattr(
        space.metadata, "packages_distributions", lambda: {k: v for k, v in there.items() if k != "zstandard"}
    )
    assert "zstandard" not in space_files("lab/pair")["requirements.txt"].decode()


def test_the_app_serves_the_model_from_the_hub(pushed, tmp_path):
    hub, folder, _ = pushed
    # In a folder of its own, with nothing of this checkout in sight.
    space = tmp_path / "space"
    for name, content in hub.find("spaces", "lab/pair-demo")[1].items():
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        (space / name).write_bytes(content)
    clean = environment(hub, folder) | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(space)], capture_output=True, text=True, env=clean, cwd=space
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ">dog</b>" in done.stdout and "<s>cat</s>" in done.stdout


def test_a_dry_run_lists_the_space(release, capsys):
    assert main(["push", str(release), "lab/pair", "--space", "lab/demo", "--dry-run"]) == 0
    assert "modeling_electra_rtd/sharing/demo_app.py" in capsys.readouterr().out


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
