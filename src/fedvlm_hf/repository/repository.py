"""The one wrapper of a repository on the Hub."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, BinaryIO, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .requests import HubReadError, HubRefusedError, ask, limit_silence


T = TypeVar("T")

Content = Path | bytes
"""A file's content: its path, or the bytes."""


@dataclass(frozen=True)
class PullRequest:
    """An open pull request."""

    ref: str
    title: str
    author: str


@dataclass(frozen=True)
class Repository:
    """A repository of models.

    Every method asks the Hub and raises the errors of [`~repository.requests.plain_errors`]. A request fails if the
    Hub is silent for `SILENCE` seconds.

    Args:
        repo_id (`str`):
            Such as `"org/name"`.
        token (`str`, *optional*):
            By default the one that huggingface_hub finds.
        branch (`str`, *optional*, defaults to `"main"`):
            The run's branch.
        private (`bool`, *optional*, defaults to `True`):
            Whether a repository that is created is private.
        first_wait (`float`, *optional*):
            Seconds before a request that failed because of an outage is repeated the first time; it is then repeated
            until it is answered. By default an outage is an error at once.
        is_over (`threading.Event`, *optional*):
            Once it is set, no request is repeated: an outage is an error.
    """

    repo_id: str
    token: str | None = field(default=None, repr=False)
    branch: str = "main"
    private: bool = True
    first_wait: float | None = None
    is_over: Event | None = None

    def __post_init__(self):
        limit_silence()

    @cached_property
    def api(self) -> HfApi:
        """The client of huggingface_hub."""
        return HfApi(token=self.token)

    @property
    def url(self) -> str:
        """Address of the repository."""
        return f"{self.api.endpoint}/{self.repo_id}"

    # What is there

    def heads(self) -> dict[str, str]:
        """Return the commit of every branch, and of every pull request as `refs/pr/1`."""
        refs = self._ask(lambda: self.api.list_repo_refs(self.repo_id, include_pull_requests=True))
        return {ref.name: ref.target_commit for ref in refs.branches} | {
            ref.ref: ref.target_commit for ref in refs.pull_requests or ()
        }

    def head(self) -> str:
        """Return the commit of the run's branch."""
        if self.branch not in (heads := self.heads()):
            raise HubRefusedError(f"{self.repo_id} has no branch {self.branch!r}.")
        return heads[self.branch]

    def tags(self) -> dict[str, str]:
        """Return the commit of every tag."""
        return {ref.name: ref.target_commit for ref in self._ask(lambda: self.api.list_repo_refs(self.repo_id)).tags}

    def resolve(self, name: str) -> str:
        """Return the commit that a tag or branch names now."""

        def resolve() -> str:
            try:
                return self.api.model_info(self.repo_id, revision=name).sha
            except RevisionNotFoundError:
                raise HubReadError(
                    f"{self.repo_id} has no revision {name!r}. `fedvlm rounds {self.repo_id}` lists its rounds."
                ) from None

        return self._ask(resolve)

    def dates(self, revision: str) -> dict[str, datetime]:
        """Return the commits that lead to a revision with their dates, the newest first."""
        commits = self._ask(lambda: self.api.list_repo_commits(self.repo_id, revision=revision))
        return {commit.commit_id: commit.created_at for commit in commits}

    def files(self, commit: str, folder: str = "") -> dict[str, RepoFile]:
        """Return the files of a commit by path; of a folder by their path in it, empty if there is no such folder."""

        def tree() -> list[RepoFile]:
            items = self.api.list_repo_tree(self.repo_id, folder or None, recursive=True, revision=commit)
            return [item for item in items if isinstance(item, RepoFile)]

        found = self._ask(lambda: _if_there(tree)) or []
        return {file.path.removeprefix(f"{folder}/" if folder else ""): file for file in found}

    def pull_requests(self) -> list[PullRequest]:
        """Return the open pull requests, the oldest first."""
        only = {"discussion_type": "pull_request", "discussion_status": "open"}
        found = self._ask(lambda: list(self.api.get_repo_discussions(self.repo_id, **only)))
        ordered = sorted(found, key=lambda pull: pull.num)
        return [PullRequest(f"refs/pr/{pull.num}", pull.title, pull.author) for pull in ordered]

    def user(self) -> str:
        """Return the name of the user whose token is used."""
        return str(self._ask(self.api.whoami)["name"])

    def download(self, path: str, commit: str, folder: Path | None = None) -> Path:
        """Download one file to the local cache, or into a folder and not to the cache."""
        return self._ask(lambda: self._download(path, commit, folder))

    def read(self, path: str, commit: str) -> bytes | None:
        """Return the content of a small file, or `None` if there is no such file."""
        with TemporaryDirectory() as folder:
            found = self._ask(lambda: _if_there(lambda: self._download(path, commit, Path(folder))))
            return found.read_bytes() if found else None

    def read_json(self, path: str, commit: str) -> Any:
        """Return the content of a JSON file of a commit."""
        content = self.read(path, commit)
        if content is None:
            raise HubRefusedError(f"{self.repo_id} has no {path} at {commit[:8]}.")
        return json.loads(content)

    # What is changed

    def create(self) -> None:
        """Create the repository if it does not exist."""
        self._ask(lambda: self.api.create_repo(self.repo_id, private=self.private, exist_ok=True))

    def ensure_branch(self, branch: str) -> str:
        """Create repository and branch if they do not exist, and return the branch's commit.

        A new branch starts at the repository's first commit, so that it holds nothing of another branch.
        """

        def ensure() -> str:
            try:
                return self.api.model_info(self.repo_id, revision=branch).sha
            except RevisionNotFoundError:
                self._create_branch(branch, "main")
            except RepositoryNotFoundError:
                self.api.create_repo(self.repo_id, private=self.private, exist_ok=True)
                if branch != "main":
                    self._create_branch(branch, "main")
            return self.api.model_info(self.repo_id, revision=branch).sha

        return self._ask(ensure)

    def try_to_create_branch(self, branch: str) -> bool:
        """Create a branch that holds nothing of the run if it does not exist; return whether this user may write."""

        def create() -> bool:
            try:
                self._create_branch(branch, self.branch)
            except HfHubHTTPError as error:
                if error.response.status_code in (401, 403):
                    return False
                raise
            return True

        return self._ask(create)

    def commit(
        self,
        title: str,
        files: Mapping[str, Content],
        branch: str,
        parent: str | None = None,
        deleted: Iterable[str] = (),
    ) -> str:
        """Commit files to a branch or pull request and return its new head.

        Args:
            title (`str`):
                The commit's title.
            files (`Mapping[str, Content]`):
                By path.
            branch (`str`):
                The branch, or a pull request such as `refs/pr/1`.
            parent (`str`, *optional*):
                The head that was read. If another commit is the head by now, nothing is changed.
            deleted (`Iterable[str]`, *optional*):
                Paths to delete.

        Raises:
            `HubMovedError`: if `parent` is given and is no longer the head.
        """

        def commit() -> str:
            operations = [*_additions(files), *map(CommitOperationDelete, deleted)]
            made = self.api.create_commit(
                self.repo_id, operations, commit_message=title, revision=branch, parent_commit=parent
            )
            return made.oid

        return self._ask(commit)

    def replace_files(
        self, title: str, files: Mapping[str, Content], branch: str, parent: str, owned: Iterable[str] = ()
    ) -> str:
        """Make a branch hold exactly these files among those that match `owned`, and return its head.

        The head stays `parent` if the files are there already, bit for bit. Files that others added are left alone.
        """
        there, patterns = self.files(parent), tuple(owned)
        gone = [path for path in there if path not in files and any(fnmatchcase(path, p) for p in patterns)]
        if not gone and all(path in there and is_same(content, there[path]) for path, content in files.items()):
            return parent
        return self.commit(title, files, branch, parent, gone)

    def open_pull_request(self, title: str, files: Mapping[str, Content]) -> None:
        """Open a pull request with these files. If the answer to the request is lost, a second one is opened."""
        self._ask(
            lambda: self.api.create_commit(self.repo_id, _additions(files), commit_message=title, create_pr=True)
        )

    def tag(self, name: str, commit: str, is_moved: bool = False) -> None:
        """Tag a commit. A tag that names another commit is left there, or moved here if `is_moved`."""

        def tag() -> None:
            refs = self.api.list_repo_refs(self.repo_id).tags if is_moved else []
            old = next((ref.target_commit for ref in refs if ref.name == name), None)
            if old == commit:
                return
            if old is not None:
                self.api.delete_tag(self.repo_id, tag=name)
            self.api.create_tag(self.repo_id, tag=name, revision=commit, exist_ok=not is_moved)

        self._ask(tag)

    def _create_branch(self, branch: str, beside: str) -> None:
        first = self.api.list_repo_commits(self.repo_id, revision=beside)[-1].commit_id
        self.api.create_branch(self.repo_id, branch=branch, revision=first, exist_ok=True)

    def _download(self, path: str, commit: str, folder: Path | None) -> Path:
        return Path(self.api.hf_hub_download(self.repo_id, path, revision=commit, local_dir=folder))

    def _ask(self, request: Callable[[], T]) -> T:
        """Make a request, and repeat it until it is answered if that is asked for."""

        return ask(request, self.repo_id, self.token, self.first_wait, self.is_over)


def is_same(content: Content, file: RepoFile) -> bool:
    """Return whether a file of the Hub has this content."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    # The Hub knows a large file by its SHA-256, and any other as git does
    digest = hashlib.sha256() if file.lfs else hashlib.sha1(b"blob %d\0" % size)
    with open_content(content) as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest() == (file.lfs.sha256 if file.lfs else file.blob_id)


def open_content(content: Content) -> BinaryIO:
    """Open a file's content as a stream."""
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _if_there(call: Callable[[], T]) -> T | None:
    """Return the result of a call, or `None` if the Hub says that there is no such file or folder."""
    try:
        return call()
    except LocalEntryNotFoundError:  # nothing was asked: the Hub is away
        raise
    except EntryNotFoundError:
        return None


def _additions(files: Mapping[str, Content]) -> list[CommitOperationAdd]:
    # Made anew for each attempt, since a commit leaves its marks on them
    return [
        CommitOperationAdd(path, io.BytesIO(content) if isinstance(content, bytes) else str(content))
        for path, content in sorted(files.items())
    ]
