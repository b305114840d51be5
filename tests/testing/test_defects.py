"""Each defect that was found in methods of other packages, planted in a copy, fails the check that should catch it.

The copies are short, and the sound version of each passes, so that it is the defect that fails.
"""

from dataclasses import dataclass, field, replace

import pytest
import torch

from fedvlm_hf.client.run import ClientMixin
from fedvlm_hf.lora import is_lora_a, is_lora_b
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
from fedvlm_hf.types import Aggregate, Expected, ServerState
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

    def apply(self, aggregate, current, state):
        new = current
        new.flat.copy_(aggregate.tensors.flat)
        momentum = self.server_momentum * state.tensors["momentum"].flat + new.flat - current.flat
        return new.with_flat(new.flat + self.server_lr * momentum), ServerState({"momentum": new.with_flat(momentum)})


@dataclass(frozen=True)
class PlainMean(FedAvg):
    def aggregate(self, updates, current, state):
        return super().aggregate((replace(update, weight=1) for update in updates), current, state)


@dataclass(frozen=True)
class OneFlagForAllTensors(FedAvg):
    """The flag says that the sum is empty; it is cleared after the first tensor, so the others add to the old ones."""

    def apply(self, aggregate, current, state):
        is_first, new = True, aggregate.tensors.clone()
        for name in new:
            if not is_first:
                new[name].add_(current[name])
            is_first = False
        return new, state


@dataclass(frozen=True)
class SumInFp32(FedAvg):
    def aggregate(self, updates, current, state):
        updates = list(updates)
        total = sum(update.weight for update in updates)
        flat = sum(update.tensors.flat * update.weight for update in updates)
        return Aggregate(current.with_flat(flat / total), {}, len(updates), total)


@dataclass(frozen=True)
class MeanByShares(FedAvg):
    """sum_k (n_k / n) w_k in fp32: the shares 1/7, 2/7, 4/7 of the same weights are not those weights."""

    def aggregate(self, updates, current, state):
        updates = sorted(updates, key=lambda update: update.client_id)
        total = sum(update.weight for update in updates)
        flat = sum(update.tensors.flat * (update.weight / total) for update in updates)
        return Aggregate(current.with_flat(flat), {}, len(updates), total)


@dataclass(frozen=True)
class SumIntoTheFirstUpdate(FedAvg):
    def aggregate(self, updates, current, state):
        total, tensors, count = 0, None, 0
        for update in updates:
            count += 1
            total += update.weight
            scaled = update.tensors.flat.mul_(update.weight)
            tensors = update.tensors if tensors is None else tensors.with_flat(tensors.flat.add_(scaled))
        return Aggregate(tensors.with_flat(tensors.flat / total), {}, count, total)


@dataclass(frozen=True)
class NoStep(FedAvg):
    def apply(self, aggregate, current, state):
        return current, state


@dataclass(frozen=True)
class MomentumOnSelf(AvgM):
    """Momentum in a field: gone when the run resumes."""

    held: dict = field(default_factory=dict)

    def apply(self, aggregate, current, state):
        mean = aggregate.tensors
        momentum = self.server_momentum * self.held.get("momentum", 0) + mean.flat - current.flat
        self.held["momentum"] = momentum
        return mean.with_flat(current.flat + self.server_lr * momentum), state


MOMENTUM = {}


@dataclass(frozen=True)
class MomentumInTheModule(AvgM):
    def apply(self, aggregate, current, state):
        mean = aggregate.tensors
        momentum = self.server_momentum * MOMENTUM.get("it", 0) + mean.flat - current.flat
        MOMENTUM["it"] = momentum
        return mean.with_flat(current.flat + self.server_lr * momentum), state


def _momentum_in_a_closure():
    held = []

    @dataclass(frozen=True)
    class MomentumInAClosure(AvgM):
        def apply(self, aggregate, current, state):
            mean = aggregate.tensors
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


@dataclass(frozen=True)
class MeanOfControls(ControlledMean):
    def aggregate(self, updates, current, state):
        aggregate = super().aggregate(updates, current, state)
        means = {g: t.with_flat(t.flat / aggregate.num_clients) for g, t in aggregate.control.items()}
        return replace(aggregate, control=means)


@dataclass(frozen=True)
class ControlOfTheFirstClient(ControlledMean):
    """The control groups of the other clients are dropped."""

    def aggregate(self, updates, current, state):
        first, *others = updates
        return super().aggregate([first, *(replace(update, control={}) for update in others)], current, state)


@dataclass(frozen=True)
class NoControl(ControlledMean):
    """The aggregate has the tensors only."""

    def aggregate(self, updates, current, state):
        return replace(super().aggregate(updates, current, state), control={})

    def apply(self, aggregate, current, state):
        return aggregate.tensors, state


@dataclass(frozen=True)
class CountsNobody(FedAvg):
    def aggregate(self, updates, current, state):
        return Aggregate(super().aggregate(updates, current, state).tensors)


