"""HubClient: waits for rounds in a repository, trains them with a Trainer of its own, and answers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from transformers.utils import logging

from ...files import file_sha256
from ...tensors import TensorDict
from ...types import ClientTask, State
from .answers import Answers
from .documents import sha256_of
from .facts import check_same
from .protocol import CONFIG, FINISHED, FIXED, GLOBAL, Announcement
from .publishing import read_announcement
from .remote import Remote
from .replying import Question, send, write_update
from .settings import Settings, read_settings
from .tensorfile import Layout, TensorFileError, layout_of, read_state


if TYPE_CHECKING:
    from ...trainer import FederatedTrainer

logger = logging.get_logger(__name__)


class HubClient:
    """One client of a federation through a repository.

    Args:
        remote ([`Remote`]):
            The repository.
        client_id (`str`):
            Which client this is.
        folder (`Path`):
            Where answers are kept until they are sent.
        make_trainer (`Callable[[Settings], tuple[FederatedTrainer, str]]`):
            Makes this client's trainer as the server says, and the hash of its base model's weights.
        is_any_version (`bool`, *optional*, defaults to `False`):
            Whether to train with other package versions than the server's.
    """

    def __init__(
        self,
        remote: Remote,
        client_id: str,
        folder: Path,
        make_trainer: "Callable[[Settings], tuple[FederatedTrainer, str]]",
        is_any_version: bool = False,
    ):
        self.remote, self.client_id, self.make_trainer = remote, client_id, make_trainer
        self.answers = Answers(folder)
        self.is_any_version = is_any_version
        self._trainer: FederatedTrainer | None = None
        self._base = self._config = self._adapter = self._fixed = ""

    def run(self) -> int:
        """Answer every round that asks this client, until the server says that there is no other.

        Returns:
            `int`: rounds that were answered.

        Raises:
            `ValueError`: if this host cannot take part, before it trains.
        """
        count = 0
        logger.info(f"{self.client_id} waits for the rounds of {self.remote.repo_id}.")
        for announcement, sha256, commit in self._announcements():
            reason = announcement.refused.get(self.client_id)
            if reason:
                logger.warning(f"The server refused the last update of {self.client_id!r}: {reason}.")
            if announcement.status == FINISHED:
                logger.info(f"The server has finished after round {announcement.round_idx}.")
                return count
            if self.client_id not in announcement.client_ids:
                raise ValueError(
                    f"`client_id` {self.client_id!r} is not one of the federation's: "
                    f"{', '.join(announcement.client_ids)}."
                )
            if self.client_id in announcement.cohort:
                count += self._answer(announcement, sha256, commit)
        return count

    def _announcements(self) -> Iterator[tuple[Announcement, str, str]]:
        """Each new announcement, its hash and its commit, as they come."""
        seen_commit = seen = None
        while True:
            head = self.remote.head()
            found = read_announcement(self.remote, head) if head != seen_commit else None
            seen_commit = head
            if found and found[1] != seen:
                seen = found[1]
                yield *found, head
            else:
                time.sleep(self.remote.pause)

    def _answer(self, announcement: Announcement, sha256: str, commit: str) -> bool:
        """Train a round and send the update, or what of this is not done yet; whether there was something to do."""
        if self.answers.sent().get("announcement_sha256") == sha256:
            return False
        while (answer := self.answers.find(sha256)) is None:
            self._train(announcement, sha256, commit)
        source = send(answer, self.client_id, self.remote, self.answers.sent().get("source"))
        self.answers.mark_sent(answer, source)
        logger.info(f"Round {answer.round_idx} of {announcement.num_rounds} is answered in {source}.")
        return True

    def _train(self, announcement: Announcement, sha256: str, commit: str) -> None:
        trainer = self._prepare(announcement, commit)
        with TemporaryDirectory() as folder:
            fixed = TensorDict({})
            if announcement.fixed_sha256 != self._fixed:  # a stage begins, or this client does
                fixed = self._fetch(FIXED, announcement.fixed, announcement.fixed_sha256, commit, Path(folder))[
                    "fixed"
                ]
                self._fixed = announcement.fixed_sha256
            sent = self._fetch(GLOBAL, announcement.layout, announcement.tensors_sha256, commit, Path(folder))
        trainer.enter_round(announcement.round_idx, fixed, self.answers.versions_before(announcement.round_idx))
        self._check(announcement, trainer)
        task = ClientTask(announcement.round_idx, self.client_id, sent.pop("global"), control=sent)
        logger.info(f"Round {announcement.round_idx} of {announcement.num_rounds} is trained.")
        update = trainer.run_client(task)
        with self.answers.new(announcement.round_idx, sha256) as (folder, versions):
            versions |= trainer.state_versions
            write_update(update, folder, Question(announcement, sha256, commit, task.tensors), self._base)

    def _prepare(self, announcement: Announcement, commit: str) -> "FederatedTrainer":
        """This client's trainer, made for the first round that it is asked in."""
        if self._trainer is None:
            content = self.remote.read(CONFIG, commit) or b""
            self._config = sha256_of(content)
            self._trainer, self._base = self.make_trainer(read_settings(content))
            adapter = self._trainer.adapter
            self._adapter = adapter.read(adapter.parameters).digest()
        return self._trainer

    def _check(self, announcement: Announcement, trainer: "FederatedTrainer") -> None:
        layout = layout_of({"global": trainer.shared_tensors})["global"]
        for line in check_same(
            announcement,
            base=self._base,
            config=self._config,
            adapter=self._adapter,
            layout=layout,
            is_any_version=self.is_any_version,
        ):
            logger.warning(f"The last bits may differ from the server's own: {line}.")

    def _fetch(self, path: str, layout: Layout, sha256: str, commit: str, folder: Path) -> State:
        local = self.remote.download(path, commit, folder)
        if file_sha256(local) != sha256:
            raise ValueError(f"{path} of {self.remote.repo_id} is not the file that the server announced.")
        try:
            return read_state(local, layout)
        except TensorFileError as error:
            raise ValueError(f"{path} of {self.remote.repo_id} {error}.") from None
