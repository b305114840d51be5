"""Limits on what one client's update may change or claim, whichever engine brings it."""

import math
from dataclasses import dataclass

import torch

from ..tensors import TensorDict


_BLOCK = 2**20  # elements that are converted to fp64 at a time
_DEFAULT_FACTOR = 100


class LimitError(ValueError):
    """An update beyond a limit; the message is the reason."""


@dataclass(frozen=True)
class Limits:
    """Limits of an update.

    Args:
        max_update_norm (`float`, *optional*):
            Longest change of the global tensors by one client, in L2 norm. By default 100 times the norm of the global
            tensors, or 100 if that norm is below 1: this stops an update that would drown all others, such as weights
            that overflowed, and no training that works. To be stricter, set it to what your clients' updates measure.
        max_num_samples (`int`, *optional*, defaults to `10_000_000`):
            Largest weight that a client may claim; by default clients are weighted by their number of rows.
        is_weighted (`bool`, *optional*, defaults to `True`):
            Whether clients have different weights. If not, each must claim the weight 1.
    """

    max_update_norm: float | None = None
    max_num_samples: int = 10_000_000
    is_weighted: bool = True

    def check_weight(self, weight: float) -> None:
        """Check the weight that a client claims.

        Raises:
            `LimitError`: if it is not allowed.
        """
        if not self.is_weighted and weight != 1:
            raise LimitError(f"its `weight` is {weight!r:.40}; all clients have the weight 1")
        if not 0 < weight <= self.max_num_samples:
            raise LimitError(f"its `weight` is {weight!r:.40}; it must be above 0 and at most {self.max_num_samples}")

    def check_norm(self, update: TensorDict, current: TensorDict) -> None:
        """Check how far a client moved from the tensors that it was sent.

        Args:
            update (`TensorDict`):
                The client's tensors. If their shapes differ from those that were sent, their own norm is checked.
            current (`TensorDict`):
                The tensors that it was sent.

        Raises:
            `LimitError`: if it moved too far.
        """
        most = self.max_update_norm
        if most is None:
            most = _DEFAULT_FACTOR * max(1.0, _norm(current.flat))
        origin = current.flat if update.shapes == current.shapes else None
        if not (length := _norm(update.flat, origin)) <= most:  # NaN, too: a decoded update may overflow
            raise LimitError(f"it changes the global tensors by {length:.3g} in L2 norm; {most:.3g} is the most")


def _norm(flat: torch.Tensor, origin: torch.Tensor | None = None) -> float:
    """Return the L2 distance to another buffer, or to zero, in fp64; in blocks, which need little memory."""
    blocks = torch.split(flat, _BLOCK)
    origins = torch.split(origin, _BLOCK) if origin is not None else (torch.zeros(()) for _ in blocks)
    return math.hypot(*((b.double() - o.double()).norm().item() for b, o in zip(blocks, origins, strict=True)))
