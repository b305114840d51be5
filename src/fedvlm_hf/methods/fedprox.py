"""FedProx (Li et al., 2020, https://huggingface.co/papers/1812.06127)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ..types import ClientTask
from .base import CLIENT_METHODS, ClientMethod, check_knob


@CLIENT_METHODS.register("fedprox")
@dataclass(frozen=True)
class FedProx(ClientMethod):
    """A penalty on how far a client drifts from the global weights w_t of its round (Algorithm 2).

    A client minimises h_k(w) = F_k(w) + mu/2 ||w - w_t||^2. The penalty is added as its exact gradient, mu (w - w_t),
    once per optimizer step and before clipping. That is what the penalty in the loss would give, whatever the number
    of accumulation steps. It is over the tensors that train and travel: a tensor that stays with its client
    (personalised methods) has no global value to be held to.

    The server is FedAvg's, or any other: `method="fedprox+fedadam"`. The paper's Algorithm 2 draws clients by their
    size and takes their plain mean, which is `client_sampling="weighted"` and `client_weighting="uniform"` here; its
    clients may also do unequal amounts of work, where these all do what `num_train_epochs` or `max_steps` says.

    Args:
        mu (`float`, *optional*, defaults to `0.01`):
            Weight of the penalty; 0 is FedAvg, to the bit. The paper tunes it among 0.001, 0.01, 0.1 and 1.

    Raises:
        `ValueError`: if `mu` is negative or not finite.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("fedprox", {"mu": 0.1})
    Method(client=FedProx(mu=0.1), strategy=FedAvg())
    ```
    """

    mu: float = field(
        default=0.01, metadata={"help": "Weight of the penalty on the distance from the global tensors; 0 is FedAvg."}
    )

    def __post_init__(self) -> None:
        check_knob("mu", self.mu, at_least=0, why="below 0 clients are driven away from the global weights")

    def adjust_gradients(self, named_parameters: Mapping[str, nn.Parameter], task: ClientTask) -> None:
        """Add mu (w - w_t) to the gradient of each shared tensor, in place."""
        for name, start in task.tensors.items():
            parameter = named_parameters[name]
            if parameter.grad is None:  # not reached by the loss in this step, but by the penalty
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.add_(parameter.detach() - start.to(parameter.device), alpha=self.mu)
