"""The updates of one round as they come in: each is checked before it reaches the sum, or refused by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from transformers.utils import logging

from ...exchange.documents import DocumentError
from ...exchange.limits import LimitError, Limits
from ...exchange.tensor_files import Entry, TensorFileError, read_tensors, size_range
from ...files import file_sha256
from ...repository.requests import HubRefusedError
from ...rounds import UpdateError
from ...tensors import TensorDict
from ...types import ClientUpdate, State
from .protocol import REPLY, TENSORS, Announcement, Reply


MAX_REPLY = 64 * 1024
"""Largest reply in bytes of JSON."""
_MAX_METRICS = 100

logger = logging.get_logger(__name__)


class RefusedUpdate(UpdateError):
    """An update that does not reach the sum."""


class StaleUpdate(RefusedUpdate):
    """No answer to this round yet: nothing, or the answer to an earlier round."""


class Candidate(Protocol):
    """A place in which an update may be found.

    Attributes:
        client_id (`str`): The client that the place belongs to: its branch, or the title of its pull request.
        source (`str`): The branch or pull request.
    """

    client_id: str
    source: str

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file in the client's folder."""
        ...

    def download(self, name: str) -> Path:
        """Download one of the files."""
        ...


@dataclass
class Intake:
    """Takes updates in any order and returns them in client-id order, read from disk one at a time.

    Args:
        announcement ([`Announcement`]), announcement_sha256 (`str`):
            What was asked for, and the hash of its file.
        current (`TensorDict`):
            The global tensors that the round started from.
        limits ([`~exchange.limits.Limits`]):
            Limits of an update.
        accepted (`dict`):
            The updates that count, by client: where they came from, their file, the reply.
        refused (`dict[str, str]`):
            Why the newest update of a client does not count.
    """

    announcement: Announcement
    announcement_sha256: str
    current: TensorDict
    limits: Limits
    accepted: dict[str, tuple[str, Path, Reply]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def download(self, candidate: Candidate) -> tuple[Path, Reply]:
        """Download an update and check everything that can be checked before its tensors are read.

        It changes nothing here, so many downloads may run at the same time.

        Raises:
            `RefusedUpdate`: if it does not count.
        """
        if candidate.client_id not in self.announcement.cohort:
            raise RefusedUpdate(f"{candidate.client_id!r:.100} was not asked in round {self.announcement.round_idx}")
        try:
            sizes = candidate.sizes()
            check_files(sizes)
            content = candidate.download(REPLY).read_bytes()
            reply = check_reply(content, candidate.client_id, self.announcement, self.announcement_sha256, self.limits)
            check_size(sizes[TENSORS], self.announcement)
            return candidate.download(TENSORS), reply
        except HubRefusedError as error:
            raise RefusedUpdate(str(error).rstrip(".")) from None

    def consider(self, candidate: Candidate, downloaded: Callable[[], tuple[Path, Reply]] | None = None) -> bool:
        """Check an update and return whether it counts. Of each client, the first update that passes counts.

        A client whose update is refused may send another one while the round is open.

        Args:
            candidate ([`Candidate`]):
                The place of the update.
            downloaded (`Callable[[], tuple[Path, Reply]]`, *optional*):
                Returns the result of `download`, or raises its error. By default the update is downloaded now.
        """
        client_id, round_idx = candidate.client_id, self.announcement.round_idx
        if client_id in self.accepted:
            logger.warning(f"Round {round_idx}: another update of {client_id!r}, in {candidate.source}, is ignored.")
            return False
        try:
            path, reply = downloaded() if downloaded else self.download(candidate)
            check_tensors(path, reply, self.announcement, self.current, self.limits)
        except StaleUpdate as stale:
            logger.debug(f"Round {round_idx}: {client_id!r} has not answered yet: {stale}.")
            return False
        except RefusedUpdate as refused:
            self.refuse(candidate, str(refused))
            return False
        self.accepted[client_id] = (candidate.source, path, reply)
        self.refused.pop(client_id, None)
        num_asked = len(self.announcement.cohort)
        logger.info(f"Round {round_idx}: {client_id} has answered, {len(self.accepted)} of {num_asked}.")
        return True

    def refuse(self, candidate: Candidate, reason: str) -> None:
        """Note that an update does not count, and why."""
        self.refused[candidate.client_id] = reason
        logger.warning(
            f"Round {self.announcement.round_idx}: the update of {candidate.client_id!r} in {candidate.source} is "
            f"refused: {reason}."
        )

    @property
    def missing(self) -> list[str]:
        """Clients of the cohort without an update that counts."""
        return [client_id for client_id in self.announcement.cohort if client_id not in self.accepted]

    def updates(self) -> Iterator[ClientUpdate]:
        """Return the updates that count, in client-id order."""
        for client_id, (_, path, reply) in sorted(self.accepted.items()):
            state = dict(check_tensors(path, reply, self.announcement, self.current, self.limits))
            yield ClientUpdate(
                reply.round_idx, client_id, state.pop("update"), reply.num_samples, reply.metrics, control=state
            )


def check_files(files: Mapping[str, int]) -> None:
    """Check names and sizes, which the Hub lists, before anything is downloaded.

    Args:
        files (`Mapping[str, int]`):
            Size in bytes by path in the client's folder.

    Raises:
        `StaleUpdate`: if there is nothing yet.
        `RefusedUpdate`: if there are other files than the two expected ones, or the reply is too large.
    """
    if not files:
        raise StaleUpdate("its folder is empty")
    if unexpected := sorted(files.keys() - {REPLY, TENSORS}):
        raise RefusedUpdate(f"it has the file {unexpected[0]!r:.100}; only {REPLY} and {TENSORS} are read")
    if missing := sorted({REPLY, TENSORS} - files.keys()):
        raise RefusedUpdate(f"it lacks the file {missing[0]}")
    if files[REPLY] > MAX_REPLY:
        raise RefusedUpdate(f"{REPLY} has {files[REPLY]} bytes; {MAX_REPLY} is the most")


def check_size(size: int, announcement: Announcement) -> None:
    """Check the size of the tensors' file before it is downloaded.

    Raises:
        `RefusedUpdate`: if no file of the tensors that were asked for can have this size.
    """
    least, most = size_range(update_layout(announcement))
    if size > most:
        raise RefusedUpdate(f"{TENSORS} has {size} bytes, too many for the tensors asked for: {most} is the most")
    if size < least:
        raise RefusedUpdate(f"{TENSORS} has {size} bytes, too few for the tensors asked for: it is cut off")


def check_reply(
    content: bytes, client_id: str, announcement: Announcement, announcement_sha256: str, limits: Limits
) -> Reply:
    """Check what a client says about its update.

    Args:
        content (`bytes`):
            The reply's JSON.
        client_id (`str`):
            The client whose branch or pull request it came in.
        announcement ([`Announcement`]), announcement_sha256 (`str`):
            What was asked for, and its hash.
        limits ([`~exchange.limits.Limits`]):
            Limits of an update.

    Raises:
        `StaleUpdate`: if it answers an earlier round.
        `RefusedUpdate`: if it is not an answer of this client to this announcement.
    """
    try:
        reply = Reply.from_bytes(content)
        if reply.client_id != client_id:
            raise RefusedUpdate(f"it is in the place of {client_id!r} but names the client {reply.client_id!r:.100}")
        if client_id not in announcement.cohort:
            raise RefusedUpdate(f"{client_id!r} was not asked in round {announcement.round_idx}")
        if reply.round_idx < announcement.round_idx:
            raise StaleUpdate(f"it answers round {reply.round_idx}, which is over")
        if reply.round_idx > announcement.round_idx:
            raise RefusedUpdate(f"it answers round {reply.round_idx}, which was not announced yet")
        if reply.base_sha256 != announcement.base_sha256:
            raise RefusedUpdate("it was trained on another base model: its weight files have other hashes")
        if reply.config_sha256 != announcement.config_sha256:
            raise RefusedUpdate("it was trained with another configuration")
        if reply.announcement_sha256 != announcement_sha256:
            raise RefusedUpdate("it answers another announcement of this round: a replay, or the server was restarted")
        limits.check_weight(reply.num_samples)
        _check_metrics(reply.metrics)
    except DocumentError as error:
        raise RefusedUpdate(f"{REPLY} cannot be used: {error}") from None
    except LimitError as error:
        raise RefusedUpdate(str(error)) from None
    return reply


def check_tensors(path: Path, reply: Reply, announcement: Announcement, current: TensorDict, limits: Limits) -> State:
    """Check the tensors of an update and read them.

    Args:
        path (`Path`):
            The file.
        reply ([`Reply`]):
            What the client says about it.
        announcement ([`Announcement`]):
            What was asked for.
        current (`TensorDict`):
            The global tensors that the round started from.
        limits ([`~exchange.limits.Limits`]):
            Limits of an update.

    Returns:
        `State`: the group `update`, and the method's other groups.

    Raises:
        `RefusedUpdate`: with the reason.
    """
    if file_sha256(path) != reply.tensors_sha256:
        raise RefusedUpdate(f"{TENSORS} is not the file that {REPLY} names: their SHA-256 sums differ")
    try:
        groups = read_tensors(path, update_layout(announcement))
        state = {group: TensorDict.from_tensors(tensors) for group, tensors in groups.items()}
        limits.check_norm(state["update"].flat, current.flat)
    except TensorFileError as error:
        raise RefusedUpdate(f"{TENSORS} {error}") from None
    except LimitError as error:
        raise RefusedUpdate(str(error)) from None
    return state


def update_layout(announcement: Announcement) -> dict[str, dict[str, Entry]]:
    """Return what a reply must hold: an update of the global tensors, and of every other group that was sent."""
    return {"update" if group == "global" else group: tensors for group, tensors in announcement.layout.items()}


def _check_metrics(metrics: Mapping[str, float]) -> None:
    if len(metrics) > _MAX_METRICS:
        raise RefusedUpdate(f"it has {len(metrics)} metrics; {_MAX_METRICS} is the most")
    if unusable := [name for name in metrics if not name.isidentifier() or len(name) > 100]:
        raise RefusedUpdate(f"it has the metric {unusable[0]!r:.100}, which is not a name")
    if "train_loss" not in metrics:
        raise RefusedUpdate("its metrics lack `train_loss`")
