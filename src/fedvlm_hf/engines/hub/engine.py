"""HubEngine: announces a round in the repository and collects the clients' answers from it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TypeVar

from transformers.utils import logging

from ...exchange.documents import sha256_of
from ...exchange.limits import Limits
from ...exchange.tensor_files import layout_of
from ...files import file_sha256
from ...repository import Repository
from ...repository.requests import HubOutageError
from ...state import save_state
from ...tensors import TensorDict
from ...types import ClientTask, ClientUpdate, State
from .intake import Intake
from .protocol import BRANCHES, CONFIG, FINISHED, FIXED, GLOBAL, OPEN, TITLE, Announcement, publish


logger = logging.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Waiting:
    """How long a round waits for its clients.

    Attributes:
        min_clients (`int`, *optional*): Updates that a round needs; all of the cohort's by default.
        round_timeout (`float`, *optional*): Seconds until the round continues without the others, if it has
            `min_clients` by then; otherwise it waits until it has. By default it waits for all.
    """

    min_clients: int | None = None
    round_timeout: float | None = None


@dataclass(frozen=True)
class RunFacts:
    """What is the same in the announcement of every round.

    Attributes:
        server (`str`): Name of this server.
        num_rounds (`int`): The last round.
        client_ids (`list[str]`): Every client.
        config (`bytes`): Content of `federation/config.json`.
        base_sha256 (`str`), adapter_sha256 (`str`): Of the base model's weights and of the adapter before training.
        versions (`Mapping[str, str]`): Of the packages that both sides need in the same version.
    """

    server: str
    num_rounds: int
    client_ids: list[str]
    config: bytes
    base_sha256: str
    adapter_sha256: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class UpdateLocation:
    """Where an update is in the repository: at one commit of a branch or pull request."""

    repository: Repository
    client_id: str
    source: str
    commit: str
    folder: Path

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file in the client's folder, as the Hub lists them."""
        files = self.repository.files(self.commit, f"{BRANCHES}{self.client_id}")
        return {name: file.size for name, file in files.items()}

    def download(self, name: str) -> Path:
        """Download one of them."""
        return self.repository.download(f"{BRANCHES}{self.client_id}/{name}", self.commit, self.folder)


