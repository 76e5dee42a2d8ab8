"""A Hub on 127.0.0.1 that speaks the protocol of the real client: reading, and committing with LFS uploads.

Faults can be ordered: the next requests that match a pattern get a status instead of an answer, or no answer at all.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


_API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(revision|tree|commits)/([^/]+)(?:/(.*))?)?$")
_FILE = re.compile(r"/(datasets/|spaces/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


# What the accounts of the tests may do: `writer` everything, `reader` nothing but read.
TOKENS = {"writer": "hf_" + "w" * 34, "reader": "hf_" + "r" * 34}


@dataclass
class Fault:
    """What happens to the next requests whose `METHOD path` matches.

    Attributes:
        pattern: regular expression, searched for.
        status: of the answer; 0 drops the connection without one.
        times: how many requests it hits.
        after: whether the request is carried out first.
        answer: what is answered instead, with status 200, to a request that is carried out; `None` drops the
            connection.
    """

    pattern: str
    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    answer: bytes | None = None


class HubServer:
    """Repositories by kind and id, each `{revision: {path: bytes}}`; a revision's commit is a hash of its files.

    Attributes:
        history: files of every commit that is no longer a head.
        log: commits by kind, id and branch that came before its head, newest first.
        requests: `METHOD path` of all requests so far.
        address: while it is served.
        faults: ordered faults, each used up by the requests it hits.
    """

    def __init__(self):
        self.address: str | None = None
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.repositories: dict[tuple[str, str], dict[str, dict[str, bytes]]] = {}
        self.history: dict[str, dict[str, bytes]] = {}
        self.log: dict[tuple[str, str, str], list[str]] = {}
        self.objects: dict[str, bytes] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.faults: list[Fault] = []

    def add(self, kind: str, repository: str, files: dict[str, bytes], revision: str = "main") -> None:
        """
        Args:
            kind: `models`, `datasets` or `spaces`.
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
        if revision in self.history:
            return revision, self.history[revision]
        return "RevisionNotFound"

    def commit(self, kind: str, repository: str, revision: str, lines: list[dict]) -> str | None:
        """Carry out the lines of a commit on a branch, all or none; `None` if its parent is no longer the head."""
        branches = self.repositories[(kind, repository)]
        files = dict(branches[revision])
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, commit_of(files)):
                return None
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.history[commit_of(branches[revision])] = branches[revision]
        self.log.setdefault((kind, repository, revision), []).insert(0, commit_of(branches[revision]))
        branches[revision] = files
        return commit_of(files)

    def commits(self, kind: str, repository: str, revision: str = "main") -> list[tuple[str, dict[str, bytes]]]:
        """Commit and files of a branch's head and of all that came before it, newest first."""
        head = self.find(kind, repository, revision)
        before = self.log.get((kind, repository, revision), [])
        return [head, *((commit, self.history[commit]) for commit in before)]

    @contextmanager
    def serve(self) -> Iterator[str]:
        """The address of the running server."""
        hub = self

        class Handler(_Handler):
            server_hub = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self.address
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
        if path == "/api/whoami-v2":
            found = {"type": "user", "name": "lab", "orgs": [], "auth": {}}
            self._answer(200 if self._account() else 401, found)
        elif match := _API.match(path):
            kind, repository, what, revision, below = match.groups()
            self._api(kind, repository, what, _revision(revision or "main"), below or "")
        elif match := _FILE.match(path):
            kind, repository, revision, name = match.groups()
            self._file((kind or "models").rstrip("/"), repository, _revision(revision), name)
        else:
            self._answer(404, {"error": "not found"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = content if path.endswith(("/lfs", "/verify")) or "/commit/" in path else json.loads(content or b"{}")
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path.startswith("/_lfs/"):
            return self._answer(200, {})
        if self._account() != "writer":
            status = 403 if self._account() else 401
            return self._answer(status, {"error": "no write access"})
        hub, owner = self.server_hub, "lab"
        if path == "/api/repos/create":
            repository = f"{body.get('organization') or owner}/{body['name']}"
            kind = f"{body.get('type') or 'model'}s"
            if (kind, repository) in hub.repositories:
                return self._answer(409, {"error": "exists", "url": f"/{repository}"})
            if kind == "spaces" and body.get("sdk") != "gradio":
                return self._answer(400, {"error": "a Space needs an sdk"})
            hub.add(kind, repository, {".gitattributes": b"*.safetensors filter=lfs"})
            if body.get("private") or body.get("visibility") == "private":
                hub.private.add(repository)
            return self._answer(200, {"url": f"http://{self.headers['Host']}/{repository}", "name": repository})
        if match := re.match(r"/(.+)\.git/info/lfs/objects/batch$", path):
            address = f"http://{self.headers['Host']}/_lfs/"
            objects = [
                entry
                if entry["oid"] in hub.objects
                else entry
                | {
                    "actions": {
                        "upload": {"href": address + entry["oid"]},
                        "verify": {"href": f"{address}{entry['oid']}/verify"},
                    }
                }
                for entry in body["objects"]
            ]
            return self._answer(200, {"transfer": "basic", "objects": objects})
        if match := re.match(r"/api/(models|spaces)/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)$", path):
            kind, repository, what, revision = match.groups()
            if (kind, repository) not in hub.repositories:
                return self._answer(404, {"error": "RepoNotFound"}, {"X-Error-Code": "RepoNotFound"})
            if what == "branch":
                hub.repositories[(kind, repository)][revision] = hub.find(kind, repository)[1]
                hub.log[(kind, repository, revision)] = list(hub.log.get((kind, repository, "main"), []))
                return self._answer(201, {})
            if what == "preupload":
                modes = [
                    {
                        "path": entry["path"],
                        "uploadMode": "lfs" if entry["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for entry in body["files"]
                ]
                return self._answer(200, {"files": modes})
            if "create_pr=1" in self.path:
                # A pull request is a branch of its own.
                hub.repositories[(kind, repository)]["refs/pr/1"] = hub.find(kind, repository, revision)[1]
                revision = "refs/pr/1"
            oid = hub.commit(kind, repository, revision, [json.loads(line) for line in body.splitlines()])
            if oid is None:
                return self._answer(412, {"error": "A commit has happened since."})
            answer = {"commitOid": oid, "commitUrl": f"http://{self.headers['Host']}/{repository}/commit/{oid}"}
            if "create_pr=1" in self.path:
                answer["pullRequestUrl"] = f"http://{self.headers['Host']}/{repository}/discussions/1"
            return self._answer(200, answer)
        return self._answer(404, {"error": "not found"})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2], "an object is named by its hash"
        self.server_hub.objects[self.path.rpartition("/")[2]] = content
        self._answer(200, {})

    def do_DELETE(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._account() != "writer":
            return self._answer(403 if self._account() else 401, {"error": "no write access"})
        if match := re.match(r"/api/models/([^/]+/[^/]+)/branch/(.+)$", unquote(urlsplit(self.path).path)):
            self.server_hub.repositories[("models", match[1])].pop(match[2])
            return self._answer(200, {})
        body = json.loads(content)
        repository = f"{body.get('organization') or 'lab'}/{body['name']}"
        self.server_hub.repositories.pop((f"{body.get('type') or 'model'}s", repository), None)
        return self._answer(200, {})

    def parse_request(self) -> bool:
        """Also notes the request, and lets the next fault that matches happen."""
        if not super().parse_request():
            return False
        request = f"{self.command} {unquote(self.path)}"
        self.server_hub.requests.append(request)
        self.fault = None
        for fault in self.server_hub.faults:
            if fault.times and re.search(fault.pattern, request):
                fault.times -= 1
                if fault.after:
                    self.fault = fault
                    return True
                if not fault.status:
                    self.close_connection = True
                    return False
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(fault.status, {"error": "ordered by the test"}, fault.headers)
                return False
        return True

    def _account(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return next((name for name, value in TOKENS.items() if value == token), None)

    def _api(self, kind: str, repository: str, what: str | None, revision: str, below: str) -> None:
        found = self.server_hub.find(kind, repository, revision)
        if repository in self.server_hub.private and self._account() is None:
            found = "RepoNotFound"
        if isinstance(found, str):
            return self._answer(404, {"error": found}, {"X-Error-Code": found})
        commit, files = found
        if what == "commits":
            entries = [
                {
                    "id": oid,
                    "authors": [{"user": "lab"}],
                    "date": "2026-01-01T00:00:00.000Z",
                    "title": "",
                    "message": "",
                }
                for oid, _ in self.server_hub.commits(kind, repository, revision)
            ]
            return self._answer(200, entries)
        if what != "tree":
            siblings = [{"rfilename": name} for name in files]
            is_private = repository in self.server_hub.private
            body = {"id": repository, "sha": commit, "siblings": siblings, "tags": [], "private": is_private}
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
                oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                entry = {"type": "file", "path": prefix + name, "oid": oid, "size": len(content)}
                digest = hashlib.sha256(content).hexdigest()
                if digest in self.server_hub.objects:
                    entry |= {"oid": "0" * 40, "lfs": {"oid": digest, "size": len(content), "pointerSize": 134}}
                entries.append(entry)
        self._answer(200, entries)

    def _file(self, kind: str, repository: str, revision: str, name: str) -> None:
        found = self.server_hub.find(kind, repository, revision)
        if repository in self.server_hub.private and self._account() is None:
            found = "RepoNotFound"
        error = found if isinstance(found, str) else None if name in found[1] else "EntryNotFound"
        if not error and repository in self.server_hub.gated and self._account() is None:
            return self._answer(401, {"error": "GatedRepo"}, {"X-Error-Code": "GatedRepo"})
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
        if self.fault is not None:
            fault, self.fault = self.fault, None
            if fault.answer is None:
                self.close_connection = True
                return
            status, body = 200, fault.answer
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
