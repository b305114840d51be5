"""The checks of updates, in one place for all engines: a bad update never reaches the sum."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from ..tensors import TensorDict
from ..types import Absent, ClientTask, ClientUpdate, Expected, TensorSpec


class UpdateError(ValueError):
    """An update that must not reach the sum."""


def check_update(update: ClientUpdate, expected: Expected) -> None:
    """Refuse an update whose tensors or control groups are missing, extra, misshapen, of another dtype or not finite.

    Args:
        update (`ClientUpdate`):
            The update.
        expected (`Expected`):
            What it must hold.

    Raises:
        `UpdateError`: naming client, round and tensor.
    """
    who = f"The update of client {update.client_id!r} in round {update.round_idx}"
    if isinstance(update.weight, bool) or not 0 < update.weight < float("inf"):
        raise UpdateError(f"{who} has the weight {update.weight!r}; it must be a positive, finite number.")
    _check_group(who, update.tensors, expected.tensors)
    for group in expected.control:
        if group not in update.control:
            raise UpdateError(f"{who} lacks the control group {group!r}, which its task asks for.")
    for group, tensors in update.control.items():
        if group not in expected.control:
            raise UpdateError(
                f"{who} has the control group {group!r}, which its task does not ask for. A strategy whose clients "
                "send one names it in `ClientTask.expects`."
            )
        _check_group(f"{who}, control group {group!r},", tensors, expected.control[group])


def _check_group(who: str, tensors: Mapping[str, torch.Tensor], expected: Mapping[str, TensorSpec]) -> None:
    if isinstance(tensors, TensorDict) and _is_same_layout(tensors, expected) and tensors.flat.sum().isfinite():
        return  # one pass over the buffer; what follows finds the tensor that is wrong, if one is
    for name in expected:
        if name not in tensors:
            raise UpdateError(
                f"{who} lacks tensor {name!r}. Every client must send every tensor that it is asked for."
            )
    for name, tensor in tensors.items():
        if name not in expected:
            raise UpdateError(f"{who} has tensor {name!r}, which it was not asked for.")
        shape, dtype = expected[name]
        if tuple(tensor.shape) != tuple(shape):
            raise UpdateError(f"{who} has tensor {name!r} of shape {tuple(tensor.shape)}; it must be {tuple(shape)}.")
        if tensor.dtype != dtype:
            raise UpdateError(f"{who} has tensor {name!r} in {tensor.dtype}; it must be {dtype}.")
        if not torch.isfinite(tensor).all():
            raise UpdateError(
                f"{who} has tensor {name!r} with values that are not finite. The client's training diverged: lower "
                "`learning_rate` or look at its data. The round was stopped before it reached the global model."
            )
    if list(tensors) != list(expected):
        raise UpdateError(f"{who} has its tensors in another order than it was asked for; sums go by position.")


def _is_same_layout(tensors: TensorDict, expected: Mapping[str, TensorSpec]) -> bool:
    return list(tensors.shapes) == list(expected) and all(
        tuple(shape) == spec.shape and spec.dtype is torch.float32
        for shape, spec in zip(tensors.shapes.values(), expected.values(), strict=True)
    )


def in_order(
    answers: Iterable[ClientUpdate | Absent], tasks: Sequence[ClientTask]
) -> Iterator[tuple[ClientTask, ClientUpdate | Absent]]:
    """Match an engine's answers with its tasks and put them in the order of client ids, in which they are summed.

    Args:
        answers (`Iterable[ClientUpdate | Absent]`):
            What the engine yields, in any order. An answer that comes early waits in memory for its turn.
        tasks (`Sequence[ClientTask]`):
            What was asked.

    Returns:
        `Iterator[tuple[ClientTask, ClientUpdate | Absent]]`: each task with its answer.

    Raises:
        `UpdateError`: if an answer is of no task, of another round or the second to a task, or a task has none.
    """
    open_tasks = {task.client_id: task for task in sorted(tasks, key=lambda task: task.client_id)}
    waiting: dict[str, ClientUpdate | Absent] = {}
    asked = set(open_tasks)
    for answer in answers:
        _check_asked(answer, asked, open_tasks, waiting)
        waiting[answer.client_id] = answer
        while open_tasks and (first := next(iter(open_tasks))) in waiting:
            yield open_tasks.pop(first), waiting.pop(first)
    if open_tasks:
        raise UpdateError(
            f"The round ended without an answer of client {next(iter(open_tasks))!r}. An engine yields an update or "
            "an `Absent` with its reason for each task."
        )


def _check_asked(
    answer: ClientUpdate | Absent,
    asked: set[str],
    open_tasks: Mapping[str, ClientTask],
    waiting: Mapping[str, ClientUpdate | Absent],
) -> None:
    who = f"The update of client {answer.client_id!r} in round {answer.round_idx}"
    if answer.client_id not in asked:
        raise UpdateError(f"{who} was not asked for; the round's clients are {', '.join(sorted(asked))}.")
    if answer.client_id not in open_tasks or answer.client_id in waiting:
        raise UpdateError(f"{who} came twice. One client counts once.")
    if answer.round_idx != open_tasks[answer.client_id].round_idx:
        raise UpdateError(f"{who} came in round {open_tasks[answer.client_id].round_idx}: it is of another round.")
