"""The one repository that server and clients share; what they ask of it is asked again until the Hub answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, RepoFile
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from ..errors import HubRefusedError
from .patience import patiently


T = TypeVar("T")


@dataclass(frozen=True)
class Pull:
    """An open pull request."""

    ref: str
    title: str
    author: str


class Remote:
    """A repository. An outage is waited out, however long; what the Hub refuses is an error at once.

    Args:
        repo_id (`str`):
            Such as `"org/name"`.
        token (`str`, *optional*):
            By default the one that `hf auth login` or `HF_TOKEN` left.
        branch (`str`, *optional*, defaults to `"main"`):
            The run's branch.
        pause (`float`, *optional*, defaults to `10.0`):
            Seconds between two looks, and before the first retry.
    """

    def __init__(self, repo_id: str, token: str | None = None, branch: str = "main", pause: float = 10.0):
        self.repo_id, self.branch, self.pause = repo_id, branch, pause
        self.api = HfApi(token=token)

    def make(self) -> None:
        """Make the repository, private, if it is not there."""
        self._ask(lambda: self.api.create_repo(self.repo_id, private=True, exist_ok=True))

    def heads(self) -> dict[str, str]:
        """Commit of every branch, and of every pull request as `refs/pr/1`."""
        refs = self._ask(lambda: self.api.list_repo_refs(self.repo_id, include_pull_requests=True))
        return {ref.name: ref.target_commit for ref in refs.branches} | {
            ref.ref: ref.target_commit for ref in refs.pull_requests or ()
        }

    def head(self) -> str:
        """Commit of the run's branch."""
        if self.branch not in (heads := self.heads()):
            raise HubRefusedError(f"{self.repo_id} has no branch {self.branch!r}.")
        return heads[self.branch]

    def pulls(self) -> list[Pull]:
        """Open pull requests, the oldest first."""
        only = {"discussion_type": "pull_request", "discussion_status": "open"}
        found = self._ask(lambda: list(self.api.get_repo_discussions(self.repo_id, **only)))
        return [Pull(f"refs/pr/{pull.num}", pull.title, pull.author) for pull in sorted(found, key=lambda p: p.num)]

    def sizes(self, folder: str, commit: str) -> dict[str, int]:
        """Bytes of the files below a folder by their path in it; empty where there is no such folder."""

        def tree() -> list[RepoFile]:
            items = self.api.list_repo_tree(self.repo_id, folder, recursive=True, revision=commit)
            return [item for item in items if isinstance(item, RepoFile)]

        files = self._ask(lambda: _if_there(tree)) or []
        return {file.path.removeprefix(f"{folder}/"): file.size for file in files}

    def read(self, path: str, commit: str) -> bytes | None:
        """Content of a small file; `None` where there is none."""
        with TemporaryDirectory() as folder:
            found = self._ask(lambda: _if_there(lambda: self._download(path, commit, Path(folder))))
            return found.read_bytes() if found else None

    def download(self, path: str, commit: str, folder: Path) -> Path:
        """Bring one file into a folder, past the cache, which would keep every update of every round."""
        return self._ask(lambda: self._download(path, commit, folder))

    def commit(self, files: Mapping[str, bytes | Path], message: str, branch: str, parent: str | None = None) -> str:
        """Commit files to a branch or pull request; its new head.

        Raises:
            `HubMovedError`: if `parent` is given and is not the head any more.
        """
        commit = partial(
            self.api.create_commit, self.repo_id, commit_message=message, revision=branch, parent_commit=parent
        )
        return self._ask(lambda: commit(operations=_operations(files)).oid)

    def open_pull(self, files: Mapping[str, bytes | Path], title: str) -> None:
        """Open a pull request with these files; two where the answer to the first was lost."""
        commit = partial(self.api.create_commit, self.repo_id, commit_message=title, create_pr=True)
        self._ask(lambda: commit(operations=_operations(files)))

    def make_branch(self, name: str) -> bool:
        """Make a branch that holds nothing of the run, if it is not there; whether this user may."""

        def make() -> bool:
            try:
                start = self.api.list_repo_commits(self.repo_id, revision=self.branch)[-1].commit_id
                self.api.create_branch(self.repo_id, branch=name, revision=start, exist_ok=True)
            except HfHubHTTPError as error:
                if error.response.status_code in (401, 403):
                    return False
                raise
            return True

        return self._ask(make)

    def tag(self, name: str, commit: str) -> None:
        """Name a commit, unless the name is taken."""
        self._ask(lambda: self.api.create_tag(self.repo_id, tag=name, revision=commit, exist_ok=True))

    def user(self) -> str:
        """Name of the user whose token is used."""
        return str(self._ask(self.api.whoami)["name"])

    def _download(self, path: str, commit: str, folder: Path) -> Path:
        return Path(self.api.hf_hub_download(self.repo_id, path, revision=commit, local_dir=folder))

    def _ask(self, call: Callable[[], T]) -> T:
        return patiently(self.repo_id, self.pause, call)


def _if_there(call: Callable[[], T]) -> T | None:
    """What a call gives; `None` where the Hub says that there is no such file or folder."""
    try:
        return call()
    except LocalEntryNotFoundError:  # not asked: the Hub is away
        raise
    except EntryNotFoundError:
        return None


def _operations(files: Mapping[str, bytes | Path]) -> list[CommitOperationAdd]:
    # Made anew for each try, since a commit leaves its marks on them
    return [
        CommitOperationAdd(path, BytesIO(content) if isinstance(content, bytes) else content)
        for path, content in files.items()
    ]
