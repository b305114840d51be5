"""What a model sees of a picture that is stretched, padded or cropped on its way, as a map between two frames.

Boxes in rows are fractions of the stored picture. A processor that pads a landscape picture to a square, or crops the
middle out of it, shows the model another frame, in which the same object has another box. Processors that show the
whole picture and nothing else, at whatever size, change no box: fractions do not know of pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import SizeDict, get_image_size_for_max_height_width

from ..data.boxes import Box


Sides = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Frame:
    """From the stored picture to what the model sees of it, both 0-1: `model = offset + scale * stored`.

    Args:
        scale (`tuple[float, float]`, *optional*):
            Of x and of y.
        offset (`tuple[float, float]`, *optional*):
            Of x and of y; negative where something is cropped away.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def is_identity(self) -> bool:
        """Whether the model sees the whole picture and nothing else."""
        return self == Frame()

    def to_model(self, box: Box) -> Box | None:
        """A box of the stored picture as the model sees it, clipped; `None` where all of it is cropped away."""
        seen = self.nearest(box)
        return seen if seen.x1 < seen.x2 and seen.y1 < seen.y2 else None

    def nearest(self, box: Box) -> Box:
        """The same, but an edge of the model's frame, without area, where all of it is cropped away."""
        (scale_x, scale_y), (offset_x, offset_y) = self.scale, self.offset
        edges = (
            offset_x + scale_x * box.x1,
            offset_y + scale_y * box.y1,
            offset_x + scale_x * box.x2,
            offset_y + scale_y * box.y2,
        )
        return Box(*(min(max(edge, 0.0), 1.0) for edge in edges))

    def to_stored(self, box: Box) -> Box:
        """A box that the model gave, in the stored picture. Not clipped: it may reach into the padding."""
        (scale_x, scale_y), (offset_x, offset_y) = self.scale, self.offset
        return Box(
            (box.x1 - offset_x) / scale_x,
            (box.y1 - offset_y) / scale_y,
            (box.x2 - offset_x) / scale_x,
            (box.y2 - offset_y) / scale_y,
        )


@dataclass(frozen=True)
class Placement:
    """Where the picture lies on the canvas, in pixels of x and y. It begins as the canvas itself."""

    canvas: Sides
    start: tuple[float, float]
    length: tuple[float, float]

    def resized(self, canvas: Sides) -> "Placement":
        """With the canvas stretched to another size."""
        # multiplied first: a picture that fills the canvas then fills it to the bit
        start, length = (
            tuple(value * new / old for value, new, old in zip(values, canvas, self.canvas, strict=True))
            for values in (self.start, self.length)
        )
        return Placement(canvas, start, length)

    def centred(self, canvas: Sides) -> "Placement":
        """Cropped where the new canvas is smaller, padded where it is larger."""
        # towards zero, so that the odd pixel is on the right; the PIL variant of a crop that pads has it on the left
        margins = (int((old - new) / 2) for old, new in zip(self.canvas, canvas, strict=True))
        return Placement(
            canvas, tuple(start - margin for start, margin in zip(self.start, margins, strict=True)), self.length
        )


Step = Callable[[Placement], Placement]


@dataclass(frozen=True)
class FrameRule:
    """What an image processor does to the frame of any picture.

    Args:
        steps (`tuple[Callable, ...]`):
            In the processor's order.
        name (`str`):
            The processor's class.
    """

    steps: tuple[Step, ...]
    name: str

    def __call__(self, width: int, height: int) -> Frame:
        """The frame of a picture of this size, in pixels, before the processor touches it."""
        placement = Placement((width, height), (0, 0), (width, height))
        for step in self.steps:
            placement = step(placement)
        scale, offset = (
            tuple(value / side for value, side in zip(values, placement.canvas, strict=True))
            for values in (placement.length, placement.start)
        )
        return Frame(scale, offset)


def pad_to_square(placement: Placement) -> Placement:
    """The middle of a square of its long side."""
    side = max(placement.canvas)
    return placement.centred((side, side))


def resize(placement: Placement, size: SizeDict) -> Placement:
    """As `resize` of both backends of transformers."""
    width, height = placement.canvas
    if size.shortest_edge:
        height, width = get_size_with_aspect_ratio((height, width), size.shortest_edge, size.longest_edge)
    elif size.max_height and size.max_width:
        height, width = get_image_size_for_max_height_width((height, width), size.max_height, size.max_width)
    else:
        height, width = size.height, size.width
    return placement.resized((width, height))


def resize_long_side(placement: Placement, side: int, min_side: int) -> Placement:
    """The long side to `side`, the short one in proportion but not below `min_side`."""
    factor = side / max(placement.canvas)
    width, height = (max(round(length * factor), min_side) for length in placement.canvas)
    return placement.resized((width, height))
