"""What a user names a model or a tokenizer by: a folder, or a repository of the Hub at one commit.

The names of the Hub are those of its own URIs, with or without `hf://`: `OWNER/NAME[@REVISION][/FOLDER]`.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from huggingface_hub import (
    ResolvedRevision,
    hf_hub_download,
    is_offline_mode,
    model_info,
    parse_hf_uri,
    resolve_revision,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HfUriError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.utils import CONFIG_NAME, logging


logger = logging.get_logger(__name__)

_FORMS = "FOLDER, or of the Hub OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME@REVISION/FOLDER"

_ADDRESSES = ("http://", "https://", "huggingface.co/", "hf.co/")
_URI = "hf://"
_HOW_TO_GIVE_A_TOKEN = "set HF_TOKEN, or run `hf auth login`"
# Owner of ids that have none, such as bert-base-uncased, which the grammar of URIs leaves out.
_NO_OWNER = "none/"


class HubName(NamedTuple):
    """What `OWNER/NAME[@REVISION][/FOLDER]` says."""

    id: str
    revision: str | None
    subfolder: str


@dataclass(frozen=True)
class ModelReference:
    """Where a model is loaded from: `Class.from_pretrained(reference.name, **reference.arguments)`.

    `str` of it is what the user wrote.

    Attributes:
        text: what the user wrote.
        role: what it names, for messages: `model`, `tokenizer`.
        name: a local folder, or the id of a repository.
        revision: the revision asked for and the commit it stood for (`revision.resolved`) when this was made, so that
            everything loaded by one reference is of one commit; `None` for a folder.
        subfolder: of the repository.
        local_files_only: whether the Hub could not be reached, so that the cache alone is asked.
    """

    text: str
    role: str
    name: str
    revision: ResolvedRevision | None = None
    subfolder: str = ""
    local_files_only: bool = False

    def __str__(self) -> str:
        return self.text

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained`."""
        # Code of a checkpoint does not run, and nobody is asked whether it may.
        arguments: dict[str, Any] = {"trust_remote_code": False}
        if self.revision is not None:
            arguments |= {"revision": self.revision, "subfolder": self.subfolder}
        # Left to themselves, the libraries try each file for half a minute before they believe it.
        return arguments | ({"local_files_only": True} if self.local_files_only else {})

    @property
    def from_hub(self) -> dict[str, str] | None:
        """For records: `id`, `revision` and `subfolder` as asked for, and `commit`; `None` for a folder."""
        if self.revision is None:
            return None
        return {
            "id": self.name,
            "revision": str(self.revision),
            "subfolder": self.subfolder,
            "commit": self.revision.resolved,
        }

    @property
    def folder(self) -> Path:
        """Where the files lie: for a repository, those of them that the cache holds.

        Raises:
            ValueError: for a repository without a config there.
        """
        return Path(self.name) if self.revision is None else self.require(CONFIG_NAME).parent

    @property
    def parent(self) -> "ModelReference | None":
        """The folder around this one, by its name where it is local; `None` for the root of a repository."""
        if self.revision is None:
            above = os.path.dirname(os.path.realpath(self.name))
            return dataclasses.replace(self, text=above, name=above)
        if not self.subfolder:
            return None
        text, subfolder = (path.rpartition("/")[0] for path in (self.text.rstrip("/"), self.subfolder))
        return dataclasses.replace(self, text=text, subfolder=subfolder)

    @property
    def folder_name(self) -> str:
        """The last part of the folder that holds the model; empty for the root of a repository."""
        return os.path.basename(os.path.realpath(self.name) if self.revision is None else self.subfolder)

    def find(self, *names: str) -> Path | None:
        """The first of these files that there is, from the folder or through the Hub's cache; `None` also for what
        cannot be told without the Hub.

        Raises:
            ValueError: in one line, when the Hub does not give it.
        """
        return self._find(names)[0]

    def require(self, *names: str) -> Path:
        """Find one of these files, as `find` does, for a model that cannot be loaded without.

        Raises:
            ValueError: if it has none of them, or see `find`.
        """
        path, unreachable = self._find(names)
        if path is not None:
            return path
        if unreachable is not None:
            raise _refusal(self.role, self.text, self.name, unreachable) from unreachable
        place = "it" if self.revision is None else "/".join(filter(None, (self.name, self.subfolder)))
        missing = f"has no {names[0]}" if len(names) == 1 else f"holds none of {', '.join(names)}"
        raise ValueError(f"{self.role} {self.text!r}: cannot be loaded ({place} {missing})")

    def _find(self, names: tuple[str, ...]) -> tuple[Path | None, LocalEntryNotFoundError | HfHubHTTPError | None]:
        if self.revision is None:
            return next((Path(self.name, name) for name in names if Path(self.name, name).is_file()), None), None
        unreachable = None
        for name in names:
            try:
                path = hf_hub_download(
                    self.name,
                    name,
                    subfolder=self.subfolder or None,
                    revision=self.revision,
                    local_files_only=self.local_files_only,
                )
                return Path(path), None
            except LocalEntryNotFoundError as error:
                # Also what the client makes of a Hub that answers with an error.
                unreachable = error.__cause__ if isinstance(error.__cause__, HfHubHTTPError) else error
            except EntryNotFoundError:
                continue
            except (HfHubHTTPError, httpx2.TransportError) as error:
                raise _refusal(self.role, self.text, self.name, error) from error
        return None, unreachable


