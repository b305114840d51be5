"""Quantisation with stochastic rounding, as in QSGD (Alistarh et al., 2017, https://huggingface.co/papers/1610.02132)."""

import dataclasses

import torch

from ..exchange.updates import check_update
from ..tensors import TensorDict
from ..types import ClientUpdate, Expected, TensorSpec
from .base import TRANSFORMS, Transform, TransformContext


_DTYPES = {8: torch.int8, 16: torch.int16}
_SCALES = "quantize"  # the control group with the scale of each tensor


@TRANSFORMS.register("quantize")
@dataclasses.dataclass(frozen=True)
class Quantize(Transform):
    """Sends a client's change in 8 bits per value instead of 32, without bias.

    A value x of a tensor whose largest magnitude is m becomes the whole number

        q = floor(x / m * L + u),  u uniform in [0, 1),  L = 127 (8 bits) or 32767 (16 bits)

    and the server takes q * m / L for it. The expectation of that is x, and the error is below m / L. The random
    numbers u follow from the run's seed, the round and the client. m travels in fp32, one number for each tensor.
    Zeros and values of magnitude m arrive as they were.

    Where it differs from the paper: a tensor is scaled by its largest magnitude, where the paper's analysis has the
    L2 norm; and each code takes a whole byte, where the paper compresses the codes further (Elias coding).

    What the server sends, and control groups of a method, stay in fp32. A transform that changes values, such as
    `clip`, comes before this one in `transforms`.

    Args:
        bits (`int`, *optional*, defaults to `8`):
            Bits per value, 8 or 16.

    Raises:
        `ValueError`: if `bits` has another value.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method
    >>> from fedvlm_hf.transforms import resolve_transforms

    >>> resolve_transforms(["quantize"], {"bits": 16}, resolve_method("fedavg"))
    (Quantize(bits=16),)
    ```
    """

    bits: int = dataclasses.field(default=8, metadata={"help": "Bits per value: 8 or 16."})

    def __post_init__(self) -> None:
        if self.bits not in _DTYPES:
            raise ValueError(f"`bits` must be 8 or 16, got {self.bits!r}: other codes would not fill whole bytes.")

    @property
    def levels(self) -> int:
        """L, the largest code."""
        return 2 ** (self.bits - 1) - 1

    def layout(self, expected: Expected) -> Expected:
        """Codes of the same names and shapes, and a control group with the scale of each tensor."""
        if any(spec.dtype is not torch.float32 for spec in expected.tensors.values()):
            raise ValueError(
                "`transforms` has 'quantize' after a transform that changes the format of an update. Keep one of them."
            )
        codes = {name: TensorSpec(spec.shape, _DTYPES[self.bits]) for name, spec in expected.tensors.items()}
        return Expected(codes, {**expected.control, _SCALES: dict.fromkeys(codes, TensorSpec(()))})

    def on_client(self, update: ClientUpdate, context: TransformContext) -> ClientUpdate:
        """Round each value up or down at random; a change that is not finite is refused, as codes would hide it."""
        check_update(update, Expected.of(update.tensors, update.control))
        generator = context.generator("quantize")
        scales = {name: tensor.abs().amax() for name, tensor in update.tensors.items()}
        codes = {
            name: self._codes(tensor.double(), scales[name].double(), generator)
            for name, tensor in update.tensors.items()
        }
        control = {**update.control, _SCALES: TensorDict.from_tensors(scales)}
        return dataclasses.replace(update, tensors=codes, control=control)

    def _codes(self, tensor: torch.Tensor, scale: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        # in fp64 x * L is exact, so that a value of the largest magnitude becomes exactly L and no code overflows
        levels = tensor * self.levels / scale.where(scale > 0, 1.0)
        draws = torch.rand(tensor.shape, dtype=torch.float64, generator=generator)
        return (levels + draws).floor_().to(_DTYPES[self.bits])

    def on_receive(self, update: ClientUpdate, context: TransformContext) -> ClientUpdate:
        """The change that the codes stand for."""
        control = dict(update.control)
        scales = control.pop(_SCALES)
        tensors = {
            name: codes.double() * scales[name].double() / self.levels for name, codes in update.tensors.items()
        }
        return dataclasses.replace(update, tensors=TensorDict.from_tensors(tensors), control=control)
