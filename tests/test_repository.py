"""The repository keeps its own promises: one direction of imports, no leaks, a map and pins that are true."""

import ast
import configparser
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from modeling_electra_rtd.release.remote_code import remote_code_files


ROOT = Path(__file__).parents[1]
PACKAGE = "modeling_electra_rtd"

# A file imports nothing from a folder that stands after its own here.
FOLDERS = (
    "model",
    "common",
    "data",
    "finetuning",
    "release",
    "pretraining",
    "conversion",
    "inspection",
    "quickstart",
    "cli",
)
# A model pushes itself as a release, where the package is at hand; remote code falls back to what transformers does.
DOWNSTREAM = {("model.push", "release.from_memory")}
# What remote code can import beside its siblings: what transformers itself needs.
REMOTE_CODE_REQUIRES = {"torch", "transformers", "huggingface_hub"}
MODULES = sorted(
    path.relative_to(ROOT / PACKAGE).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / PACKAGE).rglob("*.py")
    if path.name != "__init__.py"
)


def module_path(module: str) -> Path:
    return ROOT / PACKAGE / (module.replace(".", "/") + ".py")


def imports_of(module: str) -> Iterator[tuple[int, str, str]]:
    """(level, dotted module, imported name) of every import, those inside functions included."""
    for node in ast.walk(ast.parse(module_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", alias.name) for alias in node.names)


def imported_modules(module: str) -> Iterator[str]:
    """Modules of the package that `module` imports, by their names below it."""
    for level, target, name in imports_of(module):
        if level:
            parents = module.split(".")[:-level]
            assert level <= module.count(".") + 1, f"{module} imports from outside the package"
            target = ".".join([*parents, *filter(None, [target])])
        elif target.split(".")[0] == PACKAGE:
            target = target.partition(".")[2]
        else:
            continue
        submodule = ".".join(filter(None, [target, name]))
        if name and module_path(submodule).is_file():
            yield submodule
        elif target:
            yield target
        else:
            # `from . import __version__` asks the package itself, which imports nothing.
            assert name == "__version__", f"{module} imports {name!r} from the package instead of from its module"


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        # A copy without its history.
        skipped = {
            ".git",
            ".venv",
            "runs",
            "build",
            "dist",
            "site",
            "__pycache__",
            ".pytest_cache",
            ".ruff_cache",
            ".hypothesis",
        }
        paths = []
        for folder, children, names in os.walk(ROOT):
            children[:] = [child for child in children if child not in skipped and not child.endswith(".egg-info")]
            paths += [Path(folder, name) for name in names]
    return [path for path in paths if path.is_file()]


def code_of(markdown: str) -> tuple[list[str], list[str]]:
    """Fenced blocks and inline code of a Markdown text."""
    fence = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return fence.findall(markdown), re.findall(r"`([^`\n]+)`", fence.sub("", markdown))


def tree_names(block: str) -> Iterator[str]:
    """Paths that a drawn folder tree names; what follows two spaces after the names is a remark."""
    above: list[tuple[int, str]] = []
    for line in block.splitlines():
        drawn = re.match(r"[\s\u2500-\u257f|`]*", line).end()
        names = re.split(r"[,\s]+", re.split(r"\s{2,}|\s#", line[drawn:])[0].strip())
        if not re.fullmatch(r"\.?[\w*{}-][\w.,*{}/-]*", names[0]) or not re.search(r"[./]|^[A-Z]\w+$", names[0]):
            continue
        while above and above[-1][0] >= drawn:
            above.pop()
        if not drawn and names[0].rstrip("/") != PACKAGE and re.search(r"^[\u251c\u2514]", block, re.MULTILINE):
            # The name that a checkout happens to have, above a tree of drawn lines.
            continue
        prefix = above[-1][1] if above else ""
        yield from (prefix + name for name in names if name)
        if names[0].endswith("/"):
            above.append((drawn, prefix + names[0]))


def folder_of(module: str) -> str:
    return module.split(".")[0]


def test_every_module_lies_in_a_folder_of_the_order():
    assert {folder_of(module) for module in MODULES} == set(FOLDERS)


def test_the_package_names_its_folders_in_their_order():
    described = ast.get_docstring(ast.parse((ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    assert ", ".join(FOLDERS) in " ".join(described.split())


@pytest.mark.parametrize("module", MODULES)
def test_no_import_from_a_later_folder(module):
    here = FOLDERS.index(folder_of(module))
    later = {target for target in imported_modules(module) if FOLDERS.index(folder_of(target)) > here}
    later -= {target for source, target in DOWNSTREAM if source == module}
    assert not later, f"{module} imports {sorted(later)}, of folders that stand after its own in {FOLDERS}"


def test_no_cycle_of_imports():
    graph = {
        module: {target for target in imported_modules(module) if (module, target) not in DOWNSTREAM}
        for module in MODULES
    }
    # Raises CycleError, which names the modules of the cycle.
    TopologicalSorter(graph).prepare()


def test_the_model_is_what_travels():
    files = {f"{module.removeprefix('model.')}.py" for module in MODULES if folder_of(module) == "model"}
    assert set(remote_code_files()) == files


@pytest.mark.parametrize("module", [module for module in MODULES if folder_of(module) == "model"])
def test_the_model_is_closed(module):
    for level, target, name in imports_of(module):
        if level:
            assert level == 1 and f"model.{target}" in MODULES, f"{module}: write `from .sibling import {name}`"
        else:
            package = target.split(".")[0]
            if (module, target.partition(".")[2]) in DOWNSTREAM:
                continue
            assert package in REMOTE_CODE_REQUIRES | sys.stdlib_module_names, f"{module} imports {package}"


def test_no_machine_paths_or_credentials():
    # Written in parts, so that this file passes its own test.
    leak = re.compile(r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot)/|\bhf_" + r"[A-Za-z0-9]{20,}")
    found = []
    for path in repository_files():
        match = leak.search(path.read_bytes().decode("utf-8", errors="ignore"))
        if match:
            found.append(f"{path.relative_to(ROOT)}: {match[0]}")
    assert not found


def test_the_map_in_contributing_is_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tree,) = [block for block in code_of(text)[0] if re.search(rf"^{PACKAGE}/", block, re.MULTILINE)]
    names = {name.rstrip("/") for name in tree_names(tree)}
    parts = {name.removeprefix(f"{PACKAGE}/") for name in names if name.startswith(f"{PACKAGE}/")}
    assert parts == {*FOLDERS, "quickstart_text"} - {"quickstart"} | {"quickstart.py"}
    # In the order in which one may import from another.
    assert [part for part in re.findall(r"^  (\w+)[/.]", tree, re.MULTILINE) if part in FOLDERS] == list(FOLDERS)
    here = {path.relative_to(ROOT).parts[0] for path in repository_files() if len(path.relative_to(ROOT).parts) > 1}
    assert names - {f"{PACKAGE}/{part}" for part in parts} == {name for name in here if not name.startswith(".")}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_that_a_page_names_exist(page):
    blocks, spans = code_of((ROOT / page).read_text(encoding="utf-8"))
    named = {
        target
        for code in [*blocks, *spans]
        for target in re.findall(r"(?:^|[;&|$])[ \t]*make[ \t]+(?:\w+=\S+[ \t]+)*([a-z][\w-]*)", code, re.MULTILINE)
    }
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named, f"{page} names no make target"
    assert named <= targets


def test_setup_names_every_package_and_every_shipped_file():
    setup = configparser.ConfigParser(delimiters=("=",))
    setup.read(ROOT / "setup.cfg")
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / PACKAGE).rglob("__init__.py")}
    folders = {}
    for line in setup["options"]["package_dir"].strip().splitlines():
        package, folder = line.split(" = ")
        folders[package] = folder
    assert set(setup["options"]["packages"].split()) == packages | set(folders)
    patterns = {
        package: [pattern.strip() for pattern in value.split(",")]
        for package, value in setup["options.package_data"].items()
    }
    wanted = {
        f"{PACKAGE}.configuration": [path for path in (ROOT / "configuration").rglob("*") if path.is_file()],
        f"{PACKAGE}.model_cards": [ROOT / "model_cards" / "template.md.jinja"],
        PACKAGE: [path for path in (ROOT / PACKAGE / "quickstart_text").iterdir() if path.is_file()],
    }
    for package, files in wanted.items():
        folder = ROOT / folders.get(package, PACKAGE)
        shipped = {path for pattern in patterns[package] for path in folder.glob(pattern)}
        assert files and set(files) <= shipped


def test_pins_cover_what_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = sum(project["optional-dependencies"].values(), project["dependencies"])
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower() for requirement in declared}
    assert names <= set(pins)
    assert not [name for name in pins if name.startswith("nvidia")]
    assert not [version for version in pins.values() if "+" in version]
    # One formatter version everywhere, else `make quality` and the commit hook disagree.
    assert f"ruff=={pins['ruff']}" in project["optional-dependencies"]["quality"]
    assert f"rev: v{pins['ruff']}\n" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["single_gpu", "multi_gpu", "fsdp2"])
def test_accelerate_configurations_are_understood(name):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    # Refuses unknown keys at the top; those of FSDP are options of the launcher.
    configuration = load_config_from_file(str(ROOT / "configuration" / "accelerate" / f"{name}.yaml"))
    options = {action.dest for action in launch_command_parser()._actions}
    assert set(configuration.fsdp_config) <= options
    assert bool(configuration.fsdp_config) == (name == "fsdp2")


@pytest.mark.parametrize(
    # Parameters of the discriminator with its head: the published sizes are 14M, 110M and 335M.
    ("name", "parameters"),
    [("small", 13_549_057), ("base", 109_483_009), ("large", 335_142_913)],
)
def test_model_configurations_are_the_published_sizes(name, parameters):
    import torch
    from transformers import ElectraConfig, ElectraForPreTraining

    values = json.loads((ROOT / "configuration" / "models" / f"{name}.json").read_text(encoding="utf-8"))
    assert set(values) <= set(ElectraConfig().to_dict())
    assert values.pop("model_type") == "electra"
    with torch.device("meta"):
        model = ElectraForPreTraining(ElectraConfig(**values))
    assert model.num_parameters() == parameters
