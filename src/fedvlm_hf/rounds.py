"""The server loop. It knows tasks, updates and records, and no trainer, model or dataset."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from .callbacks import RoundCallback, RoundEnd
from .engines import Engine
from .exchange.updates import check_update, in_order
from .methods.base import Strategy
from .tensors import TensorDict
from .transforms import TransformChain
from .types import Absent, ClientTask, ClientUpdate, EvalResult, RoundRecord, ServerState, State


@dataclass(frozen=True)
class RoundStart:
    """Where a run starts or continues: the state after `round_idx`, and the records up to it.

    Args:
        tensors (`TensorDict`):
            The shared tensors.
        state (`ServerState`):
            What the strategy keeps.
        round_idx (`int`, *optional*, defaults to `-1`):
            The last round that is done. -1 means that not even round 0, the evaluation before training, is done.
        history (`Sequence[RoundRecord]`, *optional*):
            The records of the rounds that are done.
        transforms (`State`, *optional*):
            What the transforms keep at the server.
        client_versions (`Mapping[str, int]`, *optional*):
            For each client that keeps something, the round whose state is its newest.
    """

    tensors: TensorDict
    state: ServerState
    round_idx: int = -1
    history: Sequence[RoundRecord] = field(default_factory=tuple)
    transforms: State = field(default_factory=dict)
    client_versions: Mapping[str, int] = field(default_factory=dict)


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_accelerator_memory() -> int:
    """Peak memory that torch allocated on the accelerator so far, in bytes; 0 where there is none."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


class _Ledger:
    """Collects a round's client metrics and times while its updates stream by."""

    def __init__(self, tasks: Sequence[ClientTask], transforms: TransformChain):
        self.tasks, self.transforms = tasks, transforms
        self.bytes_down = sum(task.nbytes for task in tasks)
        self.clients: dict[str, dict[str, float]] = {}
        self.absent: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.bytes_up = 0
        self.seconds = 0.0

    def stream(self, answers: Iterator[ClientUpdate | Absent]) -> Iterator[ClientUpdate]:
        """Check and decode updates one by one; the time spent waiting for clients is counted apart."""
        start = time.perf_counter()
        for task, answer in in_order(answers, self.tasks):
            if isinstance(answer, Absent):
                self.absent[answer.client_id] = answer.reason
                continue
            check_update(answer, self.transforms.layout(task))
            update = self.transforms.decode(answer, task)
            if self.transforms:  # numbers that are finite on their way may be huge when they are decoded
                check_update(update, task.expected)
            self.clients[update.client_id] = {"num_samples": update.weight, **update.metrics}
            if update.state_version is not None:
                self.versions[update.client_id] = update.state_version
            self.bytes_up += answer.nbytes
            self.seconds += time.perf_counter() - start
            yield update
            start = time.perf_counter()

    def record(self, round_idx: int, evaluations: dict[str, EvalResult], seconds: dict[str, float]) -> RoundRecord:
        """The round's line of `metrics.jsonl`."""
        return RoundRecord(
            round_idx, evaluations, self.clients, self.bytes_down, self.bytes_up, seconds,
            peak_memory(), peak_accelerator_memory(), self.absent,
        )  # fmt: skip


BeginRound = Callable[[int, TensorDict, ServerState], tuple[TensorDict, ServerState, TensorDict]]
"""Round, tensors and state that the last round left -> those that it starts from, and what is fixed in it."""


