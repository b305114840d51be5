"""Who runs which client. An engine has `run(tasks)` and yields updates in client-id order."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..types import ClientTask, ClientUpdate


class Engine(Protocol):
    """Runs the clients of a round. Whatever the engine, the updates are the same to the bit."""

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[ClientUpdate]:
        """Yield one update a task, in client-id order, each as soon as it may be summed."""
        ...
