"""The contracts of a method's two halves, and how a name becomes a method."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

import torch
from torch import nn

from ..registry import Registry, unknown_name_message
from ..tensors import TensorDict, WeightedMean
from ..types import Aggregate, ClientTask, ClientUpdate, LocalPhase, ServerState


STRATEGIES: Registry[type["Strategy"]] = Registry("strategy", "fedvlm_hf.methods")
CLIENT_METHODS: Registry[type["ClientMethod"]] = Registry("client method", "fedvlm_hf.methods", STRATEGIES)


@dataclasses.dataclass(frozen=True)
class Strategy:
    """The server half of a method. Subclasses are frozen dataclasses whose fields are the method's knobs.

    Nothing lives on the object between rounds: what must last is in `ServerState`, which is saved with each round.
    """

    def init(self, shared: TensorDict, num_clients: int) -> ServerState:
        """State before the first round, from the tensors that are shared and train, and the number of all clients."""
        return ServerState()

    def check_run(self, shared: TensorDict, client_ids: Sequence[str]) -> None:
        """Refuse a run in which the method would not be what its paper says, before anything is trained.

        Args:
            shared (`TensorDict`):
                Every tensor that is shared and trains in any stage of the run, with its initial values.
            client_ids (`Sequence[str]`):
                All clients of the run, in sorted order.

        Raises:
            `ValueError`: naming the argument and what to set.
        """

    def configure(
        self, round_idx: int, client_ids: Sequence[str], current: TensorDict, state: ServerState
    ) -> list[ClientTask]:
        """One task for each client of the cohort.

        A strategy whose clients send control groups, or tensors of other shapes than they were sent, says so in each
        task's `expects`: an update that differs from it is refused.
        """
        return [ClientTask(round_idx, client_id, current) for client_id in client_ids]

    def aggregate(self, updates: Iterable[ClientUpdate], current: TensorDict, state: ServerState) -> Aggregate:
        """Combine updates, which come one at a time.

        Unless overridden this is the exact mean weighted by `weight`, and the plain sum of each control group.
        """
        mean, num_clients = WeightedMean(), 0
        control: dict[str, WeightedMean] = {}
        for update in updates:
            mean.add(_as_tensor_dict(update.tensors), update.weight)
            for group, tensors in update.control.items():
                control.setdefault(group, WeightedMean()).add(tensors, 1)
            num_clients += 1
        sums = {group: values.sum() for group, values in control.items()}
        return Aggregate(mean.result(), sums, num_clients, mean.total)

    def apply(self, aggregate: Aggregate, current: TensorDict, state: ServerState) -> tuple[TensorDict, ServerState]:
        """The next shared tensors and state: the aggregate itself unless overridden."""
        return aggregate.tensors, state

    def base_change(self, state: ServerState) -> TensorDict:
        """The change of the base model so far, as LoRA pairs by module; nothing unless overridden.

        Every client, every evaluation and every export gets it: the weight of a module becomes W + scale B A.
        """
        return TensorDict({})

    @property
    def changes_base(self) -> bool:
        """Whether `base_change` is overridden."""
        return type(self).base_change is not Strategy.base_change

    @property
    def is_mean(self) -> bool:
        """Whether the aggregate is a mean of the clients' tensors, to which noise for a mean can be added."""
        return type(self).aggregate is Strategy.aggregate


def _as_tensor_dict(tensors: Mapping[str, torch.Tensor]) -> TensorDict:
    return tensors if isinstance(tensors, TensorDict) else TensorDict.from_tensors(tensors)


@dataclasses.dataclass(frozen=True)
class ClientMethod:
    """The client half of a method: hooks into one client run. Subclasses are frozen dataclasses of their knobs."""

    def clients(self, datasets: Mapping[str, Any]) -> dict[str, Any]:
        """The clients to train, by id, from the clients' datasets."""
        return dict(datasets)

    @property
    def is_continuous(self) -> bool:
        """Whether a client's optimizer, data order and random state continue from round to round."""
        return False

    @property
    def takes_strategy(self) -> bool:
        """Whether a server half other than the mean has a meaning with this client half."""
        return True

    @property
    def adjusts_gradients(self) -> bool:
        """Whether `adjust_gradients` is overridden. Then gradients must not be scaled, as fp16 training does."""
        return type(self).adjust_gradients is not ClientMethod.adjust_gradients

    @property
    def phases(self) -> tuple[LocalPhase, ...]:
        """The phases of a local round, in order. Each is a training run with a new optimizer."""
        return (LocalPhase(),)

    def is_shared(self, name: str) -> bool:
        """Whether a tensor travels. What trains and is not shared stays at the client, which the run takes care of."""
        return True

    def is_trained(self, name: str) -> bool:
        """Whether a tensor trains. What does not is frozen at its initial value and never sent."""
        return True

    def check_config(self, config: Any) -> None:
        """Refuse a run's configuration under which the method would not be what its paper says.

        Raises:
            `ValueError`: naming the argument and what to set.
        """

    def on_start(self, model: nn.Module, task: ClientTask) -> None:
        """After the task's tensors are loaded, before the first step of the first phase."""

    def extra_loss(self, model: nn.Module, inputs: Mapping[str, Any], task: ClientTask) -> torch.Tensor | None:
        """A term to add to the loss of a micro-batch; it is divided by the accumulation steps."""
        return None

    def adjust_gradients(self, named_parameters: Mapping[str, nn.Parameter], task: ClientTask) -> None:
        """Change `.grad` in place: once per optimizer step, after backward, before clipping.

        `named_parameters` are those that train in the phase `task.phase`.
        """

    def on_finish(self, update: ClientUpdate, task: ClientTask) -> ClientUpdate:
        """After the last step: add to what travels (`control`) or to what the method keeps (`state`).

        Private tensors and personal copies are kept by the run: they are not in `update.state`, and a method cannot
        lose them. `task.state` holds everything that was kept after the last round.
        """
        return update


