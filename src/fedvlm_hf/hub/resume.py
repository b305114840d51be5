"""Resuming from a round on the Hub: it becomes a local run that stands at that round, completely or not at all."""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import RepoFile

from ..checkpoint import check_same_run, round_folder, whole_rounds
from ..client.model import BASE_DELTA
from ..client.store import ClientStore
from ..files import new_folder, write_atomic
from ..repository import Repository
from ..repository.repository import is_same
from ..repository.requests import HubReadError, is_repo_id
from ..run_description import RunDescription, compare_runs
from ..types import RoundRecord
from .layout import (
    EXPORT,
    METRICS,
    ROUND_STATE,
    RUN,
    STATE,
    STATES,
    RoundSource,
    client_branch,
    number_clients,
    parse_source,
    rename_keys,
    rename_record,
)
from .revision import MAX_JSON, Revision
from .round_files import (
    download_base_delta,
    download_client_state,
    download_export,
    download_state,
    read_metrics,
    read_round_state,
    read_run,
)


_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class LocalRun:
    """The run on this machine that is to continue from a round of a repository.

    Attributes:
        output_dir (`str` or `os.PathLike`): Its folder, without rounds or with earlier ones of the same run.
        run ([`~fedvlm_hf.run_description.RunDescription`]): Its description.
        shapes (`Mapping[str, torch.Size]`): Names and shapes of its adapter's tensors.
        store (`ClientStore`): Gets its clients' states.
        client_ids (`Collection[str]`): The clients that it trains.
        is_continuous (`bool`): Whether a client's optimizer continues from round to round, as in `central`.
    """

    output_dir: str | os.PathLike[str]
    run: RunDescription
    shapes: Mapping[str, torch.Size]
    store: ClientStore
    client_ids: Collection[str]
    is_continuous: bool = False


def download_if_on_hub(resume: bool | str | None, local: LocalRun, token: str | None) -> bool | str | None:
    """Download the round that `resume` names if it is on the Hub.

    Args:
        resume (`bool` or `str`, *optional*):
            A trainer's `resume_from_checkpoint`.
        local (`LocalRun`):
            The run that continues.
        token (`str`, *optional*):
            To read the repository with; by default that of the logged-in user.

    Returns:
        `bool` or `str`, *optional*: `True` after a download, since the round is a local one then; otherwise `resume`.
    """
    source = parse_source(resume) if isinstance(resume, str) else None
    if source is None:
        return resume
    download_round(source, local, Repository(source.repo_id, token))
    return True


