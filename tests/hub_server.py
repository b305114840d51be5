"""A loopback Hub for tests: what the real huggingface_hub, datasets, transformers and peft clients need, and faults.

    with running(tmp_path / "hub", users={"token-a": ("alice", "write")}) as hub:
        subprocess.run([...], env=hub.environment("token-a", tmp_path / "home"))

Clients read `HF_ENDPOINT` when they are imported, so the code under test runs in a child process.
"""

import base64
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import HubError, Store


LARGE = (".safetensors", ".parquet", ".bin", ".png", ".jpg", ".arrow", ".zip")
"""Ends of names that go through LFS, whatever their size."""


@dataclass
class Fault:
    """What goes wrong, `times` times, with requests whose `"METHOD /path"` has `pattern` in it.

    Attributes:
        pattern (`str`): A regular expression.
        status (`int`, *optional*): Answer with this status.
        cut (`bool`): Close the connection without an answer; with `after`, in the middle of the body.
        delay (`float`): Seconds to wait before the answer.
        hangs (`bool`): Keep the connection open and never answer.
        truncate (`int`, *optional*): Send only so many bytes of the body, under the whole one's length.
        times (`int`): How often.
        before (`Callable`, *optional*): Called when it strikes, such as to commit in between.
    """

    pattern: str
    status: int | None = None
    cut: bool = False
    delay: float = 0.0
    hangs: bool = False
    truncate: int | None = None
    times: int = 1
    before: Callable[[], None] | None = None