class HubEngine:
    """Runs clients on other hosts, through a repository.

    Args:
        repository ([`~repository.Repository`]):
            The repository; its `first_wait` is also the time between two looks.
        facts ([`RunFacts`]):
            What is the same in every round.
        fixed (`Callable[[int, TensorDict], TensorDict]`):
            Returns what earlier stages trained, given the round and the tensors that train now.
        waiting ([`Waiting`], *optional*):
            How long a round waits.
        limits ([`~exchange.limits.Limits`], *optional*):
            Limits of an update.

    Attributes:
        rows (`dict[str, int]`): The number of rows that each client last claimed, or 1 if all have the same weight.
        refused (`dict[str, str]`): Why updates of the last round did not count; told with the next announcement.
    """

    def __init__(
        self,
        repository: Repository,
        facts: RunFacts,
        fixed: Callable[[int, TensorDict], TensorDict],
        waiting: Waiting | None = None,
        limits: Limits | None = None,
    ):
        self.repository, self.facts, self.fixed = repository, facts, fixed
        self.waiting, self.limits = waiting or Waiting(), limits or Limits()
        self.rows: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self._pause = repository.first_wait or 1.0
        self._seen: dict[str, str] = {}
        self._numbers = count()

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[ClientUpdate]:
        """Yield the updates that count, in client-id order, when all are there or the round's time is over."""
        current = _same_for_all(tasks)
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # abandoned downloads may write
            announcement, sha256 = self.announce(OPEN, tasks[0], [task.client_id for task in tasks], Path(folder))
            intake = Intake(announcement, sha256, current, self.limits)
            self._collect(intake, Path(folder))
            self.refused = dict(intake.refused)
            for update in intake.updates():
                self.rows[update.client_id] = update.num_samples
                yield update

    def finish(self, round_idx: int, tensors: TensorDict) -> None:
        """Announce that there are no more rounds, so that clients end."""
        with TemporaryDirectory() as folder:
            self.announce(FINISHED, ClientTask(round_idx, "", tensors), [], Path(folder))

    def announce(self, status: str, task: ClientTask, cohort: Sequence[str], folder: Path) -> tuple[Announcement, str]:
        """Announce a round, unless it is announced already.

        Args:
            status (`str`):
                `"open"` or `"finished"`.
            task (`ClientTask`):
                What every client of the cohort is sent.
            cohort (`Sequence[str]`):
                The clients that are asked.
            folder (`Path`):
                Gets the files that are sent.

        Returns:
            `tuple`: the announcement, and the hash of its file.
        """
        state = {"global": task.tensors, **task.control}
        fixed = {"fixed": self.fixed(task.round_idx, task.tensors)}
        files = {path: folder / Path(path).name for path in (GLOBAL, FIXED)}
        announcement = Announcement(
            server=self.facts.server,
            status=status,
            round_idx=task.round_idx,
            num_rounds=self.facts.num_rounds,
            client_ids=self.facts.client_ids,
            cohort=sorted(cohort),
            deadline=self._deadline(),
            config_sha256=sha256_of(self.facts.config),
            base_sha256=self.facts.base_sha256,
            adapter_sha256=self.facts.adapter_sha256,
            layout=layout_of(state),
            tensors_sha256=_save(state, files[GLOBAL]),
            fixed=layout_of(fixed),
            fixed_sha256=_save(fixed, files[FIXED]),
            versions=dict(self.facts.versions),
            refused=self.refused,
        )
        return publish(self.repository, announcement, {CONFIG: self.facts.config, **files})

    def _deadline(self) -> str | None:
        if self.waiting.round_timeout is None:
            return None
        return (datetime.now(UTC) + timedelta(seconds=self.waiting.round_timeout)).isoformat()

    def _collect(self, intake: Intake, folder: Path) -> None:
        """Look for updates until there are enough.

        Each update is downloaded in its own thread, where an outage is waited out: a file that the Hub cannot deliver
        holds up neither the other clients nor the end of the round.
        """
        downloads: dict[UpdateLocation, Future] = {}
        stop, is_told = Event(), False
        repository = replace(self.repository, first_wait=self._pause, is_over=stop)
        try:
            while True:
                for location in self._new_locations(repository, folder):
                    downloads[location] = _in_background(partial(intake.download, location))
                wait(downloads.values(), self._pause, FIRST_COMPLETED)
                for location in [location for location, download in downloads.items() if download.done()]:
                    intake.consider(location, downloads.pop(location).result)
                is_over = intake.announcement.is_over(datetime.now(UTC))
                num_missing = self._num_needed(intake) - len(intake.accepted)
                are_all_refused = not downloads and all(c in intake.refused for c in intake.missing)
                if num_missing <= 0 and (is_over or are_all_refused):
                    break
                if is_over and not is_told:
                    logger.warning(
                        f"The time of round {intake.announcement.round_idx} is over, and it needs {num_missing} more "
                        f"updates. It waits for {', '.join(intake.missing)}."
                    )
                    is_told = True
                if not downloads:
                    time.sleep(self._pause)
        finally:
            stop.set()
        for location in downloads:
            if location.client_id in intake.missing:
                intake.refuse(location, "the Hub could not deliver it before the deadline")

    def _num_needed(self, intake: Intake) -> int:
        return min(self.waiting.min_clients or len(intake.announcement.cohort), len(intake.announcement.cohort))

    def _new_locations(self, repository: Repository, folder: Path) -> list[UpdateLocation]:
        """Find the updates whose commit was not there at the last look.

        A branch takes precedence over pull requests, and of those the oldest counts: nobody takes over a client's
        name.

        Args:
            repository ([`~repository.Repository`]):
                The repository to download them from.
            folder (`Path`):
                Gets the files that are downloaded.
        """
        once = replace(self.repository, first_wait=None)  # after an outage, the next look is the next attempt
        try:
            heads = once.heads()
            new = {name for name, commit in heads.items() if self._seen.get(name) != commit}
            has_new_pull = any(name.startswith("refs/pr/") for name in new)
            pulls = once.pull_requests() if has_new_pull else []
        except HubOutageError as error:
            logger.warning(f"{self.repository.repo_id} cannot be read now: {error}.")
            return []
        self._seen = heads
        sources: dict[str, str] = {}
        for pull in reversed(pulls):
            if pull.title.startswith(TITLE) and pull.ref in heads:
                sources[pull.title.removeprefix(TITLE)] = pull.ref
        sources |= {name.removeprefix(BRANCHES): name for name in heads if name.startswith(BRANCHES)}
        return [
            UpdateLocation(repository, client_id, source, heads[source], folder / str(next(self._numbers)))
            for client_id, source in sorted(sources.items())
            if source in new
        ]


def _in_background(call: Callable[[], T]) -> Future[T]:
    """Call a function in a thread that ends with the process, which a thread of an executor does not."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="fedvlm-download", daemon=True).start()
    return future


def _save(state: State, path: Path) -> str:
    save_state(path, state)
    return file_sha256(path)


def _same_for_all(tasks: Sequence[ClientTask]) -> TensorDict:
    """Return what every client of the round starts from.

    Raises:
        `ValueError`: if clients are sent different tensors: there is one announcement for all.
    """
    sent = {(task.tensors.digest(), *sorted((k, v.digest()) for k, v in task.control.items())) for task in tasks}
    if len(sent) != 1:
        raise ValueError(
            "`method` sends clients different tensors, but a round in a repository is one announcement for all. Use a "
            "method that sends the same to all, or simulate with `FederatedTrainer`."
        )
    return tasks[0].tensors
