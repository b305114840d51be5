"""The conformance suite on sound methods: every built-in one, combined ones, and one of another package."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch

from fedvlm_hf.methods import CLIENT_METHODS, STRATEGIES, Strategy, resolve_method
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.testing import (
    CHECKS,
    WORKED_EXAMPLES,
    ConformanceError,
    Report,
    ServerExample,
    check_method,
    inspect_method,
    scalars,
    sent,
)


NAMES = sorted({*STRATEGIES.names(), *CLIENT_METHODS.names()})
COMBINED = ["fedprox+fedadam"]

# Checks without a meaning for a method, as the report must say. All others must pass.
ONE_CLIENT = {
    "order_invariant",
    "identical_clients_are_one",
    "weights_follow_sizes",
    "leaks_nothing_between_clients",
}
NOTHING_TRAVELS = {
    "order_invariant",
    "identical_clients_are_one",
    "weights_follow_sizes",
    "counts_every_client",
    "treats_tensors_alike",
}
NOT_APPLICABLE = {"fedavg": {"differs_from_fedavg"}, "central": ONE_CLIENT, "local": NOTHING_TRAVELS}
KEEP_TENSORS = {"local", "ditto"}


ONE_PAIR = {"treats_tensors_alike": "LoRA's A and B are one pair: the base model changes by their product"}
ARGUMENTS = {
    "scaffold": {
        "weighting": "uniform",
        "config_kwargs": {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0},
    },
    "flora": {"exempt": ONE_PAIR},
    "fedex": {"exempt": ONE_PAIR},
}
"""What a method needs to be checked, or cannot pass."""


@cache
def report_of(name: str) -> Report:
    return check_method(name, **ARGUMENTS.get(name, {}))


@pytest.mark.parametrize("name", [*NAMES, *COMBINED])
def test_a_built_in_method_conforms(name):
    results = {result.name: result.status for result in report_of(name).results}
    assert set(results) == set(CHECKS)
    left_out = {check for check, status in results.items() if status != "passed"}
    keeps = set() if name in KEEP_TENSORS else {"keeps_private_tensors"}
    exempt = set(ARGUMENTS.get(name, {}).get("exempt", {}))
    assert left_out == NOT_APPLICABLE.get(name, set()) | keeps | exempt


def test_no_two_methods_are_one():
    """Invariant 3: three rounds of five steps on unequal clients end in other weights for each name."""
    weights = {name: report_of(name).weights for name in [*NAMES, *COMBINED]}
    assert "" not in weights.values()
    assert len(set(weights.values())) == len(weights)


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_the_variant_with_a_plain_mean_declares_it(name):
    checks = ["weights_follow_sizes", "order_invariant", "identical_clients_are_one"]
    check_method(name, {"variant": "fedvlmbench"}, weighting="uniform", checks=checks)


def test_a_plain_mean_that_is_not_declared_fails():
    with pytest.raises(ConformanceError, match="got the result of 'uniform'"):
        check_method("fedadam", {"variant": "fedvlmbench"}, checks=["weights_follow_sizes"])


def test_every_built_in_method_has_worked_examples():
    assert sorted(WORKED_EXAMPLES) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("central", "local")])
def test_a_worked_example_sees_every_knob(name):
    """Each knob has its own value in some example, so that a knob that is ignored or swapped shows: here each is moved
    by a tenth, which must turn an example red. `variant` is seen by the two variants' examples."""
    method = resolve_method(name)
    examples = [example for example in WORKED_EXAMPLES[name] if not callable(example)]
    for knob in sorted({knob for example in examples for knob in example.knobs} - {"variant"}):
        red = 0
        for example in [example for example in examples if knob in example.knobs]:
            moved = {**example.knobs, knob: (example.knobs[knob] or 0.5) * 1.1}
            try:
                type(example)(**{**vars(example), "knobs": moved}).check(method)
            except AssertionError:
                red += 1
        assert red, knob


# --- a method of another package ---


@dataclass(frozen=True)
class Half(Strategy):
    """Goes a share of the way to the mean."""

    server_lr: float = 0.5

    def apply(self, aggregate, current, state):
        return current.with_flat(current.flat.lerp(aggregate.tensors.flat, self.server_lr)), state


HALF = ServerExample(
    "A quarter of the way to the mean (1 * 1 + 3 * 5) / 4 = 4: from 0 to 1.",
    initial=scalars(w=[0.0]),
    rounds=[([sent("a", 1, w=[1.0]), sent("b", 3, w=[5.0])], scalars(w=[1.0]))],
    knobs={"server_lr": 0.25},
)


def test_a_method_of_another_package_conforms_with_its_worked_example():
    assert check_method(Half(), worked_example=HALF).weights


