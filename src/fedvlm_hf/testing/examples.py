"""Worked examples: the formula of a paper on a few scalars, computed by hand, in a form that can be checked."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..methods import ClientMethod, Method, Strategy
from ..tensors import TensorDict
from ..types import ClientTask, ClientUpdate, LocalPhase, ServerState, State
from .report import Mismatch


def scalars(**values: Sequence[float]) -> TensorDict:
    """Return a TensorDict of a few numbers, such as `scalars(w=[1.0, -2.0])`."""
    return TensorDict.from_tensors({name: torch.tensor(numbers) for name, numbers in values.items()})


def sent(client_id: str, weight: float, control: State | None = None, **values: Sequence[float]) -> ClientUpdate:
    """Return the update of a client with this weight, such as `sent("a", 3, w=[1.0, -2.0])`."""
    return ClientUpdate(1, client_id, scalars(**values), weight, control=control or {})


@dataclass(frozen=True)
class ServerExample:
    """Rounds of a server half, computed by hand.

    Args:
        derivation (`str`):
            How the numbers follow from the paper's formula; shown if a method gives other numbers.
        initial (`TensorDict`):
            The global tensors before round 1.
        rounds (`Sequence[tuple[Sequence[ClientUpdate], TensorDict]]`):
            For each round what the clients send, and the global tensors after it.
        knobs (`Mapping[str, Any]`, *optional*):
            The knobs that the numbers were computed with. They replace those of the method under test.
        num_clients (`int`, *optional*, defaults to `2`):
            Number of all clients.
        tolerance (`float`, *optional*, defaults to `1e-6`):
            Relative and absolute.

    Example:

    ```python
    >>> from fedvlm_hf.testing import ServerExample, scalars, sent

    >>> example = ServerExample(
    ...     "Half of the way to the mean 3: from 1 to 2.",
    ...     initial=scalars(w=[1.0]),
    ...     rounds=[([sent("a", 1, w=[0.0]), sent("b", 3, w=[4.0])], scalars(w=[2.0]))],
    ...     knobs={"server_lr": 0.5},
    ... )
    ```
    """

    derivation: str
    initial: TensorDict
    rounds: Sequence[tuple[Sequence[ClientUpdate], TensorDict]]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    num_clients: int = 2
    tolerance: float = 1e-6

    def check(self, method: Method) -> None:
        """Run the rounds with the method's server half.

        Raises:
            [`Mismatch`]: If a number differs.
        """
        strategy = replace(method.strategy, **self.knobs)
        sends = [lambda _, updates=updates: updates for updates, _ in self.rounds]
        found = steps(strategy, sends, self.initial.clone(), self.num_clients)
        for round_idx, ((current, _), (_, expected)) in enumerate(zip(found, self.rounds, strict=True), start=1):
            _compare(self, current, expected, f"global tensors after round {round_idx}")


@dataclass(frozen=True)
class ClientExample:
    """One step of a client half that changes gradients, computed by hand.

    Args:
        derivation (`str`):
            How the numbers follow from the paper's formula; shown if a method gives other numbers.
        parameters (`TensorDict`), gradients (`TensorDict`):
            The client's weights and their gradients before `adjust_gradients`.
        global_tensors (`TensorDict`):
            The tensors that the round started from.
        expected (`TensorDict`):
            The gradients after `adjust_gradients`.
        control (`State`, *optional*), state (`State`, *optional*):
            The control groups that the server sent, and what the client kept from its last round.
        phase (`LocalPhase`, *optional*):
                The local phase that runs, if the method has several.
            knobs (`Mapping[str, Any]`, *optional*), tolerance (`float`, *optional*, defaults to `1e-6`):
            As in [`ServerExample`].
    """

    derivation: str
    parameters: TensorDict
    gradients: TensorDict
    global_tensors: TensorDict
    expected: TensorDict
    control: State = field(default_factory=dict)
    state: State = field(default_factory=dict)
    phase: LocalPhase = field(default_factory=LocalPhase)
    knobs: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6

    def check(self, method: Method) -> None:
        """Adjust the gradients with the method's client half.

        Raises:
            [`Mismatch`]: If a number differs.
        """
        client = replace(method.client, **self.knobs)
        parameters = {name: nn.Parameter(tensor.clone()) for name, tensor in self.parameters.items()}
        for name, parameter in parameters.items():
            parameter.grad = self.gradients[name].clone()
        task = ClientTask(1, "a", self.global_tensors, self.control, state=self.state, phase=self.phase)
        client.adjust_gradients(parameters, task)
        found = TensorDict.from_tensors({name: parameter.grad for name, parameter in parameters.items()})
        _compare(self, found, self.expected, "gradients after `adjust_gradients`")
        unmoved = TensorDict.from_tensors(parameters)
        _compare(self, unmoved, self.parameters, "weights after `adjust_gradients`, which changes gradients only,")


WorkedExample = ServerExample | ClientExample | Callable[[Method], None]
"""A worked example: rounds of a server half, a step of a client half, or, where neither fits, a function that takes
the method and raises `AssertionError`."""


def check_example(example: WorkedExample, method: Method) -> None:
    """Check one example.

    Raises:
        [`Mismatch`]: If a number differs.
    """
    if isinstance(example, ServerExample | ClientExample):
        example.check(method)
        return
    try:
        example(method)
    except AssertionError as error:
        if isinstance(error, Mismatch):
            raise
        raise Mismatch(
            f"what the worked example {example.__name__!r} says ({example.__doc__})", str(error), "see the example."
        ) from error


def covers(example: WorkedExample, half: Strategy | ClientMethod) -> bool:
    """Return whether an example is about this half of a method."""
    if isinstance(example, ServerExample):
        return isinstance(half, Strategy)
    return isinstance(half, ClientMethod) or not isinstance(example, ClientExample)


def step(
    strategy: Strategy, updates: Sequence[ClientUpdate], current: TensorDict, state: ServerState
) -> tuple[TensorDict, ServerState]:
    """Aggregate and apply the updates of one round, as the server does; they come one at a time, as in a run."""
    return strategy.apply(strategy.aggregate(iter(updates), current, state), current, state)


def steps(
    strategy: Strategy,
    rounds: Iterable[Callable[[TensorDict], Sequence[ClientUpdate]]],
    initial: TensorDict,
    num_clients: int = 2,
) -> Iterator[tuple[TensorDict, ServerState]]:
    """Yield the global tensors and the server's state after each round, from a fresh state.

    Args:
        strategy (`Strategy`):
            The server half.
        rounds (`Iterable[Callable[[TensorDict], Sequence[ClientUpdate]]]`):
            For each round, what the clients send, given the global tensors.
        initial (`TensorDict`):
            The global tensors before round 1.
        num_clients (`int`, *optional*, defaults to `2`):
            Number of all clients.
    """
    current, state = initial, strategy.init(initial, num_clients)
    for sends in rounds:
        current, state = step(strategy, sends(current), current, state)
        yield current, state


def _compare(example: ServerExample | ClientExample, found: TensorDict, expected: TensorDict, what: str) -> None:
    tolerance = example.tolerance
    if found.shapes == expected.shapes and torch.allclose(found.flat, expected.flat, rtol=tolerance, atol=tolerance):
        return
    raise Mismatch(
        f"{what} {_numbers(expected)} with {dict(example.knobs)}: {' '.join(example.derivation.split())}",
        _numbers(found),
        "another formula than the paper's: a sign, a square of the wrong thing, a step from the mean instead of from "
        "the current weights, or a mean that is not weighted.",
    )


def _numbers(tensors: TensorDict) -> str:
    return str({name: [round(number, 6) for number in tensor.flatten().tolist()] for name, tensor in tensors.items()})
