"""What clients keep between their rounds: a folder per client and round, on the client's own disk."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..exchange.tensor_files import load_state, save_state
from ..files import round_tag
from ..types import State


class ClientStore:
    """Client states on disk, so that memory does not grow with the number of clients.

    A state is never overwritten: each round writes a new version, and a round's checkpoint names the versions that
    belong to it. A run that was killed continues from those, whatever was written after them.

    Args:
        root (`Path`):
            Folder for all clients of this process. It is made when the first state is saved.
    """

    def __init__(self, root: Path):
        self.root = root
        self.versions: dict[str, int] = {}

    def folder(self, client_id: str, round_idx: int) -> Path:
        """The folder of a client's state of a round."""
        return self.root / client_id / round_tag(round_idx)

    def load(self, client_id: str) -> State:
        """A client's newest state; empty if it has none."""
        if client_id not in self.versions:
            return {}
        return load_state(self.folder(client_id, self.versions[client_id]) / "state.safetensors")

    def save(self, client_id: str, round_idx: int, state: State) -> None:
        """Save a client's state of a round, beside the other files of the round's folder, and make it the newest.

        Nothing is written for a client that keeps nothing.
        """
        folder = self.folder(client_id, round_idx)
        if state or folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            save_state(folder / "state.safetensors", state)
            self.versions[client_id] = round_idx

    def restore(self, versions: Mapping[str, int]) -> None:
        """Go back to the versions of a checkpoint and delete what was written after them."""
        self.versions = dict(versions)
        for folder in self._folders():
            if self._round(folder) > self.versions.get(folder.parent.name, -1):
                shutil.rmtree(folder)

    def prune(self, kept: Iterable[Mapping[str, int]]) -> None:
        """Delete every version that no kept checkpoint names."""
        named = {(client_id, round_idx) for versions in kept for client_id, round_idx in versions.items()}
        for folder in self._folders():
            if (folder.parent.name, self._round(folder)) not in named:
                shutil.rmtree(folder)

    def _folders(self) -> list[Path]:
        return sorted(self.root.glob("*/round-*"))

    @staticmethod
    def _round(folder: Path) -> int:
        return int(folder.name.removeprefix("round-"))
