"""The baseline `local`: every client trains alone and nothing is shared."""

from dataclasses import dataclass

from .base import CLIENT_METHODS, ClientMethod


@CLIENT_METHODS.register("local")
@dataclass(frozen=True)
class Local(ClientMethod):
    """No tensor travels, so each client continues from its own weights and is evaluated with them.

    The optimizer is fresh in every round, as it is for a federated client: the runs differ in sharing alone.
    """

    def is_shared(self, name: str) -> bool:
        """No tensor travels."""
        return False

    @property
    def takes_strategy(self) -> bool:
        """No tensor travels, so a server has nothing to combine."""
        return False
