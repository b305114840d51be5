"""Pools of workers whose results come in order, and whose processes do not outlive a killed build."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar


T = TypeVar("T")


def process_pool(num_workers: int) -> ProcessPoolExecutor:
    """Return a pool of new processes, which end when this process ends."""
    # Spawn, do not fork: the parent runs threads of torch and Arrow, and a fork would copy their locks as held
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_follow_parent)


def in_order(
    pool: Executor, function: Callable[[T], Any], items: Iterable[T], chunk: int, num_ahead: int
) -> Iterator[Any]:
    """Yield the results in order. At most `num_ahead` chunks are submitted at a time, whatever the number of items."""
    rest = iter(items)
    pending: deque[Future[list[Any]]] = deque()
    while batch := list(islice(rest, chunk)):
        pending.append(pool.submit(_apply, function, batch))
        if len(pending) > num_ahead:
            yield from pending.popleft().result()
    while pending:
        yield from pending.popleft().result()


def _apply(function: Callable[[T], Any], batch: list[T]) -> list[Any]:
    return [function(item) for item in batch]


def _follow_parent() -> None:
    """Set up a worker process: leave Ctrl-C to the parent, and exit if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent_process().join()
    os._exit(1)
