"""What a client keeps between its rounds: a folder per client and round, on that client's disk."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from .files import round_tag
from .tensors import TensorDict
from .types import State


class ClientStore:
    """Client states on disk, so that memory does not grow with the number of clients.

    A state is never overwritten: each round writes a version of its own, and a round's checkpoint names the versions
    it belongs to. A run that is killed goes on from those, whatever was written after them.

    Args:
        root (`Path`):
            Folder for all clients of this process. It is made when the first state is saved.
    """

    def __init__(self, root: Path):
        self.root = root
        self.versions: dict[str, int] = {}

    def folder(self, client_id: str, round_idx: int) -> Path:
        """Where a client's state of a round lies."""
        return self.root / client_id / round_tag(round_idx)

    def load(self, client_id: str) -> State:
        """A client's newest state; empty if it has none."""
        if client_id not in self.versions:
            return {}
        return load_state(self.folder(client_id, self.versions[client_id]) / "state.safetensors")

    def save(self, client_id: str, round_idx: int, state: State) -> None:
        """Save a client's state of a round and make it the newest, with what else lies in the round's folder.

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


def save_state(path: Path, state: State) -> None:
    """Save named groups of tensors as safetensors, under a temporary name first."""
    from safetensors.torch import save_file

    tensors = {f"{group}:{name}": tensor for group, values in state.items() for name, tensor in values.items()}
    partial = path.with_suffix(".partial")
    # safetensors orders tensors by size and name; the layout is kept beside them, empty groups too
    layout = "\n".join(f"{group}:{name}" for group, values in state.items() for name in values or [""])
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, partial, {"layout": layout})
    partial.replace(path)


def load_state(path: Path) -> State:
    """Load what `save_state` saved, in the same order."""
    from safetensors import safe_open

    groups: dict[str, dict] = {}
    with safe_open(path, framework="pt") as file:
        for key in filter(None, file.metadata()["layout"].split("\n")):
            group, name = key.split(":", 1)
            tensors = groups.setdefault(group, {})
            if name:
                tensors[name] = file.get_tensor(key)
    return {group: TensorDict.from_tensors(tensors) for group, tensors in groups.items()}
