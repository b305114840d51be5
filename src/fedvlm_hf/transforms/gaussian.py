"""Gaussian noise at the server, as in DP-FedAvg (McMahan et al., 2018, https://huggingface.co/papers/1710.06963)."""

import dataclasses
import math
import os
from collections.abc import Sequence

import torch

from ..methods import Method, check_knob
from ..types import Aggregate
from .base import TRANSFORMS, Transform, TransformContext
from .clip import Clip


@TRANSFORMS.register("gaussian")
@dataclasses.dataclass(frozen=True)
class Gaussian(Transform):
    """Adds Gaussian noise to the mean of clipped changes, at the server: the mechanics of DP-FedAvg.

    With n the number of clients whose updates arrived, each value of the mean of their changes gets its own noise
    (Algorithm 1 of the paper, flat clipping and equal weights):

        mean <- mean + N(0, (noise_multiplier * max_norm / n)^2)

    It needs [`Clip`] before it with the same `max_norm`, and a method whose aggregate is a mean. What the method does
    with the mean afterwards, such as the step of FedAdam, is post-processing.

    Where it differs from the paper: a round has a fixed number of clients, drawn without replacement, where the paper
    draws each client independently (Poisson sampling). No epsilon is computed and no amplification by sampling is
    claimed. In a cohort of fixed size one client is replaced by another, which moves the mean by up to
    2 * `max_norm` / n, twice as far as in the paper: accountants for Poisson sampling do not apply to these numbers.
    Noise in floating point also has known attacks, against which nothing is done here.

    The server sees the clipped update of every client without noise, and so does everyone who may read the repository
    of a federation over the Hub: only the global model is noised. Private tensors and personal copies stay at the
    client and get no noise. A client's metrics, such as its training loss, are reported without noise.

    Args:
        noise_multiplier (`float`):
            Standard deviation of the noise in the sum of changes, relative to `max_norm`; z in the paper.
        max_norm (`float`):
            The bound of `clip`. A `max_norm` in `transform_kwargs` goes to both.
        secret (`bool`, *optional*, defaults to `False`):
            Draw the noise from the random numbers of the operating system. By default it follows from the run's seed,
            so that a run can be repeated and resumed to the bit; but whoever knows the seed, which the card and
            `run.json` show, can subtract it. With `True` no run has the same bits twice, a resumed one neither.

    Raises:
        `ValueError`: if a knob is out of its range.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method
    >>> from fedvlm_hf.transforms import resolve_transforms

    >>> knobs = {"max_norm": 0.5, "noise_multiplier": 1.0}
    >>> resolve_transforms(["clip", "gaussian"], knobs, resolve_method("fedavg"))
    (Clip(max_norm=0.5), Gaussian(noise_multiplier=1.0, max_norm=0.5, secret=False))
    ```
    """

    noise_multiplier: float = dataclasses.field(
        metadata={
            "help": "Standard deviation of the noise in the sum of the clients' changes, relative to max_norm. "
            "No epsilon is computed: a round has a fixed number of clients, without Poisson sampling."
        }
    )
    max_norm: float = dataclasses.field(metadata={"help": "The bound of clip; one value goes to both."})
    secret: bool = dataclasses.field(
        default=False,
        metadata={
            "help": "Draw from the operating system. By default the noise follows from the seed: a run can be "
            "repeated, but whoever knows the seed can subtract it."
        },
    )

    def __post_init__(self) -> None:
        check_knob("noise_multiplier", self.noise_multiplier, at_least=0, why="it is a standard deviation")
        check_knob("max_norm", self.max_norm, above=0, why="it is the bound of `clip`")

    def check_use(self, method: Method, before: Sequence[Transform]) -> None:
        """Refuse an aggregate that is no mean, and a mean of changes that are not bounded."""
        if not method.strategy.is_mean:
            raise ValueError(
                f"`transforms` has 'gaussian', whose noise is for the mean of the clients' changes, but `method` "
                f"{type(method.strategy).__name__} combines them in another way. Use a method that averages."
            )
        bounds = [transform.max_norm for transform in before if isinstance(transform, Clip)]
        if bounds[-1:] != [self.max_norm]:
            raise ValueError(
                f"`transforms` has 'gaussian' with `max_norm` {self.max_norm:g}, and before it "
                f"{f'clip with {bounds[-1]:g}' if bounds else 'no clip'}: the noise would hide nothing that is known. "
                "Put 'clip' with the same `max_norm` before it."
            )

    def on_server(self, aggregate: Aggregate, context: TransformContext) -> Aggregate:
        """Add noise to the mean change."""
        change = aggregate.tensors
        std = self.noise_multiplier * self.max_norm / aggregate.num_clients
        if self.secret:
            noise = system_noise(change.flat.numel())
        else:
            noise = torch.randn(change.flat.numel(), generator=context.generator("gaussian"))
        return dataclasses.replace(aggregate, tensors=change.with_flat(change.flat.add(noise, alpha=std)))


def system_noise(count: int) -> torch.Tensor:
    """Standard normal numbers from the operating system's random bytes.

    A seed for torch's generator would not do: it keeps 32 bits of it, which can all be tried.
    """
    pairs = (count + 1) // 2
    words = torch.frombuffer(bytearray(os.urandom(16 * pairs + 16)), dtype=torch.int64)[: 2 * pairs]
    uniform = (words.bitwise_and(2**53 - 1).double() + 1) * 2.0**-53  # in (0, 1], whose logarithm is finite
    radius, angle = (-2 * uniform[:pairs].log()).sqrt(), 2 * math.pi * uniform[pairs:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()])[:count].float()  # Box and Muller's
