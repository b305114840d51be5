"""The contracts of a method's halves: how they are found and combined, and when the hooks of a client are called."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig

from federation import federated, weights
from fedvlm_hf.methods import CLIENT_METHODS, STRATEGIES, ClientMethod, Method, Strategy, check_knob, resolve_method
from fedvlm_hf.methods.central import Central
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.methods.fedopt import FedAdam
from fedvlm_hf.methods.fedprox import FedProx
from fedvlm_hf.methods.local import Local
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ServerState
from tiny import tiny_rows


@dataclass(frozen=True)
class Pull(ClientMethod):
    """Adds `strength` times the weights to the gradients, and notes the calls."""

    strength: float = 0.0
    calls: list = None

    def on_start(self, model, task):
        self.calls.append(("start", task.client_id, sorted(task.state)))

    def adjust_gradients(self, named_parameters, task):
        norm = torch.cat([p.grad.flatten() for p in named_parameters.values()]).norm().item()
        self.calls.append(("adjust", task.round_idx, norm))
        for parameter in named_parameters.values():
            parameter.grad.add_(parameter.detach(), alpha=self.strength)

    def on_finish(self, update, task):
        self.calls.append(("finish", task.client_id, update.metrics["num_steps"]))
        return update


@dataclass(frozen=True)
class Pushes(Strategy):
    """A strategy with a knob and state: each round adds `step` to the mean and counts."""

    step: float = 1.0

    def init(self, shared, num_clients):
        return ServerState({"sum": shared.with_flat(torch.zeros_like(shared.flat))}, {"rounds": 0.0})

    def apply(self, aggregate, current, state):
        mean = aggregate.tensors
        total = mean.with_flat(state.tensors["sum"].flat + self.step)
        return mean.with_flat(mean.flat + self.step), ServerState(
            {"sum": total}, {"rounds": state.scalars["rounds"] + 1}
        )


def test_names_resolve_to_halves():
    assert resolve_method("fedavg") == Method(ClientMethod(), FedAvg())
    assert resolve_method("central") == Method(Central(), FedAvg())
    assert resolve_method("local+fedavg").strategy == FedAvg()


def test_knobs_go_to_the_half_that_has_them(monkeypatch):
    monkeypatch.setitem(CLIENT_METHODS._classes, "pull", Pull)
    monkeypatch.setitem(STRATEGIES._classes, "pushes", Pushes)
    method = resolve_method("pull+pushes", {"strength": 2.0, "step": 0.5})
    assert (method.client.strength, method.strategy.step) == (2.0, 0.5)
    with pytest.raises(ValueError, match=r"`method_kwargs` 'stepp' is unknown. Did you mean 'step'"):
        resolve_method("pull+pushes", {"stepp": 0.5})


def test_objects_are_methods_too():
    assert resolve_method(Pushes(step=3)).strategy.step == 3
    assert resolve_method(Central()).client == Central()
    assert resolve_method(Method(KeepsLoraA(), Pushes())).strategy == Pushes()
    with pytest.raises(ValueError, match="Set the knobs on the object"):
        resolve_method(Pushes(), {"step": 3})


def test_a_client_half_goes_with_a_server_half():
    method = resolve_method("fedprox+fedadam", {"mu": 0.1, "server_lr": 0.01, "beta2": 0.9})
    assert method == Method(FedProx(0.1), FedAdam(server_lr=0.01, beta2=0.9))
    assert resolve_method("fedadam+fedprox") == Method(FedProx(), FedAdam())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("central+fedadam", "joins Central and FedAdam, but Central has no clients"),
        ("fedavgm+local", "joins Local and FedAvgM, but Local has no clients"),
        ("central+fedprox", "more than one client method: central, fedprox"),
        ("fedprox+fedprox", "more than one client method: fedprox, fedprox"),
        ("fedadam+fedyogi", "more than one strategy: fedadam, fedyogi"),
        ("fedavg+fedadam", "more than one strategy: fedavg, fedadam"),
        ("fedprox+", "`method` '' is unknown"),
        ("fedprox+fedadamm", "`method` 'fedadamm' is unknown. Did you mean 'fedadam'"),
    ],
)
def test_combinations_without_a_meaning_are_refused(method, message):
    with pytest.raises(ValueError) as error:
        resolve_method(method)
    assert message in str(error.value)


@pytest.mark.parametrize("baseline", [Central(), Local()])
def test_a_baseline_takes_no_server_half_as_an_object_either(baseline):
    for strategy in (Pushes(), FedAdam()):
        with pytest.raises(ValueError, match=f"joins {type(baseline).__name__} and {type(strategy).__name__}"):
            Method(baseline, strategy)
    assert Method(baseline, Strategy()).client == resolve_method(baseline).client == baseline


def test_a_method_says_whether_it_adjusts_gradients():
    assert [half.adjusts_gradients for half in (FedProx(), Pull(), ClientMethod(), Central(), Local(), L2())] == [
        True, True, False, False, False, False
    ]  # fmt: skip


def test_a_knob_is_a_finite_number_in_its_range():
    for value in (0, 0.5, torch.tensor(0.5).item()):
        check_knob("x", value, at_least=0, below=1)
    for value, message in [
        (1, "`x` must be a finite number at least 0 and below 1, got 1: it is a share."),
        (float("nan"), "got nan"),
        ("0.5", "`x` must be a number, got '0.5'"),
        (None, "`x` must be a number, got None"),
    ]:
        with pytest.raises(ValueError) as error:
            check_knob("x", value, at_least=0, below=1, why="it is a share")
        assert message in str(error.value)
    with pytest.raises(ValueError, match=r"above 0, got inf\.$"):
        check_knob("x", float("inf"), above=0)


def test_hooks_are_called_once_per_step_and_run_whatever_the_accumulation(tmp_path):
    calls = []
    federated(
        tmp_path,
        {"client_00": rows(4)},
        method=Pull(0.0, calls),
        max_steps=2,
        num_rounds=1,
        gradient_accumulation_steps=2,
    ).train()
    assert [call[:2] for call in calls] == [
        ("start", "client_00"), ("adjust", 1), ("adjust", 1), ("finish", "client_00")
    ]  # fmt: skip
    assert calls[-1][2] == 2


@pytest.mark.parametrize("max_grad_norm", [1e-3, 0.0])
def test_gradients_are_adjusted_before_clipping_and_also_without_it(tmp_path, max_grad_norm):
    """Clipped first, every gradient would have norm 0.001 or less when the hook sees it."""
    calls = []
    federated(
        tmp_path, {"client_00": rows(4)}, method=Pull(0.0, calls), num_rounds=1, max_grad_norm=max_grad_norm
    ).train()
    norms = [norm for kind, _, norm in calls if kind == "adjust"]
    assert len(norms) == 3
    assert min(norms) > 0.01


def test_what_is_added_to_the_gradients_arrives(tmp_path):
    """With SGD, rate 0.01, one step and strength 3, each weight w loses 0.03 w beside what it loses without."""
    runs = {}
    for strength in (0.0, 3.0):
        trainer = federated(
            tmp_path / str(strength), {"client_00": rows(4)}, method=Pull(strength, []), num_rounds=1, max_steps=1,
            optim="sgd", max_grad_norm=0.0,
        )  # fmt: skip
        start = trainer.local.initial_shared().flat.clone()
        trainer.train()
        runs[strength] = trainer.federation.tensors.flat
    torch.testing.assert_close(runs[0.0] - runs[3.0], 0.03 * start, rtol=1e-3, atol=1e-6)


@dataclass(frozen=True)
class L2(ClientMethod):
    """Half the squared norm of the weights, as an extra loss."""

    def extra_loss(self, model, inputs, task):
        return 0.5 * sum((p.float() ** 2).sum() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_an_extra_loss_counts_once_per_optimizer_step(tmp_path, accumulation):
    """Trap: Trainer does not divide by the accumulation steps when it knows the number of tokens, so a term added in
    `compute_loss` would count 2 or 4 times. Its gradient is w: SGD with rate 0.01 takes 0.01 w more of each weight."""
    runs = {}
    for method in ("fedavg", L2()):
        trainer = federated(
            tmp_path / str(method), {"client_00": rows(4)}, method=method, num_rounds=1, max_steps=1,
            per_device_train_batch_size=4 // accumulation, gradient_accumulation_steps=accumulation,
            optim="sgd", max_grad_norm=0.0, trainer_kwargs={"peft_config": LoraConfig(r=2)},
        )  # fmt: skip
        start = trainer.local.initial_shared().flat.clone()
        trainer.train()
        runs[str(method)] = trainer.federation.tensors.flat
    torch.testing.assert_close(runs["fedavg"] - runs["L2()"], 0.01 * start, rtol=1e-3, atol=1e-6)


def test_server_state_is_saved_and_resumed(tmp_path):
    """Three rounds of a strategy with state, whole and cut: tensors and scalars both survive."""
    whole = federated(tmp_path / "whole", method=Pushes(0.25), num_rounds=3)
    whole.train()
    federated(tmp_path / "cut", method=Pushes(0.25), num_rounds=2).train()
    resumed = federated(tmp_path / "cut", method=Pushes(0.25), num_rounds=3)
    resumed.train(resume_from_checkpoint=True)
    assert weights(resumed.local.adapter) == weights(whole.local.adapter)
    from fedvlm_hf.checkpoint import load_last_round

    state = load_last_round(tmp_path / "cut", resumed.store).state
    assert state.scalars == {"rounds": 3.0}
    assert set(state.tensors["sum"].flat.tolist()) == {0.75}


def test_another_method_is_another_run(tmp_path):
    federated(tmp_path, method=Pushes(0.25), num_rounds=1).train()
    with pytest.raises(ValueError, match="holds another run"):
        federated(tmp_path, method=Pushes(0.5), num_rounds=2).train(resume_from_checkpoint=True)


def test_no_method_is_silently_another(tmp_path):
    """Three rounds of five steps on unequal clients: every method, with its defaults, goes another way, by more than a
    thousandth of it. Nearest are FedAdam and FedYogi, whose second moments hardly differ in so few rounds: 0.4 %.
    SCAFFOLD needs SGD, and has a plain mean: FedAvg has both beside it. Ditto's global tensors are FedAvg's to the
    bit; its personal copies are what differs, and test_ditto.py and the conformance suite compare those."""
    sgd = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "client_weighting": "uniform"}
    names = {*CLIENT_METHODS.names(), *STRATEGIES.names(), "fedprox+fedadam"} - {"central", "local", "ditto"}
    runs = {name: {"method": name} for name in sorted(names)}
    runs |= {"scaffold": {"method": "scaffold", **sgd}, "fedavg by SGD": {"method": "fedavg", **sgd}}
    ways = {}
    for name, arguments in runs.items():
        trainer = federated(tmp_path / name, num_rounds=3, max_steps=5, **arguments)
        trainer.train()
        ways[name] = trainer.federation.tensors.flat - trainer.local.initial_shared().flat
    for one, other in itertools.combinations(ways, 2):
        assert (ways[one] - ways[other]).norm() > 1e-3 * ways[one].norm(), f"{one} is {other}"


@dataclass(frozen=True)
class KeepsLoraA(ClientMethod):
    """A personalised method in three lines: LoRA's A stays with the client."""

    def is_shared(self, name):
        return "lora_A" not in name


def test_what_is_not_shared_stays_with_the_client_and_does_not_travel(tmp_path):
    trainer = federated(tmp_path, method=KeepsLoraA(), num_rounds=2)
    trainer.train()
    private = {name: trainer.store.load(name)["private"] for name in ("client_00", "client_01")}
    assert all("lora_A" in name for state in private.values() for name in state)
    assert private["client_00"].digest() != private["client_01"].digest()
    assert not any("lora_A" in name for name in trainer.federation.tensors)
    assert isinstance(trainer.federation.tensors, TensorDict)


def rows(count: int):
    return tiny_rows(count, seed=3)
