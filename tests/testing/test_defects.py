"""Every defect that was found in other packages' methods, planted in a copy, fails the check that is to catch it.

The copies are short, and the sound one of each passes: it is the defect that fails.
"""

from dataclasses import dataclass, field, replace

import pytest
import torch

from fedvlm_hf.methods import ClientMethod, Method
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.testing import (
    CHECKS,
    WORKED_EXAMPLES,
    ClientExample,
    ConformanceError,
    check_method,
    inspect_method,
    scalars,
)
from fedvlm_hf.types import ServerState
from method_copies import (
    Adaptive,
    AvgM,
    Controlled,
    ControlledMean,
    Prox,
    adagrad,
    adam,
    yogi,
    yogi_with_the_momentum,
)


CONTROLLED = ClientExample(
    "g - c_k + c = 1 - 0.5 + 0.25 = 0.75",
    parameters=scalars(w=[3.0]),
    gradients=scalars(w=[1.0]),
    global_tensors=scalars(w=[1.0]),
    expected=scalars(w=[0.75]),
    control={"control": scalars(w=[0.25])},
    state={"control": scalars(w=[0.5])},
)


def the_mean(method):
    """The weights are FedAvg's; the controls are looked at in the client's example."""


PAPER = {
    name: [e for e in WORKED_EXAMPLES[name] if e.knobs["variant"] == "paper"]
    for name in ("fedavgm", "fedadagrad", "fedadam", "fedyogi")
}
PAPER["fedprox"] = list(WORKED_EXAMPLES["fedprox"])
PAPER["scaffold"] = [CONTROLLED, the_mean]


