"""HubClient: waits for rounds in a repository, trains them with its own Trainer, and answers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from transformers.utils import logging

from ...exchange.documents import sha256_of
from ...exchange.settings import Facts, Settings, compare_facts, package_versions, read_settings
from ...exchange.tensor_files import Layout, TensorFileError, layout_of, read_tensors
from ...files import file_sha256
from ...repository import Repository
from ...tensors import TensorDict
from ...types import ClientTask
from .answers import Answers, Question, send, write_update
from .protocol import CONFIG, FINISHED, FIXED, GLOBAL, Announcement, read_announcement


if TYPE_CHECKING:
    from ...trainer import FederatedTrainer

logger = logging.get_logger(__name__)


class HubClient:
    """One client of a federation through a repository.

    Args:
        repository ([`~repository.Repository`]):
            The repository; its `first_wait` is also the time between two looks.
        client_id (`str`):
            This client.
        folder (`Path`):
            Keeps answers until they are sent.
        make_trainer (`Callable[[Settings], tuple[FederatedTrainer, str]]`):
            Makes this client's trainer with the server's settings; also returns the hash of its base model's weights.
        is_any_version (`bool`, *optional*, defaults to `False`):
            Whether to train with package versions that differ from the server's.
    """

    def __init__(
        self,
        repository: Repository,
        client_id: str,
        folder: Path,
        make_trainer: "Callable[[Settings], tuple[FederatedTrainer, str]]",
        is_any_version: bool = False,
    ):
        self.repository, self.client_id, self.make_trainer = repository, client_id, make_trainer
        self.answers = Answers(folder)
        self.is_any_version = is_any_version
        self._trainer: FederatedTrainer | None = None
        self._base = self._config = self._adapter = self._fixed = ""

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
        trainer = self._prepare(announcement, commit)
        with TemporaryDirectory() as folder:
            fixed = TensorDict({})
            if announcement.fixed_sha256 != self._fixed:  # a stage begins, or this client has just started
                read = self._download(FIXED, announcement.fixed, announcement.fixed_sha256, commit, Path(folder))
                fixed, self._fixed = read["fixed"], announcement.fixed_sha256
            sent = self._download(GLOBAL, announcement.layout, announcement.tensors_sha256, commit, Path(folder))
        trainer.enter_round(announcement.round_idx, fixed, self.answers.versions_before(announcement.round_idx))
        self._check(announcement, trainer)
        task = ClientTask(announcement.round_idx, self.client_id, sent.pop("global"), control=sent)
        logger.info(f"Training round {announcement.round_idx} of {announcement.num_rounds}.")
        update = trainer.run_client(task)
        with self.answers.new(announcement.round_idx, sha256) as (folder, versions):
            versions |= trainer.state_versions
            write_update(update, folder, Question(announcement, sha256, commit, task.tensors), self._base)

    def _prepare(self, announcement: Announcement, commit: str) -> "FederatedTrainer":
        """Return this client's trainer, which is made when it is asked for the first time."""
        if self._trainer is None:
            content = self.repository.read(CONFIG, commit) or b""
            self._config = sha256_of(content)
            self._trainer, self._base = self.make_trainer(read_settings(content))
            adapter = self._trainer.adapter
            self._adapter = adapter.read(adapter.parameters).digest()
        return self._trainer

    def _check(self, announcement: Announcement, trainer: "FederatedTrainer") -> None:
        layout = layout_of({"global": trainer.shared_tensors})["global"]
        here = Facts(self._config, self._base, self._adapter, layout, package_versions())
        for line in compare_facts(here, announcement.facts, self.is_any_version):
            logger.warning(f"The last bits may differ from the server's own: {line}.")

    def _download(self, path: str, layout: Layout, sha256: str, commit: str, folder: Path) -> dict[str, TensorDict]:
        local = self.repository.download(path, commit, folder)
        if file_sha256(local) != sha256:
            raise ValueError(f"{path} of {self.repository.repo_id} is not the file that the server announced.")
        try:
            groups = read_tensors(local, layout)
        except TensorFileError as error:
            raise ValueError(f"{path} of {self.repository.repo_id} {error}.") from None
        return {group: TensorDict.from_tensors(tensors) for group, tensors in groups.items()}
