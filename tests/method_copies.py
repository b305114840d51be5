"""Short copies of methods, written from the papers, into which the conformance tests plant defects."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fedvlm_hf.methods import ClientMethod, Strategy
from fedvlm_hf.types import Expected, ServerState


def zeros(tensors):
    return tensors.with_flat(torch.zeros_like(tensors.flat))


@dataclass(frozen=True)
class Prox(ClientMethod):
    """FedProx."""

    mu: float = 0.01

    def adjust_gradients(self, named_parameters, task):
        for name, start in task.tensors.items():
            named_parameters[name].grad.add_(named_parameters[name].detach() - start, alpha=self.mu)


@dataclass(frozen=True)
class AvgM(Strategy):
    """FedAvgM."""

    server_lr: float = 1.0
    server_momentum: float = 0.9
    variant: str = "paper"

    def init(self, shared, num_clients):
        return ServerState({"momentum": zeros(shared)})

    def apply(self, aggregate, current, state):
        mean = aggregate.tensors
        momentum = self.server_momentum * state.tensors["momentum"].flat + mean.flat - current.flat
        new_state = ServerState({"momentum": mean.with_flat(momentum)})
        return mean.with_flat(current.flat + self.server_lr * momentum), new_state


@dataclass(frozen=True)
class Adaptive(Strategy):
    """Reddi et al., Algorithm 2; the second moment is a function of v, Delta^2, m and beta2."""

    second_moment: Callable = lambda v, square, m, beta2: v + square
    square_of: str = "delta"
    is_on_top_of_the_mean: bool = False
    server_lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    v0: float | None = None
    variant: str = "paper"

    def init(self, shared, num_clients):
        v0 = self.tau**2 if self.v0 is None else self.v0
        return ServerState({"m": zeros(shared), "v": shared.with_flat(torch.full_like(shared.flat, v0))})

    def apply(self, aggregate, current, state):
        mean = aggregate.tensors
        delta = mean.flat - current.flat
        m = self.beta1 * state.tensors["m"].flat + (1 - self.beta1) * delta
        square = {"delta": delta, "m": m}[self.square_of] ** 2
        v = self.second_moment(state.tensors["v"].flat, square, m, self.beta2)
        base = mean.flat if self.is_on_top_of_the_mean else current.flat
        new_state = ServerState({"m": mean.with_flat(m), "v": mean.with_flat(v)})
        return mean.with_flat(base + self.server_lr * m / (v.sqrt() + self.tau)), new_state


def adagrad(v, square, m, beta2):
    return v + square


def adam(v, square, m, beta2):
    return beta2 * v + (1 - beta2) * square


def yogi(v, square, m, beta2):
    return v - (1 - beta2) * square * torch.sign(v - square)


def yogi_with_the_momentum(v, square, m, beta2):
    return v - (1 - beta2) * square * torch.sign(m - m**2)


@dataclass(frozen=True)
class Controlled(ClientMethod):
    """SCAFFOLD's client (Karimireddy et al., 2020, option II): g + c - c_k, and c_k moves to what was seen."""

    sign: float = 1.0
    is_updated: bool = True

    def adjust_gradients(self, named_parameters, task):
        for group, sign in ((task.control, self.sign), (task.state, -self.sign)):
            for name, control in group.get("control", {}).items():
                named_parameters[name].grad.add_(control, alpha=sign)

    def on_finish(self, update, task):
        old = task.state.get("control", zeros(task.tensors)).flat
        if not self.is_updated:
            kept = {"control": task.tensors.with_flat(old)}
            return replace(update, control={"change": zeros(task.tensors)}, state=kept)
        seen = (task.tensors.flat - update.tensors.flat) / (update.metrics["num_steps"] * 1e-3)
        new = task.tensors.with_flat(old - task.control["control"].flat + seen)
        change = task.tensors.with_flat(new.flat - old)
        return replace(update, control={"change": change}, state={"control": new})


@dataclass(frozen=True)
class ControlledMean(Strategy):
    """SCAFFOLD's server: the mean of weights, and c, which moves by the sum of the controls' changes / num_clients."""

    def init(self, shared, num_clients):
        return ServerState({"control": zeros(shared)}, {"num_clients": num_clients})

    def configure(self, round_idx, client_ids, current, state):
        tasks = super().configure(round_idx, client_ids, current, state)
        expects = Expected.of(current, {"change": current})
        return [replace(task, control={"control": state.tensors["control"]}, expects=expects) for task in tasks]

    def apply(self, aggregate, current, state):
        change = aggregate.control["change"].flat / state.scalars["num_clients"]
        control = current.with_flat(state.tensors["control"].flat + change)
        return aggregate.tensors, ServerState({"control": control}, state.scalars)
