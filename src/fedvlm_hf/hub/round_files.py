"""A pushed round's files, checked before a run uses them: whoever may write to a repository may put anything there."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file

from ..client.model import BASE_DELTA, PERSONAL, PRIVATE
from ..exchange.documents import read_as, to_json
from ..exchange.tensor_files import check_finite, load_state, read_header, read_layout
from ..markdown import front_matter
from ..repository import Repository
from ..types import RoundRecord
from .layout import CLIENT_STATE, CLIENT_VERSION, EXPORT, METRICS, ROUND_STATE, RUN, rename_keys, rename_record
from .revision import MAX_JSON, Revision, parse_json, readable, understood


_ADAPTER_GROUPS = ("global", PRIVATE, PERSONAL)
_MAX_COPIES = 16
_HEADER = 2**20
_MAX_CARD = 2**20


@dataclass(frozen=True)
class _Config:
    """What is read of the configuration in `run.json`."""

    tuning: str
    stage_rounds: list[int]
    num_rounds: int | None = None
    method_kwargs: dict[str, Any] | None = None
    eval_max_new_tokens: int | None = None


@dataclass(frozen=True)
class _Run:
    """What is read of `run.json`, whichever version wrote it."""

    method: str
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    base_model: str
    config: _Config
    environment: dict[str, Any]
    clients: dict[str, str]
    evaluations: dict[str, str]


@dataclass(frozen=True)
class _AdapterConfig:
    """What is read of `adapter_config.json`; PEFT would import the module that a Megatron configuration names."""

    peft_type: Literal["LORA"]
    base_model_name_or_path: str
    r: Annotated[int, Field(ge=1)]
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]] = field(default_factory=dict)
    target_modules: str | list[str] | None = None
    modules_to_save: list[str] | None = None
    megatron_config: None = None


def read_run(revision: Revision) -> dict[str, Any]:
    """Return the description of the run that a round belongs to."""
    run = revision.json(RUN)
    with understood(RUN, revision):
        read_as(_Run, to_json(run))
    return run


def read_metrics(revision: Revision, round_idx: int | None = None) -> list[RoundRecord]:
    """Return the records in `metrics.jsonl`: of every round up to `round_idx`, or of all that are there."""
    lines = [parse_json(line, f"{METRICS} of {revision}") for line in revision.text(METRICS).splitlines()]
    with understood(METRICS, revision):
        history = [_record(line) for line in lines]
        if any(later.round_idx <= earlier.round_idx for earlier, later in pairwise(history)):
            raise ValueError("its rounds are not in order")
        if round_idx is not None:
            history = [record for record in history if record.round_idx <= round_idx]
            if [record.round_idx for record in history] != list(range(round_idx + 1)):
                raise ValueError(f"it does not have the rounds 0 to {round_idx}")
    return history


def _record(line: Any) -> RoundRecord:
    """Check that a record has known fields of the right types, and that every number is finite."""
    read_as(RoundRecord, to_json(line), extra="forbid")
    return RoundRecord.from_json(line)


def download_adapter_config(revision: Revision) -> Path:
    """Download a round's `adapter_config.json`, which must be of LoRA and must not name code to import."""
    local = revision.download(EXPORT[0], MAX_JSON)
    with understood(EXPORT[0], revision):
        read_as(_AdapterConfig, local.read_bytes())
    return local


def read_card(revision: Revision) -> dict[str, Any]:
    """Return the metadata of a round's card; empty if it has none."""
    if "README.md" not in revision.files:
        return {}
    local = revision.download("README.md", _MAX_CARD)
    with understood("README.md", revision):
        return front_matter(local)


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
        record = rename_record(_record(content["record"]), names)
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
    """Download a round's adapter, which must have these names and shapes, and only finite values."""
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
        check_finite("adapter", load_file(local))
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
