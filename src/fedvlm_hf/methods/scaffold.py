"""SCAFFOLD (Karimireddy et al., 2020, https://huggingface.co/papers/1910.06378)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..tensors import TensorDict
from ..types import Aggregate, ClientTask, ClientUpdate, Expected, ServerState, State
from .base import CLIENT_METHODS, STRATEGIES, ClientMethod, Strategy, check_knob


CONTROL = "control"
"""The group of control variates: c from the server, c_k in the client's state, the change of c_k in an update."""


@CLIENT_METHODS.register("scaffold")
@dataclass(frozen=True)
class Scaffold(ClientMethod):
    """Correct each local step by the difference between the server's and the client's control variate (Algorithm 1).

    A step of client k from y is y <- y - eta (g(y) - c_k + c). After K steps that led from x to y the client's control
    variate becomes (option II) c_k <- c_k - c + (x - y) / (K eta), which is the mean of its gradients, and the change
    of c_k travels with y. Both start at 0. A client that was not drawn keeps its c_k.

    The formula for c_k holds for plain SGD at a constant rate only, and without clipping, which comes after the
    correction. Other settings are refused. `weight_decay` is allowed: with SGD it is the gradient of an L2 penalty,
    which becomes part of each client's objective. The rate may change between rounds (`round_lr_scheduler_type`), and
    clients may take different numbers of steps.

    The server half is [`ScaffoldServer`]. Tensors that stay with their client have no control variate.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("scaffold")
    Method(client=Scaffold(), strategy=ScaffoldServer(server_lr=1.0))
    ```
    """

    def check_config(self, config: Any) -> None:
        """Refuse every setting under which (x - y) / (K eta) is not the mean of the corrected gradients."""
        wanted = {"optim": "sgd", "optim_args": None, "lr_scheduler_type": "constant", "max_grad_norm": 0}
        given = {name: getattr(config, name) for name in wanted}
        given = {name: getattr(value, "value", value) or wanted[name] for name, value in given.items()}
        if wrong := [name for name in wanted if given[name] != wanted[name]]:
            raise ValueError(
                "`method` 'scaffold' is exact for plain SGD at a constant rate without momentum and clipping only, so "
                + ", ".join(f"`{name}` must be {wanted[name]!r}, got {given[name]!r}" for name in wrong)
                + ". SGD also needs a much higher `learning_rate` than Adam."
            )
        check_knob("learning_rate", config.learning_rate, above=0, why="control variates are changes divided by it")

    def on_start(self, model: nn.Module, task: ClientTask) -> None:
        """Check that the server half is SCAFFOLD's."""
        if CONTROL not in task.control:
            raise ValueError(
                "`method` has the client half of SCAFFOLD without its server half, which sends the control variate. "
                "Use 'scaffold', or `Method(Scaffold(), ScaffoldServer())`."
            )

    def adjust_gradients(self, named_parameters: Mapping[str, nn.Parameter], task: ClientTask) -> None:
        """Add c - c_k to the gradient of each shared tensor, in place."""
        control = task.control[CONTROL]
        if CONTROL in task.state:
            control = control.with_flat(control.flat - task.state[CONTROL].flat)
        for name, correction in control.items():
            parameter = named_parameters[name]
            if parameter.grad is None:  # not reached by the loss in this step, so its gradient is 0
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.add_(correction.to(parameter.device))

    def on_finish(self, update: ClientUpdate, task: ClientTask) -> ClientUpdate:
        """Send the change of c_k, and keep the new c_k."""
        metrics = update.metrics
        moved = task.tensors.flat - _flat(update)
        mean_gradient = moved / (metrics["num_steps"] * metrics["learning_rate"])
        change = mean_gradient - task.control[CONTROL].flat
        new = change + task.state[CONTROL].flat if CONTROL in task.state else change
        layout = task.tensors.with_flat
        return replace(update, control={CONTROL: layout(change)}, state={CONTROL: layout(new)})


@STRATEGIES.register("scaffold")
@dataclass(frozen=True)
class ScaffoldServer(Strategy):
    """The mean step of the cohort, and the mean control variate of all N clients (Algorithm 1).

    x <- x + eta_g mean_k(y_k - x) over the cohort, and c <- c + (1/N) sum_k (change of c_k), where N counts all
    clients and the sum is over the cohort.

    Both means are plain, as in the paper, whose objective is the plain mean of the clients' objectives. Numbers of
    samples play no part, so `client_weighting` changes nothing: with a weighted mean of y and a plain mean of c the
    clients would be corrected towards another objective than the one that is averaged.

    Args:
        server_lr (`float`, *optional*, defaults to `1.0`):
            eta_g, the server's learning rate. With 1 the next tensors are the mean, to the bit.

    Raises:
        `ValueError`: if the knob is out of its range.
    """

    server_lr: float = field(
        default=1.0, metadata={"help": "eta_g, the server's learning rate; at 1 the next tensors are the mean."}
    )

    def __post_init__(self) -> None:
        check_knob("server_lr", self.server_lr, above=0, why="at 0 the global weights stay, below they go backwards")

    def init(self, shared: TensorDict, num_clients: int) -> ServerState:
        """c = 0, and the number of all clients."""
        control = shared.with_flat(torch.zeros_like(shared.flat))
        return ServerState({CONTROL: control}, {"num_clients": num_clients})

    def configure(
        self, round_idx: int, client_ids: Sequence[str], current: TensorDict, state: ServerState
    ) -> list[ClientTask]:
        """Send c with x; expect the change of c_k with y."""
        control: State = {CONTROL: state.tensors[CONTROL]}
        expected = Expected.of(current, control)
        return [ClientTask(round_idx, client_id, current, control, expected) for client_id in client_ids]

    def aggregate(self, updates: Iterable[ClientUpdate], current: TensorDict, state: ServerState) -> Aggregate:
        """The plain mean of the tensors, and the sum of the changes of c_k."""
        return super().aggregate((replace(update, weight=1) for update in updates), current, state)

    def apply(self, aggregate: Aggregate, current: TensorDict, state: ServerState) -> tuple[TensorDict, ServerState]:
        """Step towards the mean, and move c."""
        tensors = current.flat.lerp(aggregate.tensors.flat, self.server_lr)
        control = state.tensors[CONTROL]
        moved = control.flat.add(aggregate.control[CONTROL].flat, alpha=1 / state.scalars["num_clients"])
        return current.with_flat(tensors), ServerState({CONTROL: control.with_flat(moved)}, state.scalars)


def _flat(update: ClientUpdate) -> torch.Tensor:
    """The update's tensors as one buffer; at the client they are weights, before any transform."""
    assert isinstance(update.tensors, TensorDict)
    return update.tensors.flat
