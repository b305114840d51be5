"""Checks of how updates are joined, on those of a real round. Each raises [`Mismatch`], or passes."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

from ..engines.in_process import InProcessEngine
from ..rounds import RoundStart, run_rounds
from ..tensors import TensorDict, WeightedMean
from ..types import ClientUpdate, ServerState
from .recorder import NUM_ROUNDS
from .report import Mismatch
from .subject import Subject


def order_invariant(subject: Subject) -> None:
    """Whatever order updates arrive in, the bits are the same: through the strategy, and through the server loop."""
    updates = subject.updates([5, 3, 1])
    first, *others = (_digest(*subject.outcome(order)) for order in permutations(updates))
    for order in (updates, updates[::-1]):
        others.append(_digest(*_outcome_of_the_loop(subject, order)))
    if different := sum(other != first for other in others):
        raise Mismatch(
            "the same bits whatever the order of three updates",
            f"other bits in {different} of {len(others)} orders",
            "a running sum in fp32, or a decision by place. Sum with `fedvlm_hf.tensors.WeightedMean`, or sort by "
            "client id first.",
        )


def identical_clients_are_one(subject: Subject) -> None:
    """Three clients that send the same are one client, to the bit."""
    updates = subject.updates([1, 2, 4])
    same = [replace(update, tensors=updates[0].tensors, control=updates[0].control) for update in updates]
    alone, _ = subject.outcome([replace(same[0], weight=7)])
    together, _ = subject.outcome(same)
    if together.digest() != alone.digest():
        raise Mismatch(
            "of three clients that send the same what one of them gives alone, to the bit",
            _gap(together, alone),
            "a sum that is not divided by its weights, or a mean of fp32 deltas where `WeightedMean` of weights is "
            "exact.",
        )


def weights_follow_sizes(subject: Subject) -> None:
    """Clients of 3 and 1 samples count 3 to 1; where `weighting="uniform"` was declared, 1 to 1."""
    small, large = subject.updates([1, 3])
    large = replace(large, control=small.control)  # the weights of tensors are looked at alone
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
            f"what one client gives that sends the mean by {subject.weighting!r} of clients of 1 and 3 samples",
            f"what {other!r} gives" if found.digest() == of_other.digest() else _gap(found, expected),
            "a mean that does not count samples. If the paper has it so, pass `weighting='uniform'`; if it joins "
            "updates otherwise (a median, LoRA pairs), `exempt={'weights_follow_sizes': 'why'}`.",
        )


def _outcome_of_the_loop(subject: Subject, updates: Sequence[ClientUpdate]) -> tuple[TensorDict, ServerState]:
    """The last round in the real server loop, whose clients send these updates."""
    sent = {update.client_id: replace(update, tensors=update.tensors.clone()) for update in updates}
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
    return f"other numbers, by up to {gap[worst]:.3g} in {worst!r}"
