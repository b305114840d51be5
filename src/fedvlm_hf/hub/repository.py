"""One repository of the Hub as a run uses it: folders become commits under a lock, commits get tags."""

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from .errors import plain_errors


Content = Path | bytes
"""A file's content: where it lies, or itself."""

OWNED = ("adapter_*", "base_delta.*", "README.md", "metrics.jsonl", "report/*", "federated_state/*")
"""What is replaced as a whole by each commit of a round; other files that somebody added stay."""


class Repository:
    """A repository of models.

    Every method asks the Hub, and raises what [`~hub.errors.plain_errors`] says.

    Args:
        repo_id (`str`):
            Such as `"org/name"`.
        private (`bool`, *optional*, defaults to `True`):
            Of a repository that is made.
        token (`str`, *optional*):
            By default the one that huggingface_hub finds.
    """

    def __init__(self, repo_id: str, private: bool = True, token: str | None = None):
        self.repo_id, self.private, self.token = repo_id, private, token
        self.api = HfApi(token=token)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.api.endpoint}/{self.repo_id}"

    def head(self, branch: str = "main") -> str:
        """The commit that a branch stands at. Repository and branch are made where they are not there.

        A new branch begins at the repository's first commit, so that it holds nothing of another one.
        """
        with self._errors():
            try:
                return self.api.model_info(self.repo_id, revision=branch).sha
            except RevisionNotFoundError:
                pass
            except RepositoryNotFoundError:
                self.api.create_repo(self.repo_id, private=self.private, exist_ok=True)
            if branch != "main":
                first = self.api.list_repo_commits(self.repo_id)[-1].commit_id
                self.api.create_branch(self.repo_id, branch=branch, revision=first, exist_ok=True)
            return self.api.model_info(self.repo_id, revision=branch).sha

    def tags(self) -> dict[str, str]:
        """Tag to commit."""
        with self._errors():
            return {ref.name: ref.target_commit for ref in self.api.list_repo_refs(self.repo_id).tags}

    def files(self, commit: str) -> dict[str, RepoFile]:
        """What a commit holds, by path."""
        with self._errors():
            tree = self.api.list_repo_tree(self.repo_id, recursive=True, revision=commit)
            return {item.path: item for item in tree if isinstance(item, RepoFile)}

    def read_json(self, path: str, commit: str) -> Any:
        """The content of a JSON file of a commit."""
        with self._errors(), tempfile.TemporaryDirectory() as folder:
            local = self.api.hf_hub_download(self.repo_id, path, revision=commit, local_dir=folder)
            return json.loads(Path(local).read_text(encoding="utf-8"))

    def commit(self, message: str, files: Mapping[str, Content], parent: str, branch: str = "main") -> str:
        """Make a branch hold these files, in one commit on the head that was read.

        Args:
            message (`str`):
                The commit's title.
            files (`Mapping[str, Content]`):
                By path; those of `OWNED` that the branch holds beside are deleted.
            parent (`str`):
                The head. If another commit is by now, nothing is done.
            branch (`str`, *optional*, defaults to `"main"`):
                The branch.

        Returns:
            `str`: the new commit, or `parent` where it holds exactly these files already.
        """
        there = self.files(parent)
        if holds(there, files):
            return parent
        gone = [path for path in there if path not in files and is_owned(path)]
        operations = [CommitOperationAdd(path, _readable(content)) for path, content in sorted(files.items())]
        operations += [CommitOperationDelete(path) for path in gone]
        with self._errors():
            return self.api.create_commit(
                self.repo_id, operations, commit_message=message, revision=branch, parent_commit=parent
            ).oid

    def tag(self, name: str, commit: str) -> None:
        """Let a tag name a commit, whatever it named before."""
        with self._errors():
            if (old := self.tags().get(name)) == commit:
                return
            if old is not None:
                self.api.delete_tag(self.repo_id, tag=name)
            self.api.create_tag(self.repo_id, tag=name, revision=commit)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with plain_errors(self.repo_id, self.token):
            yield


def is_owned(path: str) -> bool:
    """Whether a file is one of those that a round's commit replaces."""
    return any(fnmatchcase(path, pattern) for pattern in OWNED)


def holds(there: Mapping[str, RepoFile], files: Mapping[str, Content]) -> bool:
    """Whether a commit has exactly these files, bit for bit, of those that are owned."""
    owned = {path for path in there if is_owned(path)} | set(files)
    return all(path in files and path in there and is_same(files[path], there[path]) for path in owned)


def is_same(content: Content, file: RepoFile) -> bool:
    """Whether a file of the Hub has this content."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    # The Hub knows a large file by its SHA-256, and any other as git does
    digest = hashlib.sha256() if file.lfs else hashlib.sha1(b"blob %d\0" % size)
    with opened(content) as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest() == (file.lfs.sha256 if file.lfs else file.blob_id)


def opened(content: Content) -> BinaryIO:
    """A file's content as a stream."""
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _readable(content: Content) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)
