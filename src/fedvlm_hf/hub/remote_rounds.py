"""The rounds of a run's repository on the Hub."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from ..files import round_tag
from ..types import RoundRecord
from .client_states import client_branch, download_client_state
from .reading import MAX_JSON, HubReadError, Revision, read_errors
from .round_files import EXPORT, ROUND_STATE, download_export, read_metrics, read_run, understood
from .rounds import LocalRounds, SavedRound, SavedRounds


class HubRounds(SavedRounds):
    """Those in a run's repository, by their tags.

    Args:
        repo_id (`str`):
            The repository.
        api ([`~huggingface_hub.HfApi`]):
            The Hub.
    """

    def __init__(self, repo_id: str, api: HfApi):
        self.name, self.api = repo_id, api
        self._revisions: dict[int, Revision] = {}

    @cached_property
    def _tags(self) -> dict[int, Revision]:
        with read_errors(self.name, "main", self.api):
            refs = self.api.list_repo_refs(self.name).tags
        tags = {ref.name: ref.target_commit for ref in refs if re.fullmatch(r"round-\d{4,}", ref.name)}
        if not tags:
            raise HubReadError(f"{self.name} has no rounds: no tag of it is called like '{round_tag(1)}'.")
        found = {int(name[6:]): Revision(self.api, self.name, name, commit) for name, commit in tags.items()}
        return dict(sorted(found.items()))

    @cached_property
    def rounds(self) -> dict[int, SavedRound]:
        """Those that are tagged."""
        newest = list(self._tags.values())[-1]
        with read_errors(self.name, newest.name, self.api):
            dates = {
                commit.commit_id: commit.created_at
                for commit in self.api.list_repo_commits(self.name, revision=newest.commit)
            }
            for revision in self._tags.values():
                if revision.commit not in dates:  # on another branch than the newest round
                    commits = self.api.list_repo_commits(self.name, revision=revision.commit)
                    dates[revision.commit] = commits[0].created_at
        return {
            round_idx: SavedRound(round_idx, revision.name, dates[revision.commit])
            for round_idx, revision in self._tags.items()
        }

    def history(self) -> list[RoundRecord]:
        """What `metrics.jsonl` of the newest round has."""
        return read_metrics(list(self._tags.values())[-1])

    def run(self, round_idx: int) -> dict[str, Any]:
        """As it was pushed with the round."""
        return read_run(self._tags[round_idx])

    def client_versions(self, round_idx: int) -> dict[str, int]:
        """What the round's `state.json` has."""
        revision = self._tags[round_idx]
        content = revision.json(ROUND_STATE)
        with understood(ROUND_STATE, revision):
            return {str(client_id): int(version) for client_id, version in content["client_versions"].items()}

    def adapter_config(self, round_idx: int) -> Path:
        """Downloaded."""
        return self._tags[round_idx].download(EXPORT[0], MAX_JSON)

    def weights(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path:
        """Downloaded and checked."""
        return download_export(self._tags[round_idx], shapes)

    def client_state(self, client_id: str, version: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """From the client's branch, where it was pushed."""
        return download_client_state(self.name, client_branch(client_id), version, shapes, self.api)


def saved_rounds(name: str, token: str | None = None) -> SavedRounds:
    """A run's rounds, by what a user calls it.

    Args:
        name (`str`):
            A run's `output_dir`, or its repository on the Hub.
        token (`str`, *optional*):
            To read the repository with; by default the one that is logged in.
    """
    return LocalRounds(Path(name)) if Path(name).is_dir() else HubRounds(name, HfApi(token=token))
