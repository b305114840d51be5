"""The baseline `central`: one trainer on all rows, as if data could be pooled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import CLIENT_METHODS, ClientMethod


@CLIENT_METHODS.register("central")
@dataclass(frozen=True)
class Central(ClientMethod):
    """One continuous run on the pooled rows, cut into as many evaluation points as there are rounds.

    It takes as many samples as the federated run does: the steps of a round times the clients that take part in one.
    """

    def clients(self, datasets: Mapping[str, Any]) -> dict[str, Any]:
        """One client that holds every row, clients in sorted order."""
        from datasets import concatenate_datasets

        return {"central": concatenate_datasets([datasets[name] for name in sorted(datasets)])}

    @property
    def is_continuous(self) -> bool:
        """One run: the optimizer is never reset."""
        return True

    @property
    def takes_strategy(self) -> bool:
        """One run: a server would change its weights behind its optimizer's back."""
        return False