@pytest.mark.parametrize(
    ("method", "paper"),
    [
        (Prox(), "fedprox"),
        (AvgM(), "fedavgm"),
        (Adaptive(adagrad), "fedadagrad"),
        (Adaptive(adam), "fedadam"),
        (Adaptive(yogi), "fedyogi"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_sound_copy_equals_its_paper(method, paper):
    check_method(method, worked_example=PAPER[paper], checks=["equals_its_paper"])


def test_a_method_with_control_variates_and_client_state_conforms():
    """Each round the server moves c by the sum of changes over 3 clients, so one client moves it otherwise than three
    that are alike: the tensors are the same, which is what is looked at."""
    check_method(Method(Controlled(), ControlledMean()), worked_example=PAPER["scaffold"])


# --- defects ---


@dataclass(frozen=True)
class ProxThatIsNeverCalled(Prox):
    """`fedprox` is accepted, but the code asks for 'prox'."""

    def adjust_gradients(self, named_parameters, task):
        pass


@dataclass(frozen=True)
class ProxWithTheWrongSign(Prox):
    def adjust_gradients(self, named_parameters, task):
        for name, start in task.tensors.items():
            named_parameters[name].grad.sub_(named_parameters[name].detach() - start, alpha=self.mu)


@dataclass(frozen=True)
class ProxThatWritesIntoTheTask(Prox):
    def adjust_gradients(self, named_parameters, task):
        for name, start in task.tensors.items():
            named_parameters[name].grad.sub_(start.sub_(named_parameters[name].detach()), alpha=self.mu)


@dataclass(frozen=True)
class AvgMOfItsOwnInput(AvgM):
    """The new weights are meant to be a copy of the old ones; Delta is then 0."""

    def apply(self, mean, current, state):
        new = current
        new.flat.copy_(mean.flat)
        momentum = self.server_momentum * state.tensors["momentum"].flat + new.flat - current.flat
        return new.with_flat(new.flat + self.server_lr * momentum), ServerState({"momentum": new.with_flat(momentum)})


@dataclass(frozen=True)
class PlainMean(FedAvg):
    def aggregate(self, updates, state):
        return super().aggregate((replace(update, weight=1) for update in updates), state)


@dataclass(frozen=True)
class OneFlagForAllTensors(FedAvg):
    """The flag says that the sum is empty; it is cleared after the first tensor, so the others add to the old ones."""

    def apply(self, mean, current, state):
        is_first, new = True, mean.clone()
        for name in new:
            if not is_first:
                new[name].add_(current[name])
            is_first = False
        return new, state


@dataclass(frozen=True)
class SumInFp32(FedAvg):
    def aggregate(self, updates, state):
        total, tensors = 0, None
        for update in updates:
            part = update.tensors.flat * update.num_samples
            tensors = update.tensors.with_flat(part if tensors is None else tensors.flat + part)
            total += update.num_samples
        return tensors.with_flat(tensors.flat / total)


@dataclass(frozen=True)
class MeanByShares(FedAvg):
    """sum_k (n_k / n) w_k in fp32: the shares 1/7, 2/7, 4/7 of the same weights are not those weights."""

    def aggregate(self, updates, state):
        updates = sorted(updates, key=lambda update: update.client_id)
        total = sum(update.num_samples for update in updates)
        flat = sum(update.tensors.flat * (update.num_samples / total) for update in updates)
        return updates[0].tensors.with_flat(flat)


@dataclass(frozen=True)
class SumIntoTheFirstUpdate(FedAvg):
    def aggregate(self, updates, state):
        total, tensors = 0, None
        for update in updates:
            total += update.num_samples
            scaled = update.tensors.flat.mul_(update.num_samples)
            tensors = update.tensors if tensors is None else tensors.with_flat(tensors.flat.add_(scaled))
        return tensors.with_flat(tensors.flat / total)


@dataclass(frozen=True)
class NoStep(FedAvg):
    def apply(self, mean, current, state):
        return current, state


@dataclass(frozen=True)
class MomentumOnSelf(AvgM):
    """Momentum in a field: gone when the run resumes."""

    held: dict = field(default_factory=dict)

    def apply(self, mean, current, state):
        momentum = self.server_momentum * self.held.get("momentum", 0) + mean.flat - current.flat
        self.held["momentum"] = momentum
        return mean.with_flat(current.flat + self.server_lr * momentum), state


MOMENTUM = {}


@dataclass(frozen=True)
class MomentumInTheModule(AvgM):
    def apply(self, mean, current, state):
        momentum = self.server_momentum * MOMENTUM.get("it", 0) + mean.flat - current.flat
        MOMENTUM["it"] = momentum
        return mean.with_flat(current.flat + self.server_lr * momentum), state


def _momentum_in_a_closure():
    held = []

    @dataclass(frozen=True)
    class MomentumInAClosure(AvgM):
        def apply(self, mean, current, state):
            held.append(mean.flat - current.flat + self.server_momentum * (held[-1] if held else 0))
            return mean.with_flat(current.flat + self.server_lr * held[-1]), state

    return MomentumInAClosure()


@dataclass(frozen=True)
class GradientOfTheLastClient(ClientMethod):
    """Momentum over gradients that one client leaves to the next."""

    last: dict = field(default_factory=dict)

    def adjust_gradients(self, named_parameters, task):
        for name, parameter in named_parameters.items():
            parameter.grad.add_(self.last.get(name, torch.zeros_like(parameter.grad)), alpha=0.5)
            self.last[name] = parameter.grad.clone()


@dataclass(frozen=True)
class ScaleOfABaseWeight(ClientMethod):
    """What it does to a frozen weight of the model stays there for the next client."""

    def on_start(self, model, task):
        frozen = next(p for n, p in model.named_parameters() if "norm" in n and not p.requires_grad)
        frozen.data.mul_(1.1)


def says_nothing(method):
    """Checked elsewhere."""


DEFECTS = {
    "FedProx is a no-op": (ProxThatIsNeverCalled(), "fedprox", ["equals_its_paper", "differs_from_fedavg"]),
    "FedProx pushes away": (ProxWithTheWrongSign(), "fedprox", ["equals_its_paper"]),
    "FedProx writes into its task": (ProxThatWritesIntoTheTask(), "fedprox", ["changes_no_input"]),
    "FedAvgM aliases its input": (
        AvgMOfItsOwnInput(),
        "fedavgm",
        ["equals_its_paper", "differs_from_fedavg", "changes_no_input"],
    ),
    "FedAdam on top of the mean": (
        Adaptive(adam, is_on_top_of_the_mean=True), "fedadam", ["equals_its_paper"]
    ),
    "FedYogi on top of the mean": (
        Adaptive(yogi, is_on_top_of_the_mean=True), "fedyogi", ["equals_its_paper"]
    ),
    "FedYogi with sign(m - m^2)": (Adaptive(yogi_with_the_momentum), "fedyogi", ["equals_its_paper"]),
    "FedAdagrad squares the momentum": (Adaptive(adagrad, "m"), "fedadagrad", ["equals_its_paper"]),
    "FedAdam squares the momentum": (Adaptive(adam, "m"), "fedadam", ["equals_its_paper"]),
    "FedYogi squares the momentum": (Adaptive(yogi, "m"), "fedyogi", ["equals_its_paper"]),
    "FedAdagrad with Adam's second moment": (Adaptive(adam), "fedadagrad", ["equals_its_paper"]),
    "unweighted mean": (PlainMean(), "fedavg", ["equals_its_paper", "weights_follow_sizes"]),
    "one flag for all tensors": (OneFlagForAllTensors(), "fedavg", ["equals_its_paper", "treats_tensors_alike"]),
    "sum in fp32": (SumInFp32(), "fedavg", ["order_invariant"]),
    "mean by shares in fp32": (MeanByShares(), "fedavg", ["identical_clients_are_one"]),
    "updates summed in place": (SumIntoTheFirstUpdate(), "fedavg", ["changes_no_input"]),
    "no step": (NoStep(), "fedavg", ["equals_its_paper", "runs"]),
    "SCAFFOLD never updates its controls": (
        Method(Controlled(is_updated=False), ControlledMean()), "scaffold", ["differs_from_fedavg"]
    ),
    "SCAFFOLD with the wrong sign": (
        Method(Controlled(sign=-1.0), ControlledMean()), "scaffold", ["equals_its_paper"]
    ),
    "momentum on self": (MomentumOnSelf(), "fedavgm", ["resumes_to_the_bit", "holds_nothing_on_self"]),
    "momentum in the module": (MomentumInTheModule(), "fedavgm", ["resumes_to_the_bit"]),
    "momentum in a closure": (
        _momentum_in_a_closure(), "fedavgm", ["resumes_to_the_bit", "holds_nothing_on_self"]
    ),
    "gradients leak": (
        GradientOfTheLastClient(), "none", ["leaks_nothing_between_clients", "holds_nothing_on_self"]
    ),
    "a base weight leaks": (ScaleOfABaseWeight(), "none", ["leaks_nothing_between_clients"]),
}  # fmt: skip
EXAMPLES = {**PAPER, "fedavg": WORKED_EXAMPLES["fedavg"], "none": [says_nothing]}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_fails_its_check(defect):
    method, paper, checks = DEFECTS[defect]
    with pytest.raises(ConformanceError) as error:
        check_method(method, worked_example=EXAMPLES[paper], checks=checks)
    failures = error.value.report.failures
    assert [failure.name for failure in failures] == checks
    assert not [failure.note for failure in failures if "expected the check to run" in failure.note]


@dataclass(frozen=True)
class ClearsUpdates(FedAvg):
    """The mean is right, and the updates are zeros afterwards."""

    def aggregate(self, updates, state):
        updates = list(updates)
        mean = super().aggregate(updates, state)
        for update in updates:
            update.tensors.flat.zero_()
        return mean


@pytest.mark.parametrize(
    ("method", "failing"), [(ClearsUpdates(), "changes_no_input"), (MomentumOnSelf(), "holds_nothing_on_self")]
)
def test_a_defect_gets_no_blame_for_what_it_is_not(method, failing):
    elsewhere = ("equals_its_paper", "differs_from_fedavg", "resumes_to_the_bit")
    checks = [name for name in CHECKS if name not in elsewhere]
    assert [failure.name for failure in inspect_method(method, checks=checks).failures] == [failing]


def test_every_check_catches_a_planted_defect():
    assert {check for _, _, checks in DEFECTS.values() for check in checks} == set(CHECKS)


def test_the_error_says_what_was_expected_what_came_and_what_that_means():
    """FedAdam's first step on top of the mean: 9 + 0.25 = 9.25 where 1 + 0.25 is right."""
    report = inspect_method(
        Adaptive(adam, is_on_top_of_the_mean=True), worked_example=PAPER["fedadam"], checks=["equals_its_paper"]
    )
    (failure,) = report.failures
    assert "expected global tensors after round 1 {'w': [1.25], 'u': [-1.25]}" in failure.note
    assert "got {'w': [9.25], 'u': [-9.25]}" in failure.note
    assert "usually another formula than the paper's" in failure.note
    assert "Reddi et al., Algorithm 2" in str(report)
