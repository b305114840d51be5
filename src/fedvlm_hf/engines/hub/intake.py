"""The updates of one round as they come in: each is checked before it reaches the sum, or refused by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from transformers.utils import logging

from ...exchange.documents import DocumentError
from ...exchange.limits import LimitError, Limits
from ...exchange.tensor_files import (
    SHARED,
    Entry,
    Layout,
    TensorFileError,
    as_tensor_dict,
    expected_layout,
    read_tensors,
    size_range,
)
from ...exchange.updates import UpdateError
from ...files import file_sha256
from ...repository.requests import HubRefusedError
from ...tensors import TensorDict
from ...transforms import TransformChain
from ...types import Absent, ClientTask, ClientUpdate
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
        tasks (`Mapping[str, ClientTask]`):
            The round's tasks, by client.
        transforms ([`~fedvlm_hf.transforms.TransformChain`]):
            What happens to updates on their way.
        limits ([`~exchange.limits.Limits`]):
            Limits of an update.
        accepted (`dict`):
            The updates that count, by client: where they came from, their file, the reply.
        refused (`dict[str, str]`):
            Why the newest update of a client does not count.
    """

    announcement: Announcement
    announcement_sha256: str
    tasks: Mapping[str, ClientTask]
    transforms: TransformChain
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
            check_size(sizes[TENSORS], self._layout(candidate.client_id))
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
            self._read(path, reply)
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

    def answers(self) -> Iterator[ClientUpdate | Absent]:
        """Return the updates that count, and why the other clients are left out, in client-id order."""
        for client_id in sorted(self.announcement.cohort):
            if client_id in self.accepted:
                _, path, reply = self.accepted[client_id]
                yield self._read(path, reply)
            else:
                reason = self.refused.get(client_id, "it did not answer before the deadline")
                yield Absent(self.announcement.round_idx, client_id, reason)

    def _layout(self, client_id: str) -> dict[str, dict[str, Entry]]:
        """Return what a client's update holds on its way."""
        return expected_layout(self.transforms.layout(self.tasks[client_id]))

    def _read(self, path: Path, reply: Reply) -> ClientUpdate:
        return read_update(path, reply, self.tasks[reply.client_id], self.transforms, self.limits)


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


def check_size(size: int, layout: Layout) -> None:
    """Check the size of the tensors' file before it is downloaded.

    Raises:
        `RefusedUpdate`: if no file of the tensors that were asked for can have this size.
    """
    least, most = size_range(layout)
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
        limits.check_weight(reply.weight)
        _check_metrics(reply.metrics)
    except DocumentError as error:
        raise RefusedUpdate(f"{REPLY} cannot be used: {error}") from None
    except LimitError as error:
        raise RefusedUpdate(str(error)) from None
    return reply


def read_update(
    path: Path, reply: Reply, task: ClientTask, transforms: TransformChain, limits: Limits
) -> ClientUpdate:
    """Check the tensors of an update and read them.

    Args:
        path (`Path`):
            The file.
        reply ([`Reply`]):
            What the client says about it.
        task (`ClientTask`):
            What was asked for.
        transforms ([`~fedvlm_hf.transforms.TransformChain`]):
            What happens to updates on their way.
        limits ([`~exchange.limits.Limits`]):
            Limits of an update.

    Returns:
        `ClientUpdate`: the update as it travelled.

    Raises:
        `RefusedUpdate`: with the reason.
    """
    if file_sha256(path) != reply.tensors_sha256:
        raise RefusedUpdate(f"{TENSORS} is not the file that {REPLY} names: their SHA-256 sums differ")
    try:
        read = read_tensors(path, expected_layout(transforms.layout(task)))
        groups = {group: as_tensor_dict(tensors) for group, tensors in read.items()}
        tensors = groups.pop(SHARED)
        update = ClientUpdate(reply.round_idx, reply.client_id, tensors, reply.weight, reply.metrics, control=groups)
        limits.check_norm(TensorDict.from_tensors(transforms.decode(update, task).tensors), task.tensors)
    except TensorFileError as error:
        raise RefusedUpdate(f"{TENSORS} {error}") from None
    except LimitError as error:
        raise RefusedUpdate(str(error)) from None
    return update


def _check_metrics(metrics: Mapping[str, float]) -> None:
    if len(metrics) > _MAX_METRICS:
        raise RefusedUpdate(f"it has {len(metrics)} metrics; {_MAX_METRICS} is the most")
    if unusable := [name for name in metrics if not name.isidentifier() or len(name) > 100]:
        raise RefusedUpdate(f"it has the metric {unusable[0]!r:.100}, which is not a name")
    if "train_loss" not in metrics:
        raise RefusedUpdate("its metrics lack `train_loss`")
