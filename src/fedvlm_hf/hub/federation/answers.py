"""What a client has answered, on its disk: a kill at any moment repeats no round that was trained, and skips none."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import new_folder, round_tag, write_atomic
from .documents import to_json
from .protocol import REPLY, TENSORS


LOCAL = "local.json"
SENT = "sent.json"
KEPT = 2


@dataclass(frozen=True)
class Answer:
    """A trained round, whole on disk.

    Attributes:
        folder (`Path`): Holds the two files that are sent, and one that stays.
        round_idx (`int`): The round.
        announcement_sha256 (`str`): Of the announcement that it answers.
        versions (`dict[str, int]`): The states that the client kept from it.
    """

    folder: Path
    round_idx: int
    announcement_sha256: str
    versions: dict[str, int]

    def files(self, client_id: str) -> dict[str, Path]:
        """What is sent, by its path in the repository."""
        return {f"updates/{client_id}/{name}": self.folder / name for name in (TENSORS, REPLY)}


class Answers:
    """A client's answers in a folder.

    Args:
        folder (`Path`):
            For this client and repository alone.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, announcement_sha256: str) -> Answer | None:
        """The answer to an announcement, if it is trained."""
        return next((answer for answer in self._all() if answer.announcement_sha256 == announcement_sha256), None)

    def versions_before(self, round_idx: int) -> dict[str, int]:
        """The states that the client kept from its last round before this one."""
        return next((answer.versions for answer in reversed(self._all()) if answer.round_idx < round_idx), {})

    def _all(self) -> list[Answer]:
        folders = sorted(self.folder.glob("round-[0-9]*"))
        return [Answer(folder, **json.loads((folder / LOCAL).read_text(encoding="utf-8"))) for folder in folders]

    @contextmanager
    def new(self, round_idx: int, announcement_sha256: str) -> Iterator[tuple[Path, dict[str, int]]]:
        """Give a folder to write the two files into, and a mapping to note the versions in; whole or not at all."""
        path = self.folder / round_tag(round_idx)
        if path.exists():  # an answer to another announcement of the same round
            shutil.rmtree(path)
        versions: dict[str, int] = {}
        with new_folder(path) as folder:
            yield folder, versions
            local = {"round_idx": round_idx, "announcement_sha256": announcement_sha256, "versions": versions}
            (folder / LOCAL).write_bytes(to_json(local))

    def sent(self) -> Mapping[str, Any]:
        """What `mark_sent` noted last."""
        path = self.folder / SENT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def mark_sent(self, answer: Answer, source: str) -> None:
        """Note that an answer is in the repository, at a branch or pull request; forget all but the newest answers."""
        note = {"announcement_sha256": answer.announcement_sha256, "round_idx": answer.round_idx, "source": source}
        write_atomic(self.folder / SENT, to_json(note))
        for path in sorted(self.folder.glob("round-[0-9]*"))[:-KEPT]:
            shutil.rmtree(path)


@contextmanager
def alone(folder: Path, who: str) -> Iterator[None]:
    """Let no second process work in a folder; the lock goes with the process.

    Raises:
        `ValueError`: if there is one already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"`output_dir` {str(folder)!r}: another process is at work as {who} in it. Stop that one first."
            ) from None
        yield
