"""Checks of the formula, and that inputs stay unchanged. Each raises [`Mismatch`] or passes."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..methods import ClientMethod, Strategy
from ..tensors import TensorDict
from ..types import ServerState, State
from .examples import check_example, covers, step
from .fingerprint import changes, fingerprint
from .recorder import NUM_ROUNDS, message_digests
from .report import Mismatch
from .subject import Subject


def equals_its_paper(subject: Subject) -> None:
    """Each half gives the numbers of its worked examples."""
    method = subject.fresh()
    for half in (method.client, method.strategy):
        is_plain = type(half) in (ClientMethod, Strategy)
        if not is_plain and not any(covers(example, half) for example in subject.examples):
            raise Mismatch(
                f"a worked example for {type(half).__name__}",
                "none",
                "a new method. Compute the paper's formula by hand for a few numbers and pass `worked_example=`: a "
                "`ServerExample` or `ClientExample`, or a function that takes the method and asserts.",
            )
    for example in subject.examples:
        check_example(example, method)


def treats_tensors_alike(subject: Subject) -> None:
    """All tensors together give the same values as each tensor alone, up to rounding."""
    updates = subject.updates([5, 3, 1][: len(subject.whole.clients)])
    current, state = subject.before_last_round()
    together, _ = subject.outcome(updates)
    wrong = []
    for name in current:
        parts = [replace(u, tensors=_only(u.tensors, name), control=_only_in_groups(u.control, name)) for u in updates]
        part_of_state = ServerState(_only_in_groups(state.tensors, name), state.scalars)
        alone, _ = step(subject.fresh().strategy, parts, _only(current, name), part_of_state)
        if not torch.allclose(together[name], alone[name], rtol=1e-5, atol=1e-6):
            wrong.append(name)
    if wrong:
        raise Mismatch(
            f"the same values for each of {len(current)} tensors as when it is processed alone",
            f"other values for {len(wrong)} of them, such as {wrong[0]!r}",
            "a flag or buffer that all tensors share, or one tensor's values used for the next. If the paper couples "
            "tensors (LoRA's A and B, a norm over all), `exempt={'treats_tensors_alike': 'why'}`.",
        )


def changes_no_input(subject: Subject) -> None:
    """Tasks, updates, global tensors and server state are not changed in place."""
    for exchange in subject.whole.exchanges:
        held = changes(exchange.task_before, exchange.task_after)
        _refuse_change(held, "the task of a client during its run")
        held = changes(exchange.update_before, message_digests(exchange.update))
        _refuse_change(held, "the update of a client after it was sent")
    current, state = subject.before_last_round()
    if not current:
        return  # no tensor travels, so the server half has nothing to change
    updates = subject.updates([5, 3, 1][: len(subject.whole.clients)])
    strategy = subject.fresh().strategy
    inputs = {"updates": updates, "current": current, "state": state}
    before = fingerprint(inputs)
    strategy.configure(NUM_ROUNDS, [update.client_id for update in updates], current, state)
    _refuse_change(changes(before, fingerprint(inputs)), "what `configure` was given")
    aggregate = strategy.aggregate(iter(updates), current, state)
    _refuse_change(changes(before, fingerprint(inputs)), "what `aggregate` was given")
    before = fingerprint(inputs := {**inputs, "aggregate": aggregate})
    strategy.apply(aggregate, current, state)
    _refuse_change(changes(before, fingerprint(inputs)), "what `apply` was given")


def _refuse_change(paths: Sequence[str], what: str) -> None:
    if paths:
        raise Mismatch(
            f"{what} to stay unchanged",
            f"changed: {', '.join(paths[:3])}",
            "an in-place operation (`add_`, `mul_`, `copy_`, `out=`) on a tensor that was passed in, or a second name "
            "for a tensor instead of a copy.",
        )


def _only(tensors: TensorDict, name: str) -> TensorDict:
    return TensorDict.from_tensors({name: tensors[name]})


def _only_in_groups(groups: State, name: str) -> State:
    """Reduce each group that has a tensor of this name to that tensor; keep other groups whole."""
    return {group: _only(tensors, name) if name in tensors else tensors for group, tensors in groups.items()}
