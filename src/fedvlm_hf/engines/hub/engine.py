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

import torch
from transformers.utils import logging

from ...exchange.limits import Limits
from ...exchange.settings import Facts
from ...exchange.tensor_files import expected_layout, grouped, layout_of, save_state
from ...files import file_sha256
from ...repository import Repository
from ...repository.requests import HubOutageError
from ...tensors import TensorDict
from ...transforms import TransformChain
from ...types import Absent, ClientTask, ClientUpdate
from .intake import Intake
from .protocol import BRANCHES, CONFIG, FINISHED, FIXED, OPEN, TITLE, Announcement, TaskFile, publish, task_path


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
        facts ([`~exchange.settings.Facts`]): What clients compare with their own hosts.
    """

    server: str
    num_rounds: int
    client_ids: list[str]
    config: bytes
    facts: Facts


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
        run ([`RunFacts`]):
            What is the same in every round.
        transforms ([`~fedvlm_hf.transforms.TransformChain`], *optional*):
            What happens to updates on their way.
        waiting ([`Waiting`], *optional*):
            How long a round waits.
        limits ([`~exchange.limits.Limits`], *optional*):
            Limits of an update.

    Attributes:
        rows (`dict[str, float]`): The weight that each client last claimed: its number of rows, or 1.
        refused (`dict[str, str]`): Why updates of the last round did not count; told with the next announcement.
    """

    def __init__(
        self,
        repository: Repository,
        run: RunFacts,
        transforms: TransformChain | None = None,
        waiting: Waiting | None = None,
        limits: Limits | None = None,
    ):
        self.repository, self.run_facts, self.transforms = repository, run, transforms or TransformChain()
        self.waiting, self.limits = waiting or Waiting(), limits or Limits()
        self.rows: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        self._pause = repository.first_wait or 1.0
        self._seen: dict[str, str] = {}
        self._is_away = False
        self._numbers = count()

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[ClientUpdate | Absent]:
        """Yield the updates that count, and who is left out, when all have answered or the round's time is over."""
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # abandoned downloads may write
            announcement, sha256 = self.announce(tasks, Path(folder))
            by_client = {task.client_id: task for task in tasks}
            intake = Intake(announcement, sha256, by_client, self.transforms, self.limits)
            self._collect(intake, Path(folder))
            self.refused = dict(intake.refused)
            for answer in intake.answers():
                if isinstance(answer, ClientUpdate):
                    self.rows[answer.client_id] = answer.weight
                yield answer

    def finish(self, round_idx: int, tensors: TensorDict) -> None:
        """Announce that there are no more rounds, so that clients end."""
        with TemporaryDirectory() as folder:
            self.announce([ClientTask(round_idx, "", tensors)], Path(folder), FINISHED)

    def announce(self, tasks: Sequence[ClientTask], folder: Path, status: str = OPEN) -> tuple[Announcement, str]:
        """Announce a round, unless it is announced already.

        Args:
            tasks (`Sequence[ClientTask]`):
                What each client of the cohort is sent. Clients that are sent the same share a file.
            folder (`Path`):
                Gets the files that are sent.
            status (`str`, *optional*, defaults to `"open"`):
                `"open"` or `"finished"`; then the task is for nobody, and holds the last round's tensors.

        Returns:
            `tuple`: the announcement, and the hash of its file.
        """
        numbers, files = _write_tasks(tasks, folder)
        fixed, path = {"fixed": tasks[0].fixed, "base": tasks[0].base}, folder / Path(FIXED).name
        run, facts = self.run_facts, self.run_facts.facts
        announcement = Announcement(
            server=run.server,
            status=status,
            round_idx=tasks[0].round_idx,
            num_rounds=run.num_rounds,
            client_ids=run.client_ids,
            cohort=dict(sorted(numbers.items())) if status == OPEN else {},
            tasks=files,
            deadline=self._deadline(),
            config_sha256=facts.config_sha256,
            base_sha256=facts.base_sha256,
            adapter=dict(facts.adapter),
            adapter_sha256=facts.adapter_sha256,
            fixed=layout_of(fixed),
            fixed_sha256=_save(fixed, path),
            versions=dict(facts.versions),
            refused=self.refused,
        )
        paths = {task_path(number): folder / Path(task_path(number)).name for number in range(len(files))}
        return publish(self.repository, announcement, {CONFIG: run.config, FIXED: path, **paths})

    def _deadline(self) -> str | None:
        if self.waiting.round_timeout is None:
            return None
        return (datetime.now(UTC) + timedelta(seconds=self.waiting.round_timeout)).isoformat()

    def _collect(self, intake: Intake, folder: Path) -> None:
        """Look for updates until there are enough.

        Each update is downloaded in its own thread, where an outage is waited out: a file that the Hub cannot deliver
        holds up neither the other clients nor the end of the round.
        """
        num_asked = len(intake.announcement.cohort)
        num_needed = min(self.waiting.min_clients or num_asked, num_asked)
        downloads: dict[UpdateLocation, Future] = {}
        stop, is_told = Event(), False
        repository = replace(self.repository, first_wait=self._pause, is_over=stop)
        try:
            while True:
                for location in self._new_locations(repository, folder):
                    if location.client_id in intake.missing:
                        downloads[location] = _in_background(partial(intake.download, location))
                    else:  # of nobody who was asked, or a second update
                        intake.consider(location)
                wait(downloads.values(), self._pause, FIRST_COMPLETED)
                for location in [location for location, download in downloads.items() if download.done()]:
                    intake.consider(location, downloads.pop(location).result)
                is_over = intake.announcement.is_over(datetime.now(UTC))
                num_missing = num_needed - len(intake.accepted)
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
            if not self._is_away:
                logger.warning(f"{self.repository.repo_id} cannot be read now: {error}. It is looked at again.")
            self._is_away = True
            return []
        self._seen, self._is_away = heads, False
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


def _write_tasks(tasks: Sequence[ClientTask], folder: Path) -> tuple[dict[str, int], list[TaskFile]]:
    """Write one file for each different task; return each client's number, and the files."""
    numbers: dict[str, int] = {}
    files: list[TaskFile] = []
    known: dict[tuple, int] = {}
    for task in tasks:
        groups, expects = grouped(task.tensors, task.control), expected_layout(task.expected)
        digests = (task.tensors.digest(), *((name, group.digest()) for name, group in task.control.items()))
        key = (*digests, str(expects))
        if key not in known:
            known[key] = len(files)
            sha256 = _save(groups, folder / Path(task_path(len(files))).name)
            files.append(TaskFile(sha256, layout_of(groups), expects))
        numbers[task.client_id] = known[key]
    return numbers, files


def _save(groups: Mapping[str, Mapping[str, torch.Tensor]], path: Path) -> str:
    save_state(path, groups)
    return file_sha256(path)
