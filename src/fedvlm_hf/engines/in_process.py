"""The default engine: one client after the other, in this process."""

from collections.abc import Callable, Iterator, Sequence

from ..types import ClientTask, ClientUpdate


class InProcessEngine:
    """Runs clients one by one, so that memory does not grow with their number.

    Args:
        run_client (`Callable[[ClientTask], ClientUpdate]`):
            Runs one client.
    """

    def __init__(self, run_client: Callable[[ClientTask], ClientUpdate]):
        self.run_client = run_client

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[ClientUpdate]:
        """Yield one update for each task, in client-id order."""
        for task in sorted(tasks, key=lambda task: task.client_id):
            yield self.run_client(task)