@dataclass(frozen=True)
class FrozenA(ClientMethod):
    """FFA-LoRA: A stays as it was drawn, and only B trains."""

    def is_trained(self, name):
        return not is_lora_a(name)


@dataclass(frozen=True)
class FrozenAThatTrains(FrozenA):
    def on_start(self, model, task):
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad_(True)


@dataclass(frozen=True)
class FrozenAThatIsWritten(FrozenA):
    def on_start(self, model, task):
        next(p for n, p in model.named_parameters() if "lora_A" in n).data.mul_(1.1)


@dataclass(frozen=True)
class AsksForAFrozenTensor(FedAvg):
    """Its tasks expect the A of the first module too, which does not train."""

    def configure(self, round_idx, client_ids, current, state):
        first = next(filter(is_lora_b, current)).replace("lora_B", "lora_A")
        expects = Expected.of({**current, first: torch.zeros(8, 32)})
        tasks = super().configure(round_idx, client_ids, current, state)
        return [replace(task, expects=expects) for task in tasks]

    def aggregate(self, updates, current, state):
        shared = (replace(update, tensors={name: update.tensors[name] for name in current}) for update in updates)
        return super().aggregate(shared, current, state)


@dataclass(frozen=True)
class PrivateB(ClientMethod):
    """B stays at the client, and the method keeps a state of its own."""

    def is_shared(self, name):
        return not is_lora_b(name)

    def on_finish(self, update, task):
        return replace(update, state={"seen": scalars(rounds=[float(task.round_idx)])})


@dataclass(frozen=True)
class PrivateBThatStartsAnew(PrivateB):
    def on_start(self, model, task):
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.zero_()


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
    "controls are averaged": (Method(Controlled(), MeanOfControls()), "scaffold", ["counts_every_client"]),
    "a client's control is dropped": (
        Method(Controlled(), ControlOfTheFirstClient()), "scaffold", ["counts_every_client"]
    ),
    "all controls are dropped": (Method(Controlled(), NoControl()), "scaffold", ["counts_every_client"]),
    "clients are not counted": (CountsNobody(), "fedavg", ["counts_every_client"]),
    "a frozen tensor trains": (FrozenAThatTrains(), "none", ["trains_and_sends_what_it_says"]),
    "a frozen tensor is written": (FrozenAThatIsWritten(), "none", ["trains_and_sends_what_it_says"]),
    "a frozen tensor is sent": (
        Method(FrozenA(), AsksForAFrozenTensor()), "fedavg", ["trains_and_sends_what_it_says"]
    ),
    "private tensors start anew": (PrivateBThatStartsAnew(), "none", ["keeps_private_tensors"]),
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


# --- what the run itself refuses or keeps ---


@dataclass(frozen=True)
class ForgetsExpects(ControlledMean):
    def configure(self, round_idx, client_ids, current, state):
        tasks = super().configure(round_idx, client_ids, current, state)
        return [replace(task, expects=None) for task in tasks]


@dataclass(frozen=True)
class TakesTheReservedGroup(PrivateB):
    def on_finish(self, update, task):
        return replace(update, state={"private": scalars(w=[0.0])})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method(Controlled(), ForgetsExpects()), "has the control group 'change', which its task does not ask for"),
        (TakesTheReservedGroup(), "`on_finish` of `method` returns the state group 'private'"),
    ],
)
def test_a_run_that_refuses_a_method_fails_the_check_with_its_reason(method, message):
    with pytest.raises(ConformanceError) as error:
        check_method(method, checks=["runs"])
    (failure,) = error.value.report.failures
    assert message in failure.note


@pytest.mark.parametrize("method", [FrozenA(), PrivateB()])
def test_a_method_that_freezes_or_keeps_tensors_conforms(method):
    report = check_method(method, exempt={"equals_its_paper": "a test's method"})
    status = {result.name: result.status for result in report.results}
    assert status["keeps_private_tensors"] == ("passed" if isinstance(method, PrivateB) else "not applicable")


def test_a_run_that_lets_a_methods_state_replace_private_tensors_is_caught(monkeypatch):
    """The defect that a run once had: a method that returned a state of its own lost the private tensors."""
    keep = ClientMixin._keep

    def replaces(self, update, kept):
        return keep(self, update, update.state or kept)

    monkeypatch.setattr(ClientMixin, "_keep", replaces)
    check_method("local", checks=["keeps_private_tensors"])  # it returns no state
    with pytest.raises(ConformanceError, match=r"the private tensors of 'client_0[0-2]' to be saved after round 1"):
        check_method(PrivateB(), checks=["keeps_private_tensors"])


@dataclass(frozen=True)
class ClearsUpdates(FedAvg):
    """The mean is right, and the updates are zeros afterwards."""

    def aggregate(self, updates, current, state):
        updates = list(updates)
        mean = super().aggregate(updates, current, state)
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
