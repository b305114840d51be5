"""Checks of how updates are combined, on the updates of a real round. Each raises [`Mismatch`] or passes."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import torch

from ..engines.in_process import InProcessEngine
from ..rounds import RoundStart, run_rounds
from ..tensors import TensorDict, WeightedMean
from ..types import ClientUpdate, ServerState
from .recorder import NUM_ROUNDS
from .report import Mismatch
from .subject import Subject, copy_of_update


def order_invariant(subject: Subject) -> None:
    """The bits are the same in whatever order updates arrive, in the strategy and in the whole server loop."""
    updates = subject.updates([5, 3, 1])
    first, *others = (_digest(*subject.outcome(order)) for order in permutations(updates))
    for order in (updates, updates[::-1]):
        others.append(_digest(*_outcome_of_the_loop(subject, order)))
    if different := sum(other != first for other in others):
        raise Mismatch(
            "the same bits whatever the order of three updates",
            f"different bits in {different} of {len(others)} orders",
            "a running sum in fp32, or a decision that depends on position. Sum with "
            "`fedvlm_hf.tensors.WeightedMean`, or sort by client id first.",
        )


def identical_clients_are_one(subject: Subject) -> None:
    """Three clients that send the same tensors give the same bits as one of them alone."""
    updates = subject.updates([1, 2, 4])
    same = [replace(update, tensors=updates[0].tensors, control=updates[0].control) for update in updates]
    alone, _ = subject.outcome([replace(same[0], weight=7)])
    together, _ = subject.outcome(same)
    if together.digest() != alone.digest():
        raise Mismatch(
            "from three clients that send the same tensors the same bits as from one of them alone",
            _gap(together, alone),
            "a sum that is not divided by its weights, or a mean of fp32 deltas where `WeightedMean` of weights is "
            "exact.",
        )


def weights_follow_sizes(subject: Subject) -> None:
    """Clients with 3 samples and 1 sample count 3 to 1, or 1 to 1 if `weighting="uniform"` was declared."""
    small, large = subject.updates([1, 3])
    large = replace(large, control=small.control)  # only the weights of the tensors are checked here
    found, _ = subject.outcome([small, large])
    means = {}
    for weighting in ("num_samples", "uniform"):
        mean = WeightedMean()
        for update in (small, large):
            mean.add(update.tensors, update.weight if weighting == "num_samples" else 1)
        joined = replace(small, tensors=mean.result(), weight=4)
        means[weighting], _ = subject.outcome([joined])
    expected = means.pop(subject.weighting)
    ((other, of_other),) = means.items()
    if found.digest() != expected.digest():
        raise Mismatch(
            f"the result of one client that sends the mean of clients with 1 and 3 samples by {subject.weighting!r}",
            f"the result of {other!r}" if found.digest() == of_other.digest() else _gap(found, expected),
            "a mean that does not count samples. If that is the paper's, pass `weighting='uniform'`; if the method "
            "combines updates in another way (a median, LoRA pairs), `exempt={'weights_follow_sizes': 'why'}`.",
        )


def counts_every_client(subject: Subject) -> None:
    """The aggregate says how many clients sent updates, and has the sum of each control group over all of them."""
    updates = subject.updates([5, 3, 1][: len(subject.whole.clients)])
    aggregate = subject.aggregate(updates)
    if aggregate.num_clients != len(updates):
        raise Mismatch(
            f"`Aggregate.num_clients` to be {len(updates)}",
            str(aggregate.num_clients),
            "an `aggregate` that does not count updates. Transforms that add noise depend on this number.",
        )
    for group in {group: None for update in updates for group in update.control}:
        expected = WeightedMean()
        for update in updates:
            expected.add(update.control[group], 1)
        found, total = aggregate.control.get(group), expected.sum()
        if found is None or found.shapes != total.shapes:
            raise Mismatch(
                f"the control group {group!r}, which the clients send, in `Aggregate.control`",
                "none" if found is None else "other tensors",
                "an `aggregate` that passes on the tensors only. Call `super().aggregate`, or sum control groups too.",
            )
        if not torch.allclose(found.flat, total.flat, rtol=1e-5, atol=1e-6 * total.flat.abs().max().item()):
            raise Mismatch(
                f"the control group {group!r} to be the plain sum over {len(updates)} clients",
                _gap(found, total),
                "a client that is left out, a weighted sum, or a mean. If the paper combines control groups in "
                "another way, `exempt={'counts_every_client': 'why'}`.",
            )


def _outcome_of_the_loop(subject: Subject, updates: Sequence[ClientUpdate]) -> tuple[TensorDict, ServerState]:
    """Run the last round in the real server loop, with clients that send these updates."""
    sent = {update.client_id: copy_of_update(update) for update in updates}
    end = run_rounds(
        start=RoundStart(*subject.before_last_round(), NUM_ROUNDS - 1),
        num_rounds=NUM_ROUNDS,
        strategy=subject.fresh().strategy,
        engine=InProcessEngine(lambda task: sent[task.client_id]),
        cohort=lambda _: list(sent),
        evaluate=lambda *_: {},
    )
    return end.tensors, end.state


def _digest(tensors: TensorDict, state: ServerState) -> str:
    return repr((tensors.digest(), {k: v.digest() for k, v in state.tensors.items()}, dict(state.scalars)))


def _gap(found: TensorDict, expected: TensorDict) -> str:
    gap = {name: (found[name] - expected[name]).abs().max().item() for name in expected}
    worst = max(gap, key=gap.__getitem__)
    return f"numbers that differ by up to {gap[worst]:.3g} in {worst!r}"
