"""Who runs which client. An engine has `run(tasks)` and yields one answer for each task, in any order."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..types import Absent, ClientTask, ClientUpdate


class Engine(Protocol):
    """Runs the clients of a round. Whatever the engine, the updates are the same to the bit."""

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[ClientUpdate | Absent]:
        """Yield one answer for each task, in any order: its update, or an [`Absent`] that says why there is none."""
        ...
