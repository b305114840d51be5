"""Repositories of the loopback Hub: content-addressed blobs, one JSON a repository, commits under a parent lock."""

import hashlib
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedvlm_hf.files import write_atomic


class HubError(Exception):
    """What a request gets in place of an answer."""

    def __init__(self, status: int, code: str, message: str, body: dict[str, Any] | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.body = status, code, message, body


class Store:
    """Models and datasets on disk; every change is written before it is answered, so that a server may be killed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        self.repos: dict[str, dict[str, Any]] = {}
        for path in sorted((folder / "repos").glob("*.json")):
            repo = json.loads(path.read_text())
            self.repos[repo["key"]] = repo

    def blob(self, content: bytes) -> str:
        """Keep bytes under their sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        with self.lock:  # a client sends equal files side by side, and their temporary file has one name
            if not self.has_blob(sha256):
                write_atomic(self.folder / "blobs" / sha256, content)
        return sha256

    def has_blob(self, sha256: str) -> bool:
        return (self.folder / "blobs" / sha256).exists()

    def read_blob(self, sha256: str) -> bytes:
        return (self.folder / "blobs" / sha256).read_bytes()

    def repo(self, key: str) -> dict[str, Any]:
        """`key` is `models/org/name` or `datasets/org/name`."""
        if key not in self.repos:
            raise HubError(404, "RepoNotFound", "Repository not found")
        return self.repos[key]

    def create(self, key: str, private: bool, owner: str) -> dict[str, Any]:
        with self.lock:
            if key in self.repos:
                raise HubError(409, "RepoExists", "You already created this repo", {"url": key})
            repo = {
                "key": key,
                "private": private,
                "owner": owner,
                "refs": {},
                "tags": {},
                "commits": {},
                "discussions": [],
            }
            self.repos[key] = repo
            self.commit(key, "main", "initial commit", [], owner)
            return repo

    def delete(self, key: str) -> None:
        with self.lock:
            self.repo(key)
            del self.repos[key]
            self._path(key).unlink()

    def resolve(self, key: str, revision: str) -> str:
        """The commit that a branch, tag, pull request or commit id names."""
        repo = self.repo(key)
        for names in (repo["refs"], repo["tags"]):
            if revision in names:
                return names[revision]
        if revision in repo["commits"]:
            return revision
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def files(self, key: str, revision: str) -> dict[str, dict[str, Any]]:
        return self.repo(key)["commits"][self.resolve(key, revision)]["files"]

    def commit(
        self,
        key: str,
        branch: str,
        title: str,
        changes: list[tuple[str, str | None]],
        author: str,
        parent: str | None = None,
        message: str = "",
        large: tuple[str, ...] = (),
    ) -> str:
        """Change files of a branch: `(path, sha256 or None to delete)`.

        Raises:
            `HubError`: 412, if `parent` is given and another commit is the head by now.
        """
        with self.lock:
            repo = self.repo(key)
            head = repo["refs"].get(branch)
            if parent is not None and parent != head:
                raise HubError(412, "PreconditionFailed", "A commit has happened since. Please refresh and try again.")
            files = dict(repo["commits"][head]["files"]) if head else {}
            for path, sha256 in changes:
                if sha256 is None:
                    files = {name: entry for name, entry in files.items() if not _is_below(name, path)}
                else:
                    files[path] = self._entry(sha256, path in large)
            date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            commit = {"parent": head, "title": title, "message": message, "date": date, "author": author}
            content = json.dumps([commit, sorted(files), len(repo["commits"]), key])
            sha = hashlib.sha1(content.encode()).hexdigest()
            repo["commits"][sha] = {**commit, "files": files}
            repo["refs"][branch] = sha
            self.save(key)
            return sha

    def history(self, key: str, revision: str) -> list[tuple[str, dict[str, Any]]]:
        """Commits from the newest to the first."""
        commits = self.repo(key)["commits"]
        sha, found = self.resolve(key, revision), []
        while sha is not None:
            found.append((sha, commits[sha]))
            sha = commits[sha]["parent"]
        return found

    def save(self, key: str) -> None:
        write_atomic(self._path(key), json.dumps(self.repos[key]))

    def _path(self, key: str) -> Path:
        return self.folder / "repos" / f"{key.replace('/', '--')}.json"

    def _entry(self, sha256: str, is_large: bool) -> dict[str, Any]:
        content = self.read_blob(sha256)
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"blob": sha256, "size": len(content), "oid": git, "lfs": is_large}


def _is_below(name: str, path: str) -> bool:
    return name == path or name.startswith(path.rstrip("/") + "/")