def download_round(source: RoundSource, local: LocalRun, repository: Repository) -> None:
    """Download a round into `output_dir`, as the run itself would have left it there.

    Only safetensors and JSON with known names are downloaded, of one commit, and checked before anything is written.
    The round's folder is renamed last: from that moment the round counts.

    Args:
        source (`RoundSource`):
            The round.
        local (`LocalRun`):
            The run that continues from it.
        repository ([`~repository.Repository`]):
            The round's repository.

    Raises:
        `ValueError`: if `output_dir` holds later rounds, or the repository cannot be read or used.
        `RunMismatchError`: if the round, or what `output_dir` holds, is of another run.
    """
    if _is_here(source, local):
        return
    revision = Revision.find(repository, source.tag)
    saved, names = _same_run(revision, local)
    history = [rename_record(record, names) for record in read_metrics(revision, source.round_idx)]
    state = read_round_state(revision, source.round_idx, local.client_ids, names)
    files = {EXPORT[1]: download_export(revision, local.shapes), EXPORT[0]: revision.download(EXPORT[0], MAX_JSON)}
    changes_base = local.run.method.strategy.changes_base
    files |= {path: download_state(revision, path, local.shapes, changes_base) for path in STATES}
    if changes_base and (delta := download_base_delta(revision, local.shapes)):
        files[BASE_DELTA] = delta
    states = _client_states(revision, local, state["client_versions"], names)
    # Everything was downloaded and checked: from here on only the disk can fail
    for folder, path in states.items():
        shutil.rmtree(folder, ignore_errors=True)
        with new_folder(folder) as temporary:
            shutil.copyfile(path, temporary / "state.safetensors")
    _write_run(Path(local.output_dir), {**local.run.to_json(), "environment": saved["environment"]}, history)
    with new_folder(round_folder(local.output_dir, source.round_idx)) as folder:
        (folder / STATE).mkdir()
        for path, downloaded in files.items():
            shutil.copyfile(downloaded, folder / path)
        (folder / ROUND_STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def _is_here(source: RoundSource, local: LocalRun) -> bool:
    """Return whether the round is the last one in `output_dir` already, as when a command is repeated after a kill."""
    rounds = whole_rounds(local.output_dir)
    if not rounds:
        return False
    check_same_run(local.output_dir, local.run)
    if rounds[-1] > source.round_idx:
        raise ValueError(
            f"`output_dir` {str(local.output_dir)!r} holds this run up to round {rounds[-1]}, later than "
            f"`resume_from_checkpoint` '{source.repo_id}@{source.tag}'. Pass `--resume_from_checkpoint true` to "
            f"continue from round {rounds[-1]}, or another `--output_dir` to continue from round {source.round_idx}."
        )
    return rounds[-1] == source.round_idx


def _same_run(revision: Revision, local: LocalRun) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the run that a round belongs to, which must be this one, and its clients' names here by those there."""
    saved = read_run(revision)
    names = {public: own for own, public in number_clients(local.run.clients).items()}
    if saved["clients"].keys() == local.run.clients.keys() or saved["clients"].keys() != names.keys():
        names = {}  # the names were pushed, or these are other clients, which the comparison finds
    saved["clients"] = rename_keys(saved["clients"], names)
    if "format" not in saved:  # of a version that compared base models by name
        saved = _with_same_base(saved, local.run.base_model, revision.repository.token)
    what = f"`resume_from_checkpoint` {str(revision)!r}"
    compare_runs(saved, local.run.to_json(), what, str(revision))
    return saved, names


def _with_same_base(saved: Mapping[str, Any], here: str, token: str | None) -> dict[str, Any]:
    """Return a pushed run with the local name of its base model, if the two models have equal weights.

    A base model that was only a local folder is pushed beside the run and named after that repository, so names alone
    cannot be compared.

    Args:
        saved (`Mapping[str, Any]`):
            `run.json` of the repository; its `base_model` is a repository's name, never a path here.
        here (`str`):
            The local base model: a folder or a repository's name.
        token (`str`, *optional*):
            To read repositories with.
    """
    there = saved["base_model"]
    if there == here or not is_repo_id(there) or not _has_same_weights(there, here, token):
        return dict(saved)
    return {**saved, "base_model": here}


def _has_same_weights(there: str, here: str, token: str | None) -> bool:
    files = _remote_weights(there, token)  # the Hub knows the hashes of large files, so nothing is downloaded
    if Path(here).is_dir():
        own = {path.name: path for path in Path(here).glob(f"*{_WEIGHTS}")}
        return bool(files) and own.keys() == files.keys() and all(is_same(own[name], files[name]) for name in files)
    if not is_repo_id(here):
        return False
    digests = [
        {name: file.lfs.sha256 if file.lfs else file.blob_id for name, file in found.items()}
        for found in (files, _remote_weights(here, token))
    ]
    return bool(files) and digests[0] == digests[1]


def _remote_weights(repo_id: str, token: str | None) -> dict[str, RepoFile]:
    files = Revision.find(Repository(repo_id, token), "main").files
    return {path: file for path, file in files.items() if path.endswith(_WEIGHTS) and "/" not in path}


def _client_states(
    revision: Revision, local: LocalRun, versions: Mapping[str, int], names: Mapping[str, str]
) -> dict[Path, Path]:
    """Download what clients keep, in the versions that belong to a round.

    Args:
        revision (`Revision`):
            The round's commit.
        local (`LocalRun`):
            The run that continues. A state that is in its store already need not be on the Hub.
        versions (`Mapping[str, int]`):
            By client, the round in which its state was written.
        names (`Mapping[str, str]`):
            The clients' names here by their names there, where they differ.

    Returns:
        `dict[Path, Path]`: a client's downloaded state by its folder in the store.

    Raises:
        `HubReadError`: if a state is needed and cannot be found, or is not of this adapter.
    """
    public = {own: name for name, own in names.items()}
    states, missing = {}, []
    for client_id, version in sorted(versions.items()):
        folder = local.store.folder(client_id, version)
        if local.is_continuous:
            if not folder.exists():
                raise HubReadError(
                    f"{revision} is of a run whose optimizer continues from round to round; Trainer keeps it in files "
                    "that are never pushed. Continue in the `output_dir` that has them in client_state/."
                )
            continue
        branch = client_branch(public.get(client_id, client_id))
        if state := download_client_state(revision.repository, branch, version, local.shapes):
            states[folder] = state
        elif not folder.exists():
            missing.append(client_id)
    if missing:
        raise HubReadError(
            f"{revision} belongs to a method whose clients keep tensors of their own, and those of "
            f"{', '.join(missing)} were not pushed. Train with `--push_client_adapters` to push them, or continue in "
            "the `output_dir` that has them in client_state/."
        )
    return states


def _write_run(output_dir: Path, run: Mapping[str, Any], history: Sequence[RoundRecord]) -> None:
    write_atomic(output_dir / Path(RUN).name, json.dumps(run, indent=2, sort_keys=True) + "\n")
    write_atomic(output_dir / METRICS, "".join(json.dumps(line.to_json()) + "\n" for line in history))
