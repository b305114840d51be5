"""Clients with given changes, and rounds of a strategy with them, for the tests of server halves."""

from collections.abc import Iterator, Sequence
from functools import partial

from fedvlm_hf import testing
from fedvlm_hf.methods import Strategy
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing import scalars, sent
from fedvlm_hf.types import ClientUpdate, ServerState


Round = Sequence[tuple[int, float]]
"""A number of samples and a change of the weight for each client."""


def updates(current: TensorDict, clients: Round) -> list[ClientUpdate]:
    """Return updates of clients that change the first weight by the given amount and the second by its opposite."""
    weight, mirror = current["w"].tolist()
    return [sent(f"client_{i:02d}", n, w=[weight + by, mirror - by]) for i, (n, by) in enumerate(clients)]


def steps(strategy: Strategy, rounds: Sequence[Round], start: float = 0.0) -> Iterator[tuple[float, ServerState]]:
    """Yield the weight and the server's state after each round, and check that the mirrored weight mirrors it."""
    sends = [partial(updates, clients=clients) for clients in rounds]
    for current, state in testing.steps(strategy, sends, scalars(w=[start, -start])):
        weight, mirror = current.flat.tolist()
        assert mirror == -weight
        yield weight, state


def weights_after(strategy: Strategy, rounds: Sequence[Round], start: float = 0.0) -> list[float]:
    """Return the weight after each round."""
    return [weight for weight, _ in steps(strategy, rounds, start)]


def state_after(strategy: Strategy, rounds: Sequence[Round], group: str) -> list[float]:
    """Return the first value of a group of the server's state after each round."""
    return [state.tensors[group].flat[0].item() for _, state in steps(strategy, rounds)]