@dataclasses.dataclass(frozen=True)
class Method:
    """A whole method: what clients do and what the server does.

    Raises:
        `ValueError`: if the client half takes no server half but the mean, and another one is given, or if clients
            keep personal copies over a base model that the server half changes.
    """

    client: ClientMethod
    strategy: Strategy

    def __post_init__(self) -> None:
        from .fedavg import FedAvg

        client, strategy = type(self.client).__name__, type(self.strategy).__name__
        if not self.client.takes_strategy and type(self.strategy) not in (Strategy, FedAvg):
            raise ValueError(
                f"`method` joins {client} and {strategy}, but {client} has no clients whose changes a server joins. "
                f"Use {client} alone, or {strategy} with a federated client half."
            )
        if self.strategy.changes_base and any(phase.is_personal for phase in self.client.phases):
            raise ValueError(
                f"`method` joins {client}, whose clients keep a personal copy of the adapter, and {strategy}, which "
                "changes the base model in each round: a copy would no longer fit the base that it was trained on. "
                "Use one of the two."
            )


def check_knob(
    name: str, value: Any, *, at_least: float = -inf, above: float = -inf, below: float = inf, why: str = ""
) -> None:
    """Check a number that a method is given.

    Args:
        name (`str`):
            The knob.
        value (`Any`):
            What was given for it.
        at_least (`float`, *optional*), above (`float`, *optional*), below (`float`, *optional*):
            Its range.
        why (`str`, *optional*):
            What happens outside of it, for the message.

    Raises:
        `ValueError`: if the value is not a finite number in this range.

    Example:

    ```python
    >>> from fedvlm_hf.methods import check_knob

    >>> check_knob("mu", -1, at_least=0, why="a negative one drives clients apart")
    Traceback (most recent call last):
    ValueError: `mu` must be a finite number at least 0, got -1: a negative one drives clients apart.
    ```
    """
    if not isinstance(value, int | float):
        raise ValueError(f"`{name}` must be a number, got {value!r}. In YAML, 1e-3 is text: write 0.001 or 1.0e-3.")
    if at_least <= value < below and above < value < inf:
        return
    bounds = {"at least": at_least, "above": above, "below": below}
    valid = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if abs(bound) != inf)
    raise ValueError(f"`{name}` must be a finite number {valid}, got {value!r}{': ' + why if why else ''}.")


def method_halves() -> dict[str, dict[str, type]]:
    """Return the halves of each installed method: classes by `"client"` and `"server"`, by sorted name."""
    return {
        name: {
            half: cls
            for half, registry in (("client", CLIENT_METHODS), ("server", STRATEGIES))
            if (cls := registry.get(name)) is not None
        }
        for name in sorted({*CLIENT_METHODS.names(), *STRATEGIES.names()})
    }


def resolve_method(
    method: "str | Method | Strategy | ClientMethod", kwargs: Mapping[str, Any] | None = None
) -> Method:
    """Find a method by name and set its knobs.

    Args:
        method (`str`, `Method`, `Strategy` or `ClientMethod`):
            A registered name, a client half and a server half joined by `+` (`"fedprox+fedadam"`), or an object.
        kwargs (`Mapping[str, Any]`, *optional*):
            Knobs by name; each goes to the half that has it.

    Returns:
        `Method`: with FedAvg as the half that is not named.

    Raises:
        `ValueError`: on an unknown name or knob, a knob out of its range, two halves of one kind, a server half with
            a baseline, or knobs with an object.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("fedavg")
    Method(client=ClientMethod(), strategy=FedAvg())
    ```
    """
    from .fedavg import FedAvg

    if not isinstance(method, str):
        if kwargs:
            raise ValueError("`method_kwargs` goes with a method's name. Set the knobs on the object that you pass.")
        if isinstance(method, Method):
            return method
        if isinstance(method, Strategy):
            return Method(ClientMethod(), method)
        return Method(method, FedAvg())
    client = _half(method, CLIENT_METHODS) or ClientMethod
    strategy = _half(method, STRATEGIES) or FedAvg
    kwargs = dict(kwargs or {})
    knobs = {half: {f.name for f in dataclasses.fields(half) if f.init} for half in (client, strategy)}
    for key in kwargs:
        if not any(key in names for names in knobs.values()):
            valid = sorted(set().union(*knobs.values()))
            raise ValueError(
                unknown_name_message("method_kwargs", key, valid)
                if valid
                else f"`method_kwargs` has {key!r}, but method {method!r} has no knobs."
            )
    return Method(
        client(**{key: value for key, value in kwargs.items() if key in knobs[client]}),
        strategy(**{key: value for key, value in kwargs.items() if key in knobs[strategy]}),
    )


def _half(method: str, registry: Registry[Any]) -> Any:
    names = method.split("+")
    for name in names:
        if CLIENT_METHODS.get(name) is None and STRATEGIES.get(name) is None:
            raise ValueError(
                unknown_name_message("method", name, sorted({*CLIENT_METHODS.names(), *STRATEGIES.names()}))
            )
    halves = [name for name in names if registry.get(name) is not None]
    if len(halves) > 1:
        raise ValueError(f"`method` {method!r} names more than one {registry.kind}: {', '.join(halves)}. Keep one.")
    return registry.get(halves[0]) if halves else None
