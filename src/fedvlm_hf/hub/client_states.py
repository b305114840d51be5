"""What clients keep between rounds, where a run pushed it: a branch a client, a commit for each of its rounds."""

from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import HfApi

from .layout import STATE
from .local_run import LocalRun
from .reading import HubReadError, Revision, read_errors
from .round_files import download_state, understood


CLIENT_STATE = f"{STATE}/client.safetensors"
CLIENT_VERSION = f"{STATE}/state.json"


def client_branch(client_id: str) -> str:
    """The branch of a client's own adapter: `"clients/client_00"`."""
    return f"clients/{client_id}"


def find_client_states(
    revision: Revision, local: LocalRun, versions: Mapping[str, int], names: Mapping[str, str]
) -> dict[Path, Path]:
    """Download what clients keep, as it belongs to a round.

    Args:
        revision (`Revision`):
            The round's commit.
        local (`LocalRun`):
            The run that goes on; what lies in its store already need not be on the Hub.
        versions (`Mapping[str, int]`):
            By client, the round in which its state was written. Who was in no cohort since keeps it.
        names (`Mapping[str, str]`):
            What clients are called here, by their names there, where the two differ.

    Returns:
        `dict[Path, Path]`: by its folder in the store, a client's downloaded state.

    Raises:
        `HubReadError`: if a state is needed and nowhere, or is not of this adapter.
    """
    public = {own: name for name, own in names.items()}
    states, missing = {}, []
    for client_id, version in sorted(versions.items()):
        folder = local.store.folder(client_id, version)
        if local.is_continuous:
            if not folder.exists():
                raise HubReadError(
                    f"{revision} is of a run whose optimizer goes on from round to round; Trainer keeps it in files "
                    "that are never pushed. Go on in the `output_dir` that has them in client_state/."
                )
            continue
        branch = client_branch(public.get(client_id, client_id))
        if state := download_client_state(revision.repo_id, branch, version, local.shapes, revision.api):
            states[folder] = state
        elif not folder.exists():
            missing.append(client_id)
    if missing:
        raise HubReadError(
            f"{revision} belongs to a method whose clients keep tensors of their own, and those of "
            f"{', '.join(missing)} were not pushed. Train with `--push_client_adapters` to push them, or go on in the "
            "`output_dir` that has them in client_state/."
        )
    return states


def download_client_state(
    repo_id: str, branch: str, version: int, shapes: Mapping[str, torch.Size], api: HfApi
) -> Path | None:
    """Find a client's state of a round on the client's branch.

    Args:
        repo_id (`str`):
            The run's repository.
        branch (`str`):
            The client's branch.
        version (`int`):
            The round in which the state was written. A client that was not in a cohort since keeps it.
        shapes (`Mapping[str, torch.Size]`):
            Names and shapes of the adapter's tensors.
        api ([`~huggingface_hub.HfApi`]):
            The Hub.

    Returns:
        `Path`, *optional*: the downloaded file, or `None` where there is no such branch or it never held that version.

    Raises:
        `HubReadError`: if the Hub cannot be read, or the state is not of this adapter.
    """
    for revision in _revisions(repo_id, branch, api):
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


def _revisions(repo_id: str, branch: str, api: HfApi) -> list[Revision]:
    """The commits of a branch, the newest first; none where there is no such branch."""
    with read_errors(repo_id, branch, api):
        if branch not in {ref.name for ref in api.list_repo_refs(repo_id).branches}:
            return []
        commits = api.list_repo_commits(repo_id, revision=branch)
    return [Revision(api, repo_id, branch, commit.commit_id) for commit in commits]
