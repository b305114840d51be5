"""What of a run has arrived on the Hub: `outbox/sent.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_atomic
from .target import PushTarget


@dataclass(frozen=True)
class SentRecord:
    """By repository, the commit of each round; by the base model's, the digest of its files.

    Args:
        path (`Path`):
            The file; it is made at the first note.
        target ([`~hub.target.PushTarget`]):
            Whose repositories are meant.
    """

    path: Path
    target: PushTarget

    def rounds(self) -> dict[int, str]:
        """Round to commit."""
        return {int(round_idx): commit for round_idx, commit in self._read().get(self.target.repo_id, {}).items()}

    def keep_up_to(self, last_round: int) -> None:
        """Forget later rounds: the run was set back, and they will be made anew."""
        self._note(self.target.repo_id, {k: commit for k, commit in self.rounds().items() if k <= last_round})

    def note_round(self, round_idx: int, commit: str) -> None:
        """Note that a round has arrived."""
        self._note(self.target.repo_id, {**self.rounds(), round_idx: commit})

    @property
    def base(self) -> str | None:
        """Digest of the base model that was sent."""
        return self._read().get(self.target.base_repo_id)

    def note_base(self, digest: str) -> None:
        """Note that a base model has arrived."""
        self._note(self.target.base_repo_id, digest)

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def _note(self, repo_id: str, content: Mapping[int, str] | str) -> None:
        write_atomic(self.path, json.dumps({**self._read(), repo_id: content}, indent=2) + "\n")
