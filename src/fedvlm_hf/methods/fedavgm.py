"""FedAvgM (Hsu et al., 2019, https://huggingface.co/papers/1909.06335)."""

from dataclasses import dataclass, field

from ..registry import unknown_name_message
from ..tensors import TensorDict
from ..types import Aggregate, ServerState
from .base import STRATEGIES, Strategy, check_knob


VARIANTS = ["paper", "fedvlmbench"]


@STRATEGIES.register("fedavgm")
@dataclass(frozen=True)
class FedAvgM(Strategy):
    """Momentum at the server, over the change that a round makes (section 4.2).

    With Delta = mean - w_t, the step of FedAvg: v <- beta v + Delta and w_{t+1} = w_t + eta v, from v = 0. The mean is
    weighted by the clients' numbers of samples, as the paper's is. The momentum is not damped: where rounds agree it
    grows to 1 / (1 - beta) times a round's change, ten times with 0.9.

    Where it differs from the paper: the paper has no eta (it is 1; Reddi et al., 2021, tune one), and its experiments
    say Nesterov's momentum where its formula is the plain one. This is the formula.

    Args:
        server_lr (`float`, *optional*, defaults to `1.0`):
            eta, the server's learning rate.
        server_momentum (`float`, *optional*, defaults to `0.9`):
            beta; 0 is FedAvg with a server learning rate and, with `server_lr` 1, FedAvg to the bit.
        variant (`str`, *optional*, defaults to `"paper"`):
            `"fedvlmbench"` is what the FedVLMBench authors' code does, which comes from OpenFedLLM: after the first
            round, whose Delta v starts from, the momentum is damped, v <- beta v + (1 - beta) Delta.

    Raises:
        `ValueError`: if a knob is out of its range.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("fedavgm", {"server_momentum": 0.7}).strategy
    FedAvgM(server_lr=1.0, server_momentum=0.7, variant='paper')
    ```
    """

    server_lr: float = field(default=1.0, metadata={"help": "eta, the server's learning rate."})
    server_momentum: float = field(default=0.9, metadata={"help": "beta, the momentum of the server; 0 has none."})
    variant: str = field(
        default="paper",
        metadata={"help": "'fedvlmbench' damps the momentum as that benchmark's code does.", "choices": VARIANTS},
    )

    def __post_init__(self) -> None:
        check_knob("server_lr", self.server_lr, above=0, why="at 0 the global weights stay, below they go backwards")
        check_knob("server_momentum", self.server_momentum, at_least=0, below=1, why="from 1 on it never fades")
        if self.variant not in VARIANTS:
            raise ValueError(unknown_name_message("variant", self.variant, VARIANTS))

    def apply(self, aggregate: Aggregate, current: TensorDict, state: ServerState) -> tuple[TensorDict, ServerState]:
        """One step with momentum; before the first step there is none, which is v = 0."""
        mean = aggregate.tensors
        old = state.tensors.get("momentum", TensorDict(current.shapes)).flat * self.server_momentum
        is_damped = self.variant == "fedvlmbench" and "momentum" in state.tensors
        gain = 1 - self.server_momentum if is_damped else 1.0
        momentum = old.add(mean.flat - current.flat, alpha=gain)
        # w + eta v, where v = old + gain Delta, in an order that gives the mean's own bits: w + (mean - w) does not
        tensors = current.flat.lerp(mean.flat, self.server_lr * gain).add_(old, alpha=self.server_lr)
        return mean.with_flat(tensors), ServerState({"momentum": mean.with_flat(momentum)})
