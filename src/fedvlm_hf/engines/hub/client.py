"""HubClient: waits for rounds in a repository, trains them with its own Trainer, and answers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from transformers.utils import logging

from ...client.model import ClientModel
from ...client.store import ClientStore
from ...exchange.settings import Facts, Settings, compare_facts, read_settings
from ...exchange.tensor_files import SHARED, Layout, TensorFileError, expected_of, read_tensors
from ...files import file_sha256
from ...repository import Repository
from ...tensors import TensorDict
from ...transforms import TransformChain
from ...types import ClientTask, ClientUpdate
from .answers import Answers, Question, send, write_update
from .protocol import CONFIG, FINISHED, FIXED, Announcement, read_announcement


logger = logging.get_logger(__name__)


class ClientHost(Protocol):
    """What trains a client on this host: a trainer that is built for this one client.

    Attributes:
        local ([`~fedvlm_hf.client.model.ClientModel`]): The model.
        store ([`~fedvlm_hf.client.store.ClientStore`]): What the client keeps between its rounds.
        transforms ([`~fedvlm_hf.transforms.TransformChain`]): What happens to updates on their way.
    """

    local: ClientModel
    store: ClientStore
    transforms: TransformChain

    def run_client(self, task: ClientTask) -> ClientUpdate:
        """Run the client and return what travels."""
        ...


class HubClient:
    """One client of a federation through a repository.

    Args:
        repository ([`~repository.Repository`]):
            The repository; its `first_wait` is also the time between two looks.
        client_id (`str`):
            This client.
        folder (`Path`):
            Keeps answers until they are sent.
        make_host (`Callable[[Settings], tuple[ClientHost, str]]`):
            Makes the trainer of this client with the server's settings; also returns the hash of its base model.
        is_any_version (`bool`, *optional*, defaults to `False`):
            Whether to train with package versions that differ from the server's.
    """

    def __init__(
        self,
        repository: Repository,
        client_id: str,
        folder: Path,
        make_host: Callable[[Settings], tuple[ClientHost, str]],
        is_any_version: bool = False,
    ):
        self.repository, self.client_id, self.make_host = repository, client_id, make_host
        self.answers = Answers(folder)
        self.is_any_version = is_any_version
        self._host: ClientHost | None = None
        self._fixed: dict[str, TensorDict] = {}
        self._base = self._fixed_sha256 = ""

    def run(self) -> int:
        """Answer every round that asks this client, until the server announces that there are no more.

        Returns:
            `int`: the number of rounds that were answered.

        Raises:
            `ValueError`: if this host cannot take part, before it trains.
        """
        count = 0
        logger.info(f"{self.client_id} waits for the rounds of {self.repository.repo_id}.")
        for announcement, sha256, commit in self._announcements():
            reason = announcement.refused.get(self.client_id)
            if reason:
                logger.warning(f"The server refused the last update of {self.client_id!r}: {reason}.")
            if announcement.status == FINISHED:
                logger.info(f"The server has finished after round {announcement.round_idx}.")
                return count
            if self.client_id not in announcement.client_ids:
                raise ValueError(
                    f"`client_id` {self.client_id!r} is not one of the federation's clients: "
                    f"{', '.join(announcement.client_ids)}."
                )
            if self.client_id in announcement.cohort:
                count += self._answer(announcement, sha256, commit)
        return count

    def _announcements(self) -> Iterator[tuple[Announcement, str, str]]:
        """Yield each new announcement with its hash and its commit."""
        seen_commit = seen = None
        while True:
            head = self.repository.head()
            found = read_announcement(self.repository, head) if head != seen_commit else None
            seen_commit = head
            if found and found[1] != seen:
                seen = found[1]
                yield *found, head
            else:
                time.sleep(self.repository.first_wait or 1.0)

    def _answer(self, announcement: Announcement, sha256: str, commit: str) -> bool:
        """Train a round and send the update if that is not done yet; return whether there was anything to do."""
        if self.answers.sent().get("announcement_sha256") == sha256:
            return False
        while (answer := self.answers.find(sha256)) is None:
            self._train(announcement, sha256, commit)
        source = send(answer, self.client_id, self.repository, self.answers.sent().get("source"))
        self.answers.mark_sent(answer, source)
        logger.info(f"Round {answer.round_idx} of {announcement.num_rounds} was answered in {source}.")
        return True

    def _train(self, announcement: Announcement, sha256: str, commit: str) -> None:
        host = self._prepare(announcement, commit)
        round_idx, versions = announcement.round_idx, self.answers.versions_before(announcement.round_idx)
        task = self._task(announcement, commit)
        host.store.restore(versions)
        host.store.prune([versions])
        logger.info(f"Training round {round_idx} of {announcement.num_rounds}.")
        update = host.run_client(task)
        with self.answers.new(round_idx, sha256) as (folder, kept):
            kept |= host.store.versions
            question = Question(announcement, sha256, commit, task, host.transforms)
            write_update(update, folder, question, self._base)

    def _prepare(self, announcement: Announcement, commit: str) -> ClientHost:
        """Return what trains this client, which is made when the client is asked for the first time."""
        if self._host is None:
            content = self.repository.read(CONFIG, commit) or b""
            self._host, self._base = self.make_host(read_settings(content))
            self._facts = Facts.of(content, self._base, self._host.local.initial)
        for line in compare_facts(self._facts, announcement.facts, self.is_any_version):
            logger.warning(f"The last bits may differ from the server's own: {line}.")
        return self._host

    def _task(self, announcement: Announcement, commit: str) -> ClientTask:
        """Download this client's task of a round."""
        path, file = announcement.task_of(self.client_id)
        with TemporaryDirectory() as folder:
            if announcement.fixed_sha256 != self._fixed_sha256:  # a stage begins, or this client has just started
                fixed = announcement.fixed, announcement.fixed_sha256
                self._fixed, self._fixed_sha256 = self._download(FIXED, *fixed, commit, Path(folder)), fixed[1]
            control = self._download(path, file.layout, file.sha256, commit, Path(folder))
        return ClientTask(
            announcement.round_idx,
            self.client_id,
            control.pop(SHARED),
            control=control,
            expects=expected_of(file.expects),
            fixed=self._fixed["fixed"],
            base=self._fixed["base"],
        )

    def _download(self, path: str, layout: Layout, sha256: str, commit: str, folder: Path) -> dict[str, TensorDict]:
        local = self.repository.download(path, commit, folder)
        if file_sha256(local) != sha256:
            raise ValueError(f"{path} of {self.repository.repo_id} is not the file that the server announced.")
        try:
            groups = read_tensors(local, layout)
        except TensorFileError as error:
            raise ValueError(f"{path} of {self.repository.repo_id} {error}.") from None
        return {group: TensorDict.from_tensors(tensors) for group, tensors in groups.items()}
