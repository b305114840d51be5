"""The protocol between server and clients: a round's announcement, a client's reply, and how rounds are announced.

| place | file | content |
|---|---|---|
| the run's branch | `federation/round.json` | the newest [`Announcement`]; each is a commit, tagged `announced-0003` |
| | `federation/config.json` | the settings that every client trains with |
| | `federation/task-0.safetensors` | what clients start from: the group `tensors`, and the method's control groups |
| | `federation/fixed.safetensors` | what does not train: the groups `fixed` and `base`, the change of the base model |
| `updates/CLIENT_ID` | `updates/CLIENT_ID/update.json` | the client's [`Reply`] |
| | `updates/CLIENT_ID/update.safetensors` | its tensors: the group `tensors`, and the method's control groups |

Clients that are asked for the same share a task; a method that sends them different tensors has a file for each task.

A reply in a pull request has the same two files and the title `Update of CLIENT_ID`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ...exchange.documents import PROTOCOL, Document, DocumentError, sha256_of
from ...exchange.settings import Facts
from ...exchange.tensor_files import Entry
from ...repository import Repository
from ...repository.requests import HubMovedError


FOLDER = "federation"
ANNOUNCEMENT = f"{FOLDER}/round.json"
CONFIG = f"{FOLDER}/config.json"
FIXED = f"{FOLDER}/fixed.safetensors"

BRANCHES = "updates/"
REPLY, TENSORS = "update.json", "update.safetensors"
TITLE = "Update of "

OPEN, FINISHED = "open", "finished"


class AnotherServerError(ValueError):
    """The repository belongs to another server, or to this server at a later round."""


@dataclass(frozen=True)
class TaskFile:
    """What some of a round's clients are sent and asked for.

    Attributes:
        sha256 (`str`): Of the file with the tensors that they start from.
        layout (`dict`): Names, dtypes and shapes of its tensors, by group and in order.
        expects (`dict`): The same of their update, before any transform.
    """

    sha256: str
    layout: dict[str, dict[str, Entry]]
    expects: dict[str, dict[str, Entry]]


@dataclass(frozen=True)
class Announcement(Document):
    """What the server announces about a round.

    Attributes:
        server (`str`): Name of the one server that may announce; a server that is started again keeps it.
        status (`str`): `"open"` while a round waits for replies, `"finished"` after the last round.
        round_idx (`int`), num_rounds (`int`): The round, and the last one.
        client_ids (`list[str]`): All clients in sorted order.
        cohort (`dict[str, int]`): The clients that are asked now, each with the number of its task.
        tasks (`list[TaskFile]`): What they are sent and asked for.
        deadline (`str`, *optional*): When the server may continue without clients that are late, in UTC.
        config_sha256 (`str`): Of `federation/config.json`.
        base_sha256 (`str`): Of the SHA-256 sums of the base model's weight files.
        adapter (`dict`), adapter_sha256 (`str`): Layout of the whole adapter, and a hash of it before training.
        fixed (`dict`), fixed_sha256 (`str`): Layout and hash of `federation/fixed.safetensors`.
        versions (`dict[str, str]`): Of the packages that both sides need in the same version.
        refused (`dict[str, str]`): Why the update of a client did not count in the round before.
    """

    server: str
    status: str
    round_idx: int
    num_rounds: int
    client_ids: list[str]
    cohort: dict[str, int]
    tasks: list[TaskFile]
    deadline: str | None
    config_sha256: str
    base_sha256: str
    adapter: dict[str, Entry]
    adapter_sha256: str
    fixed: dict[str, dict[str, Entry]]
    fixed_sha256: str
    versions: dict[str, str]
    refused: dict[str, str]
    protocol: int = PROTOCOL

    def is_over(self, now: datetime) -> bool:
        """Return whether the deadline has passed; there may be none."""
        return self.deadline is not None and datetime.fromisoformat(self.deadline) <= now

    def is_same_round(self, other: "Announcement") -> bool:
        """Return whether another announcement asks for the same, at any time."""
        return self == replace(other, deadline=self.deadline, refused=self.refused)

    @property
    def facts(self) -> Facts:
        """What a client compares with its own host before it trains."""
        return Facts(self.config_sha256, self.base_sha256, self.adapter_sha256, self.adapter, self.versions)

    def task_of(self, client_id: str) -> tuple[str, TaskFile]:
        """Return the path of a client's task, and what the client is sent and asked for.

        Raises:
            `ValueError`: if the announcement has no such task.
        """
        number = self.cohort[client_id]
        if not 0 <= number < len(self.tasks):
            raise ValueError(f"{ANNOUNCEMENT} gives {client_id!r} the task {number}, which it does not have.")
        return task_path(number), self.tasks[number]


@dataclass(frozen=True)
class Reply(Document):
    """What a client says about its update.

    Attributes:
        client_id (`str`), round_idx (`int`): The client and the round that it answers.
        announcement_commit (`str`): The commit that the client read the announcement from.
        announcement_sha256 (`str`): Of the announcement that it answers.
        base_sha256 (`str`), config_sha256 (`str`): Of the base model and the settings that the client trained with.
        weight (`int` or `float`): Weight in the mean.
        metrics (`dict`): Local numbers, such as `train_loss`.
        tensors_sha256 (`str`): Of `update.safetensors`.
    """

    client_id: str
    round_idx: int
    announcement_commit: str
    announcement_sha256: str
    base_sha256: str
    config_sha256: str
    weight: int | float
    metrics: dict[str, int | float]
    tensors_sha256: str
    protocol: int = PROTOCOL


def task_path(number: int) -> str:
    """Return the file of a round's task, such as `"federation/task-0.safetensors"`."""
    return f"{FOLDER}/task-{number}.safetensors"


