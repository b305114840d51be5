"""Ditto (Li et al., 2021, https://huggingface.co/papers/2012.04221)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ..types import ClientTask, LocalPhase
from .base import CLIENT_METHODS, ClientMethod, check_knob


@CLIENT_METHODS.register("ditto")
@dataclass(frozen=True)
class Ditto(ClientMethod):
    """Train a personal copy of the shared tensors besides the global ones, and keep it near them (Algorithm 1).

    In each round a client first trains the global tensors from w_t as in FedAvg, to the bit, and sends them. Then it
    trains its personal copy v_k, which never travels, on h_k(v) = F_k(v) + lambda/2 ||v - w_t||^2: a step is
    v <- v - eta (g(v) + lambda (v - w_t)). The penalty is added as its exact gradient, once per optimizer step and
    before clipping. Clients are evaluated with their copies.

    v_k starts from the tensors that the run starts from, and a client that was not drawn keeps its own. A client that
    has never trained is evaluated with those first tensors.

    The server half may be any that leaves the base model alone, such as `method="ditto+fedadam"`. Both phases use the
    optimizer, rate and schedule of the run, each from its start, and go through the client's rows in orders of their
    own. A round takes the time of both.

    Args:
        lam (`float`, *optional*, defaults to `0.1`):
            lambda, the weight of the penalty. At 0 each client trains its copy independently of the global tensors;
            the larger it is, the closer the copies stay to them.
        personal_steps (`int`, *optional*):
            s, the optimizer steps of the personal phase. By default as many as the global phase has.

    Raises:
        `ValueError`: if a knob is out of its range.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> [phase.name for phase in resolve_method("ditto", {"lam": 1.0}).client.phases]
    ['global', 'personal']
    ```
    """

    lam: float = field(
        default=0.1, metadata={"help": "lambda: how strongly personal copies are held near the global tensors."}
    )
    personal_steps: int | None = field(
        default=None,
        metadata={"help": "Optimizer steps of the personal phase; by default as many as in the global phase."},
    )

    def __post_init__(self) -> None:
        check_knob("lam", self.lam, at_least=0, why="below 0 copies are driven away from the global tensors")
        if self.personal_steps is not None:
            check_knob("personal_steps", self.personal_steps, at_least=1, why="it is a number of optimizer steps")

    @property
    def phases(self) -> tuple[LocalPhase, ...]:
        """The global tensors, then the personal copy of them."""
        return LocalPhase("global"), LocalPhase("personal", is_personal=True, steps=self.personal_steps)

    def adjust_gradients(self, named_parameters: Mapping[str, nn.Parameter], task: ClientTask) -> None:
        """In the personal phase, add lambda (v - w_t) to the gradient of each tensor, in place."""
        if not task.phase.is_personal:
            return
        for name, parameter in named_parameters.items():
            if parameter.grad is None:  # not reached by the loss in this step, but by the penalty
                parameter.grad = torch.zeros_like(parameter)
            start = task.tensors[name].to(parameter.device)
            parameter.grad.add_(parameter.detach() - start, alpha=self.lam)
