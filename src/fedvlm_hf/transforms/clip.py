"""Clipping of client updates, as in DP-FedAvg (McMahan et al., 2018, https://huggingface.co/papers/1710.06963)."""

import dataclasses

import torch

from ..methods import check_knob
from ..types import ClientUpdate, Expected
from .base import TRANSFORMS, Transform, TransformContext


@TRANSFORMS.register("clip")
@dataclasses.dataclass(frozen=True)
class Clip(Transform):
    """Bounds what one client can change: the L2 norm of its whole change is at most `max_norm`, and its weight is 1.

    With Delta the client's change, all tensors together (flat clipping, Algorithm 1 of the paper):

        Delta <- Delta * min(1, max_norm / ||Delta||)

    The norm is computed in fp64. Every client counts the same in the mean, whatever its number of rows and whatever
    `client_weighting` says, so that one of n clients moves the mean by at most `max_norm` / n. The server applies the
    same bound and the same weight to what arrives: it holds for a client that did not clip, and after the stochastic
    rounding of [`Quantize`], which can make a change longer. It holds up to the rounding of fp32.

    Where it differs from the paper: the paper caps the weight of a client by its number of samples, and here all
    weights are 1.

    Clipping alone gives no differential privacy: add [`Gaussian`]. Private tensors and personal copies never leave
    the client, so they are not clipped. A client's metrics, such as its training loss, are sent as they are.

    Args:
        max_norm (`float`):
            Largest norm of a client's change, S in the paper.

    Raises:
        `ValueError`: if `max_norm` is not a positive, finite number.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method
    >>> from fedvlm_hf.transforms import resolve_transforms

    >>> resolve_transforms(["clip"], {"max_norm": 0.5}, resolve_method("fedavg"))
    (Clip(max_norm=0.5),)
    ```
    """

    max_norm: float = dataclasses.field(metadata={"help": "Largest L2 norm of a client's whole change."})

    def __post_init__(self) -> None:
        check_knob("max_norm", self.max_norm, above=0, why="at 0 no client changes anything")

    def layout(self, expected: Expected) -> Expected:
        """The same; other formats than fp32 tensors, and control groups, are refused."""
        if any(spec.dtype is not torch.float32 for spec in expected.tensors.values()):
            raise ValueError(
                "`transforms` has 'clip' after a transform that changes the format of an update, where a norm has no "
                "meaning. Put 'clip' before it."
            )
        if expected.control:
            raise ValueError(
                f"`transforms` has 'clip', but clients also send the control group {next(iter(expected.control))!r}, "
                "whose size it does not bound. Leave 'clip' out, put it before a transform that adds a control group "
                "(such as 'quantize'), or use a method whose clients send tensors only."
            )
        return expected

    def on_client(self, update: ClientUpdate, context: TransformContext) -> ClientUpdate:
        """Scale the change down to the bound, and set its weight to 1."""
        norm = torch.linalg.vector_norm(update.tensors.flat, dtype=torch.float64).item()
        if norm <= self.max_norm:
            return dataclasses.replace(update, weight=1)
        clipped = update.tensors.flat * (self.max_norm / norm)
        return dataclasses.replace(update, tensors=update.tensors.with_flat(clipped), weight=1)

    def on_receive(self, update: ClientUpdate, context: TransformContext) -> ClientUpdate:
        """Apply the bound to what arrived, so that it does not depend on the client."""
        return self.on_client(update, context)
