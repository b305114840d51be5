"""What tests of server halves share: clients whose changes are given, and the rounds of a strategy."""

from collections.abc import Iterator, Sequence

from fedvlm_hf.methods import Strategy
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing import sent
from fedvlm_hf.testing.examples import scalars, step
from fedvlm_hf.types import ClientUpdate, ServerState


Round = Sequence[tuple[int, float]]
"""A number of samples and a change of the weight for each client."""


def updates(current: TensorDict, clients: Round) -> list[ClientUpdate]:
    """What clients send that change the first weight by so much and the second, its mirror image, by the opposite."""
    weight, mirror = current["w"].tolist()
    return [sent(f"client_{i:02d}", n, w=[weight + by, mirror - by]) for i, (n, by) in enumerate(clients)]


def steps(strategy: Strategy, rounds: Sequence[Round], start: float = 0.0) -> Iterator[tuple[float, ServerState]]:
    """The weight and the server's state after each round, from `start`. The mirrored weight is held to its mirror."""
    current = scalars(w=[start, -start])
    state = strategy.init(current, 2)
    for clients in rounds:
        current, state = step(strategy, updates(current, clients), current, state)
        weight, mirror = current.flat.tolist()
        assert mirror == -weight
        yield weight, state


def weights_after(strategy: Strategy, rounds: Sequence[Round], start: float = 0.0) -> list[float]:
    """The weight after each round."""
    return [weight for weight, _ in steps(strategy, rounds, start)]


def state_after(strategy: Strategy, rounds: Sequence[Round], group: str) -> list[float]:
    """A tensor of the server's state after each round."""
    return [state.tensors[group].flat[0].item() for _, state in steps(strategy, rounds)]
