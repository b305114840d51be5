"""The queue on disk of what is to be sent: a folder for each round, in `output_dir/outbox`, until it has arrived."""

import fcntl
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import IO

from ..checkpoint import whole_rounds
from ..files import new_folder, round_tag
from .client_adapter import pack_clients
from .pack import Packer
from .sent import SentRecord
from .target import PushTarget


CLIENTS = ".clients"


class Outbox:
    """What of a run waits to be sent, and what was.

    | path | what |
    |---|---|
    | `round-0003/` | the files of that round's commit; appears whole, and is deleted when the Hub has it |
    | `round-0003.clients/client_00/` | the same for a client's own branch |
    | `target.json` | where to, as [`~hub.target.PushTarget`] |
    | `sent.json` | what has arrived, as [`~hub.sent.SentRecord`] |

    Args:
        output_dir (`Path`):
            The run's folder.
        target ([`~hub.target.PushTarget`]):
            Where the run is pushed.
    """

    def __init__(self, output_dir: Path, target: PushTarget):
        self.output_dir, self.target = output_dir, target
        self.folder = output_dir / "outbox"
        self.sent = SentRecord(self.folder / "sent.json", target)
        self.packer = Packer(output_dir, target)
        self._lock: IO[str] | None = None

    def set_back(self, last_round: int) -> None:
        """Forget every round after one: the run goes on from there, and makes them anew."""
        for round_idx in self.waiting():
            if round_idx > last_round:
                self.drop(round_idx)
        self.sent.keep_up_to(last_round)

    def prepare(self) -> None:
        """Note where the run is pushed. What is packed for another place is packed again.

        Raises:
            `ValueError`: if it cannot be, since its rounds are no longer there.
        """
        if PushTarget.read(self.folder) not in (None, self.target):
            self._unpack(whole_rounds(self.output_dir))
        self.target.write(self.folder)

    def is_current(self) -> bool:
        """Whether the queue is still for this target: a later run may have taken it over."""
        return PushTarget.read(self.folder) == self.target

    def catch_up(self) -> None:
        """Pack what the run saved and neither packed nor sent, or only its last round."""
        rounds, newest = whole_rounds(self.output_dir), max([-1, *self.waiting(), *self.sent.rounds()])
        for round_idx in rounds[-1:] if self.target.last_only else rounds:
            if round_idx > newest:
                self.pack(round_idx)

    def pack(self, round_idx: int) -> None:
        """Add a saved round to the queue."""
        self.drop(round_idx)
        if self.target.push_client_adapters:
            with new_folder(self._clients(round_idx)) as folder:
                pack_clients(self.packer, round_idx, folder)
        with new_folder(self._round(round_idx)) as folder:  # the rename of this one queues the round
            self.packer.pack_round(round_idx, folder)

    def waiting(self) -> list[int]:
        """The rounds that are queued, in order."""
        return sorted(int(path.name[6:]) for path in self.folder.glob("round-*") if path.name[6:].isdigit())

    def num_bytes(self) -> int:
        """Size of the tensors that are queued; of none where a round arrives while they are counted."""
        try:
            return sum(path.stat().st_size for path in self.folder.glob("round-*/**/*.safetensors"))
        except FileNotFoundError:
            return 0

    def files(self, round_idx: int) -> dict[str, Path]:
        """The files of a queued round's commit, by path."""
        return _files(self._round(round_idx))

    def client_files(self, round_idx: int) -> dict[str, dict[str, Path]]:
        """By client, the files of the commit to the client's branch."""
        return {folder.name: _files(folder) for folder in sorted(self._clients(round_idx).glob("*"))}

    def arrived(self, round_idx: int, commit: str) -> None:
        """Note that the Hub has a round, and take it out of the queue."""
        self.sent.note_round(round_idx, commit)
        self.drop(round_idx)

    def drop(self, round_idx: int) -> None:
        """Take a round out of the queue."""
        for folder in (self._round(round_idx), self._clients(round_idx)):
            shutil.rmtree(folder, ignore_errors=True)

    def lock(self) -> bool:
        """Become the one process that sends, until `unlock` or its end; `False` where another one is at it."""
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            self._lock = file
        return True

    def unlock(self) -> None:
        """Let others send."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _unpack(self, rounds: Collection[int]) -> None:
        lost = [round_tag(round_idx) for round_idx in self.waiting() if round_idx not in rounds]
        if lost:
            raise ValueError(
                f"'{self.folder}' has {', '.join(lost)} packed for another repository or with other options, and "
                f"`rounds/` has them no more. Send them first, with `fedvlm push {self.output_dir}`, or delete them."
            )
        for round_idx in self.waiting():
            self.drop(round_idx)  # `catch_up` packs it again

    def _round(self, round_idx: int) -> Path:
        return self.folder / round_tag(round_idx)

    def _clients(self, round_idx: int) -> Path:
        return self.folder / (round_tag(round_idx) + CLIENTS)


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
