"""Upload a release in one commit, read it back, and load it as a stranger does."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import transformers
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoFile,
    snapshot_download,
)
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoConfig
from transformers.utils import logging

from .scan import uploadable_files
from .stock_loading import stock_outputs


logger = logging.get_logger(__name__)

# Tries of a commit, and seconds waited between them where the Hub does not say; it never says more than is sensible.
_TRIES = 4
_WAIT_SECONDS = (1, 4, 15)
_LONGEST_WAIT_SECONDS = 120
# Answers that are not what the protocol says, such as the page of a proxy.
_UNREADABLE = (json.JSONDecodeError, KeyError)
# An upload that fails is a RuntimeError of the client, caused by the error of the connection; a name or a card that
# the Hub does not take is a ValueError.
FAILURES = (httpx2.HTTPError, RuntimeError, ValueError, *_UNREADABLE)
_PASSING = {408, 425, 429, 500, 502, 503, 504}

# States of a repository after a failure.
_UNCHANGED = "nothing was changed"
_FOREIGN = "someone else has committed there meanwhile, and nothing of this push arrived"
_UNKNOWN = "whether anything was changed could not be checked; look at it before you push again"


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


def release_files(folder: str | Path) -> list[UploadedFile]:
    """What would be uploaded, after every check of `scan.uploadable_files`.

    Raises:
        ValueError: see there.
    """
    root = Path(folder)
    return [
        UploadedFile(path.as_posix(), (root / path).stat().st_size, _sha256(root / path))
        for path in uploadable_files(folder)
    ]


def check_release(folder: str | Path) -> tuple[list[UploadedFile], dict[str, Any]]:
    """Everything that a push looks at before it sends anything.

    Returns:
        What would be uploaded, and the report of `stock_outputs`.

    Raises:
        ValueError: in one line, for a folder that must not be uploaded, that does not load, or whose weights are not
            those of its configs.
    """
    files = release_files(folder)
    report = stock_outputs(folder)
    # A pooler is new in a family whose checkpoints of other classes have none.
    missing = [
        f"{key} ({name})"
        for name, found in report.items()
        for key in found["missing"]
        if not key.startswith("pooler.")
    ]
    if missing:
        raise ValueError(f"{folder} must not be uploaded: its weights lack {len(missing)}, as {missing[0]}")
    return files, report


def push(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str = "Upload with electra-rtd",
    description: str | None = None,
    token: str | bool | None = None,
) -> dict[str, Any]:
    """Upload a release as one commit and verify what arrived.

    The commit names the state it builds on, so that nobody's work is overwritten; weights that the new release lacks
    are deleted in it, everything else is left alone. A repository or branch that this call made is deleted again if
    nothing could be committed. A commit whose answer was lost is looked for, and taken where it arrived whole. Then
    the files are read back at the new commit, every hash is compared, and stock classes in a fresh process give the
    same outputs from both.

    Args:
        repo_id: without an owner it is the account's own.
        private: of a new repository; `None` takes the account's default.
        revision: branch to commit to, made where it is missing; `None` is `main`.
        create_pr: open a pull request instead.
        message, description: of the commit.
        token: as the Hub's client takes it; `None` takes the one that the user is logged in with.

    Returns:
        `repo_id` with its owner; `url`, `commit` and `revision` (`None` for `main`) of the commit, and the client's
        `info` on it; the `files`, and the `report` of `stock_outputs`.

    Raises:
        ValueError: in one line: for a folder that must not be uploaded, and for what the Hub refused or could not do,
            with the state that the repository is in.
        OSError: if what arrived is not what was sent.
    """
    files, local = check_release(folder)
    if "tokenizer_config.json" not in {file.path for file in files}:
        logger.warning(f"{repo_id} gets no tokenizer: its readers will have to find the right one")
    target = _Target(HfApi(token=token), repo_id, revision, create_pr)
    try:
        target.prepare(private)
        info = target.commit(Path(folder), files, message, description)
    except FAILURES as error:
        raise ValueError(f"{explained(error, target.repo_id)}; {target.undo()}") from error
    except KeyboardInterrupt:
        logger.warning(f"{target.repo_id}: stopped; {target.undo()}")
        raise
    try:
        _verify(target, folder, files, info.oid, local)
    except KeyboardInterrupt:
        logger.warning(f"{target.repo_id} at {info.oid}: the commit was made; stopped before it was read back")
        raise
    return {
        "repo_id": target.repo_id,
        "url": info.pr_url or info.commit_url,
        "commit": info.oid,
        "revision": info.pr_revision or revision,
        "info": info,
        "files": files,
        "report": local,
    }


def loading_lines(repo_id: str, folder: str | Path, revision: str | None = None) -> str:
    """The lines of Python that a reader of the repository needs.

    Args:
        folder: what was pushed there.
        revision: where it is not the main branch.
    """
    what = f'"{repo_id}"' if revision is None else f'"{repo_id}", revision="{revision}"'
    tokenizer = f"tokenizer = AutoTokenizer.from_pretrained({what})"
    if (Path(folder) / "generator").is_dir():
        lines = [
            "from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer",
            tokenizer,
            f"encoder = AutoModel.from_pretrained({what})",
            f'generator = AutoModelForMaskedLM.from_pretrained({what}, subfolder="generator")',
        ]
    else:
        architecture = (AutoConfig.from_pretrained(folder).architectures or [""])[0]
        model = architecture if hasattr(transformers, architecture) else "AutoModel"
        imported = ", ".join(sorted([model, "AutoTokenizer"]))
        lines = [f"from transformers import {imported}", tokenizer, f"model = {model}.from_pretrained({what})"]
    return "\n".join(lines)


class _Target:
    """Where a push goes, what it has made there on the way, and the state that it leaves behind.

    Attributes:
        parent: commit that the push builds on.
        state: of the repository, in words for the user.
    """

    def __init__(self, api: HfApi, repo_id: str, revision: str | None, create_pr: bool):
        self.api, self.repo_id, self.revision, self.create_pr = api, repo_id, revision, create_pr
        self.parent: str | None = None
        self.state = _UNCHANGED
        self._made: str | None = None

    def prepare(self, private: bool | None) -> None:
        """Find the head to build on; make the repository or the branch where it is missing."""
        if "/" not in self.repo_id:
            self.repo_id = f"{self.api.whoami()['name']}/{self.repo_id}"
        if not self.api.repo_exists(self.repo_id):
            self._make("repository", lambda: self.api.create_repo(self.repo_id, private=private))
        try:
            self.parent = self._head()
        except RevisionNotFoundError:
            self._make(f"branch {self.revision}", lambda: self.api.create_branch(self.repo_id, branch=self.revision))
            self.parent = self._head()

    def commit(
        self, folder: Path, files: list[UploadedFile], message: str, description: str | None = None
    ) -> CommitInfo:
        """One commit on top of `parent`, tried again where that may help."""
        names = {file.path for file in files}
        try:
            there = self.api.list_repo_files(self.repo_id, revision=self.parent)
        except RemoteEntryNotFoundError:  # nothing is in it yet
            there = []
        stale = [name for name in there if ".safetensors" in name and name not in names]
        for number in range(_TRIES):
            # Until it is known better: whoever interrupts a commit does not know whether it was carried out.
            self.state = _UNKNOWN
            with ExitStack() as stack:
                # Open files go over plain HTTP, which every Hub speaks; paths would go through Xet alone.
                additions = [
                    CommitOperationAdd(file.path, stack.enter_context((folder / file.path).open("rb")))
                    for file in files
                ]
                try:
                    return self.api.create_commit(
                        self.repo_id,
                        [*additions, *map(CommitOperationDelete, stale)],
                        commit_message=message,
                        commit_description=description,
                        revision=self.revision,
                        create_pr=self.create_pr,
                        parent_commit=self.parent,
                    )
                except FAILURES as error:
                    arrived = self._look(error, folder, files, stale)
                    if arrived is not None:
                        logger.warning(f"{self.repo_id}: the answer was lost, but commit {arrived} holds all files")
                        url = f"{self.api.endpoint}/{self.repo_id}/commit/{arrived}"
                        return CommitInfo(url, message, description or "", arrived, self.api.endpoint)
                    may_help = _may_pass(error) and self.state != _FOREIGN
                    # A second try would open a second pull request.
                    may_help &= not (self.create_pr and self.state == _UNKNOWN)
                    if number == _TRIES - 1 or not may_help:
                        raise
                    seconds = _wait_seconds(error, number)
                    logger.warning(f"{explained(error, self.repo_id)}; {self.state}; trying again in {seconds:.0f} s")
            time.sleep(seconds)
        raise AssertionError("the last try returns or raises")

    def undo(self) -> str:
        """Delete what this push has made for nothing.

        Returns:
            The state of the repository in words.
        """
        if self._made is None or self.state == _FOREIGN:
            return self.state
        try:
            if self._made == "repository":
                self.api.delete_repo(self.repo_id)
            else:
                self.api.delete_branch(self.repo_id, branch=self.revision)
        except FAILURES:
            return f"the {self._made} was made and could not be deleted again; apart from that, {self.state}"
        return _UNCHANGED

    def _make(self, what: str, make: Callable[[], Any]) -> None:
        self.state = f"whether the {what} was made could not be checked"
        try:
            make()
        except FAILURES as error:
            if _is_refused(error):
                self.state = _UNCHANGED
            raise
        # Only now: what someone else made meanwhile, or what this account cannot see, is not ours to delete.
        self._made, self.state = what, _UNCHANGED

    def _head(self) -> str:
        return self.api.model_info(self.repo_id, revision=self.revision).sha

    def _look(self, error: Exception, folder: Path, files: list[UploadedFile], stale: list[str]) -> str | None:
        """The commit that holds what was sent where it arrived all the same; else `None`, and `state` is known."""
        if self.create_pr:
            # It would be no commit on this branch.
            self.state = _UNCHANGED if _is_refused(error) or not _was_asked(error) else _UNKNOWN
            return None
        self.state = _UNKNOWN
        try:
            head = self._head()
            if None in (head, self.parent):
                return None
            if head == self.parent:
                self.state = _UNCHANGED
                return None
            if self._holds(head, folder, files, stale):
                return head
            # Below what others have committed since.
            commits = [commit.commit_id for commit in self.api.list_repo_commits(self.repo_id, revision=self.revision)]
            place = commits.index(self.parent)
            if place > 1 and self._holds(commits[place - 1], folder, files, stale):
                return commits[place - 1]
        except FAILURES:
            return None
        self.state = _FOREIGN
        return None

    def _holds(self, commit: str, folder: Path, files: list[UploadedFile], stale: list[str]) -> bool:
        """Whether a commit holds what its parent held, without the stale files, and the files that were sent."""
        before, after = self._tree(self.parent), self._tree(commit)
        for file in files:
            if after.pop(file.path, None) not in (file.sha256, _git_oid(folder / file.path)):
                return False
            before.pop(file.path, None)
        # The Hub itself adds what it stores as large files to .gitattributes.
        for name in (*stale, ".gitattributes"):
            before.pop(name, None)
        after.pop(".gitattributes", None)
        return before == after

    def _tree(self, commit: str) -> dict[str, str]:
        entries = self.api.list_repo_tree(self.repo_id, recursive=True, revision=commit)
        return {
            entry.path: entry.blob_id if entry.lfs is None else entry.lfs.sha256
            for entry in entries
            if isinstance(entry, RepoFile)
        }


def _verify(
    target: _Target, folder: str | Path, files: list[UploadedFile], commit: str, local: dict[str, Any]
) -> None:
    where = f"{target.repo_id} at {commit}"
    with tempfile.TemporaryDirectory() as cache:
        # Into an empty cache: what this machine already holds proves nothing.
        there = read_back(target.repo_id, commit, cache, token=target.api.token)
        for file in files:
            if not (there / file.path).is_file():
                raise OSError(f"{where}: the commit was made, but {file.path}, which was sent, is not there")
            if _sha256(there / file.path) != file.sha256:
                raise OSError(f"{where}: the commit was made, but {file.path} is not what was sent")
        found = stock_outputs(there)
    if found != local:
        raise OSError(f"{where}: the commit was made, but computes {found}, the folder {local}")


def read_back(
    repo_id: str, commit: str, cache: str, repo_type: str | None = None, token: str | bool | None = None
) -> Path:
    """All files of a new commit, in a folder of `cache`; tried again, from where it broke off, where that may help.

    Raises:
        ValueError: in one line, for what could not be read.
    """
    where = f"{repo_id} at {commit}"
    for number in range(_TRIES):
        try:
            return Path(snapshot_download(repo_id, repo_type=repo_type, revision=commit, cache_dir=cache, token=token))
        except (*FAILURES, OSError) as error:
            reason = " ".join(str(error).split())
            if number == _TRIES - 1 or not _may_pass(error):
                raise ValueError(f"{where}: the commit was made, but could not be read back ({reason})") from error
            seconds = _wait_seconds(error, number)
            logger.warning(f"{where}: reading back failed ({reason}); trying again in {seconds:.0f} s")
        time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def _response(error: Exception) -> Any:
    return getattr(error if isinstance(error, httpx2.HTTPError) else error.__cause__, "response", None)


def _was_asked(error: Exception) -> bool:
    """Whether what failed may have been the request for the commit itself, rather than an upload before it."""
    if isinstance(error, _UNREADABLE):
        return True
    try:
        return isinstance(error, httpx2.HTTPError) and "/commit/" in str(error.request.url)
    except RuntimeError:  # httpx2: an error without a request
        return True


def _is_refused(error: Exception) -> bool:
    """Whether the Hub says that it has not done what it was asked for; a server that fails may have done it."""
    response = _response(error)
    return response is not None and response.status_code < 500


def _may_pass(error: Exception) -> bool:
    response = _response(error)
    return not _is_said(error) if response is None else response.status_code in _PASSING


def _is_said(error: Exception) -> bool:
    """Whether an error tells the user what is wrong, rather than that something failed."""
    return isinstance(error, ValueError) and not isinstance(error, httpx2.HTTPError | json.JSONDecodeError)


def _wait_seconds(error: Exception, number: int) -> float:
    response = _response(error)
    stated = "" if response is None else response.headers.get("Retry-After", "")
    return min(_LONGEST_WAIT_SECONDS, float(stated) if stated.isdigit() else _WAIT_SECONDS[number])


def explained(error: Exception, repo_id: str) -> str:
    """One of `FAILURES` in a line for the user."""
    response = _response(error)
    text = " ".join(str(error).split())
    if _is_said(error):
        return f"{repo_id}: {text}"
    if isinstance(error, _UNREADABLE):
        return f"{repo_id}: the Hub's answer cannot be read ({type(error).__name__}: {text})"
    if response is None:
        return f"{repo_id}: the connection failed ({text})"
    status = response.status_code
    reasons = {
        401: "not logged in, or the token is not valid; use hf auth login or HF_TOKEN",
        403: "this token may not write there",
        409: "the repository changed meanwhile; look at it and push again",
        412: "the repository changed meanwhile; look at it and push again",
        429: "too many requests",
    }
    if isinstance(error, RepositoryNotFoundError):
        reasons[401] = "no such repository, or not logged in; use hf auth login or HF_TOKEN"
        reasons[404] = "no such repository for this account"
    said = getattr(error, "server_message", None)
    refused = f"the Hub refused {response.url.path}" + (f", saying {said!r}" if said else "")
    return f"{repo_id}: {reasons.get(status, 'the Hub failed' if status >= 500 else refused)} (HTTP {status})"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_oid(path: Path) -> str:
    """What git names a file's content by, 40 hexadecimal digits."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
