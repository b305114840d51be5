"""A pushed round's files, checked before a run uses them: whoever may write to a repository may put anything there."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from huggingface_hub import RepoFile
from safetensors.torch import load_file

from ..client.model import BASE_DELTA, PERSONAL, PRIVATE
from ..exchange.tensor_files import TensorFileError, check_finite, load_state, read_header, read_layout
from ..repository import Repository
from ..repository.repository import is_same
from ..repository.requests import HubOutageError, HubReadError
from ..types import RoundRecord
from .layout import CLIENT_STATE, CLIENT_VERSION, EXPORT, METRICS, ROUND_STATE, RUN, rename_keys, rename_record


MAX_JSON = 64 * 2**20
"""Largest JSON file in bytes; a line of `metrics.jsonl` takes about 200 bytes for each client."""

_ADAPTER_GROUPS = ("global", PRIVATE, PERSONAL)
_MAX_COPIES = 16
_HEADER = 2**20


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
def understood(path: str, revision: Revision) -> Iterator[None]:
    """Turn any error that unexpected content raises into a `HubReadError`."""
    try:
        yield
    except HubReadError:
        raise
    except TensorFileError as error:
        raise HubReadError(f"{path} of {revision} {error}.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error) if type(error) is ValueError else f"it is not as fedvlm_hf writes it ({error!r})"
        raise HubReadError(f"{path} of {revision} cannot be used: {reason}.") from error


def parse_json(text: str, what: str) -> Any:
    """Parse JSON; `what` is its name in the error."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HubReadError(f"{what} is not JSON ({error}).") from error


def read_run(revision: Revision) -> dict[str, Any]:
    """Return the description of the run that a round belongs to."""
    run = revision.json(RUN)
    with understood(RUN, revision):
        parts = {"environment": dict(run["environment"]), "clients": dict(run["clients"])}
        return {**run, **parts, "base_model": str(run["base_model"])}


def read_metrics(revision: Revision, round_idx: int | None = None) -> list[RoundRecord]:
    """Return the records in `metrics.jsonl`: of every round up to `round_idx`, or of all that are there."""
    lines = [parse_json(line, f"{METRICS} of {revision}") for line in revision.text(METRICS).splitlines()]
    with understood(METRICS, revision):
        history = [RoundRecord.from_json(line) for line in lines]
        if round_idx is not None:
            history = [record for record in history if record.round_idx <= round_idx]
            if [record.round_idx for record in history] != list(range(round_idx + 1)):
                raise ValueError(f"it does not have the rounds 0 to {round_idx}")
    return history


def read_round_state(
    revision: Revision, round_idx: int, client_ids: Collection[str], names: Mapping[str, str]
) -> dict[str, Any]:
    """Return a round's `state.json`. The clients that it names become paths, so only those of the run are accepted.

    Args:
        revision (`Revision`):
            The round's commit.
        round_idx (`int`):
            The round that it should be.
        client_ids (`Collection[str]`):
            The run's clients.
        names (`Mapping[str, str]`):
            The clients' names here by their names there, where they differ.
    """
    content = revision.json(ROUND_STATE)
    with understood(ROUND_STATE, revision):
        record = rename_record(RoundRecord.from_json(content["record"]), names)
        scalars, versions = dict(content["server_scalars"]), rename_keys(content["client_versions"], names)
        if record.round_idx != round_idx:
            raise ValueError(f"it is of round {record.round_idx!r}")
        if not all(math.isfinite(value) for value in scalars.values()):
            raise ValueError("`server_scalars` has a number that is not finite")
        for client_id, version in versions.items():
            if client_id not in client_ids:
                raise ValueError(f"`client_versions` names {client_id!r}, which is not a client of this run")
            if type(version) is not int or not 0 <= version <= round_idx:
                raise ValueError(f"`client_versions` has {version!r} for {client_id!r}, which is not a round so far")
    return {"record": record.to_json(), "server_scalars": scalars, "client_versions": versions}


