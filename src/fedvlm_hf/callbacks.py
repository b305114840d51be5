"""RoundCallback: what happens between rounds. Saving, pushing and reporting are callbacks; so are a user's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .tensors import TensorDict
from .types import RoundRecord, ServerState, State


@dataclass(frozen=True)
class RoundEnd:
    """A whole round, as callbacks see it.

    Args:
        record (`RoundRecord`):
            Scores, losses, bytes and times of the round.
        tensors (`TensorDict`):
            The shared tensors after the round.
        state (`ServerState`):
            The strategy's state after the round.
        num_rounds (`int`):
            The last round of the run.
        transforms (`State`, *optional*):
            What the transforms keep at the server.
        client_versions (`Mapping[str, int]`, *optional*):
            For each client that keeps something, the round whose state is its newest.
    """

    record: RoundRecord
    tensors: TensorDict
    state: ServerState
    num_rounds: int
    transforms: State = field(default_factory=dict)
    client_versions: Mapping[str, int] = field(default_factory=dict)


class RoundCallback:
    """Called by the server loop, in the order given; all hooks do nothing by default."""

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Before the first round; `history` holds the rounds of a resumed run, round 0 first."""

    def on_round_end(self, end: RoundEnd) -> bool | None:
        """After each round, round 0 included. Return `True` to end the run after this round."""

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """After the last round, and also where a round raised: close what `on_start` opened."""
