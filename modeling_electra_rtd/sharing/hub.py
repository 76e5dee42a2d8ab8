"""Upload a release in one commit, read it back, and load it as a stranger does."""

import hashlib
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from transformers.utils import logging

from .scan import uploadable_files
from .stock_loading import stock_outputs


logger = logging.get_logger(__name__)

# Tries of a commit, and seconds waited between them where the Hub does not say; it never says more than is sensible.
_TRIES = 4
_WAIT_SECONDS = (1, 4, 15)
_LONGEST_WAIT_SECONDS = 120
# An upload that fails is a RuntimeError of the client, caused by the error of the connection.
_FAILURES = (httpx2.HTTPError, RuntimeError)
_PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class UploadedFile:
    """A file of a release.

    Attributes:
        path: in the repository.
        size_bytes: its size.
        sha256: hexadecimal, of its content.
    """

    path: str
    size_bytes: int
    sha256: str


def release_files(folder: str) -> list[UploadedFile]:
    """What would be uploaded, after every check of `scan.uploadable_files`.

    Raises:
        ValueError: see there.
    """
    root = Path(folder)
    return [
        UploadedFile(path.as_posix(), (root / path).stat().st_size, _sha256(root / path))
        for path in uploadable_files(folder)
    ]


def push(
    folder: str,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str = "Upload with electra-rtd",
) -> dict[str, Any]:
    """Upload a release as one commit and verify what arrived.

    The commit names the state it builds on, so that nobody's work is overwritten; weights that the new release lacks
    are deleted in it, everything else is left alone. A repository that this call created is deleted again if nothing
    could be committed. Then the files are read back at the new commit, every hash is compared, and stock
    classes in a fresh process give the same outputs from both.

    Args:
        private: of a new repository; `None` takes the account's default.
        revision: branch to commit to, made where it is missing; `None` is `main`.
        create_pr: open a pull request instead.

    Returns:
        `url` and `commit` of the commit, the `files`, and the `report` of `stock_outputs`.

    Raises:
        ValueError: in one line: for a folder that must not be uploaded, and for what the Hub refused or could not do.
        RuntimeError: if what arrived is not what was sent.
    """
    files = release_files(folder)
    local = stock_outputs(folder)
    api = HfApi()
    is_new = False
    try:
        if not api.repo_exists(repo_id):
            api.create_repo(repo_id, private=private)
            # Only now: what someone else made meanwhile, or what this account cannot see, is not ours to delete.
            is_new = True
        parent = _head(api, repo_id, revision)
        commit = _commit(api, folder, files, repo_id, parent, revision, create_pr, message)
    except _FAILURES as error:
        if is_new:
            _delete_quietly(api, repo_id)
        raise ValueError(_explained(error, repo_id)) from error
    _verify(api, folder, files, repo_id, commit.oid, local)
    return {"url": commit.pr_url or commit.commit_url, "commit": commit.oid, "files": files, "report": local}


def loading_lines(repo_id: str, has_generator: bool) -> str:
    """The lines of Python that a reader of the repository needs."""
    lines = [
        "from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer",
        f'tokenizer = AutoTokenizer.from_pretrained("{repo_id}")',
        f'encoder = AutoModel.from_pretrained("{repo_id}")',
    ]
    if has_generator:
        lines.append(f'generator = AutoModelForMaskedLM.from_pretrained("{repo_id}", subfolder="generator")')
    return "\n".join(lines)


def _head(api: HfApi, repo_id: str, revision: str | None) -> str:
    try:
        return api.model_info(repo_id, revision=revision).sha
    except RevisionNotFoundError:
        api.create_branch(repo_id, branch=revision)
        return api.model_info(repo_id, revision=revision).sha


def _commit(
    api: HfApi,
    folder: str,
    files: list[UploadedFile],
    repo_id: str,
    parent: str,
    revision: str | None,
    create_pr: bool,
    message: str,
) -> Any:
    names = {file.path for file in files}
    there = api.list_repo_files(repo_id, revision=parent)
    stale = [name for name in there if ".safetensors" in name and name not in names]
    for number in range(_TRIES):
        with ExitStack() as stack:
            # Open files go over plain HTTP, which every Hub speaks; paths would go through Xet alone.
            additions = [
                CommitOperationAdd(file.path, stack.enter_context((Path(folder) / file.path).open("rb")))
                for file in files
            ]
            deletions = [CommitOperationDelete(name) for name in stale]
            try:
                return api.create_commit(
                    repo_id,
                    [*additions, *deletions],
                    commit_message=message,
                    revision=revision,
                    create_pr=create_pr,
                    parent_commit=parent,
                )
            except _FAILURES as error:
                if number == _TRIES - 1 or not _may_pass(error):
                    raise
                seconds = _wait_seconds(error, number)
                logger.warning(f"{_explained(error, repo_id)}; trying again in {seconds:.0f} s")
                time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def _verify(
    api: HfApi, folder: str, files: list[UploadedFile], repo_id: str, commit: str, local: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as cache:
        # Into an empty cache: what this machine already holds proves nothing.
        there = Path(snapshot_download(repo_id, revision=commit, cache_dir=cache))
        for file in files:
            if not (there / file.path).is_file() or _sha256(there / file.path) != file.sha256:
                raise RuntimeError(f"{repo_id} at {commit}: {file.path} is not what was sent")
        found = stock_outputs(there)
    if found != local:
        raise RuntimeError(f"{repo_id} at {commit} computes {found}, the folder {local}")


def _response(error: Exception) -> Any:
    return getattr(error if isinstance(error, httpx2.HTTPError) else error.__cause__, "response", None)


def _may_pass(error: Exception) -> bool:
    response = _response(error)
    return response is None or response.status_code in _PASSING


def _wait_seconds(error: Exception, number: int) -> float:
    response = _response(error)
    stated = "" if response is None else response.headers.get("Retry-After", "")
    return min(_LONGEST_WAIT_SECONDS, float(stated) if stated.isdigit() else _WAIT_SECONDS[number])


def _explained(error: Exception, repo_id: str) -> str:
    response = _response(error)
    if response is None:
        return f"{repo_id}: the connection failed ({error}); nothing was changed"
    status = response.status_code
    reasons = {
        401: "not logged in, or the token is not valid; use hf auth login or HF_TOKEN",
        403: "this token may not write there",
        404: "no such repository for this account",
        409: "the repository changed meanwhile; look at it and push again",
        412: "the repository changed meanwhile; look at it and push again",
        429: "too many requests",
    }
    if isinstance(error, RepositoryNotFoundError) and status == 401:
        reasons[401] = "no such repository, or not logged in; use hf auth login or HF_TOKEN"
    reason = reasons.get(status, "the Hub failed" if status >= 500 else "refused")
    return f"{repo_id}: {reason} (HTTP {status}); nothing was changed"


def _delete_quietly(api: HfApi, repo_id: str) -> None:
    try:
        api.delete_repo(repo_id)
    except _FAILURES:
        logger.warning(f"{repo_id} was created, is empty, and could not be deleted again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