def run_rounds(
    *,
    start: RoundStart,
    num_rounds: int,
    strategy: Strategy,
    engine: Engine,
    cohort: Callable[[int], Sequence[str]],
    evaluate: Callable[[int, TensorDict, TensorDict], dict[str, EvalResult]],
    begin_round: BeginRound | None = None,
    callbacks: Sequence[RoundCallback] = (),
    transforms: TransformChain | None = None,
) -> RoundStart:
    """Run the rounds that are left.

    Args:
        start (`RoundStart`):
            Where to continue.
        num_rounds (`int`):
            The last round.
        strategy (`Strategy`):
            The server half of the method.
        engine (`Engine`):
            Runs the clients.
        cohort (`Callable[[int], Sequence[str]]`):
            The clients of a round.
        evaluate (`Callable[[int, TensorDict, TensorDict], dict[str, EvalResult]]`):
            Scores the shared tensors and the change of the base after a round; empty where the round is not evaluated.
        begin_round (`BeginRound`, *optional*):
            Tensors and state that a round starts from, given those that the last one left, and the tensors that are
            fixed in it: other tensors train where a new tuning stage begins.
        callbacks (`Sequence[RoundCallback]`, *optional*):
            Called after each round, in order; the run ends after a round in which one returns `True`. Each is closed
            with `on_end`, whatever happens.
        transforms (`TransformChain`, *optional*):
            What happens to updates on their way.

    Returns:
        `RoundStart`: the state after the last round.

    Raises:
        `UpdateError`: if an update must not reach the sum.
    """
    loop = _Loop(start, strategy, transforms or TransformChain(), begin_round)
    opened: list[RoundCallback] = []
    try:
        for callback in callbacks:
            callback.on_start(loop.history, num_rounds)
            opened.append(callback)
        for round_idx in range(start.round_idx + 1, num_rounds + 1):
            began = time.perf_counter()
            ledger, parts = loop.advance(round_idx, engine, cohort)
            evaluating = time.perf_counter()
            evaluations = evaluate(round_idx, loop.tensors, strategy.base_change(loop.state))
            now = time.perf_counter()
            record = ledger.record(
                round_idx, evaluations, {**parts, "evaluate": now - evaluating, "total": now - began}
            )
            end = loop.finish(record, num_rounds)
            stops = [callback.on_round_end(end) for callback in callbacks]  # a list: every callback runs
            if any(stops):
                break
    except BaseException as error:  # Ctrl-C too
        for failure in _close(opened, loop.history):
            error.add_note(f"Then a callback failed as well: {failure!r}")
        raise
    if failures := _close(opened, loop.history):
        raise failures[0]
    return loop.standing()


class _Loop:
    """Where the loop stands: the tensors, what strategy, transforms and clients keep, and the records so far."""

    def __init__(
        self,
        start: RoundStart,
        strategy: Strategy,
        transforms: TransformChain,
        begin_round: BeginRound | None,
    ):
        self.strategy, self.transforms, self.begin_round = strategy, transforms, begin_round
        self.tensors, self.state, self.kept = start.tensors, start.state, start.transforms
        self.versions, self.history, self.round_idx = dict(start.client_versions), list(start.history), start.round_idx

    def advance(
        self, round_idx: int, engine: Engine, cohort: Callable[[int], Sequence[str]]
    ) -> tuple[_Ledger, dict[str, float]]:
        """Run the clients of a round and the server's step; what came in, and the seconds of each part."""
        began, fixed = time.perf_counter(), TensorDict({})
        if self.begin_round is not None:
            self.tensors, self.state, fixed = self.begin_round(round_idx, self.tensors, self.state)
        if round_idx == 0:
            return _Ledger([], self.transforms), {}
        base = self.strategy.base_change(self.state)
        tasks = [
            replace(task, fixed=fixed, base=base)
            for task in self.strategy.configure(round_idx, cohort(round_idx), self.tensors, self.state)
        ]
        ledger = _Ledger(tasks, self.transforms)
        aggregate = self.strategy.aggregate(ledger.stream(engine.run(tasks)), self.tensors, self.state)
        aggregate, self.kept = self.transforms.on_server(aggregate, self.tensors, round_idx, self.kept)
        self.tensors, self.state = self.strategy.apply(aggregate, self.tensors, self.state)
        self.versions |= ledger.versions
        return ledger, {"clients": ledger.seconds, "aggregate": time.perf_counter() - began - ledger.seconds}

    def finish(self, record: RoundRecord, num_rounds: int) -> RoundEnd:
        """Add a round's record to the history; the round as callbacks see it."""
        self.history[-1:] = [*(earlier.without_generations() for earlier in self.history[-1:]), record]
        self.round_idx = record.round_idx
        return RoundEnd(record, self.tensors, self.state, num_rounds, self.kept, dict(self.versions))

    def standing(self) -> RoundStart:
        """Where another loop could continue."""
        return RoundStart(self.tensors, self.state, self.round_idx, self.history, self.kept, self.versions)


def _close(callbacks: Sequence[RoundCallback], history: Sequence[RoundRecord]) -> list[Exception]:
    """Call `on_end` of every callback, also where a round or another callback raised; return what they raise."""
    errors = []
    for callback in callbacks:
        try:
            callback.on_end(history)
        except Exception as error:
            errors.append(error)
    return errors
