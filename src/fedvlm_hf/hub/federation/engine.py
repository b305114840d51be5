"""HubEngine: announces a round in the repository and collects what the clients answer there."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers.utils import logging

from ...tensors import TensorDict
from ...types import ClientTask, ClientUpdate
from .announcing import Announcer, Federation
from .checks import Limits
from .intake import Intake
from .protocol import FINISHED, OPEN
from .remote import Remote
from .sources import Sources


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Waiting:
    """How long a round waits.

    Attributes:
        min_clients (`int`, *optional*): Updates that a round needs; all of the cohort's by default.
        round_timeout (`float`, *optional*): Seconds until the round goes on without the others, if it has
            `min_clients` by then; else it waits until it has. By default it waits for all.
    """

    min_clients: int | None = None
    round_timeout: float | None = None


class HubEngine:
    """Runs clients that are elsewhere, through a repository.

    Args:
        remote ([`Remote`]):
            The repository.
        federation ([`Federation`]):
            What is the same in every round.
        fixed (`Callable[[int, TensorDict], TensorDict]`):
            What earlier stages trained, given the round and the tensors that train now.
        waiting ([`Waiting`], *optional*):
            How long a round waits.
        limits ([`Limits`], *optional*):
            What of an update is too much.

    Attributes:
        rows (`dict[str, int]`): The number of rows that each client last said it has, or 1 where all weigh the same.
    """

    def __init__(
        self,
        remote: Remote,
        federation: Federation,
        fixed: Callable[[int, TensorDict], TensorDict],
        waiting: Waiting | None = None,
        limits: Limits | None = None,
    ):
        self.waiting, self.limits = waiting or Waiting(), limits or Limits()
        self.rows: dict[str, int] = {}
        self._pause = remote.pause
        self._announcer = Announcer(remote, federation, fixed, self.waiting.round_timeout)
        self._sources = Sources(remote)

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[ClientUpdate]:
        """Yield the updates that count, in client-id order, when all are there or the round's time is over."""
        current = _same_for_all(tasks)
        with TemporaryDirectory() as folder:
            cohort = [task.client_id for task in tasks]
            announcement, sha256 = self._announcer.announce(OPEN, tasks[0], cohort, Path(folder))
            intake = Intake(announcement, sha256, current, self.limits)
            self._collect(intake, Path(folder))
            self._announcer.refused = dict(intake.refused)
            for update in intake.updates():
                self.rows[update.client_id] = update.num_samples
                yield update

    def finish(self, round_idx: int, tensors: TensorDict) -> None:
        """Say that there will be no other round, so that clients end."""
        with TemporaryDirectory() as folder:
            self._announcer.announce(FINISHED, ClientTask(round_idx, "", tensors), [], Path(folder))

    def _collect(self, intake: Intake, folder: Path) -> None:
        """Look at what came in until it is enough."""
        announcement = intake.announcement
        needed = min(self.waiting.min_clients or len(announcement.cohort), len(announcement.cohort))
        is_told = False
        while True:
            for candidate in self._sources.changed(folder):
                intake.consider(candidate)
            is_over = announcement.is_over(datetime.now(UTC))
            if len(intake.accepted) >= needed and (is_over or all(c in intake.refused for c in intake.missing)):
                return
            if is_over and not is_told:
                logger.warning(
                    f"Round {announcement.round_idx} is over its time with {len(intake.accepted)} of the {needed} "
                    f"updates that it needs. It waits for {', '.join(intake.missing)}."
                )
                is_told = True
            time.sleep(self._pause)


def _same_for_all(tasks: Sequence[ClientTask]) -> TensorDict:
    """What every client of the round starts from.

    Raises:
        `ValueError`: if clients are sent different tensors: one announcement goes to all.
    """
    sent = {(task.tensors.digest(), *sorted((k, v.digest()) for k, v in task.control.items())) for task in tasks}
    if len(sent) != 1:
        raise ValueError(
            "`method` sends clients different tensors, but a round in a repository is one announcement for all. Use a "
            "method that sends the same to all, or simulate with `FederatedTrainer`."
        )
    return tasks[0].tensors
