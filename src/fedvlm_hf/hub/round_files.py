"""A pushed round's files, checked before a run goes on with them: who may write there may put anything there."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..state import load_state
from ..types import RoundRecord
from .layout import STATE
from .names import rename_keys, rename_record
from .reading import HubReadError, Revision, parse_json


EXPORT = ("adapter_config.json", "adapter_model.safetensors")
STATES = (f"{STATE}/tensors.safetensors", f"{STATE}/server.safetensors")
ROUND_STATE, RUN, METRICS = f"{STATE}/state.json", f"{STATE}/run.json", "metrics.jsonl"

_ADAPTER_GROUPS = ("global", "private")
_MAX_COPIES = 16
_HEADER = 2**20


def max_bytes(shapes: Mapping[str, torch.Size]) -> int:
    """Bytes of a file of tensors at most: so many fp32 copies of the adapter. A server's Adam takes two."""
    return 4 * _MAX_COPIES * sum(shape.numel() for shape in shapes.values()) + _HEADER


def read_run(revision: Revision) -> dict[str, Any]:
    """What the run is that a round belongs to."""
    run = revision.json(RUN)
    with understood(RUN, revision):
        parts = {"environment": dict(run["environment"]), "clients": dict(run["clients"])}
        return {**run, **parts, "base_model": str(run["base_model"])}


def read_metrics(revision: Revision, round_idx: int | None = None) -> list[RoundRecord]:
    """The records in `metrics.jsonl`: of every round up to `round_idx`, or of all that are there."""
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
    """A round's `state.json`. The clients that it names become paths, so only those of the run pass.

    Args:
        revision (`Revision`):
            The round's commit.
        round_idx (`int`):
            The round that it should be.
        client_ids (`Collection[str]`):
            The run's clients.
        names (`Mapping[str, str]`):
            What clients are called here, by their names there, where the two differ.
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
                raise ValueError(f"`client_versions` names {client_id!r}, which is no client of this run")
            if type(version) is not int or not 0 <= version <= round_idx:
                raise ValueError(f"`client_versions` has {version!r} for {client_id!r}, and not a round so far")
    return {"record": record.to_json(), "server_scalars": scalars, "client_versions": versions}


def download_state(revision: Revision, path: str, shapes: Mapping[str, torch.Size]) -> Path:
    """Download a file of tensors as `save_state` writes it, and look into it.

    Args:
        revision (`Revision`):
            The commit.
        path (`str`):
            The file.
        shapes (`Mapping[str, torch.Size]`):
            Names and shapes of the adapter's tensors: the only ones that global and private tensors may have.

    Raises:
        `HubReadError`: if it is no such file, or a tensor is unknown, misshapen, not fp32 or not finite.
    """
    local = revision.download(path, max_bytes(shapes))
    with understood(path, revision):
        with safe_open(local, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                if (dtype := file.get_slice(key).get_dtype()) != "F32":
                    raise ValueError(f"tensor {key!r} is {dtype} and not F32")
        for group, tensors in load_state(local).items():
            for key, tensor in tensors.items():
                if group in _ADAPTER_GROUPS and shapes.get(key) != tensor.shape:
                    raise ValueError(f"tensor {key!r} of shape {tuple(tensor.shape)} is none of this run's adapter")
                if not tensor.isfinite().all():
                    raise ValueError(f"tensor {key!r} has values that are not finite")
    return local


def download_export(revision: Revision, shapes: Mapping[str, torch.Size]) -> Path:
    """Download a round's adapter, which must have these names and shapes."""
    path = EXPORT[1]
    local = revision.download(path, max_bytes(shapes))
    with understood(path, revision):
        with safe_open(local, framework="pt") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        expected = {key: tuple(shape) for key, shape in shapes.items()}
        wrong = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
        if wrong:
            raise ValueError(
                f"{len(wrong)} tensors differ from this run's adapter, such as {wrong[0]!r}: shape "
                f"{found.get(wrong[0])} there, {expected.get(wrong[0])} here"
            )
    return local


@contextmanager
def understood(path: str, revision: Revision) -> Iterator[None]:
    """Turn whatever a strange content raises into one plain error."""
    try:
        yield
    except HubReadError:
        raise
    except SafetensorError as error:
        raise HubReadError(f"{path} of {revision} is no safetensors file, and no other is read ({error}).") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HubReadError(f"{path} of {revision} cannot be used: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"it is not as fedvlm_hf writes it ({error!r})"
