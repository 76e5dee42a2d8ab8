"""The demo of a model as a Space: its own source files, what they need, and the name of the model; no weights.

The package itself travels, the modules of it that the demo imports: a Space installs from PyPI only what is published
there, and for most families no stock class and no remote code has all that the page asks for.
"""

import ast
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, SpaceCardData
from transformers.utils import logging

from ..common.references import check_repo_id
from ..release.hub_client import FAILURES, HubClient, explained, patiently, read_back
from .demo_app import check_gradio


logger = logging.get_logger(__name__)

_PACKAGE = Path(__file__).parents[1]
_ENTRY = "inspection.demo_app"
_APP = '''"""A generator's replacements and a discriminator's verdicts on them, as a page. Made with electra-rtd."""

from {package}.inspection.demo import load_detector
from {package}.inspection.demo_app import build_app, launch


MODEL = "{repo_id}"

launch(build_app(load_detector(MODEL), MODEL))
'''
_README = """---
{metadata}
---

# Replaced tokens

A generator fills the masked tokens of a sentence, and the discriminator of
[{repo_id}](https://huggingface.co/{repo_id}) says for every token how likely it is that it was replaced.

The weights are read from that repository when the Space starts; for a private one the Space needs a secret `HF_TOKEN`
that may read it. Nothing that is typed here is stored or reported.

`app.py` is all there is to it; `{package}/` holds the modules of electra-rtd that it imports, the same that
`electra-rtd demo` shows on one's own machine. Made, and renewed, by `electra-rtd push FOLDER {repo_id} --space NAME`.
"""


def check_space(space_id: str, repo_id: str) -> None:
    """Everything that can be wrong with a Space before anything is uploaded.

    Raises:
        ValueError: for what can be no name of a Space or of its model, and when Gradio is not installed.
    """
    check_repo_id("--space", space_id)
    check_repo_id("the repository of its model", repo_id)
    check_gradio()


def space_files(repo_id: str) -> dict[str, bytes]:
    """What a Space is made of, by path.

    All of it is source of the package, or made of `repo_id` and version numbers: there is nothing of this machine to
    search it for.

    Raises:
        ValueError: when Gradio is not installed: the Space gets the versions that are installed here.
    """
    check_gradio()
    modules = _modules()
    card = SpaceCardData(
        title="Replaced tokens",
        sdk="gradio",
        sdk_version=metadata.version("gradio"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        license="apache-2.0",
        short_description="What a discriminator makes of every token",
        models=[repo_id],
    )
    names = {"package": _PACKAGE.name, "repo_id": repo_id}
    return {
        "README.md": _README.format(metadata=card.to_yaml(), **names).encode(),
        "app.py": _APP.format(**names).encode(),
        "requirements.txt": _requirements(modules).encode(),
        **{f"{_PACKAGE.name}/{path.as_posix()}": (_PACKAGE / path).read_bytes() for path in sorted(modules)},
    }


def push_space(space_id: str, repo_id: str, private: bool | None = None) -> str:
    """Upload the demo of a model in one commit on top of what is there, and read it back.

    Args:
        space_id: `OWNER/NAME`; made where it is missing, and deleted again if nothing could be committed.
        repo_id: of the model.
        private: of a new Space.

    Returns:
        The address.

    Raises:
        ValueError: in one line, for what the Hub refused or could not do.
        OSError: if what arrived is not what was sent.
    """
    check_space(space_id, repo_id)
    files = space_files(repo_id)
    api = HubClient()
    is_new = False
    try:
        if not patiently(lambda: api.repo_exists(space_id, repo_type="space"), space_id):
            patiently(
                lambda: api.create_repo(space_id, repo_type="space", space_sdk="gradio", private=private), space_id
            )
            is_new = True
        parent = api.space_info(space_id).sha
        there = api.tree(space_id, parent, repo_type="space")
        stale = [name for name in there if name.startswith(f"{_PACKAGE.name}/") and name not in files]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(path, content) for path, content in files.items()),
            *map(CommitOperationDelete, stale),
        ]
        commit = patiently(
            lambda: api.create_commit(
                space_id,
                operations,
                commit_message=f"Demo of {repo_id}",
                repo_type="space",
                parent_commit=parent,
            ),
            space_id,
        )
    except FAILURES as error:
        if is_new:
            _delete_quietly(api, space_id)
        raise ValueError(f"Space {explained(error, space_id)}") from error
    with tempfile.TemporaryDirectory() as cache:
        arrived = read_back(space_id, commit.oid, cache, repo_type="space")
        for path, content in files.items():
            if not (arrived / path).is_file() or (arrived / path).read_bytes() != content:
                raise OSError(f"Space {space_id} at {commit.oid}: {path} is not what was sent")
    return f"{api.endpoint}/spaces/{space_id}"


def _modules() -> dict[Path, set[str]]:
    """The files of the package that the demo needs, below the package; and the packages that each imports."""
    found: dict[Path, set[str]] = {}
    waiting = [Path(*_ENTRY.split(".")).with_suffix(".py")]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = set()
        waiting += [parent / "__init__.py" for parent in path.parents]
        for node in ast.walk(ast.parse((_PACKAGE / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[path] |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found[path].add((node.module or "").split(".")[0])
            elif isinstance(node, ast.ImportFrom):
                # `from ..a.b import c`: c is a name of module a/b.py, or a module of folder a/b.
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                candidates = [base, *(base / alias.name for alias in node.names)]
                # The package itself has no file but the __init__.py that is there already.
                sources = [candidate.with_suffix(".py") for candidate in candidates if candidate.name]
                waiting += [source for source in sources if (_PACKAGE / source).is_file()]
    return found


def _requirements(modules: dict[Path, set[str]]) -> str:
    """A requirements.txt with the versions installed here, of all that the modules import: without Gradio, which is
    the Space's own, this package, whose modules lie next to it, and what is optional and not installed."""
    imported = set().union(*modules.values()) - set(sys.stdlib_module_names) - {"gradio", _PACKAGE.name}
    distributions = metadata.packages_distributions()
    names = sorted({distributions[package][0] for package in imported if package in distributions})
    # A local version such as +cpu is no version of an index.
    pins = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]
    return "\n".join(["--extra-index-url https://download.pytorch.org/whl/cpu", *pins]) + "\n"


def _delete_quietly(api: HubClient, space_id: str) -> None:
    try:
        api.delete_repo(space_id, repo_type="space")
    except FAILURES:
        logger.warning(f"Space {space_id} was created, is empty, and could not be deleted again")
