"""Bounding boxes: their type, their text form, and conversions from the formats of the sources.

A box is given by four fractions of the stored image's width and height, measured from its top left corner. In prompts,
answers and references it is written as `[x1, y1, x2, y2]` with three decimals.
"""

import re
from math import floor, isfinite
from typing import NamedTuple

import numpy as np


BOX_TASKS = ("grounding", "detection")
"""Tasks whose answers are boxes."""

_NUMBER = r"\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*"
ANY_BOX = re.compile(r"\[" + ",".join([_NUMBER] * 4) + r"\]")
"""A list of four numbers, in any form that models may write."""

_FRACTION = r"(?:0\.\d{3}|1\.000)"
BOX_TEXT = re.compile(r"\[" + ", ".join([_FRACTION] * 4) + r"\]")
"""A box exactly as `box_text` writes it."""

# How many pixels annotations may exceed their image, because of rounding or because pixels are counted from 1
_SLACK = 1.0


class Box(NamedTuple):
    """Left, top, right and bottom edge."""

    x1: float
    y1: float
    x2: float
    y2: float


def box_text(box: tuple[float, float, float, float]) -> str:
    """Write a box in the text form of rows.

    Args:
        box ([`Box`]):
            Edges between 0 and 1, with x1 < x2 and y1 < y2.

    Returns:
        `str`: such as `"[0.125, 0.021, 0.354, 0.333]"`. x1 < x2 and y1 < y2 also hold after rounding: two edges that
            round to the same number become the edges of the interval of width 0.001 that contains their middle.

    Raises:
        `ValueError`: if an edge is outside of 0 to 1, or the box has no area.

    Example:

    ```python
    >>> from fedvlm_hf.data.boxes import box_text

    >>> box_text((0.125, 0.02083, 0.35417, 0.33333))
    '[0.125, 0.021, 0.354, 0.333]'
    >>> box_text((0.50002, 0, 0.50004, 1))
    '[0.500, 0.000, 0.501, 1.000]'
    ```
    """
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise ValueError(
            f"`box` must have 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1, got {tuple(box)}: boxes are fractions of the "
            "image. Use `from_corners` or `from_xywh` to convert pixels."
        )
    return format_box(box)


def format_box(box: tuple[float, float, float, float]) -> str:
    """Write any box, such as a model's answer, which may extend beyond the image. For rows use [`box_text`]."""
    (x1, x2), (y1, y2) = _rounded(box[0], box[2]), _rounded(box[1], box[3])
    return f"[{x1:.3f}, {y1:.3f}, {x2:.3f}, {y2:.3f}]"


def parse_box(text: str) -> Box | None:
    """Return the first list of four numbers in a text, or `None` if there is none or it is not a box."""
    match = ANY_BOX.search(text)
    if match is None:
        return None
    box = Box(*map(float, match.groups()))
    # A number such as 1e999 is well-formed, but infinite.
    return box if all(map(isfinite, box)) and box.x1 < box.x2 and box.y1 < box.y2 else None


def box_problem(text: str) -> str | None:
    """Return why a text is not the answer of a row with a box, in words, or `None` if it is one."""
    num_boxes = len(ANY_BOX.findall(text))
    if num_boxes > 1:
        return (
            f"{text!r} has {num_boxes} boxes, but a row has one: only the first would be scored. Make a row for each "
            "box, with a prompt that names the object"
        )
    box = parse_box(text)
    if box is None:
        return f"{text!r} is not a box [x1, y1, x2, y2] with x1 < x2 and y1 < y2"
    if min(box) < 0 or max(box) > 1:
        return f"the box {text!r} is not inside its image: edges are fractions of the image, from 0 to 1"
    return None


def from_corners(x1: float, y1: float, x2: float, y2: float, image_width: int, image_height: int) -> Box:
    """Convert edges in pixels to a box.

    Args:
        x1 (`float`), y1 (`float`), x2 (`float`), y2 (`float`):
            Left, top, right and bottom edge. The right edge of the last column is `image_width`.
        image_width (`int`), image_height (`int`):
            Size of the image in pixels.

    Returns:
        [`Box`]: in fractions of the image, clipped to the image.

    Raises:
        `ValueError`: if an edge is more than one pixel outside the image, or no area is left inside.
    """
    edges = (x1, y1, x2, y2)
    sides = (image_width, image_height, image_width, image_height)
    where = f"the image of {image_width} x {image_height} pixels"
    # written so that NaN is an error
    if not all(-_SLACK <= edge <= side + _SLACK for edge, side in zip(edges, sides, strict=True)):
        raise ValueError(
            f"The box with the edges {list(edges)} is more than one pixel outside of {where}: it may belong to "
            "another image, or use another convention."
        )
    box = Box(*(min(max(edge / side, 0.0), 1.0) for edge, side in zip(edges, sides, strict=True)))
    if box.x1 >= box.x2 or box.y1 >= box.y2:
        raise ValueError(f"The box with the edges {list(edges)} has no area in {where}: drop the row.")
    return box


def from_xywh(x: float, y: float, width: float, height: float, image_width: int, image_height: int) -> Box:
    """Convert a box in COCO's convention: left edge, top edge, width and height in pixels.

    Args:
        x (`float`), y (`float`), width (`float`), height (`float`):
            The box.
        image_width (`int`), image_height (`int`):
            Size of the image in pixels.

    Returns:
        [`Box`]: in fractions of the image, clipped to the image.

    Raises:
        `ValueError`: if an edge is more than one pixel outside the image, or no area is left inside.

    Example:

    ```python
    >>> from fedvlm_hf.data.boxes import from_xywh

    >>> from_xywh(80, 10, 120, 40, image_width=640, image_height=80)
    Box(x1=0.125, y1=0.125, x2=0.3125, y2=0.625)
    ```
    """
    return from_corners(x, y, x + width, y + height, image_width, image_height)


def from_mask(mask: np.ndarray) -> Box:
    """Return the smallest box around a segmentation mask, along the outer edges of its pixels.

    Args:
        mask (`np.ndarray` of shape `(height, width)`):
            Zero outside of the object. A single pixel (row r, column c) gives [c / width, r / height, (c + 1) / width,
            (r + 1) / height].

    Returns:
        [`Box`]: in fractions of the image.

    Raises:
        `ValueError`: if the mask is not two-dimensional or is empty.
    """
    if mask.ndim != 2:
        raise ValueError(f"`mask` must be of shape (height, width), got {mask.shape}.")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise ValueError(f"`mask` of shape {mask.shape} is empty, so it has no box. Drop the row.")
    height, width = mask.shape
    return Box(
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Round two edges to three decimals so that the second stays larger than the first."""
    first, second = round(low, 3) + 0.0, round(high, 3) + 0.0  # -0.0 + 0.0 is 0.0
    if first < second:
        return first, second
    thousandth = floor((low + high) * 500)
    if thousandth == 1000:  # the image ends here
        thousandth = 999
    return thousandth / 1000, (thousandth + 1) / 1000