@dataclass
class Hub:
    """The state of a running server."""

    store: Store
    users: Mapping[str, tuple[str, str]]
    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    closing: Event = field(default_factory=Event)

    def environment(self, token: str, home: Path) -> dict[str, str]:
        """Of a child process that sees this Hub and nothing else of Hugging Face."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def fault(self, request: str) -> Fault | None:
        """The fault that strikes this request."""
        with self.store.lock:
            for fault in self.faults:
                if fault.times and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def running(folder: Path, users: Mapping[str, tuple[str, str]]) -> Iterator[Hub]:
    """Serve the repositories of a folder on a free port of the loopback device.

    Args:
        folder (`Path`):
            Where blobs and repositories are kept.
        users (`Mapping[str, tuple[str, str]]`):
            Token to name and role, `"read"` or `"write"`.
    """
    hub = Hub(Store(folder), users)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


_REPO = r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("DELETE", r"/api/repos/delete", "delete"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", _REPO + r"(?:/revision/(?P<rev>.+))?", "info"),
    ("GET", _REPO + r"/tree/(?P<rev>[^/]+)(?:/(?P<path>.*))?", "tree"),
    ("POST", _REPO + r"/paths-info/(?P<rev>.+)", "paths_info"),
    ("GET", _REPO + r"/refs", "refs"),
    ("GET", _REPO + r"/commits/(?P<rev>.+)", "commits"),
    ("POST", _REPO + r"/branch/(?P<rev>.+)", "create_branch"),
    ("DELETE", _REPO + r"/branch/(?P<rev>.+)", "delete_branch"),
    ("POST", _REPO + r"/tag/(?P<rev>.+)", "create_tag"),
    ("DELETE", _REPO + r"/tag/(?P<rev>.+)", "delete_tag"),
    ("POST", _REPO + r"/preupload/(?P<rev>.+)", "preupload"),
    ("POST", _REPO + r"/commit/(?P<rev>.+)", "commit"),
    ("GET", _REPO + r"/discussions", "discussions"),
    ("GET", _REPO + r"/discussions/(?P<num>\d+)", "discussion"),
    ("POST", _REPO + r"/discussions/(?P<num>\d+)/merge", "merge"),
    ("POST", r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<sha256>[0-9a-f]{64})", "lfs_put"),
    ("GET", r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "download"),
]


class _Handler(BaseHTTPRequestHandler):
    """One request; routes are methods named after the last column of `_ROUTES`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def log_message(self, *args: Any) -> None:
        """Nothing: pytest's output is for tests."""

    def _serve(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.body = self._read_body()
        request = f"{self.command} {unquote(url.path)}"
        self.hub.log.append(request)
        self.struck = self.hub.fault(request)
        if self.struck:
            time.sleep(self.struck.delay)
            if self.struck.before:
                self.struck.before()
            if self.struck.hangs:
                self.hub.closing.wait()
            if self.struck.hangs or self.struck.cut:
                self.close_connection = True
                return
            if self.struck.status:
                self._json({"error": "injected"}, self.struck.status)
                return
        try:
            self._route(method, url.path)
        except HubError as error:
            self._json(
                error.body or {"error": error.message},
                error.status,
                {"X-Error-Code": error.code, "X-Error-Message": error.message},
            )

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _route(self, method: str, path: str) -> None:
        for verb, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                groups = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                if "id" in groups:
                    groups["key"] = f"{groups.pop('kind', 'models')}/{groups.pop('id')}"
                    self._check_read(groups["key"])
                getattr(self, f"_{name}")(**groups)
                return
        raise HubError(404, "EntryNotFound", f"no route for {method} {path}")

    # Who may what

    @property
    def _user(self) -> tuple[str, str] | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def _check_read(self, key: str) -> None:
        # As on the Hub: who may not see a private repository is not told that it is there
        if self.hub.store.repo(key)["private"] and self._user is None:
            raise HubError(401, "RepoNotFound", "Repository not found")

    def _writer(self) -> str:
        if self._user is None:
            raise HubError(401, "", "Invalid username or password.")
        name, role = self._user
        if role != "write":
            raise HubError(403, "", "You have read access but not the required permissions for this operation")
        return name

    # Answers

    def _send(self, content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.struck and self.struck.truncate is not None:
            content, self.close_connection = content[: self.struck.truncate], True
        self.wfile.write(content)

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    # Identity and repositories

    def _whoami(self) -> None:
        if self._user is None:
            raise HubError(401, "", "Invalid username or password.")
        name, role = self._user
        self._json(
            {"type": "user", "name": name, "orgs": [], "auth": {"accessToken": {"role": role, "displayName": name}}}
        )

    def _create(self) -> None:
        wanted = json.loads(self.body)
        owner = self._writer()
        repo_id = f"{wanted.get('organization') or owner}/{wanted['name']}"
        kind = wanted.get("type") or "model"
        key = f"{kind}s/{repo_id}"
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
        try:
            self.hub.store.create(key, wanted.get("visibility") == "private", owner)
        except HubError as error:
            error.body = {"error": error.message, "url": url}
            raise
        self._json({"url": url, "name": repo_id, "id": repo_id})

    def _delete(self) -> None:
        wanted = json.loads(self.body)
        owner = self._writer()
        self.hub.store.delete(
            f"{wanted.get('type') or 'model'}s/{wanted.get('organization') or owner}/{wanted['name']}"
        )
        self._json({})

    def _validate_yaml(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _info(self, key: str, rev: str = "main") -> None:
        store, repo = self.hub.store, self.hub.store.repo(key)
        sha = store.resolve(key, rev)
        files = store.files(key, rev)
        siblings = [{"rfilename": path, "size": entry["size"]} for path, entry in sorted(files.items())]
        commit = repo["commits"][sha]
        name = key.partition("/")[2]
        info = {"_id": name, "id": name, "author": name.split("/")[0], "sha": sha, "private": repo["private"]}
        self._json(
            {
                **info,
                "lastModified": commit["date"],
                "createdAt": commit["date"],
                "siblings": siblings,
                "tags": [],
                "disabled": False,
                "gated": False,
                "downloads": 0,
                "likes": 0,
            }
        )

    # Files

    def _tree(self, key: str, rev: str, path: str = "") -> None:
        prefix = f"{path.rstrip('/')}/" if path else ""
        files = {name: entry for name, entry in self.hub.store.files(key, rev).items() if name.startswith(prefix)}
        if path and not files:
            raise HubError(404, "EntryNotFound", f"{path} does not exist on {rev}")
        is_deep = self.query.get("recursive", "").lower() in ("true", "1")
        folders = sorted({f"{prefix}{part}" for part in _folders(files, prefix, is_deep)})
        shown = {name: entry for name, entry in files.items() if is_deep or "/" not in name[len(prefix) :]}
        self._json(
            [
                *({"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in folders),
                *(_file(name, entry) for name, entry in sorted(shown.items())),
            ]
        )

    def _paths_info(self, key: str, rev: str) -> None:
        asked = json.loads(self.body) if self.body[:1] == b"{" else parse_qs(self.body.decode())
        paths = asked["paths"] if isinstance(asked["paths"], list) else [asked["paths"]]
        files = self.hub.store.files(key, rev)
        found = [_file(path, files[path]) for path in paths if path in files]
        for path in paths:
            if path not in files and any(name.startswith(f"{path}/") for name in files):
                found.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        self._json(found)

    def _download(self, key: str, rev: str, path: str) -> None:
        store = self.hub.store
        sha = store.resolve(key, rev)
        entry = store.files(key, rev).get(path)
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if entry is None:
            self._json({}, 404, {**headers, "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        headers["ETag"] = f'"{entry["blob"] if entry["lfs"] else entry["oid"]}"'
        content = store.read_blob(entry["blob"])
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match is None:
            self._send(content, 200, headers)
            return
        start, stop = int(match[1]), min(int(match[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{stop}/{len(content)}"
        self._send(content[start : stop + 1], 206, headers)

    def _preupload(self, key: str, rev: str) -> None:
        files = json.loads(self.body)["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
        self._json({"files": modes})

    def _lfs_batch(self, key: str) -> None:
        objects = []
        for item in json.loads(self.body)["objects"]:
            known = {"oid": item["oid"], "size": item["size"]}
            if not self.hub.store.has_blob(item["oid"]):
                known["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}"}}
            objects.append(known)
        self._json({"transfer": "basic", "objects": objects})

    def _lfs_put(self, sha256: str) -> None:
        if self.hub.store.blob(self.body) != sha256:
            raise HubError(400, "", "the content is not what its sha256 says")
        self._send(b"")

    def _commit(self, key: str, rev: str) -> None:
        store = self.hub.store
        is_new_pull = self.query.get("create_pr") == "1"
        author = self._author(key, rev, is_new_pull)
        header: dict[str, Any] = {}
        changes: list[tuple[str, str | None]] = []
        large = []
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                header = value
            elif item["key"] == "file":
                changes.append((value["path"], store.blob(base64.b64decode(value["content"]))))
            elif item["key"] == "lfsFile":
                changes.append((value["path"], value["oid"]))
                large.append(value["path"])
            else:
                changes.append((value["path"], None))
        with store.lock:
            branch = self._open_pull(key, rev, header["summary"], author) if is_new_pull else rev
            sha = store.commit(
                key,
                branch,
                header["summary"],
                changes,
                author,
                header.get("parentCommit"),
                header.get("description", ""),
                tuple(large),
            )
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{key}/commit/{sha}"}
        if is_new_pull:
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{key}/discussions/{branch.rpartition('/')[2]}"
        self._json(answer)

    def _author(self, key: str, rev: str, is_new_pull: bool) -> str:
        """Whoever may read may open a pull request and add to their own; the rest is for writers."""
        if self._user is None:
            raise HubError(401, "", "Invalid username or password.")
        pulls = {f"refs/pr/{pull['num']}": pull["author"] for pull in self.hub.store.repo(key)["discussions"]}
        if is_new_pull or pulls.get(rev) == self._user[0]:
            return self._user[0]
        return self._writer()

    # Branches, tags, pull requests

    def _refs(self, key: str) -> None:
        repo = self.hub.store.repo(key)

        def refs(names: Mapping[str, str], prefix: str) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"{prefix}{name}", "targetCommit": sha} for name, sha in sorted(names.items())
            ]

        branches = {name: sha for name, sha in repo["refs"].items() if not name.startswith("refs/pr/")}
        pulls = {name: sha for name, sha in repo["refs"].items() if name.startswith("refs/pr/")}
        self._json(
            {
                "branches": refs(branches, "refs/heads/"),
                "converts": [],
                "tags": refs(repo["tags"], "refs/tags/"),
                "pullRequests": refs(pulls, ""),
            }
        )

    def _commits(self, key: str, rev: str) -> None:
        self._json(
            [
                {
                    "id": sha,
                    "title": commit["title"],
                    "message": commit["message"],
                    "date": commit["date"],
                    "authors": [{"user": commit["author"]}],
                }
                for sha, commit in self.hub.store.history(key, rev)
            ]
        )

    def _create_branch(self, key: str, rev: str) -> None:
        self._writer()
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        self._name(key, "refs", rev, self.hub.store.resolve(key, start))

    def _create_tag(self, key: str, rev: str) -> None:
        self._writer()
        self._name(key, "tags", json.loads(self.body)["tag"], self.hub.store.resolve(key, rev))

    def _delete_branch(self, key: str, rev: str) -> None:
        self._forget(key, "refs", rev)

    def _delete_tag(self, key: str, rev: str) -> None:
        self._forget(key, "tags", rev)

    def _name(self, key: str, kind: str, name: str, sha: str) -> None:
        with self.hub.store.lock:
            names = self.hub.store.repo(key)[kind]
            if name in names:
                raise HubError(409, "", f"Reference already exists: {name}")
            names[name] = sha
            self.hub.store.save(key)
        self._json({})

    def _forget(self, key: str, kind: str, name: str) -> None:
        self._writer()
        with self.hub.store.lock:
            if self.hub.store.repo(key)[kind].pop(name, None) is None:
                raise HubError(404, "RevisionNotFound", f"Invalid rev id: {name}")
            self.hub.store.save(key)
        self._json({})

    def _open_pull(self, key: str, rev: str, title: str, author: str) -> str:
        repo = self.hub.store.repo(key)
        num = len(repo["discussions"]) + 1
        repo["discussions"].append({"num": num, "title": title, "author": author, "status": "open", "base": rev})
        repo["refs"][f"refs/pr/{num}"] = self.hub.store.resolve(key, rev)
        return f"refs/pr/{num}"

    def _discussions(self, key: str) -> None:
        pulls = [self._pull(pull) for pull in reversed(self.hub.store.repo(key)["discussions"])]
        self._json({"discussions": pulls, "count": len(pulls), "start": 0})

    def _discussion(self, key: str, num: str) -> None:
        pull = self.hub.store.repo(key)["discussions"][int(num) - 1]
        base = f"refs/heads/{pull['base']}"
        self._json({**self._pull(pull), "events": [], "changes": {"base": base}, "diff": "", "filesWithConflicts": []})

    def _merge(self, key: str, num: str) -> None:
        author = self._writer()
        store = self.hub.store
        with store.lock:
            repo = store.repo(key)
            pull = repo["discussions"][int(num) - 1]
            files = store.files(key, f"refs/pr/{num}")
            changes = [(path, entry["blob"]) for path, entry in files.items()]
            large = tuple(path for path, entry in files.items() if entry["lfs"])
            store.commit(key, pull["base"], f"Merge #{num}", changes, author, large=large)
            pull["status"] = "merged"
            store.save(key)
        self._json({})

    def _pull(self, pull: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "num": pull["num"],
            "title": pull["title"],
            "status": pull["status"],
            "author": {"name": pull["author"]},
            "isPullRequest": True,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "repo": {"name": "", "type": "model"},
        }


def _folders(files: Mapping[str, Any], prefix: str, is_deep: bool) -> Iterator[str]:
    for name in files:
        parts = name[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parts) + 1 if is_deep else min(2, len(parts) + 1)):
            yield "/".join(parts[:depth])


def _file(path: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"type": "file", "path": path, "size": entry["size"], "oid": entry["oid"]}
    if entry["lfs"]:
        answer["lfs"] = {"oid": entry["blob"], "size": entry["size"], "pointerSize": 130}
    return answer
