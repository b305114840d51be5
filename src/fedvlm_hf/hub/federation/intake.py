"""The updates of one round as they come in: which count, which are refused, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from transformers.utils import logging

from ...tensors import TensorDict
from ...types import ClientUpdate
from .checks import (
    Limits,
    RefusedUpdate,
    StaleUpdate,
    check_files,
    check_reply,
    check_size,
    check_tensors,
)
from .protocol import REPLY, TENSORS, Announcement, Reply


logger = logging.get_logger(__name__)


class Candidate(Protocol):
    """Where an update may be found.

    Attributes:
        client_id (`str`): The client, by the place: its branch, or the title of its pull request.
        source (`str`): The branch or pull request.
    """

    client_id: str
    source: str

    def sizes(self) -> dict[str, int]:
        """Bytes of each file below the client's folder."""
        ...

    def fetch(self, name: str) -> Path:
        """Download one of the files."""
        ...


@dataclass
class Intake:
    """Takes updates in any order and gives them back in client-id order, read from disk one at a time.

    Args:
        announcement ([`Announcement`]), announcement_sha256 (`str`):
            What was asked for, and the hash of its file.
        current (`TensorDict`):
            The global tensors that the round started from.
        limits ([`Limits`]):
            What is too much.
        accepted (`dict`):
            The updates that count, by client: where they came from, their file, what the client says of it.
        refused (`dict[str, str]`):
            Why the newest update of a client was refused.
    """

    announcement: Announcement
    announcement_sha256: str
    current: TensorDict
    limits: Limits
    accepted: dict[str, tuple[str, Path, Reply]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def consider(self, candidate: Candidate) -> bool:
        """Check an update; whether it counts. The first of a client that passes does, and no later one.

        A client whose update is refused may send another one as long as the round is open.
        """
        client_id, round_idx = candidate.client_id, self.announcement.round_idx
        if client_id in self.accepted:
            logger.warning(f"Round {round_idx}: another update of {client_id!r}, in {candidate.source}, is ignored.")
            return False
        try:
            path, reply = self._check(candidate)
        except StaleUpdate as stale:
            logger.debug(f"Round {round_idx}: {client_id!r} has not answered yet: {stale}.")
            return False
        except RefusedUpdate as refused:
            self.refused[client_id] = str(refused)
            logger.warning(
                f"Round {round_idx}: the update of {client_id!r} in {candidate.source} is refused: {refused}."
            )
            return False
        self.accepted[client_id] = (candidate.source, path, reply)
        self.refused.pop(client_id, None)
        num_asked = len(self.announcement.cohort)
        logger.info(f"Round {round_idx}: {client_id} has answered, {len(self.accepted)} of {num_asked}.")
        return True

    def _check(self, candidate: Candidate) -> tuple[Path, Reply]:
        if candidate.client_id not in self.announcement.cohort:
            raise RefusedUpdate(f"{candidate.client_id!r:.100} was not asked in round {self.announcement.round_idx}")
        sizes = candidate.sizes()
        check_files(sizes)
        content = candidate.fetch(REPLY).read_bytes()
        reply = check_reply(content, candidate.client_id, self.announcement, self.announcement_sha256, self.limits)
        check_size(sizes[TENSORS], self.announcement)
        path = candidate.fetch(TENSORS)
        check_tensors(path, reply, self.announcement, self.current, self.limits)
        return path, reply

    @property
    def missing(self) -> list[str]:
        """Clients of the cohort without an update that counts."""
        return [client_id for client_id in self.announcement.cohort if client_id not in self.accepted]

    def updates(self) -> Iterator[ClientUpdate]:
        """What counts, in client-id order."""
        for client_id, (_, path, reply) in sorted(self.accepted.items()):
            state = check_tensors(path, reply, self.announcement, self.current, self.limits)
            yield ClientUpdate(
                reply.round_idx, client_id, state.pop("update"), reply.num_samples, reply.metrics, control=state
            )
