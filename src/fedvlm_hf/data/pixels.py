"""Images with more than 8 bits per value, and their conversion to 8 bits: the same in training, evaluation and builds.

Pillow reads greyscale images of 12, 16 or 32 bits, such as radiographs, in the modes `I;16`, `I` and `F`. Its
`convert("RGB")`, which image processors call, clips their values at 255, so that nearly all pixels become white. Here
they are scaled instead: linearly, by each image's own range of values or by a window, rounded to the nearest integer.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError


_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_ADDRESS = re.compile(r" ?<[^<>]* at 0x[0-9a-fA-F]+>")


class Window(NamedTuple):
    """The range of values that is shown, as in DICOM's attributes Window Center and Window Width.

    DICOM's linear function (PS3.3, C.11.2.1.2.1) with 0 and 255 as smallest and largest output: a value x becomes 0 if
    x <= center - 0.5 - (width - 1) / 2, 255 if x > center - 0.5 + (width - 1) / 2, and
    ((x - (center - 0.5)) / (width - 1) + 0.5) * 255 in between.

    Attributes:
        center (`float`): Center of the range, in the values that the image file stores.
        width (`float`): Width of the range; 1 or more.
    """

    center: float
    width: float

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Read `"CENTER,WIDTH"`.

        Raises:
            `ValueError`: naming the option `window`, if the text is anything else, or the width is below 1.
        """
        try:
            center, width = map(float, text.split(","))
        except ValueError:
            raise ValueError(
                f"`window` must be two numbers, CENTER,WIDTH, such as --window=40,400, got {text!r}."
            ) from None
        if not (math.isfinite(center) and math.isfinite(width) and width >= 1):
            raise ValueError(
                f"`window` must have a finite center and a width of 1 or more, got {text!r}: the linear function of "
                "DICOM is not defined for others."
            )
        return cls(center, width)

    @property
    def limits(self) -> tuple[float, float]:
        """The largest value that becomes 0 and the smallest that becomes 255; equal if the width is 1."""
        middle, half = self.center - 0.5, (self.width - 1) / 2
        return middle - half, middle + half


def is_deep(image: Image.Image) -> bool:
    """Return whether an image has values that do not fit into 8 bits.

    `datasets` stores greyscale arrays of any integer type in Pillow's 32-bit mode `I`. If all their values are within
    0 and 255, they are 8-bit images, which Pillow converts to RGB without a loss.
    """
    if image.mode not in _DEEP_MODES:
        return False
    if image.mode != "I":
        return True
    low, high = image.getextrema()
    return low < 0 or high > 255


def in_8_bits(image: Image.Image, window: Window | None = None) -> Image.Image:
    """Convert an image with more than 8 bits to 8-bit greyscale.

    Args:
        image (`PIL.Image.Image`):
            An image in any mode.
        window ([`Window`], *optional*):
            The range of values that becomes 0 to 255. By default the smallest value of the image becomes 0 and its
            largest 255, and an image with a single value becomes 0 everywhere. NaN becomes 0; infinite values are
            outside of every range, so they become 0 or 255.

    Returns:
        `PIL.Image.Image`: a new image in mode `L`, or the same object if [`is_deep`] is `False`.

    Raises:
        `ValueError`: if the image has no finite value.
    """
    if not is_deep(image):
        return image
    values = np.asarray(image)
    own_range = _finite_range(values)
    black, white = own_range if window is None else window.limits
    if values.dtype.kind == "u":  # 16 bits: look up each of the 65,536 values, which is several times faster
        return Image.fromarray(scaled(np.arange(2**16), black, white)[values])
    return Image.fromarray(scaled(values, black, white))


def scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Map `black` and smaller values to 0, `white` and larger values to 255, and values in between linearly.

    Args:
        values (`np.ndarray`):
            Numbers of any type. NaN becomes 0.
        black (`float`), white (`float`):
            The limits. If they are equal, larger values become 255 and all others 0.

    Returns:
        `np.ndarray`: of type `uint8`, rounded to the nearest integer, halves to the even one.
    """
    values = values.astype(np.float64)
    if white > black:
        grey = (np.clip(values, black, white) - black) * (255 / (white - black))
    else:
        grey = np.where(values > white, 255.0, 0.0)
    return np.nan_to_num(np.round(grey)).astype(np.uint8)


def row_in_8_bits(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row with its decoded `images` converted by [`in_8_bits`]; the same object if all have 8 bits."""
    if not any(map(is_deep, row.get("images") or ())):
        return row
    return {**row, "images": [in_8_bits(image) for image in row["images"]]}


def decoding_problem(error: Exception) -> str:
    """Describe why an image could not be decoded, without the addresses of objects in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "Pillow does not recognize its format"
    return f"{type(error).__name__}: {_ADDRESS.sub('', str(error))}"


def _finite_range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        raise ValueError("no value of the image is a finite number")
    return float(finite.min()), float(finite.max())