def find_model(model: str | os.PathLike | ModelReference, role: str = "model") -> ModelReference:
    """What a user's name of a model stands for. A local folder wins; a reference is returned as it is.

    Whether the Hub has a repository is known on return, which takes two requests; whether there is a model in it is
    known with the first file (`ModelReference.require`). Tokens, cache and offline mode are those of
    `huggingface_hub`.

    Args:
        role: what is named, for messages: `model`, `tokenizer`.

    Raises:
        ValueError: in one line, for a name that is neither, and when the Hub does not give it.
    """
    if isinstance(model, ModelReference):
        return model
    text = os.fspath(model)
    path = text if os.path.exists(text) else os.path.expanduser(text)
    if os.path.isdir(path):
        return ModelReference(text, role, path)
    if os.path.isfile(path):
        raise ValueError(f"{role} {text!r} is a file; give its folder")
    name = parse_hub_name(text, role)
    if os.path.exists(name.id):
        # The libraries would load this folder, whatever revision they are asked for.
        missing = f"no folder {name.subfolder!r}" if name.revision is None and name.subfolder else "no revisions"
        raise ValueError(
            f"{role} {text!r}: the folder {name.id!r} is here, which has {missing}; rename it, or work in another "
            "folder, to load from the Hub"
        )
    try:
        unreachable = not _is_reachable(name)
        # Also notes in the cache which commit the revision stood for, for the time without a network.
        revision = resolve_revision(name.id, revision=name.revision, local_files_only=unreachable)
    except (HfHubHTTPError, RevisionResolutionError) as error:
        raise _refusal(role, text, name.id, error) from error
    if unreachable and not is_offline_mode():
        logger.warning(f"The Hub cannot be reached: {text} is read from the cache.")
    return ModelReference(text, role, name.id, revision, name.subfolder, unreachable)


def _is_reachable(name: HubName) -> bool:
    try:
        model_info(name.id, revision=name.revision)
    except (httpx2.TransportError, OfflineModeIsEnabled):
        return False
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return False
    return True


def parse_hub_name(text: str, role: str = "model") -> HubName:
    """Id, revision and folder of a name of the Hub, from its letters alone.

    Raises:
        ValueError: if no repository can have this name.
    """
    if text.lower().startswith(_ADDRESSES):
        raise ValueError(f"{role} {text!r} is an address{_named_in(text)}")
    is_uri = text.startswith(_URI)
    body = text.removeprefix(_URI).rstrip("/")
    # Backslashes and drives are Windows'.
    is_path = text.startswith(("/", "~")) or text[1:2] == ":" or "\\" in text or {"", ".", ".."} & {*body.split("/")}
    if is_path and not is_uri:
        raise ValueError(f"{role} {text!r}: no such folder")
    owner = "" if is_uri or "/" in body.partition("@")[0] else _NO_OWNER
    try:
        uri = parse_hf_uri(text if is_uri else f"{_URI}models/{owner}{body}")
    except HfUriError as error:
        raise ValueError(
            f"{role} {text!r}: no such folder, and no id of the Hub ({error.msg}); allowed is {_FORMS}"
        ) from None
    if uri.type != "model":
        raise ValueError(f"{role} {text!r} is a {uri.type} of the Hub, not a model")
    if ".." in uri.path_in_repo.split("/"):
        raise ValueError(f"{role} {text!r}: a folder of the Hub has no '..' in its name")
    if uri.revision is None and "@" in uri.path_in_repo:
        folder, _, revision = uri.path_in_repo.rpartition("@")
        raise ValueError(f"{role} {text!r}: the revision follows the id; give {f'{uri.id}@{revision}/{folder}'!r}")
    return HubName(uri.id.removeprefix(owner), uri.revision, uri.path_in_repo)


def check_repo_id(key: str, value: str) -> None:
    """
    Raises:
        ValueError: for what can be no repository with its owner.
    """
    try:
        validate_repo_id(value)
    except HFValidationError:
        is_id = False
    else:
        is_id = "/" in value
    if not is_id:
        raise ValueError(f"{key} is {value!r}; it must be OWNER/NAME")


def _named_in(address: str) -> str:
    try:
        uri = parse_hf_uri(address)
    except HfUriError:
        return f", and of no model of the Hub; allowed is {_FORMS}"
    if uri.type != "model":
        return f" of a {uri.type}, not of a model"
    revision = "" if uri.revision is None else f"@{uri.revision.replace('/', '%2F')}"
    folder = f"/{uri.path_in_repo}" if uri.path_in_repo else ""
    return f"; give its id, {uri.id + revision + folder!r}"


def _refusal(
    role: str,
    text: str,
    repository: str,
    error: HfHubHTTPError | httpx2.TransportError | RevisionResolutionError | LocalEntryNotFoundError,
) -> ValueError:
    if isinstance(error, GatedRepoError):
        reason = f"access to {repository} is granted on its page, to the owner of a token: {_HOW_TO_GIVE_A_TOKEN}"
    elif isinstance(error, RepositoryNotFoundError):
        reason = f"no such folder, and no {repository} on the Hub, unless it is private: {_HOW_TO_GIVE_A_TOKEN}"
    elif isinstance(error, RevisionNotFoundError):
        reason = f"{repository} has no such revision"
    elif not isinstance(error, HfHubHTTPError):
        why = "offline mode is on (HF_HUB_OFFLINE)" if is_offline_mode() else "the Hub cannot be reached"
        reason = f"no such folder; {why}, and the cache does not hold it"
    else:
        reason = f"the Hub answers {error.response.status_code} {error.response.reason_phrase}"
        if error.response.status_code in (401, 403):
            reason += f"; is the token good for {repository}? {_HOW_TO_GIVE_A_TOKEN}"
    return ValueError(f"{role} {text!r}: cannot be loaded ({reason})")
