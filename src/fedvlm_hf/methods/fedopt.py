"""FedAdagrad, FedAdam and FedYogi (Reddi et al., 2021, https://huggingface.co/papers/2003.00295)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from ..registry import unknown_name_message
from ..tensors import TensorDict
from ..types import Aggregate, ClientUpdate, ServerState
from .base import STRATEGIES, Strategy, check_knob


@dataclass(frozen=True)
class _Variant:
    """Where the code of the FedVLMBench authors differs from the paper."""

    starts_from_change: bool  # m_0 = Delta_0, where the paper's is (1 - beta1) Delta_0
    squares_momentum: bool  # v from m_t^2, where the paper has Delta_t^2
    has_plain_mean: bool  # all clients weigh the same


_BETA1 = "Decay of the momentum m of the server; 0 has none."
VARIANTS = {"paper": _Variant(False, False, False), "fedvlmbench": _Variant(True, True, True)}


@dataclass(frozen=True)
class FedOpt(Strategy, ABC):
    """An adaptive optimizer at the server, over the change that a round makes (Algorithm 2).

    With Delta_t = mean - w_t, the step of FedAvg, from m = 0 and v = v0, elementwise and without bias correction:

        m_t = beta1 m_{t-1} + (1 - beta1) Delta_t
        v_t = as the method has it
        w_{t+1} = w_t + eta m_t / (sqrt(v_t) + tau)

    A round moves a weight by a few eta at most, so `server_lr` and the number of rounds bound how far training gets.

    Where it differs from the paper: Algorithm 2 has the clients' plain mean, and here they weigh by their numbers of
    samples as in FedAvg, so that the methods differ in their step alone. `client_weighting="uniform"` is Algorithm 2.

    Args:
        server_lr (`float`, *optional*, defaults to `1e-3`):
            eta, the server's learning rate. The paper tunes it for each task; the default is FedVLMBench's.
        beta1 (`float`, *optional*, defaults to `0.9`):
            Decay of the momentum m; 0 for FedAdagrad, as in the paper's experiments.
        tau (`float`, *optional*, defaults to `1e-3`):
            Adaptivity: the smaller, the less a step depends on the size of the change.
        v0 (`float`, *optional*):
            Where v starts; tau^2 by default, the least that the paper allows.
        variant (`str`, *optional*, defaults to `"paper"`):
            `"fedvlmbench"` is what the FedVLMBench authors' code does, which comes from OpenFedLLM: m starts from the
            first Delta instead of 0, v takes the square of m_t instead of Delta_t, and the mean is plain. (In
            FedAdagrad, which has no momentum there, only the mean differs.)

    Raises:
        `ValueError`: if a knob is out of its range.
    """

    server_lr: float = field(default=1e-3, metadata={"help": "eta, the server's learning rate; tune it."})
    beta1: float = field(default=0.9, metadata={"help": _BETA1})
    tau: float = field(
        default=1e-3,
        metadata={"help": "Adaptivity: the smaller, the less a step depends on the size of the change."},
    )
    v0: float | None = field(default=None, metadata={"help": "Start of the second moment v; tau^2 by default."})
    variant: str = field(
        default="paper",
        metadata={"help": "'fedvlmbench' computes what that benchmark's code does.", "choices": list(VARIANTS)},
    )

    def __post_init__(self) -> None:
        check_knob("server_lr", self.server_lr, above=0, why="at 0 the global weights stay, below they go backwards")
        check_knob("beta1", self.beta1, at_least=0, below=1, why="from 1 on no change reaches the momentum")
        check_knob("tau", self.tau, above=0, why="it keeps the step finite where v is 0")
        if self.v0 is not None:
            check_knob("v0", self.v0, at_least=0, why="v is a mean of squares")
        if self.variant not in VARIANTS:
            raise ValueError(unknown_name_message("variant", self.variant, sorted(VARIANTS)))

    @abstractmethod
    def second_moment(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """v_t, from v_{t-1} and the square of this round's change."""

    def init(self, shared: TensorDict, num_clients: int) -> ServerState:
        """v0; there is no momentum yet."""
        v0 = self.tau**2 if self.v0 is None else self.v0
        return ServerState({"v": shared.with_flat(torch.full_like(shared.flat, v0))})

    @property
    def is_mean(self) -> bool:
        """The variants differ in the weights of the mean alone."""
        return True

    def aggregate(self, updates: Iterable[ClientUpdate], current: TensorDict, state: ServerState) -> Aggregate:
        """The mean, weighted by the clients' samples unless the variant has a plain one."""
        if VARIANTS[self.variant].has_plain_mean:
            updates = (replace(update, weight=1) for update in updates)
        return super().aggregate(updates, current, state)

    def apply(self, aggregate: Aggregate, current: TensorDict, state: ServerState) -> tuple[TensorDict, ServerState]:
        """One step of the optimizer."""
        variant, mean = VARIANTS[self.variant], aggregate.tensors
        delta = mean.flat - current.flat
        m = delta if variant.starts_from_change else (1 - self.beta1) * delta
        if "m" in state.tensors:
            m = state.tensors["m"].flat.lerp(delta, 1 - self.beta1)
        v = self.second_moment(state.tensors["v"].flat, (m if variant.squares_momentum else delta).square())
        tensors = current.flat.addcdiv(m, v.sqrt().add_(self.tau), value=self.server_lr)
        return mean.with_flat(tensors), ServerState({"m": mean.with_flat(m), "v": mean.with_flat(v)})


