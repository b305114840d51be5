"""Reading repositories with distrust: one commit, files by name, each of bounded size and with its commit's hash."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, RepoFile
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from .errors import HubOutageError, HubRefusedError, plain_errors
from .repository import is_same


MAX_JSON = 64 * 2**20
"""Bytes of a JSON file at most; a round's line of `metrics.jsonl` takes some 200 bytes for each client."""


class HubReadError(HubRefusedError):
    """A repository, or what is in it, cannot be used."""


@dataclass(frozen=True)
class Revision:
    """One commit of a repository, whatever happens to its branches and tags meanwhile.

    Attributes:
        api ([`~huggingface_hub.HfApi`]): Endpoint and token.
        repo_id (`str`): Such as `"org/name"`.
        name (`str`): The tag or branch that was asked for.
        commit (`str`): The commit that it named.
    """

    api: HfApi
    repo_id: str
    name: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.name}"

    @cached_property
    def files(self) -> Mapping[str, RepoFile]:
        """What the commit holds, by path."""
        with read_errors(self.repo_id, self.name, self.api):
            tree = list(self.api.list_repo_tree(self.repo_id, recursive=True, revision=self.commit))
        files = {item.path: item for item in tree if isinstance(item, RepoFile)}
        for path in files:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
                raise HubReadError(f"{self} lists a file {path!r}, which points out of it. Nothing of it was read.")
        return files

    def download(self, path: str, max_bytes: int) -> Path:
        """Bring one file to the local cache.

        Args:
            path (`str`):
                The file.
            max_bytes (`int`):
                What is larger is refused before it is downloaded.

        Returns:
            `Path`: a file whose content has the hash that the commit gives it.

        Raises:
            `HubReadError`: if it is missing, too large, or not what its hash says.
        """
        if path not in self.files:
            raise HubReadError(f"{self} has no file {path}: it is no whole round that fedvlm_hf pushed.")
        listed = self.files[path]
        size = listed.lfs.size if listed.lfs else listed.size
        if size > max_bytes:
            raise HubReadError(f"{self} has {path} of {size:,} bytes, and at most {max_bytes:,} were expected.")
        with read_errors(self.repo_id, self.name, self.api):
            local = Path(self.api.hf_hub_download(self.repo_id, path, revision=self.commit))
        if not is_same(local, listed):
            local.resolve().unlink()  # or the cache would give it again
            raise HubReadError(f"{path} of {self} was cut or changed: it does not have its commit's hash. Try again.")
        return local

    def json(self, path: str) -> Any:
        """The content of a JSON file."""
        return parse_json(self.text(path), f"{path} of {self}")

    def text(self, path: str) -> str:
        """The content of a text file."""
        try:
            return self.download(path, MAX_JSON).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise HubReadError(f"{path} of {self} is no text ({error}).") from error


def open_revision(repo_id: str, name: str, api: HfApi) -> Revision:
    """Find the commit that a tag or branch names now.

    Raises:
        `HubReadError`: if there is no such repository or revision.
        `HubOutageError`: if the Hub cannot be reached now.
    """
    with read_errors(repo_id, name, api):
        return Revision(api, repo_id, name, api.model_info(repo_id, revision=name).sha)


def parse_json(text: str, what: str) -> Any:
    """Parse JSON; `what` is its name in the error."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HubReadError(f"{what} is no JSON ({error}).") from error


@contextmanager
def read_errors(repo_id: str, name: str, api: HfApi) -> Iterator[None]:
    """What a request that only reads fails of, in plain words."""
    try:
        with plain_errors(repo_id, api.token or None), _missing(repo_id, name):
            yield
    except HubOutageError as error:
        raise HubOutageError(f"{repo_id} cannot be read now: {error}. Try again later.") from None


@contextmanager
def _missing(repo_id: str, name: str) -> Iterator[None]:
    try:
        yield
    except RevisionNotFoundError:
        raise HubReadError(
            f"{repo_id} has no revision {name!r}. `fedvlm rounds {repo_id}` lists its rounds."
        ) from None
    except RepositoryNotFoundError:
        raise HubReadError(
            f"There is no repository {repo_id}, or this token may not read it. If it is private, log in with "
            "`hf auth login`, or set HF_TOKEN or `hub_token`."
        ) from None
