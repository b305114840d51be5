"""Sending a run's rounds in order, each as one commit and one tag, and never over another run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..files import round_tag
from ..repository import Repository
from ..repository.repository import is_same
from ..repository.requests import HubMovedError, HubOutageError, HubRefusedError
from ..run_description import RunMismatchError, compare_runs
from .layout import CLIENT_VERSION, EXPORT, OWNED, ROUND_STATE, RUN, STATES, client_branch, is_local
from .outbox import Outbox, SentRecord
from .pack import base_files, digest_of


_MAX_MOVES = 5
_TENSORS = (EXPORT[1], *STATES)
_MEASURED = {"seconds", "peak_memory"}

logger = logging.get_logger(__name__)


class Sender:
    """Sends what waits in an outbox.

    These rules let it stop and start again anywhere:

    - A repository that holds another run (its `run.json` differs in more than the environment) is not written to.
    - If the Hub has a round under its tag with the same tensors and scores, as after resuming from an earlier round,
      it is not sent again. A round that came out different is committed on top of the branch, and the tag is moved to
      it; the old commit stays in the branch's history.
    - A commit is made only on the head that was read. If another commit came first, everything is read again.

    Args:
        outbox ([`~hub.outbox.Outbox`]):
            The queue; it names the repository.
        token (`str`, *optional*):
            By default the one that huggingface_hub finds.
    """

    def __init__(self, outbox: Outbox, token: str | None = None):
        self.outbox, self.target, self.token = outbox, outbox.target, token
        self.repository = Repository(self.target.repo_id, token, self.target.branch, self.target.private)
        self._own_head: str | None = None
        self._has_base = False

    def send(self, round_idx: int) -> str:
        """Send one round, and take it out of the queue.

        Returns:
            `str`: its commit.

        Raises:
            `HubOutageError`: if the Hub cannot answer now.
            `HubRefusedError`: if it refuses, or the repository is another run's.
        """
        for _ in range(_MAX_MOVES):
            try:
                commit = self._send(round_idx)
            except HubMovedError:
                continue
            self.outbox.note_sent(round_idx, commit)
            return commit
        raise HubOutageError(f"others commit to {self.target.repo_id} all the time")

    def _send(self, round_idx: int) -> str:
        files, branch, tag = self.outbox.files(round_idx), self.target.branch, round_tag(round_idx)
        head = self.repository.ensure_branch(branch)
        if head != self._own_head:
            self._check_same_run(head, files)
        if not self._has_base:
            self._send_base()
        tagged = self.repository.tags().get(tag)
        is_there = tagged is not None and self._is_same_round(tagged, files)
        if tagged is not None and not is_there:
            logger.warning(
                f"{tag} of {self.target.repo_id} came out different from the one that is there. The new one is "
                f"committed on top, and the tag is moved from {tagged[:8]}, which stays in the history."
            )
        title = self.outbox.packer.title(round_idx)
        commit = tagged if is_there else self.repository.replace_files(title, files, branch, head, OWNED)
        self._own_head = head if is_there else commit
        self.repository.tag(tag, commit, is_moved=True)
        for client, client_files in self.outbox.client_files(round_idx).items():
            self._send_client(client, client_files, title, is_there)
        return commit

    def _check_same_run(self, head: str, files: Mapping[str, Path]) -> None:
        there = self.repository.files(head)
        where = f"`hub_model_id` {self.target.repo_id!r}"
        if RUN not in there:
            # only at the root: a federation's own tensors are in folders, also before its first round
            if any(path.endswith(".safetensors") and "/" not in path for path in there):
                raise HubRefusedError(
                    f"{where} holds a model that is not from a federated run; nothing was overwritten."
                )
            return
        own = json.loads(files[RUN].read_text(encoding="utf-8"))
        try:
            compare_runs(self.repository.read_json(RUN, head), own, where, self.target.repo_id)
        except RunMismatchError as error:
            differences = [line.strip() for line in str(error).splitlines() if line.startswith("  ")]
            raise HubRefusedError(
                f"{where} holds another run, so nothing was sent: {'; '.join(differences[:3])}. Give this run its own "
                "repository."
            ) from None

    def _send_base(self) -> None:
        folder = self.outbox.packer.info.base_model
        if is_local(folder) and self.target.base_model is None:
            base = Repository(self.target.base_repo_id, self.token, private=self.target.private)
            send_base(Path(folder), base, self.outbox.sent)
        self._has_base = True

    def _is_same_round(self, commit: str, files: Mapping[str, Path]) -> bool:
        there = self.repository.files(commit)
        if not all(path in there and is_same(files[path], there[path]) for path in _TENSORS):
            return False
        own = json.loads(files[ROUND_STATE].read_text(encoding="utf-8"))
        return _without_measured(self.repository.read_json(ROUND_STATE, commit)) == _without_measured(own)

    def _send_client(self, client: str, files: Mapping[str, Path], title: str, is_there: bool) -> None:
        branch = client_branch(client)
        head = self.repository.ensure_branch(branch)
        if is_there and CLIENT_VERSION in self.repository.files(head):
            own = json.loads(files[CLIENT_VERSION].read_text(encoding="utf-8"))
            if self.repository.read_json(CLIENT_VERSION, head)["version"] >= own["version"]:
                return
        self.repository.replace_files(title, files, branch, head, OWNED)


def send_base(folder: Path, repository: Repository, sent: SentRecord) -> None:
    """Push the files of a base model once, so that others can load the model that the rounds belong to.

    Args:
        folder (`Path`):
            The base model's folder.
        repository ([`~repository.Repository`]):
            Its own repository, created if it does not exist.
        sent ([`~hub.outbox.SentRecord`]):
            Where a digest of the files is noted.

    Raises:
        `HubRefusedError`: if it has no safetensors, or its repository holds another model.
    """
    files = base_files(folder)
    digest = digest_of(files)
    if sent.base == digest:
        return
    head = repository.ensure_branch(repository.branch)
    there = repository.files(head)
    weights = [path for path in there if path.endswith(".safetensors")]
    if not all(path in files and is_same(files[path], there[path]) for path in weights):
        raise HubRefusedError(
            f"{repository.repo_id}, the repository for the run's base model, holds another model, so nothing was "
            "sent. Give the run a new `hub_model_id`, or name the base model's own repository with `hub_base_model`."
        )
    repository.replace_files("Base model", files, repository.branch, head)
    sent.note_base(digest)


def _without_measured(value: Any) -> Any:
    """Return a round's state without times and memory, which differ in every run."""
    if isinstance(value, dict):
        return {key: _without_measured(part) for key, part in value.items() if key not in _MEASURED}
    return value
