"""A Hub on 127.0.0.1 to read from: repositories, revisions, trees and files as the real client asks for them."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?$")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


class HubServer:
    """Repositories by kind and id, each `{revision: {path: bytes}}`; a revision's commit is a hash of its files."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], dict[str, dict[str, bytes]]] = {}

    def add(self, kind: str, repository: str, files: dict[str, bytes], revision: str = "main") -> None:
        """
        Args:
            kind: `models` or `datasets`.
        """
        self.repositories.setdefault((kind, repository), {})[revision] = files

    def find(self, kind: str, repository: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | str:
        """Commit and files of a revision, a branch or a commit; or the Hub's error code."""
        revisions = self.repositories.get((kind, repository))
        if revisions is None:
            return "RepoNotFound"
        for name, files in revisions.items():
            if revision in (name, commit_of(files)):
                return commit_of(files), files
        return "RevisionNotFound"

    @contextmanager
    def serve(self) -> Iterator[str]:
        """The address of the running server."""
        hub = self

        class Handler(_Handler):
            server_hub = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def commit_of(files: dict[str, bytes]) -> str:
    """40 hexadecimal digits, as of a git commit."""
    return hashlib.sha1(b"".join(path.encode() + content for path, content in sorted(files.items()))).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        # A branch such as refs/convert/parquet has slashes, which clients quote; unquoted they would end the name.
        path = path.replace("refs/convert/parquet", "refs%convert%parquet")
        if match := _API.match(path):
            kind, repository, what, revision, below = match.groups()
            self._api(kind, repository, what, _revision(revision or "main"), below or "")
        elif match := _FILE.match(path):
            is_dataset, repository, revision, name = match.groups()
            self._file("datasets" if is_dataset else "models", repository, _revision(revision), name)
        else:
            self._answer(404, {"error": "not found"})

    do_HEAD = do_GET

    def _api(self, kind: str, repository: str, what: str | None, revision: str, below: str) -> None:
        found = self.server_hub.find(kind, repository, revision)
        if isinstance(found, str):
            return self._answer(404, {"error": found}, {"X-Error-Code": found})
        commit, files = found
        if what != "tree":
            siblings = [{"rfilename": name} for name in files]
            body = {"id": repository, "sha": commit, "siblings": siblings, "tags": [], "private": False}
            return self._answer(200, body)
        prefix = f"{below}/" if below else ""
        inside = {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}
        if not inside:
            return self._answer(404, {"error": "EntryNotFound"}, {"X-Error-Code": "EntryNotFound"})
        is_recursive = "recursive=true" in self.path.lower()
        entries, folders = [], set()
        for name, content in inside.items():
            folder, slash, _ = name.partition("/")
            if slash and folder not in folders:
                folders.add(folder)
                entries.append({"type": "directory", "path": prefix + folder, "oid": "0" * 40, "size": 0})
            if not slash or is_recursive:
                oid = hashlib.sha1(content).hexdigest()
                entries.append({"type": "file", "path": prefix + name, "oid": oid, "size": len(content)})
        self._answer(200, entries)

    def _file(self, kind: str, repository: str, revision: str, name: str) -> None:
        found = self.server_hub.find(kind, repository, revision)
        error = found if isinstance(found, str) else None if name in found[1] else "EntryNotFound"
        if error:
            return self._answer(404, {"error": error}, {"X-Error-Code": error})
        commit, files = found
        content = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        status = 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self._answer(status, content, headers)

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Silence: tests print what they need."""


def _revision(quoted: str) -> str:
    return quoted.replace("%", "/")