def announcement_tag(round_idx: int) -> str:
    """Return the tag of a round's announcement, such as `"announced-0003"`."""
    return f"announced-{round_idx:04d}"


def read_announcement(repository: Repository, commit: str) -> tuple[Announcement, str] | None:
    """Return the newest announcement of a commit and the hash of its file, or `None` if nothing was announced yet.

    Raises:
        `ValueError`: if there is one that cannot be read.
    """
    content = repository.read(ANNOUNCEMENT, commit)
    if content is None:
        return None
    try:
        return Announcement.from_bytes(content), sha256_of(content)
    except DocumentError as error:
        raise ValueError(f"{ANNOUNCEMENT} of {repository.repo_id} cannot be used: {error}.") from None


def publish(
    repository: Repository, announcement: Announcement, files: Mapping[str, bytes | Path]
) -> tuple[Announcement, str]:
    """Commit an announcement on the head that was read, so that only one of two servers can, and tag it.

    An announcement that is there already is not made again: a server that was killed after it finds its own.

    Args:
        repository ([`~repository.Repository`]):
            The repository.
        announcement ([`Announcement`]):
            What to announce.
        files (`Mapping[str, bytes | Path]`):
            The files that belong to it, by path.

    Returns:
        `tuple`: what is announced now, with its deadline, which may be from an earlier start; the hash of its file.

    Raises:
        `AnotherServerError`: if another server has announced something in this repository.
    """
    while True:
        head = repository.head()
        found = read_announcement(repository, head)
        if found:
            _check_owner(found[0], announcement, repository.repo_id)
            if announcement.is_same_round(found[0]):
                _tag(repository, found[0], head)
                return found
        content = announcement.to_bytes()
        try:
            commit = repository.commit(_title(announcement), {**files, ANNOUNCEMENT: content}, repository.branch, head)
        except HubMovedError:  # by another server, which is found next, or by a pushed round, or by this very commit
            continue
        _tag(repository, announcement, commit)
        return announcement, sha256_of(content)


def _check_owner(found: Announcement, announcement: Announcement, repo_id: str) -> None:
    if found.server != announcement.server:
        raise AnotherServerError(
            f"`repo` {repo_id!r} is served by another server, which announced round {found.round_idx}. Two servers "
            "would confuse the clients, so this one stops. To continue that federation, start the server in its own "
            "`output_dir`; for a new federation, use another repository."
        )
    if found.round_idx > announcement.round_idx:
        raise AnotherServerError(
            f"`repo` {repo_id!r} is at round {found.round_idx}, but `output_dir` only at round "
            f"{announcement.round_idx}: it is an older copy, or rounds were deleted. Use the folder that the server "
            "last ran in."
        )


def _tag(repository: Repository, announcement: Announcement, commit: str) -> None:
    if announcement.status != FINISHED:
        repository.tag(announcement_tag(announcement.round_idx), commit)


def _title(announcement: Announcement) -> str:
    if announcement.status == FINISHED:
        return f"The federation is finished after round {announcement.round_idx}"
    return f"Round {announcement.round_idx} of {announcement.num_rounds}: {len(announcement.cohort)} clients are asked"
