"""Going on from a round on the Hub: it becomes a local run that stands at that round, whole or not at all."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ..checkpoint import check_same_run, round_folder, whole_rounds
from ..files import new_folder, write_atomic
from ..run_description import compare_runs
from ..types import RoundRecord
from .client_states import find_client_states
from .layout import STATE, RoundSource, parse_source
from .local_run import LocalRun
from .names import numbered, rename_keys, rename_record
from .reading import MAX_JSON, Revision, open_revision
from .round_files import (
    EXPORT,
    ROUND_STATE,
    STATES,
    download_export,
    download_state,
    read_metrics,
    read_round_state,
    read_run,
)
from .same_base import with_same_base


def fetched(resume: bool | str | None, local: LocalRun, token: str | None) -> bool | str | None:
    """Where `resume` names a round on the Hub, bring it here: from then on it is a local one, and this is `True`.

    Args:
        resume (`bool` or `str`, *optional*):
            A trainer's `resume_from_checkpoint`. What is no round on the Hub is given back as it is.
        local (`LocalRun`):
            The run that goes on.
        token (`str`, *optional*):
            To read the repository with; by default the one that is logged in.
    """
    source = parse_source(resume) if isinstance(resume, str) else None
    if source is None:
        return resume
    fetch_round(source, local, HfApi(token=token))
    return True


def fetch_round(source: RoundSource, local: LocalRun, api: HfApi) -> None:
    """Bring a round from the Hub into `output_dir`, as the run itself would have left it there.

    Only safetensors and JSON of known names are downloaded, of one commit, and checked before anything is written. The
    rename of the round's folder comes last: it is the moment from which the round counts.

    Args:
        source (`RoundSource`):
            The round.
        local (`LocalRun`):
            The run that goes on from it.
        api ([`~huggingface_hub.HfApi`]):
            The Hub, with the token to read the repository with.

    Raises:
        `ValueError`: if `output_dir` holds later rounds, or the repository cannot be read or used.
        `RunMismatchError`: if the round, or what `output_dir` holds, is of another run.
    """
    if _is_here(source, local):
        return
    revision = open_revision(source.repo_id, source.tag, api)
    saved, names = _same_run(revision, local)
    history = [rename_record(record, names) for record in read_metrics(revision, source.round_idx)]
    state = read_round_state(revision, source.round_idx, local.client_ids, names)
    files = {EXPORT[1]: download_export(revision, local.shapes), EXPORT[0]: revision.download(EXPORT[0], MAX_JSON)}
    files |= {path: download_state(revision, path, local.shapes) for path in STATES}
    states = find_client_states(revision, local, state["client_versions"], names)
    # Everything is there and was looked at: from here on only the disk can fail
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
    """Whether the very round is the last in `output_dir` already, as after a kill and the same command again."""
    rounds = whole_rounds(local.output_dir)
    if not rounds:
        return False
    check_same_run(local.output_dir, local.run)
    if rounds[-1] > source.round_idx:
        raise ValueError(
            f"`output_dir` {str(local.output_dir)!r} holds this run up to round {rounds[-1]}, later than "
            f"`resume_from_checkpoint` '{source.repo_id}@{source.tag}'. Pass `--resume_from_checkpoint true` to go on "
            f"from round {rounds[-1]}, or another `--output_dir` to go on from round {source.round_idx}."
        )
    return rounds[-1] == source.round_idx


def _same_run(revision: Revision, local: LocalRun) -> tuple[dict[str, Any], dict[str, str]]:
    """The run that a round belongs to, which must be this one, and what its clients are called here."""
    saved = read_run(revision)
    names = {public: own for own, public in numbered(local.run.clients).items()}
    if saved["clients"].keys() == local.run.clients.keys() or saved["clients"].keys() != names.keys():
        names = {}  # the names were pushed; or these are other clients, which the comparison tells
    saved["clients"] = rename_keys(saved["clients"], names)
    saved = with_same_base(saved, local.run.to_json(), revision.api)
    # What was pushed names no path of the machine that it ran on
    what = f"`resume_from_checkpoint` {str(revision)!r}"
    compare_runs(saved, local.run.to_json(), what, str(revision))
    return saved, names


def _write_run(output_dir: Path, run: Mapping[str, Any], history: Sequence[RoundRecord]) -> None:
    write_atomic(output_dir / "run.json", json.dumps(run, indent=2, sort_keys=True) + "\n")
    write_atomic(output_dir / "metrics.jsonl", "".join(json.dumps(line.to_json()) + "\n" for line in history))
