"""Upload a release in one commit, read it back, and load it as a stranger does."""

import hashlib
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import RevisionNotFoundError
from transformers import AutoConfig
from transformers.utils import logging

from .hub_client import (
    FAILURES,
    TRIES,
    HubClient,
    explained,
    is_refused,
    may_pass,
    patiently,
    read_back,
    wait_seconds,
    was_asked,
)
from .scan import uploadable_files
from .verify import stock_outputs


logger = logging.get_logger(__name__)

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
    missing = _missing(report)
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
    names = {file.path for file in files}
    if "tokenizer_config.json" not in names:
        logger.warning(f"{repo_id} gets no tokenizer: its readers will have to find the right one")
    if "README.md" not in names:
        logger.warning(f"{repo_id} gets no model card: {folder} holds no README.md")
    target = _Target(HubClient(token=token), repo_id, revision, create_pr)
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

    def __init__(self, api: HubClient, repo_id: str, revision: str | None, create_pr: bool):
        self.api, self.repo_id, self.revision, self.create_pr = api, repo_id, revision, create_pr
        self.parent: str | None = None
        self.state = _UNCHANGED
        self._made: str | None = None

    def prepare(self, private: bool | None) -> None:
        """Find the head to build on; make the repository or the branch where it is missing."""
        if "/" not in self.repo_id:
            self.repo_id = f"{patiently(self.api.whoami, self.repo_id)['name']}/{self.repo_id}"
        if not patiently(lambda: self.api.repo_exists(self.repo_id), self.repo_id):
            self._make("repository", lambda: self.api.create_repo(self.repo_id, private=private))
        try:
            self.parent = patiently(self._head, self.repo_id)
        except RevisionNotFoundError:
            branch = str(self.revision)
            self._make(f"branch {branch}", lambda: self.api.create_branch(self.repo_id, branch=branch))
            self.parent = patiently(self._head, self.repo_id)

    def commit(
        self, folder: Path, files: list[UploadedFile], message: str, description: str | None = None
    ) -> CommitInfo:
        """One commit on top of `parent`, tried again where that may help."""
        names = {file.path for file in files}
        there = self.api.tree(self.repo_id, self.parent or self.revision)
        stale = [name for name in there if ".safetensors" in name and name not in names]
        for number in range(TRIES):
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
                    may_help = may_pass(error) and self.state != _FOREIGN
                    # A second try would open a second pull request.
                    may_help &= not (self.create_pr and self.state == _UNKNOWN)
                    if number == TRIES - 1 or not may_help:
                        raise
                    seconds = wait_seconds(error, number)
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
                self.api.delete_branch(self.repo_id, branch=str(self.revision))
        except FAILURES:
            return f"the {self._made} was made and could not be deleted again; apart from that, {self.state}"
        return _UNCHANGED

    def _make(self, what: str, make: Callable[[], Any]) -> None:
        self.state = f"whether the {what} was made could not be checked"
        try:
            patiently(make, self.repo_id)
        except FAILURES as error:
            if is_refused(error):
                self.state = _UNCHANGED
            raise
        # Only now: what someone else made meanwhile, or what this account cannot see, is not ours to delete.
        self._made, self.state = what, _UNCHANGED

    def _head(self) -> str | None:
        return self.api.model_info(self.repo_id, revision=self.revision).sha

    def _look(self, error: Exception, folder: Path, files: list[UploadedFile], stale: list[str]) -> str | None:
        """The commit that holds what was sent where it arrived all the same; else `None`, and `state` is known."""
        if self.create_pr:
            # It would be no commit on this branch.
            self.state = _UNCHANGED if is_refused(error) or not was_asked(error) else _UNKNOWN
            return None
        self.state = _UNKNOWN
        try:
            head = self._head()
            if head is None or self.parent is None:
                return None
            if head == self.parent:
                self.state = _UNCHANGED
                return None
            if self._holds(head, folder, files, stale):
                return head
            # Below what others have committed since.
            commits = [commit.commit_id for commit in self.api.list_repo_commits(self.repo_id, revision=self.revision)]
            place = commits.index(str(self.parent))
            if place > 1 and self._holds(commits[place - 1], folder, files, stale):
                return commits[place - 1]
            if not self.api.tree(self.repo_id, head):  # a Hub that lists no files
                return None
        except FAILURES:
            return None
        self.state = _FOREIGN
        return None

    def _holds(self, commit: str, folder: Path, files: list[UploadedFile], stale: list[str]) -> bool:
        """Whether a commit holds what its parent held, without the stale files, and the files that were sent."""
        before, after = self.api.tree(self.repo_id, self.parent), self.api.tree(self.repo_id, commit)
        for file in files:
            if after.pop(file.path, None) not in (file.sha256, _git_oid(folder / file.path)):
                return False
            before.pop(file.path, None)
        # The Hub itself adds what it stores as large files to .gitattributes.
        for name in (*stale, ".gitattributes"):
            before.pop(name, None)
        after.pop(".gitattributes", None)
        return before == after


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
    missing = _missing(found)
    if missing:
        raise OSError(f"{where}: the commit was made, but its weights lack {len(missing)}, as {missing[0]}")
    if found != local:
        raise OSError(f"{where}: the commit was made, but computes {found}, the folder {local}")


def _missing(report: dict[str, Any]) -> list[str]:
    """Weights that a report of `stock_outputs` misses, and in what."""
    return [
        f"{key} ({name})"
        for name, found in report.items()
        for key in found["missing"]
        # New in a family whose checkpoints of other classes have none.
        if not key.startswith("pooler.")
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_oid(path: Path) -> str:
    """What git names a file's content by, 40 hexadecimal digits."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
