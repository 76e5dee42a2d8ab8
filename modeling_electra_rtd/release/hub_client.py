"""The Hub's client: what its failures mean, which of them pass, and what is found at a commit."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, RepoFile, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers.utils import logging


logger = logging.get_logger(__name__)

_Answer = TypeVar("_Answer")

# Tries of a commit, and seconds waited between them where the Hub does not say; it never says more than is sensible.
TRIES = 4
_WAIT_SECONDS = (1, 4, 15)
_LONGEST_WAIT_SECONDS = 120
# Answers that are not what the protocol says, such as the page of a proxy.
_UNREADABLE = (json.JSONDecodeError, KeyError)
# An upload that fails is a RuntimeError of the client, caused by the error of the connection; a name or a card that
# the Hub does not take is a ValueError.
FAILURES = (httpx2.HTTPError, RuntimeError, ValueError, *_UNREADABLE)
_PASSING = {408, 425, 429, 500, 502, 503, 504}
# Status codes of servers that lack an endpoint.
_NOT_SPOKEN = {404, 405, 501}


class HubClient(HfApi):
    """The client, also for a Hub that does not check model cards before they are uploaded.

    It checks the card of every commit there, and fails where the server knows no such check. A card that the server
    refuses, which is a `ValueError`, is refused here as well.
    """

    def _validate_yaml(self, *arguments: Any, **options: Any) -> None:
        try:
            super()._validate_yaml(*arguments, **options)
        except json.JSONDecodeError:
            pass  # a page, which the client reads before it looks at the status
        except HfHubHTTPError as error:
            if error.response.status_code not in _NOT_SPOKEN:
                raise

    def tree(self, repo_id: str, revision: str | None = None, repo_type: str | None = None) -> dict[str, str]:
        """Hashes of all files by path: sha256 of a large one, git's own of another; none of an empty repository."""
        try:
            return {
                entry.path: entry.blob_id if entry.lfs is None else entry.lfs.sha256
                for entry in self.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=repo_type)
                if isinstance(entry, RepoFile)
            }
        except HfHubHTTPError as error:
            if error.response.status_code != 404 or isinstance(error, RepositoryNotFoundError):
                raise
            # One server misses the folder, another the revision.
            return {}


def patiently(call: Callable[[], _Answer], repo_id: str) -> _Answer:
    """What a request returns; made again as long as the Hub says that it has done nothing yet, as when there are too
    many of them.

    Raises:
        Exception: one of `FAILURES`, as the last try did.
    """
    for number in range(TRIES):
        try:
            return call()
        except FAILURES as error:
            if number == TRIES - 1 or not (is_refused(error) and may_pass(error)):
                raise
            seconds = wait_seconds(error, number)
            logger.warning(f"{explained(error, repo_id)}; trying again in {seconds:.0f} s")
        time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def read_back(
    repo_id: str, commit: str, cache: str, repo_type: str | None = None, token: str | bool | None = None
) -> Path:
    """All files of a new commit, in a folder of `cache`; tried again, from where it broke off, where that may help.

    Raises:
        ValueError: in one line, for what could not be read.
    """
    where = f"{repo_id} at {commit}"
    for number in range(TRIES):
        try:
            return Path(snapshot_download(repo_id, repo_type=repo_type, revision=commit, cache_dir=cache, token=token))
        except (*FAILURES, OSError) as error:
            reason = " ".join(str(error).split())
            if number == TRIES - 1 or not may_pass(error):
                raise ValueError(f"{where}: the commit was made, but could not be read back ({reason})") from error
            seconds = wait_seconds(error, number)
            logger.warning(f"{where}: reading back failed ({reason}); trying again in {seconds:.0f} s")
        time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def response_of(error: Exception) -> Any:
    """The answer that one of `FAILURES` comes from; `None` without one."""
    return getattr(error if isinstance(error, httpx2.HTTPError) else error.__cause__, "response", None)


def was_asked(error: Exception) -> bool:
    """Whether what failed may have been the request for the commit itself, rather than an upload before it."""
    if isinstance(error, _UNREADABLE):
        return True
    try:
        return isinstance(error, httpx2.HTTPError) and "/commit/" in str(error.request.url)
    except RuntimeError:  # httpx2: an error without a request
        return True


def is_refused(error: Exception) -> bool:
    """Whether the Hub says that it has not done what it was asked for; a server that fails may have done it."""
    response = response_of(error)
    return response is not None and response.status_code < 500


def may_pass(error: Exception) -> bool:
    """Whether a later try may succeed."""
    response = response_of(error)
    return not _is_said(error) if response is None else response.status_code in _PASSING


def _is_said(error: Exception) -> bool:
    """Whether an error tells the user what is wrong, rather than that something failed."""
    return isinstance(error, ValueError) and not isinstance(error, httpx2.HTTPError | json.JSONDecodeError)


def wait_seconds(error: Exception, number: int) -> float:
    """How long to wait after try `number`, counted from 0: what the Hub asks for, or longer each time."""
    response = response_of(error)
    stated = "" if response is None else response.headers.get("Retry-After", "")
    return min(_LONGEST_WAIT_SECONDS, float(stated) if stated.isdigit() else _WAIT_SECONDS[number])


def explained(error: Exception, repo_id: str) -> str:
    """One of `FAILURES` in a line for the user."""
    response = response_of(error)
    text = " ".join(str(error).split())
    if _is_said(error):
        return f"{repo_id}: {text.rstrip('.')}"
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
