"""A client's answers on its disk and in the repository: a kill repeats no round that was trained, and skips none."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...exchange.documents import to_json
from ...exchange.limits import Limits
from ...exchange.tensor_files import grouped, save_state
from ...files import file_sha256, new_folder, round_tag, write_atomic
from ...repository import Repository
from ...transforms import TransformChain
from ...types import ClientTask, ClientUpdate
from .intake import check_reply, read_update
from .protocol import BRANCHES, REPLY, TENSORS, TITLE, Announcement, Reply


_LOCAL = "local.json"
_SENT = "sent.json"
_NUM_KEPT = 2


@dataclass(frozen=True)
class Answer:
    """A trained round, complete on disk.

    Attributes:
        folder (`Path`): Holds the two files that are sent, and one that stays.
        round_idx (`int`): The round.
        announcement_sha256 (`str`): Of the announcement that it answers.
        versions (`dict[str, int]`): Versions of the states that the client kept from it.
    """

    folder: Path
    round_idx: int
    announcement_sha256: str
    versions: dict[str, int]

    def files(self, client_id: str) -> dict[str, Path]:
        """Return the files that are sent, by their path in the repository."""
        return {f"{BRANCHES}{client_id}/{name}": self.folder / name for name in (TENSORS, REPLY)}


class Answers:
    """A client's answers in a folder.

    Args:
        folder (`Path`):
            For this client and this repository only.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, announcement_sha256: str) -> Answer | None:
        """Return the answer to an announcement, or `None` if it is not trained yet."""
        return next((answer for answer in self._all() if answer.announcement_sha256 == announcement_sha256), None)

    def versions_before(self, round_idx: int) -> dict[str, int]:
        """Return the versions of the states that the client kept from its last round before this one."""
        return next((answer.versions for answer in reversed(self._all()) if answer.round_idx < round_idx), {})

    def _all(self) -> list[Answer]:
        folders = sorted(self.folder.glob("round-[0-9]*"))
        return [Answer(folder, **json.loads((folder / _LOCAL).read_text(encoding="utf-8"))) for folder in folders]

    @contextmanager
    def new(self, round_idx: int, announcement_sha256: str) -> Iterator[tuple[Path, dict[str, int]]]:
        """Give a folder for the two files and a mapping for the versions; the answer appears completely or not at all.

        Args:
            round_idx (`int`):
                The round.
            announcement_sha256 (`str`):
                Of the announcement that is answered.
        """
        path = self.folder / round_tag(round_idx)
        if path.exists():  # an answer to another announcement of the same round
            shutil.rmtree(path)
        versions: dict[str, int] = {}
        with new_folder(path) as folder:
            yield folder, versions
            local = {"round_idx": round_idx, "announcement_sha256": announcement_sha256, "versions": versions}
            (folder / _LOCAL).write_bytes(to_json(local))

    def sent(self) -> Mapping[str, Any]:
        """Return the last note of `mark_sent`."""
        path = self.folder / _SENT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def mark_sent(self, answer: Answer, source: str) -> None:
        """Note that an answer is in a branch or pull request, and delete all but the newest answers."""
        note = {"announcement_sha256": answer.announcement_sha256, "round_idx": answer.round_idx, "source": source}
        write_atomic(self.folder / _SENT, to_json(note))
        for path in sorted(self.folder.glob("round-[0-9]*"))[:-_NUM_KEPT]:
            shutil.rmtree(path)


@dataclass(frozen=True)
class Question:
    """What a client answers.

    Attributes:
        announcement ([`Announcement`]): The announcement of the round.
        sha256 (`str`), commit (`str`): Hash of its file, and the commit that it was read from.
        task (`ClientTask`): The client's task.
        transforms ([`~fedvlm_hf.transforms.TransformChain`]): What happens to updates on their way.
    """

    announcement: Announcement
    sha256: str
    commit: str
    task: ClientTask
    transforms: TransformChain


def write_update(update: ClientUpdate, folder: Path, question: Question, base_sha256: str) -> None:
    """Write the two files that are sent, and check them as the server will.

    Args:
        update (`ClientUpdate`):
            What the client trained, after the client halves of the transforms.
        folder (`Path`):
            Gets the files.
        question ([`Question`]):
            What is answered.
        base_sha256 (`str`):
            Of the base model that was trained.

    Raises:
        `ValueError`: if the server would refuse it.
    """
    announcement = question.announcement
    save_state(folder / TENSORS, grouped(update.tensors, update.control))
    reply = Reply(
        client_id=update.client_id,
        round_idx=announcement.round_idx,
        announcement_commit=question.commit,
        announcement_sha256=question.sha256,
        base_sha256=base_sha256,
        config_sha256=announcement.config_sha256,
        weight=update.weight,
        metrics=dict(update.metrics),
        tensors_sha256=file_sha256(folder / TENSORS),
    )
    try:
        content = reply.to_bytes()
        check_reply(content, update.client_id, announcement, question.sha256, Limits())
        read_update(folder / TENSORS, reply, question.task, question.transforms, Limits())
    except ValueError as error:
        raise ValueError(
            f"Round {announcement.round_idx} cannot be answered, since the server would refuse it: {error}. The "
            "training diverged, or the rows are not what they should be."
        ) from None
    (folder / REPLY).write_bytes(content)


def send(answer: Answer, client_id: str, repository: Repository, source: str | None = None) -> str:
    """Commit an answer to the client's branch, or to its pull request if it may only read.

    Args:
        answer ([`Answer`]):
            What is sent.
        client_id (`str`):
            The client.
        repository ([`~repository.Repository`]):
            The repository.
        source (`str`, *optional*):
            Branch or pull request of the client's earlier answers. By default it is looked for.

    Returns:
        `str`: the branch or pull request.
    """
    files = answer.files(client_id)
    if source is None and repository.try_to_create_branch(f"{BRANCHES}{client_id}"):
        source = f"{BRANCHES}{client_id}"
    source = source or find_pull_request(client_id, repository)  # it may have been opened before a kill
    if source is None:
        repository.open_pull_request(f"{TITLE}{client_id}", files)
        source = find_pull_request(client_id, repository)
        assert source is not None
        return source
    repository.commit(f"Round {answer.round_idx} of {client_id}", files, source)
    return source


def find_pull_request(client_id: str, repository: Repository) -> str | None:
    """Return the oldest pull request of this client, which is the one that the server looks at."""
    user = repository.user()
    own = [p.ref for p in repository.pull_requests() if p.title == f"{TITLE}{client_id}" and p.author == user]
    return own[0] if own else None


@contextmanager
def exclusive_lock(folder: Path, who: str) -> Iterator[None]:
    """Keep other processes from working in a folder. The lock ends with the process.

    Raises:
        `ValueError`: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", blocking=False):
            yield
    except Timeout:
        raise ValueError(
            f"`output_dir` {str(folder)!r}: another process works in it as {who}. Stop that process first."
        ) from None
