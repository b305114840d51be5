"""TensorDict, the currency between client and server, and the exact weighted mean."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

import torch


class TensorDict(Mapping[str, torch.Tensor]):
    """Named fp32 tensors that are views into one flat, contiguous CPU buffer.

    Loading, summing, clipping and hashing work on `flat`; code that needs names (LoRA A or B, the connector) uses the
    views. Names keep the order in which they were given: it is part of the layout.

    Args:
        shapes (`Mapping[str, torch.Size]`):
            Shape of each tensor by name.
        flat (`torch.Tensor`, *optional*):
            fp32 CPU buffer of shape `(numel,)` to view. A new one filled with zeros by default.

    Raises:
        `ValueError`: if `flat` is not a contiguous fp32 CPU vector of the size that `shapes` needs.

    Example:

    ```python
    >>> import torch
    >>> from fedvlm_hf.tensors import TensorDict

    >>> tensors = TensorDict.from_tensors({"a": torch.ones(2), "b": torch.zeros(1, 2)})
    >>> tensors.flat.tolist()
    [1.0, 1.0, 0.0, 0.0]
    ```
    """

    def __init__(self, shapes: Mapping[str, torch.Size], flat: torch.Tensor | None = None):
        numel = sum(shape.numel() for shape in shapes.values())
        if flat is None:
            flat = torch.zeros(numel, dtype=torch.float32)
        if flat.shape != (numel,) or flat.dtype != torch.float32 or flat.device.type != "cpu":
            raise ValueError(
                f"`flat` must be an fp32 CPU vector of {numel} elements, got {flat.dtype} of shape "
                f"{tuple(flat.shape)} on {flat.device}."
            )
        self.flat = flat
        self.shapes: Mapping[str, torch.Size] = MappingProxyType(dict(shapes))  # in layout order

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Copy tensors of any dtype and device into a new buffer."""
        parts = [tensor.detach().reshape(-1) for tensor in tensors.values()]
        if len({part.device for part in parts}) != 1:  # a model in parts; else one transfer takes all of them
            parts = [torch.empty(0), *(part.cpu() for part in parts)]
        flat = torch.cat(parts).to("cpu", torch.float32)
        return cls({name: tensor.shape for name, tensor in tensors.items()}, flat)

    @cached_property
    def _views(self) -> dict[str, torch.Tensor]:
        # Made when a name is asked for: an update that is only sent and summed never needs them.
        return dict(zip(self.shapes, split(self.flat, self.shapes), strict=True))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def nbytes(self) -> int:
        """Size of the buffer in bytes: what a payload of these tensors weighs."""
        return self.flat.numel() * self.flat.element_size()

    def with_flat(self, flat: torch.Tensor) -> Self:
        """The same names and shapes over another buffer."""
        return type(self)(self.shapes, flat)

    def clone(self) -> Self:
        """A copy with its own buffer."""
        return self.with_flat(self.flat.clone())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.clone()

    def digest(self) -> str:
        """SHA-256 of names, shapes and bits, in hexadecimal."""
        sha = hashlib.sha256(repr([(name, tuple(view.shape)) for name, view in self.items()]).encode())
        sha.update(self.flat.numpy().tobytes())
        return sha.hexdigest()


def split(flat: torch.Tensor, shapes: Mapping[str, torch.Size]) -> list[torch.Tensor]:
    """Views of a flat buffer, one for each shape in order; the buffer may be on any device."""
    chunks = torch.split(flat, [shape.numel() for shape in shapes.values()]) if shapes else ()
    return [chunk.view(shape) for chunk, shape in zip(chunks, shapes.values(), strict=True)]


class WeightedMean:
    """Running sum_k n_k w_k / sum_k n_k over weights, in fp64, rounded to fp32 once.

    One client and identical clients give their own bits back: with integer `n_k` each product is exact in fp64, and
    with real ones the error is far below half a unit of fp32. A mean of fp32 deltas has neither property. Memory does
    not grow with the number of clients.

    Example:

    ```python
    >>> import torch
    >>> from fedvlm_hf.tensors import TensorDict, WeightedMean

    >>> mean = WeightedMean()
    >>> mean.add(TensorDict.from_tensors({"w": torch.tensor([1.0])}), 1)
    >>> mean.add(TensorDict.from_tensors({"w": torch.tensor([4.0])}), 2)
    >>> mean.result()["w"].item()
    3.0
    >>> mean.sum()["w"].item()
    9.0
    ```
    """

    # Elements that are summed at a time. An fp64 copy of a whole update costs several times the sum, in fresh pages of
    # memory alone; smaller blocks lose to the number of calls (tests/benchmarks/aggregation.py).
    block_size = 2**18

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None
        self._shapes: Mapping[str, torch.Size] = {}  # not the first client's tensors, which would stay in memory
        self.total: float = 0

    def add(self, tensors: TensorDict, weight: float) -> None:
        """Add one client's tensors with its weight.

        Raises:
            `ValueError`: if the weight is not a positive, finite number or the layout differs from the first one.
        """
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError(f"`weight` must be a positive, finite number, got {weight!r}.")
        is_first = self._sum is None
        if self._sum is None:
            self._shapes = tensors.shapes
            self._sum = torch.empty(tensors.flat.shape, dtype=torch.float64)
        elif list(self._shapes.items()) != list(tensors.shapes.items()):
            raise ValueError("`tensors` has other names, shapes or order than the updates before it: not averaged.")
        for total, block, exact in self._blocks(self._sum, tensors.flat):
            exact.copy_(block)
            if is_first:  # not added to zeros, where -0.0 would lose its sign
                torch.mul(exact, weight, out=total)
            else:
                total.add_(exact, alpha=weight)
        self.total += weight

    def result(self) -> TensorDict:
        """The mean, as a new TensorDict.

        Raises:
            `ValueError`: if nothing was added.
        """
        return self._rounded(self.total)

    def sum(self) -> TensorDict:
        """The weighted sum, as a new TensorDict.

        Raises:
            `ValueError`: if nothing was added.
        """
        return self._rounded(1)

    def _rounded(self, divisor: float) -> TensorDict:
        if self._sum is None:
            raise ValueError("`updates` is empty: there is nothing to average. A round needs at least one client.")
        rounded = torch.empty(self._sum.shape, dtype=torch.float32)
        for total, block, exact in self._blocks(self._sum, rounded):
            torch.div(total, divisor, out=exact)
            block.copy_(exact)
        return TensorDict(self._shapes, rounded)

    def _blocks(
        self, total: torch.Tensor, flat: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Blocks of the fp64 sum and of an fp32 buffer, each with room for it in fp64."""
        room = torch.empty(min(self.block_size, flat.numel()), dtype=torch.float64)
        blocks = zip(torch.split(total, self.block_size), torch.split(flat, self.block_size), strict=True)
        for total_block, block in blocks:
            yield total_block, block, room[: block.numel()]