def test_without_a_worked_example_the_error_tells_how_to_give_one():
    with pytest.raises(ConformanceError, match=r"a worked example for Half[\s\S]*pass `worked_example=`") as error:
        check_method(Half(), checks=["equals_its_paper"])
    assert error.value.report.failures[0].name == "equals_its_paper"
    assert error.value.report.weights == ""  # nothing was trained


def test_a_worked_example_may_be_a_function():
    def doubles(method):
        """One is two."""
        assert method.strategy.server_lr == 1.0, "one is one half"

    check_method(Half(server_lr=1.0), worked_example=doubles, checks=["equals_its_paper"])
    with pytest.raises(ConformanceError, match=r"'doubles' says \(One is two.\)\n    got one is one half"):
        check_method(Half(), worked_example=doubles, checks=["equals_its_paper"])


@dataclass(frozen=True)
class FedIT(FedAvg):
    """FedAvg by another name."""


def test_an_alias_is_declared():
    checks = ["equals_its_paper", "differs_from_fedavg"]
    check_method(FedIT(), alias_of="fedavg", checks=checks)
    with pytest.raises(ConformanceError, match=r"the same weights [\s\S]*alias_of='fedavg'"):
        check_method(FedIT(), worked_example=WORKED_EXAMPLES["fedavg"], checks=checks)
    with pytest.raises(ConformanceError, match="the bits of 'fedavg', as it is declared as an alias"):
        check_method(Half(), worked_example=HALF, alias_of="fedavg", checks=["differs_from_fedavg"])


def test_a_reference_is_of_the_same_number_of_threads():
    """Its last bits depend on it, and an alias is held to them."""
    threads = torch.get_num_threads()
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            check_method(FedIT(), alias_of="fedavg", checks=["equals_its_paper", "differs_from_fedavg"])
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class FedAvgByDeltas(Strategy):
    """FedAvg in other bits: w + (mean - w)."""

    def apply(self, aggregate, current, state):
        return current.with_flat(current.flat + (aggregate.tensors.flat - current.flat)), state


def test_another_way_of_rounding_is_no_other_method():
    report = inspect_method(FedAvgByDeltas(), checks=["differs_from_fedavg"])
    assert report.weights != report_of("fedavg").weights
    assert [failure.name for failure in report.failures] == ["differs_from_fedavg"]


def test_a_half_that_does_nothing_shows_beside_another():
    """FedProx with mu = 0 and FedAdam is FedAdam, which does differ from FedAvg."""
    with pytest.raises(ConformanceError, match="other weights than its server half alone gives"):
        check_method("fedprox+fedadam", {"mu": 0.0}, checks=["differs_from_fedavg"])


def test_a_method_may_need_other_arguments():
    sgd = {"optim": "sgd", "learning_rate": 0.1}
    runs = [inspect_method("fedavg", checks=["runs"], config_kwargs=config) for config in (sgd, None)]
    assert runs[0].weights != runs[1].weights == report_of("fedavg").weights
    check_method("fedprox", {"mu": 1.0}, checks=["differs_from_fedavg"], config_kwargs=sgd)


# --- the report, and what is refused ---


def test_an_exemption_shows_its_reason():
    report = check_method(
        FedIT(),
        exempt={"differs_from_fedavg": "it is FedAvg", "equals_its_paper": "not worked out"},
        checks=["equals_its_paper", "differs_from_fedavg", "order_invariant"],
    )
    assert [(r.name, r.status, r.note) for r in report.results[:2]] == [
        ("equals_its_paper", "exempt", "not worked out"),
        ("differs_from_fedavg", "exempt", "it is FedAvg"),
    ]
    assert "equals_its_paper     exempt" in str(report)


def test_a_run_that_raises_is_one_failure():
    class Broken(FedAvg):
        def apply(self, aggregate, current, state):
            raise RuntimeError("out of luck")

    report = inspect_method(Broken(), checks=["runs", "order_invariant", "resumes_to_the_bit"])
    assert [(r.name, r.status) for r in report.results] == [
        ("runs", "FAILED"), ("order_invariant", "not applicable"), ("resumes_to_the_bit", "not applicable")
    ]  # fmt: skip
    assert "RuntimeError at" in report.failures[0].note
    assert "test_conformance.py" in report.failures[0].note
    assert "out of luck" in report.failures[0].note
    assert report.weights == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "fedpro"}, "`method` 'fedpro' is unknown. Did you mean 'fedprox'"),
        ({"exempt": {"order": "?"}}, "`exempt` 'order' is unknown"),
        ({"checks": ["order_invarian"]}, "`checks` 'order_invarian' is unknown. Did you mean 'order_invariant'"),
        ({"weighting": "rows"}, "`weighting` 'rows' is unknown"),
        ({"config_kwargs": {"num_rounds": 2}}, "`config_kwargs` has 'num_rounds', which the suite sets itself"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_in_the_call_is_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        inspect_method(**{"method": "fedavg", **arguments})
