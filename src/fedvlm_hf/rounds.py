"""The server loop. It knows tasks, updates and records, and no trainer, model or dataset."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from .callbacks import RoundCallback, RoundEnd
from .engines import Engine
from .methods.base import Strategy
from .tensors import TensorDict
from .transforms import Transform
from .types import ClientTask, ClientUpdate, EvalResult, RoundRecord, ServerState


@dataclass(frozen=True)
class RoundStart:
    """Where a run starts or goes on: the state after `round_idx`, and the records up to it."""

    tensors: TensorDict
    state: ServerState
    round_idx: int = -1
    history: Sequence[RoundRecord] = field(default_factory=tuple)


class UpdateError(ValueError):
    """An update that must not reach the sum."""


def check_update(tensors: Mapping[str, torch.Tensor], expected: TensorDict, client_id: str, round_idx: int) -> None:
    """Refuse tensors that are missing, extra, misshapen, of another dtype or order, or not finite.

    Raises:
        `UpdateError`: naming client, round and tensor.
    """
    layout = list(expected.shapes.items())
    if isinstance(tensors, TensorDict) and list(tensors.shapes.items()) == layout and tensors.flat.sum().isfinite():
        return  # one pass over the buffer; below, tensor by tensor, is found what is wrong, if it is
    who = f"The update of client {client_id!r} in round {round_idx}"
    for name in expected:
        if name not in tensors:
            raise UpdateError(f"{who} lacks tensor {name!r}. Every client must send every shared tensor.")
    for name, tensor in tensors.items():
        if name not in expected:
            raise UpdateError(f"{who} has tensor {name!r}, which is not shared in this run.")
        if tensor.shape != expected[name].shape:
            raise UpdateError(
                f"{who} has tensor {name!r} of shape {tuple(tensor.shape)}; it must be {tuple(expected[name].shape)}."
            )
        if tensor.dtype != torch.float32:
            raise UpdateError(f"{who} has tensor {name!r} in {tensor.dtype}; it must be torch.float32.")
        if not torch.isfinite(tensor).all():
            raise UpdateError(
                f"{who} has tensor {name!r} with values that are not finite. The client's training diverged: lower "
                "`learning_rate` or look at its data. The round was stopped before it reached the global model."
            )
    if list(tensors) != list(expected):
        raise UpdateError(f"{who} has its tensors in another order than they were sent in; sums go by position.")


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _payload(message: ClientTask | ClientUpdate) -> int:
    """Bytes that travel."""
    return message.tensors.nbytes + sum(group.nbytes for group in message.control.values())


class _Ledger:
    """Collects a round's client metrics and times while its updates stream by."""

    def __init__(self, current: TensorDict, transforms: Sequence[Transform], round_idx: int):
        self.current, self.transforms, self.round_idx = current, transforms, round_idx
        self.clients: dict[str, dict[str, float]] = {}
        self.bytes_up = 0
        self.seconds = 0.0

    def stream(self, updates: Iterator[ClientUpdate]) -> Iterator[ClientUpdate]:
        """Check and transform updates one by one; the time spent waiting for clients is counted apart."""
        start = time.perf_counter()
        for update in updates:
            check_update(update.tensors, self.current, update.client_id, self.round_idx)
            if self.transforms:
                update = replace(update, tensors=update.tensors.with_flat(update.tensors.flat - self.current.flat))
                for transform in self.transforms:
                    update = transform.on_client(update)
            self.clients[update.client_id] = {"num_samples": update.num_samples, **update.metrics}
            self.bytes_up += _payload(update)
            self.seconds += time.perf_counter() - start
            yield update
            start = time.perf_counter()

    def aggregate(self, strategy: Strategy, updates: Iterator[ClientUpdate], state: ServerState) -> TensorDict:
        """The strategy's aggregate as weights, whatever travelled."""
        mean = strategy.aggregate(self.stream(updates), state)
        if self.transforms:
            for transform in reversed(self.transforms):
                mean = transform.on_server(mean, len(self.clients))
            mean = mean.with_flat(self.current.flat + mean.flat)
        return mean


def run_rounds(
    *,
    start: RoundStart,
    num_rounds: int,
    strategy: Strategy,
    engine: Engine,
    cohort: Callable[[int], Sequence[str]],
    evaluate: Callable[[int, TensorDict], dict[str, EvalResult]],
    begin_round: Callable[[int, TensorDict, ServerState], tuple[TensorDict, ServerState]] | None = None,
    callbacks: Sequence[RoundCallback] = (),
    transforms: Sequence[Transform] = (),
) -> RoundStart:
    """Run the rounds that are left.

    Args:
        start (`RoundStart`):
            Where to go on; `round_idx=-1` means that not even round 0, the evaluation before training, is done.
        num_rounds (`int`):
            The last round.
        strategy (`Strategy`):
            The server half of the method.
        engine (`Engine`):
            Runs the clients.
        cohort (`Callable[[int], Sequence[str]]`):
            The clients of a round.
        evaluate (`Callable[[int, TensorDict], dict[str, EvalResult]]`):
            Scores the global tensors after a round; empty where the round is not evaluated.
        begin_round (`Callable[[int, TensorDict, ServerState], tuple[TensorDict, ServerState]]`, *optional*):
            What the round starts from, given what the last one left: other tensors where a new stage begins.
        callbacks (`Sequence[RoundCallback]`, *optional*):
            Called after each round, in order; the run ends after a round in which one returns `True`.
        transforms (`Sequence[Transform]`, *optional*):
            Applied to deltas at the clients in order and at the server in reverse.

    Returns:
        `RoundStart`: the state after the last round.

    Raises:
        `UpdateError`: if an update must not reach the sum.
    """
    tensors, state, history = start.tensors, start.state, list(start.history)
    for callback in callbacks:
        callback.on_start(history, num_rounds)
    for round_idx in range(start.round_idx + 1, num_rounds + 1):
        began = time.perf_counter()
        if begin_round is not None:
            tensors, state = begin_round(round_idx, tensors, state)
        parts: dict[str, float] = {}
        ledger, bytes_down = _Ledger(tensors, transforms, round_idx), 0
        if round_idx > 0:
            tasks = strategy.configure(round_idx, cohort(round_idx), tensors, state)
            bytes_down = sum(_payload(task) for task in tasks)
            mean = ledger.aggregate(strategy, iter(engine.run(tasks)), state)
            tensors, state = strategy.apply(mean, tensors, state)
            parts = {"clients": ledger.seconds, "aggregate": time.perf_counter() - began - ledger.seconds}
        evaluating = time.perf_counter()
        evaluations = evaluate(round_idx, tensors)
        now = time.perf_counter()
        seconds = {**parts, "evaluate": now - evaluating, "total": now - began}
        record = RoundRecord(
            round_idx, evaluations, ledger.clients, bytes_down, ledger.bytes_up, seconds, peak_memory()
        )
        history[-1:] = [*(earlier.without_generations() for earlier in history[-1:]), record]
        end = RoundEnd(record, tensors, state, num_rounds)
        stops = [callback.on_round_end(end) for callback in callbacks]  # a list: every callback runs
        if any(stops):
            break
    for callback in callbacks:
        callback.on_end(history)
    return RoundStart(tensors, state, history[-1].round_idx if history else -1, history)