def download_state(
    revision: Revision, path: str, shapes: Mapping[str, torch.Size], changes_base: bool = False
) -> Path:
    """Download a file of tensors that `save_state` wrote, and check it.

    Args:
        revision (`Revision`):
            The commit.
        path (`str`):
            The file.
        shapes (`Mapping[str, torch.Size]`):
            Names and shapes of the adapter's tensors: the only ones that global and private tensors may have.
        changes_base (`bool`, *optional*, defaults to `False`):
            Whether the file may hold a change of the base model, whose LoRA pairs may have any rank.

    Raises:
        `HubReadError`: if it is not such a file, or a tensor is unknown, misshapen, not fp32 or not finite.
    """
    most = max_base_bytes(shapes) if changes_base else max_bytes(shapes)
    local = revision.download(path, most)
    with understood(path, revision):
        for group, entries in read_layout(local, most).items():
            for name, entry in entries.items():
                if entry.dtype != "F32":
                    raise ValueError(f"tensor '{group}:{name}' is {entry.dtype} and not F32")
                if group in _ADAPTER_GROUPS and (name not in shapes or list(shapes[name]) != entry.shape):
                    raise ValueError(f"tensor {name!r} of shape {entry.shape} does not belong to this run's adapter")
        for group, tensors in load_state(local).items():
            check_finite(group, tensors)
    return local


def download_export(revision: Revision, shapes: Mapping[str, torch.Size]) -> Path:
    """Download a round's adapter, which must have these names and shapes."""
    path = EXPORT[1]
    local = revision.download(path, max_bytes(shapes))
    with understood(path, revision):
        found = {name: entry.shape for name, entry in read_header(local, max_bytes(shapes))[0].items()}
        expected = {name: list(shape) for name, shape in shapes.items()}
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        if wrong:
            raise ValueError(
                f"{len(wrong)} tensors differ from this run's adapter, such as {wrong[0]!r}: shape "
                f"{found.get(wrong[0])} there, {expected.get(wrong[0])} here"
            )
    return local


def download_base_delta(revision: Revision, shapes: Mapping[str, torch.Size]) -> Path | None:
    """Download a round's change of the base model; `None` if its method changes none."""
    if BASE_DELTA not in revision.files:
        return None
    local = revision.download(BASE_DELTA, max_base_bytes(shapes))
    with understood(BASE_DELTA, revision):
        read_header(local, max_base_bytes(shapes))
        check_finite("base", load_file(local))
    return local


def download_client_state(
    repository: Repository, branch: str, version: int, shapes: Mapping[str, torch.Size]
) -> Path | None:
    """Find the state that a client wrote in a round, on the client's branch.

    Args:
        repository ([`~repository.Repository`]):
            The run's repository.
        branch (`str`):
            The client's branch. Each of its commits holds one version.
        version (`int`):
            The round in which the state was written. A client that was in no later cohort still has it.
        shapes (`Mapping[str, torch.Size]`):
            Names and shapes of the adapter's tensors.

    Returns:
        `Path`, *optional*: the downloaded file, or `None` if there is no such branch or it never held that version.

    Raises:
        `HubReadError`: if the repository cannot be read, or the state is not of this adapter.
    """
    with readable(repository.repo_id):
        commits = list(repository.dates(branch)) if branch in repository.heads() else []
    for revision in (Revision(repository, branch, commit) for commit in commits):
        if CLIENT_VERSION not in revision.files:
            continue
        content = revision.json(CLIENT_VERSION)
        with understood(CLIENT_VERSION, revision):
            found = int(content["version"])
        if found == version:
            return download_state(revision, CLIENT_STATE, shapes)
        if found < version:
            break
    return None


def max_bytes(shapes: Mapping[str, torch.Size]) -> int:
    """Return the largest size of a file of tensors: some fp32 copies of the adapter. A server's Adam takes two."""
    return 4 * _MAX_COPIES * sum(shape.numel() for shape in shapes.values()) + _HEADER


def max_base_bytes(shapes: Mapping[str, torch.Size]) -> int:
    """Return the largest size of a file with a change of the base: LoRA pairs of full rank, so squares, and state."""
    return 4 * sum(max(shape, default=1) ** 2 for shape in shapes.values() if len(shape) == 2) + max_bytes(shapes)
