"""Making announcements, with the files that belong to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ...files import file_sha256
from ...state import save_state
from ...tensors import TensorDict
from ...types import ClientTask, State
from .documents import sha256_of, to_json
from .protocol import CONFIG, FIXED, GLOBAL, Announcement
from .publishing import publish
from .remote import Remote
from .tensorfile import layout_of


@dataclass(frozen=True)
class Federation:
    """What is the same in every round.

    Attributes:
        server (`str`): Names this server.
        num_rounds (`int`): The last round.
        client_ids (`list[str]`): Every client.
        config (`bytes`): Content of `federation/config.json`.
        base_sha256 (`str`), adapter_sha256 (`str`): Of the base model's weights and of the adapter before training.
        versions (`Mapping[str, str]`): Of the packages that both sides must share.
    """

    server: str
    num_rounds: int
    client_ids: list[str]
    config: bytes
    base_sha256: str
    adapter_sha256: str
    versions: Mapping[str, str]


class Announcer:
    """Announces rounds.

    Args:
        remote ([`Remote`]):
            The repository.
        federation ([`Federation`]):
            What is the same in every round.
        fixed (`Callable[[int, TensorDict], TensorDict]`):
            What earlier stages trained, given the round and the tensors that train now.
        timeout (`float`, *optional*):
            Seconds from an announcement to its deadline.

    Attributes:
        refused (`dict[str, str]`): Why updates of the last round were refused, to be told with the next.
    """

    def __init__(
        self,
        remote: Remote,
        federation: Federation,
        fixed: Callable[[int, TensorDict], TensorDict],
        timeout: float | None = None,
    ):
        self.remote, self.federation, self.fixed, self.timeout = remote, federation, fixed, timeout
        self.refused: dict[str, str] = {}

    def announce(self, status: str, task: ClientTask, cohort: Sequence[str], folder: Path) -> tuple[Announcement, str]:
        """Publish a round, unless it is published.

        Args:
            status (`str`):
                `"open"` or `"finished"`.
            task (`ClientTask`):
                What every client of the cohort is sent.
            cohort (`Sequence[str]`):
                Who is asked.
            folder (`Path`):
                Where files are put that are sent.

        Returns:
            `tuple`: what is announced, and the hash of its file.
        """
        state = {"global": task.tensors, **task.control}
        fixed = {"fixed": self.fixed(task.round_idx, task.tensors)}
        files = {path: folder / Path(path).name for path in (GLOBAL, FIXED)}
        layout = layout_of(state)
        announcement = Announcement(
            server=self.federation.server,
            status=status,
            round_idx=task.round_idx,
            num_rounds=self.federation.num_rounds,
            client_ids=self.federation.client_ids,
            cohort=sorted(cohort),
            deadline=self._deadline(),
            config_sha256=sha256_of(self.federation.config),
            base_sha256=self.federation.base_sha256,
            adapter_sha256=self.federation.adapter_sha256,
            layout=layout,
            layout_sha256=sha256_of(to_json(layout)),
            tensors_sha256=_save(state, files[GLOBAL]),
            fixed=layout_of(fixed),
            fixed_sha256=_save(fixed, files[FIXED]),
            versions=dict(self.federation.versions),
            refused=self.refused,
        )
        return publish(self.remote, announcement, {CONFIG: self.federation.config, **files})

    def _deadline(self) -> str | None:
        if self.timeout is None:
            return None
        return (datetime.now(UTC) + timedelta(seconds=self.timeout)).isoformat()


def _save(state: State, path: Path) -> str:
    save_state(path, state)
    return file_sha256(path)