@STRATEGIES.register("fedadagrad")
@dataclass(frozen=True)
class FedAdagrad(FedOpt):
    """[`FedOpt`] with v_t = v_{t-1} + Delta_t^2: steps only ever get smaller.

    Args:
        server_lr, tau, v0, variant:
            As in [`FedOpt`].
        beta1 (`float`, *optional*, defaults to `0.0`):
            Decay of the momentum; Algorithm 2 has it, the paper's experiments set it to 0.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("fedadagrad", {"server_lr": 0.01}).strategy
    FedAdagrad(server_lr=0.01, beta1=0.0, tau=0.001, v0=None, variant='paper')
    ```
    """

    beta1: float = field(default=0.0, metadata={"help": _BETA1})

    def second_moment(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """The sum of all squares."""
        return v + square


@dataclass(frozen=True)
class _Fading(FedOpt):
    """What FedAdam and FedYogi share: a second moment that forgets."""

    beta2: float = field(default=0.99, metadata={"help": "Decay of the second moment v of the server."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_knob("beta2", self.beta2, at_least=0, below=1, why="from 1 on v never leaves `v0`")


@STRATEGIES.register("fedadam")
@dataclass(frozen=True)
class FedAdam(_Fading):
    """[`FedOpt`] with v_t = beta2 v_{t-1} + (1 - beta2) Delta_t^2.

    Args:
        server_lr, beta1, tau, v0, variant:
            As in [`FedOpt`].
        beta2 (`float`, *optional*, defaults to `0.99`):
            Decay of the second moment.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("fedprox+fedadam", {"mu": 0.1, "server_lr": 0.01})
    Method(client=FedProx(mu=0.1),
           strategy=FedAdam(server_lr=0.01, beta1=0.9, tau=0.001, v0=None, variant='paper', beta2=0.99))
    ```
    """

    def second_moment(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """The moving mean of squares."""
        return v.lerp(square, 1 - self.beta2)


@STRATEGIES.register("fedyogi")
@dataclass(frozen=True)
class FedYogi(_Fading):
    """[`FedOpt`] with v_t = v_{t-1} - (1 - beta2) Delta_t^2 sign(v_{t-1} - Delta_t^2).

    v goes towards the square as Adam's does, but by an amount that does not depend on how far away it is: after a
    large change it comes down slowly, where Adam's forgets it and takes large steps.

    Args:
        server_lr, beta1, tau, v0, variant:
            As in [`FedOpt`].
        beta2 (`float`, *optional*, defaults to `0.99`):
            1 - beta2 is the share of a square by which v moves.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("fedyogi", {"variant": "fedvlmbench"}).strategy
    FedYogi(server_lr=0.001, beta1=0.9, tau=0.001, v0=None, variant='fedvlmbench', beta2=0.99)
    ```
    """

    def second_moment(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """One move towards the square, of a size that only the square decides."""
        return v.sub(square * torch.sign(v - square), alpha=1 - self.beta2)
