"""The queue on disk of rounds to send: one folder for each round, in `output_dir/outbox`, until the Hub has it."""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..checkpoint import whole_rounds
from ..files import new_folder, round_tag, write_atomic
from .layout import PushTarget
from .pack import Packer


class Outbox:
    """What a run has to send, and what it has sent.

    | path | content |
    |---|---|
    | `round-0003/` | the files of that round's commit; the folder appears whole, and is deleted once the Hub has it |
    | `round-0003.clients/client_00/` | the same for a client's own branch |
    | `target.json` | where the run is pushed, as [`~hub.layout.PushTarget`] |
    | `sent.json` | what the Hub has, as [`SentRecord`] |

    Args:
        output_dir (`Path`):
            The run's folder.
        target ([`~hub.layout.PushTarget`]):
            Where the run is pushed.
    """

    def __init__(self, output_dir: Path, target: PushTarget):
        self.output_dir, self.target = output_dir, target
        self.folder = output_dir / "outbox"
        self.sent = SentRecord(self.folder / "sent.json", target)
        self.packer = Packer(output_dir, target)
        self._lock = FileLock(self.folder / ".lock", blocking=False, thread_local=False)

    def set_back(self, last_round: int) -> None:
        """Forget all rounds after this one: the run continues from it and makes them again."""
        for round_idx in self.waiting():
            if round_idx > last_round:
                self.drop(round_idx)
        self.sent.keep_up_to(last_round)

    def prepare(self) -> None:
        """Note where the run is pushed. Rounds that were packed for another target are packed again.

        Raises:
            `ValueError`: if they cannot be packed again, since they were deleted from `rounds/`.
        """
        if PushTarget.read(self.folder) not in (None, self.target):
            self._unpack(whole_rounds(self.output_dir))
        self.target.write(self.folder)

    def is_current(self) -> bool:
        """Return whether the queue is still for this target: a later run may have taken it over."""
        return PushTarget.read(self.folder) == self.target

    def catch_up(self) -> None:
        """Pack the saved rounds that were neither packed nor sent, or only the last one if the target says so."""
        rounds, newest = whole_rounds(self.output_dir), max([-1, *self.waiting(), *self.sent.rounds()])
        for round_idx in rounds[-1:] if self.target.last_only else rounds:
            if round_idx > newest:
                self.pack(round_idx)

    def pack(self, round_idx: int) -> None:
        """Add a saved round to the queue."""
        self.drop(round_idx)
        if self.target.push_client_adapters:
            with new_folder(self._clients(round_idx)) as folder:
                self.packer.pack_clients(round_idx, folder)
        with new_folder(self._round(round_idx)) as folder:  # the rename of this one queues the round
            self.packer.pack_round(round_idx, folder)

    def waiting(self) -> list[int]:
        """Return the rounds that are queued, in order."""
        return sorted(int(path.name[6:]) for path in self.folder.glob("round-*") if path.name[6:].isdigit())

    def num_bytes(self) -> int:
        """Return the size of the tensors that are queued, or 0 if a round leaves the queue while they are counted."""
        try:
            return sum(path.stat().st_size for path in self.folder.glob("round-*/**/*.safetensors"))
        except FileNotFoundError:
            return 0

    def files(self, round_idx: int) -> dict[str, Path]:
        """Return the files of a queued round's commit, by path."""
        return _files(self._round(round_idx))

    def client_files(self, round_idx: int) -> dict[str, dict[str, Path]]:
        """Return, by client, the files of the commit to the client's branch."""
        return {folder.name: _files(folder) for folder in sorted(self._clients(round_idx).glob("*"))}

    def note_sent(self, round_idx: int, commit: str) -> None:
        """Note that the Hub has a round, and take it out of the queue."""
        self.sent.note_round(round_idx, commit)
        self.drop(round_idx)

    def drop(self, round_idx: int) -> None:
        """Take a round out of the queue."""
        for folder in (self._round(round_idx), self._clients(round_idx)):
            shutil.rmtree(folder, ignore_errors=True)

    def lock(self) -> bool:
        """Become the only process that sends, until `unlock` or the end of the process.

        Returns:
            `bool`: `False` if another process is sending.
        """
        if not self._lock.is_locked:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                return False
        return True

    def unlock(self) -> None:
        """Let others send."""
        self._lock.release()

    def _unpack(self, rounds: Collection[int]) -> None:
        lost = [round_tag(round_idx) for round_idx in self.waiting() if round_idx not in rounds]
        if lost:
            raise ValueError(
                f"'{self.folder}' has {', '.join(lost)} packed for another repository or with other options, and "
                f"`rounds/` no longer has them. Send them first, with `fedvlm push {self.output_dir}`, or delete them."
            )
        for round_idx in self.waiting():
            self.drop(round_idx)  # `catch_up` packs it again

    def _round(self, round_idx: int) -> Path:
        return self.folder / round_tag(round_idx)

    def _clients(self, round_idx: int) -> Path:
        return self.folder / f"{round_tag(round_idx)}.clients"


@dataclass(frozen=True)
class SentRecord:
    """What the Hub has: by repository, the commit of each round; by the base model's, a digest of its files.

    Args:
        path (`Path`):
            The file. It is created by the first note.
        target ([`~hub.layout.PushTarget`]):
            The repositories that are meant.
    """

    path: Path
    target: PushTarget

    def rounds(self) -> dict[int, str]:
        """Return the commit of each round."""
        return {int(round_idx): commit for round_idx, commit in self._read().get(self.target.repo_id, {}).items()}

    def keep_up_to(self, last_round: int) -> None:
        """Forget later rounds: the run continues from an earlier one and makes them again."""
        self._note(self.target.repo_id, {k: commit for k, commit in self.rounds().items() if k <= last_round})

    def note_round(self, round_idx: int, commit: str) -> None:
        """Note that the Hub has a round."""
        self._note(self.target.repo_id, {**self.rounds(), round_idx: commit})

    @property
    def base(self) -> str | None:
        """Digest of the base model that was sent."""
        return self._read().get(self.target.base_repo_id)

    def note_base(self, digest: str) -> None:
        """Note that the Hub has a base model."""
        self._note(self.target.base_repo_id, digest)

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def _note(self, repo_id: str, content: Mapping[int, str] | str) -> None:
        write_atomic(self.path, json.dumps({**self._read(), repo_id: content}, indent=2) + "\n")


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
