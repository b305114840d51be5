"""The rounds that a run saved, in a folder or in a repository: listed, and read one by one."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import round_folder, whole_rounds
from ..client.model import BASE_DELTA
from ..files import round_tag
from ..markdown import front_matter
from ..reporting.runs import read_history
from ..repository import Repository
from ..repository.requests import HubReadError
from ..types import RoundRecord
from .layout import EXPORT, METRICS, ROUND_STATE, client_branch
from .revision import Revision, readable, understood
from .round_files import (
    download_adapter_config,
    download_base_delta,
    download_client_state,
    download_export,
    read_card,
    read_metrics,
    read_run,
)


@dataclass(frozen=True)
class SavedRound:
    """A round that can be loaded.

    Attributes:
        round_idx (`int`): The round.
        place (`str`): Its tag, or its folder below the run's.
        date (`datetime`): When it was committed or saved.
    """

    round_idx: int
    place: str
    date: datetime


class SavedRounds(ABC):
    """A run's rounds, in any place.

    Attributes:
        name (`str`): The run's folder or repository.
    """

    name: str

    @cached_property
    @abstractmethod
    def rounds(self) -> dict[int, SavedRound]:
        """The rounds that can be loaded, in order."""

    @abstractmethod
    def history(self) -> list[RoundRecord]:
        """Return the records of all rounds, including those that were deleted since."""

    @abstractmethod
    def run(self, round_idx: int) -> dict[str, Any]:
        """Return the description of the run: the content of `run.json`."""

    @abstractmethod
    def client_versions(self, round_idx: int) -> dict[str, int]:
        """Return, by client, the round in which its state was written; empty if clients keep nothing."""

    @abstractmethod
    def adapter_config(self, round_idx: int) -> Path:
        """Return a round's `adapter_config.json`."""

    @abstractmethod
    def card(self, round_idx: int) -> dict[str, Any]:
        """Return the metadata of the run's card as of a round; empty if there is no card."""

    @abstractmethod
    def weights(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path:
        """Return a round's adapter, which must have these names and shapes."""

    @abstractmethod
    def base_delta(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """Return a round's change of the base model, or `None` if its method changes none."""

    @abstractmethod
    def client_state(self, client_id: str, version: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """Return what a client kept, or `None` if it cannot be found."""

    def check(self, round_idx: int) -> None:
        """Check that a round can be loaded.

        Raises:
            `ValueError`: naming the rounds that can be loaded.
        """
        if round_idx not in self.rounds:
            there = ", ".join(map(str, self.rounds)) or "none"
            raise ValueError(f"`rounds` has {round_idx}, but the rounds of {self.name} are {there}.")


class LocalRounds(SavedRounds):
    """The rounds in a run's `output_dir`.

    Args:
        folder (`Path`):
            The folder.
    """

    def __init__(self, folder: Path):
        self.name, self.folder = str(folder), folder
        if not (folder / METRICS).is_file():
            raise ValueError(f"'{folder}' holds no run: it has no metrics.jsonl. Name a run's `output_dir`.")

    @cached_property
    def rounds(self) -> dict[int, SavedRound]:
        """The rounds that were not deleted, in order."""
        folders = {round_idx: round_folder(self.folder, round_idx) for round_idx in whole_rounds(self.folder)}
        return {
            round_idx: SavedRound(
                round_idx,
                folder.relative_to(self.folder).as_posix(),
                datetime.fromtimestamp(folder.stat().st_mtime, UTC),
            )
            for round_idx, folder in folders.items()
        }

    def history(self) -> list[RoundRecord]:
        """Return the records in `metrics.jsonl`."""
        return read_history(self.folder / METRICS)

    def run(self, round_idx: int) -> dict[str, Any]:
        """Return the content of `run.json`, which is the same for every round."""
        return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))

    def client_versions(self, round_idx: int) -> dict[str, int]:
        """Return the versions in the round's `state.json`."""
        text = (round_folder(self.folder, round_idx) / ROUND_STATE).read_text(encoding="utf-8")
        return json.loads(text)["client_versions"]

    def adapter_config(self, round_idx: int) -> Path:
        """Return the file in the round's folder."""
        return round_folder(self.folder, round_idx) / EXPORT[0]

    def card(self, round_idx: int) -> dict[str, Any]:
        """Return the metadata of `README.md` in the run's folder."""
        path = self.folder / "README.md"
        return front_matter(path) if path.exists() else {}

    def weights(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path:
        """Return the file in the round's folder."""
        return round_folder(self.folder, round_idx) / EXPORT[1]

    def base_delta(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """Return the file in the round's folder."""
        path = round_folder(self.folder, round_idx) / BASE_DELTA
        return path if path.exists() else None

    def client_state(self, client_id: str, version: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """Return the file in `client_state/`."""
        path = self.folder / "client_state" / client_id / round_tag(version) / "state.safetensors"
        return path if path.exists() else None


class HubRounds(SavedRounds):
    """The tagged rounds in a run's repository.

    Args:
        repository ([`~repository.Repository`]):
            The repository.
    """

    def __init__(self, repository: Repository):
        self.name, self.repository = repository.repo_id, repository

    @cached_property
    def _tags(self) -> dict[int, Revision]:
        with readable(self.name):
            tags = self.repository.tags()
        names = [name for name in tags if re.fullmatch(r"round-\d{4,}", name)]
        if not names:
            raise HubReadError(f"{self.name} has no rounds: none of its tags has a name like '{round_tag(1)}'.")
        found = {int(name[6:]): Revision(self.repository, name, tags[name]) for name in names}
        return dict(sorted(found.items()))

    @property
    def _newest(self) -> Revision:
        return list(self._tags.values())[-1]

    @cached_property
    def rounds(self) -> dict[int, SavedRound]:
        """The rounds that are tagged, in order."""
        with readable(self.name):
            dates = self.repository.dates(self._newest.commit)
            for revision in self._tags.values():
                if revision.commit not in dates:  # on another branch than the newest round
                    dates |= self.repository.dates(revision.commit)
        return {
            round_idx: SavedRound(round_idx, revision.name, dates[revision.commit])
            for round_idx, revision in self._tags.items()
        }

    def history(self) -> list[RoundRecord]:
        """Return the records in `metrics.jsonl` of the newest round."""
        return read_metrics(self._newest)

    def run(self, round_idx: int) -> dict[str, Any]:
        """Return the description that was pushed with the round."""
        return read_run(self._tags[round_idx])

    def client_versions(self, round_idx: int) -> dict[str, int]:
        """Return the versions in the round's `state.json`."""
        revision = self._tags[round_idx]
        content = revision.json(ROUND_STATE)
        with understood(ROUND_STATE, revision):
            return {str(client_id): int(version) for client_id, version in content["client_versions"].items()}

    def adapter_config(self, round_idx: int) -> Path:
        """Download the file and check it."""
        return download_adapter_config(self._tags[round_idx])

    def card(self, round_idx: int) -> dict[str, Any]:
        """Download the card that was pushed with the round, and return its metadata."""
        return read_card(self._tags[round_idx])

    def weights(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path:
        """Download the file and check it."""
        return download_export(self._tags[round_idx], shapes)

    def base_delta(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """Download the file and check it."""
        return download_base_delta(self._tags[round_idx], shapes)

    def client_state(self, client_id: str, version: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """Download the file from the client's branch, if it was pushed."""
        return download_client_state(self.repository, client_branch(client_id), version, shapes)


def saved_rounds(name: str, token: str | None = None) -> SavedRounds:
    """Find a run's rounds.

    Args:
        name (`str`):
            A run's `output_dir`, or its repository on the Hub.
        token (`str`, *optional*):
            To read the repository with; by default that of the logged-in user.
    """
    return LocalRounds(Path(name)) if Path(name).is_dir() else HubRounds(Repository(name, token))
