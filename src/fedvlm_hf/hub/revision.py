"""One commit of a repository that anybody may have written to: its files are checked as they are read."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import RepoFile

from ..exchange.tensor_files import TensorFileError
from ..repository import Repository
from ..repository.repository import is_same
from ..repository.requests import HubOutageError, HubReadError


MAX_JSON = 64 * 2**20
"""Largest JSON file in bytes; a line of `metrics.jsonl` takes about 200 bytes for each client."""


@dataclass(frozen=True)
class Revision:
    """One commit of a repository, whatever happens to its branches and tags in the meantime.

    Attributes:
        repository ([`~repository.Repository`]): The repository.
        name (`str`): The tag or branch that was asked for.
        commit (`str`): The commit that it named.
    """

    repository: Repository
    name: str
    commit: str

    @classmethod
    def find(cls, repository: Repository, name: str) -> "Revision":
        """Find the commit that a tag or branch names now."""
        with readable(repository.repo_id):
            return cls(repository, name, repository.resolve(name))

    def __str__(self) -> str:
        return f"{self.repository.repo_id}@{self.name}"

    @cached_property
    def files(self) -> Mapping[str, RepoFile]:
        """The files of the commit, by path."""
        with readable(self.repository.repo_id):
            files = self.repository.files(self.commit)
        for path in files:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
                raise HubReadError(
                    f"{self} lists a file {path!r}, which is outside of the repository. No file of it was read."
                )
        return files

    def download(self, path: str, max_bytes: int) -> Path:
        """Download one file to the local cache.

        Args:
            path (`str`):
                The file.
            max_bytes (`int`):
                A larger file is refused before it is downloaded.

        Returns:
            `Path`: a file that has the hash that the commit gives it.

        Raises:
            `HubReadError`: if it is missing, too large, or has another hash.
        """
        if path not in self.files:
            raise HubReadError(f"{self} has no file {path}: it is not a complete round that fedvlm_hf pushed.")
        listed = self.files[path]
        size = listed.lfs.size if listed.lfs else listed.size
        if size > max_bytes:
            raise HubReadError(f"{self} has {path} of {size:,} bytes, and at most {max_bytes:,} were expected.")
        with readable(self.repository.repo_id):
            local = self.repository.download(path, self.commit)
        if not is_same(local, listed):
            local.resolve().unlink()  # or the cache would return it again
            raise HubReadError(f"{path} of {self} was cut or changed: it does not have its commit's hash. Try again.")
        return local

    def json(self, path: str) -> Any:
        """Return the content of a JSON file."""
        return parse_json(self.text(path), f"{path} of {self}")

    def text(self, path: str) -> str:
        """Return the content of a text file."""
        try:
            return self.download(path, MAX_JSON).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise HubReadError(f"{path} of {self} is not text ({error}).") from error


@contextmanager
def readable(repo_id: str) -> Iterator[None]:
    """Say of an outage which repository it keeps from being read."""
    try:
        yield
    except HubOutageError as error:
        raise HubOutageError(f"{repo_id} cannot be read now: {error}. Try again later.") from None


@contextmanager
def understood(path: str, revision: Revision | str) -> Iterator[None]:
    """Turn any error that unexpected content raises into a `HubReadError`."""
    try:
        yield
    except HubReadError:
        raise
    except TensorFileError as error:
        raise HubReadError(f"{path} of {revision} {error}.") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        is_plain = isinstance(error, ValueError) and not isinstance(error, UnicodeError)
        reason = str(error) if is_plain else f"it is not as fedvlm_hf writes it ({error!r})"
        raise HubReadError(f"{path} of {revision} cannot be used: {reason}.") from error


def parse_json(text: str, what: str) -> Any:
    """Parse JSON; `what` is its name in the error."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HubReadError(f"{what} is not JSON ({error}).") from error
