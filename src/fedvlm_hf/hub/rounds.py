"""The rounds that a run saved, listed and read one by one: what they offer anywhere, and those in a folder."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import round_folder, whole_rounds
from ..files import round_tag
from ..reporting.runs import read_history
from ..types import RoundRecord
from .round_files import EXPORT, ROUND_STATE


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
    """A run's rounds, wherever they are.

    Attributes:
        name (`str`): The run's folder or repository.
    """

    name: str

    @cached_property
    @abstractmethod
    def rounds(self) -> dict[int, SavedRound]:
        """Those that can be loaded, in order."""

    @abstractmethod
    def history(self) -> list[RoundRecord]:
        """The records of all rounds, also of those that were deleted since."""

    @abstractmethod
    def run(self, round_idx: int) -> dict[str, Any]:
        """What the run is: content of `run.json`."""

    @abstractmethod
    def client_versions(self, round_idx: int) -> dict[str, int]:
        """By client, the round in which its state was written; empty where clients keep nothing."""

    @abstractmethod
    def adapter_config(self, round_idx: int) -> Path:
        """A round's `adapter_config.json`."""

    @abstractmethod
    def weights(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path:
        """A round's adapter, which must have these names and shapes."""

    @abstractmethod
    def client_state(self, client_id: str, version: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """What a client kept, if it is there."""

    def check(self, round_idx: int) -> None:
        """Refuse a round that is not there.

        Raises:
            `ValueError`: naming those that are.
        """
        if round_idx not in self.rounds:
            there = ", ".join(map(str, self.rounds)) or "none"
            raise ValueError(f"`rounds` has {round_idx}, but the rounds of {self.name} are {there}.")


class LocalRounds(SavedRounds):
    """Those in a run's `output_dir`.

    Args:
        folder (`Path`):
            The folder.
    """

    def __init__(self, folder: Path):
        self.name, self.folder = str(folder), folder
        if not (folder / "metrics.jsonl").is_file():
            raise ValueError(f"'{folder}' holds no run: it has no metrics.jsonl. Name a run's `output_dir`.")

    @cached_property
    def rounds(self) -> dict[int, SavedRound]:
        """Those that were not deleted."""
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
        """What `metrics.jsonl` has."""
        return read_history(self.folder / "metrics.jsonl")

    def run(self, round_idx: int) -> dict[str, Any]:
        """The same for every round."""
        return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))

    def client_versions(self, round_idx: int) -> dict[str, int]:
        """What the round's `state.json` has."""
        text = (round_folder(self.folder, round_idx) / ROUND_STATE).read_text(encoding="utf-8")
        return json.loads(text)["client_versions"]

    def adapter_config(self, round_idx: int) -> Path:
        """In the round's folder."""
        return round_folder(self.folder, round_idx) / EXPORT[0]

    def weights(self, round_idx: int, shapes: Mapping[str, torch.Size]) -> Path:
        """In the round's folder."""
        return round_folder(self.folder, round_idx) / EXPORT[1]

    def client_state(self, client_id: str, version: int, shapes: Mapping[str, torch.Size]) -> Path | None:
        """In `client_state/`."""
        path = self.folder / "client_state" / client_id / round_tag(version) / "state.safetensors"
        return path if path.exists() else None
