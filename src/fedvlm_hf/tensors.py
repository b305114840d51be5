"""TensorDict, the currency between client and server, and the exact weighted mean."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Self

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
        sizes = [shape.numel() for shape in shapes.values()]
        if flat is None:
            flat = torch.zeros(sum(sizes), dtype=torch.float32)
        if flat.shape != (sum(sizes),) or flat.dtype != torch.float32 or flat.device.type != "cpu":
            raise ValueError(
                f"`flat` must be an fp32 CPU vector of {sum(sizes)} elements, got {flat.dtype} of shape "
                f"{tuple(flat.shape)} on {flat.device}."
            )
        self.flat = flat
        chunks = torch.split(flat, sizes) if sizes else ()
        self._views: dict[str, torch.Tensor] = {
            name: chunk.view(shape) for (name, shape), chunk in zip(shapes.items(), chunks, strict=True)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Copy tensors of any dtype and device into a new buffer."""
        new = cls({name: tensor.shape for name, tensor in tensors.items()})
        for name, view in new.items():
            view.copy_(tensors[name].detach())
        return new

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of each tensor by name, in layout order."""
        return {name: view.shape for name, view in self.items()}

    @property
    def nbytes(self) -> int:
        """Size of the buffer in bytes: what a payload of these tensors weighs."""
        return self.flat.numel() * self.flat.element_size()

    def with_flat(self, flat: torch.Tensor) -> Self:
        """The same names and shapes over another buffer."""
        return type(self)(self.shapes, flat)

    def clone(self) -> Self:
        """A copy with a buffer of its own."""
        return self.with_flat(self.flat.clone())

    def digest(self) -> str:
        """SHA-256 of names, shapes and bits, in hexadecimal."""
        sha = hashlib.sha256(repr([(name, tuple(view.shape)) for name, view in self.items()]).encode())
        sha.update(self.flat.numpy().tobytes())
        return sha.hexdigest()


class WeightedMean:
    """Running sum_k n_k w_k / sum_k n_k over weights, in fp64, rounded to fp32 once.

    With integer `n_k` each product is exact in fp64, so one client and identical clients give their own bits back; a
    mean of fp32 deltas does not. Memory does not grow with the number of clients.

    Example:

    ```python
    >>> import torch
    >>> from fedvlm_hf.tensors import TensorDict, WeightedMean

    >>> mean = WeightedMean()
    >>> mean.add(TensorDict.from_tensors({"w": torch.tensor([1.0])}), 1)
    >>> mean.add(TensorDict.from_tensors({"w": torch.tensor([4.0])}), 2)
    >>> mean.result()["w"].item()
    3.0
    ```
    """

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None
        self._shapes: dict[str, torch.Size] = {}  # not the first client's tensors, which would stay in memory
        self.total = 0

    def add(self, tensors: TensorDict, weight: int) -> None:
        """Add one client's tensors with its integer weight.

        Raises:
            `ValueError`: if the weight is not a positive integer or the layout differs from the first one.
        """
        if not isinstance(weight, int) or weight < 1:
            raise ValueError(f"`weight` must be a positive integer so that the mean is exact, got {weight!r}.")
        if self._sum is None:
            self._shapes = tensors.shapes
            self._sum = torch.zeros(tensors.flat.shape, dtype=torch.float64)
        elif list(self._shapes.items()) != list(tensors.shapes.items()):
            raise ValueError("`tensors` has other names, shapes or order than the updates before it: not averaged.")
        self._sum.add_(tensors.flat, alpha=weight)
        self.total += weight

    def result(self) -> TensorDict:
        """The mean, as a new TensorDict.

        Raises:
            `ValueError`: if nothing was added.
        """
        if self._sum is None:
            raise ValueError("`updates` is empty: there is nothing to average. A round needs at least one client.")
        return TensorDict(self._shapes, (self._sum / self.total).float())
