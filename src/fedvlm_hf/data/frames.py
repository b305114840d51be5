"""Map boxes between a stored image and the part of it that a model sees after padding or cropping.

Boxes in rows are fractions of the stored image. A processor that pads a landscape image to a square, or crops its
middle, shows the model another frame, in which the same object has another box. Processors that show the whole image
and nothing else change no box, whatever size they resize it to, because fractions do not depend on pixels.

The first half of this file is the geometry, the second half says what each image processor of transformers 5 does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import SizeDict, get_image_size_for_max_height_width
from transformers.utils import logging

from .boxes import Box


logger = logging.get_logger(__name__)

Sides = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Frame:
    """A map from fractions of the stored image to fractions of what the model sees: `model = offset + scale * stored`.

    Args:
        scale (`tuple[float, float]`, *optional*):
            Scale of x and y.
        offset (`tuple[float, float]`, *optional*):
            Offset of x and y. Negative if a part at the left or top is cropped away.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def is_identity(self) -> bool:
        """Whether the model sees the whole image and nothing else."""
        return self == Frame()

    def to_model(self, box: Box) -> Box | None:
        """Map a box of the stored image to the model's frame and clip it; `None` if all of it is cropped away."""
        seen = self.nearest(box)
        return seen if seen.x1 < seen.x2 and seen.y1 < seen.y2 else None

    def nearest(self, box: Box) -> Box:
        """Do the same as [`to_model`], but return a box without area at the border if all of it is cropped away."""
        (scale_x, scale_y), (offset_x, offset_y) = self.scale, self.offset
        edges = (
            offset_x + scale_x * box.x1,
            offset_y + scale_y * box.y1,
            offset_x + scale_x * box.x2,
            offset_y + scale_y * box.y2,
        )
        return Box(*(min(max(edge, 0.0), 1.0) for edge in edges))

    def to_stored(self, box: Box) -> Box:
        """Map a box that the model wrote to the stored image. It is not clipped and may reach into the padding."""
        (scale_x, scale_y), (offset_x, offset_y) = self.scale, self.offset
        return Box(
            (box.x1 - offset_x) / scale_x,
            (box.y1 - offset_y) / scale_y,
            (box.x2 - offset_x) / scale_x,
            (box.y2 - offset_y) / scale_y,
        )


@dataclass(frozen=True)
class Placement:
    """Position of the image on the canvas, in pixels of x and y. At first the image fills the canvas."""

    canvas: Sides
    start: tuple[float, float]
    length: tuple[float, float]

    def resized(self, canvas: Sides) -> "Placement":
        """Return the placement after the canvas is stretched to another size."""
        # multiply first: an image that fills the canvas then fills the new one exactly
        start, length = (
            tuple(value * new / old for value, new, old in zip(values, canvas, self.canvas, strict=True))
            for values in (self.start, self.length)
        )
        return Placement(canvas, start, length)

    def centred(self, canvas: Sides) -> "Placement":
        """Return the placement after cropping the sides that are longer than the new canvas and padding the others."""
        # rounded towards zero, so an odd pixel is on the right; the PIL variant of a crop that pads has it on the left
        margins = (int((old - new) / 2) for old, new in zip(self.canvas, canvas, strict=True))
        return Placement(
            canvas, tuple(start - margin for start, margin in zip(self.start, margins, strict=True)), self.length
        )


Step = Callable[[Placement], Placement]


@dataclass(frozen=True)
class FrameRule:
    """What an image processor does to the frame of an image, as a function of the image's size.

    Args:
        steps (`tuple[Callable, ...]`):
            The steps, in the order of the processor.
        name (`str`):
            Name of the processor's class.
    """

    steps: tuple[Step, ...]
    name: str

    def __call__(self, width: int, height: int) -> Frame:
        """Return the frame of an image of this size in pixels, before processing."""
        placement = Placement((width, height), (0, 0), (width, height))
        for step in self.steps:
            placement = step(placement)
        scale, offset = (
            tuple(value / side for value, side in zip(values, placement.canvas, strict=True))
            for values in (placement.length, placement.start)
        )
        return Frame(scale, offset)


def pad_to_square(placement: Placement) -> Placement:
    """Put the image into the middle of a square with the image's long side."""
    side = max(placement.canvas)
    return placement.centred((side, side))


def resize(placement: Placement, size: SizeDict) -> Placement:
    """Resize as `resize` of both backends of transformers does."""
    width, height = placement.canvas
    if size.shortest_edge:
        height, width = get_size_with_aspect_ratio((height, width), size.shortest_edge, size.longest_edge)
    elif size.max_height and size.max_width:
        height, width = get_image_size_for_max_height_width((height, width), size.max_height, size.max_width)
    else:
        height, width = size.height, size.width
    return placement.resized((width, height))


def resize_long_side(placement: Placement, side: int, min_side: int) -> Placement:
    """Resize the long side to `side`, and the short side in proportion but to at least `min_side`."""
    factor = side / max(placement.canvas)
    width, height = (max(round(length * factor), min_side) for length in placement.canvas)
    return placement.resized((width, height))


def frame_rule(processor: Any) -> FrameRule | None:
    """Return what the processor of a model does to the frame of its images.

    Args:
        processor ([`~transformers.ProcessorMixin`] or [`~transformers.BaseImageProcessor`]):
            The processor, or its image processor.

    Returns:
        [`FrameRule`] or `None`: `None` if the model sees the whole of every image and nothing else, or if there is no
        image processor. Also `None`, with a warning, if the class of the image processor is not known here.

    Example:

    ```python
    >>> from transformers import CLIPImageProcessorPil
    >>> from fedvlm_hf.data.boxes import Box
    >>> from fedvlm_hf.data.frames import frame_rule

    >>> frame = frame_rule(CLIPImageProcessorPil())(448, 224)  # crops the middle of an image
    >>> frame.to_model(Box(0.25, 0.0, 0.5, 1.0))
    Box(x1=0.0, y1=0.0, x2=0.5, y2=1.0)
    >>> frame.to_model(Box(0.0, 0.0, 0.2, 1.0)) is None
    True
    ```
    """
    # a tokenizer has no image processor, and neither has a processor without images
    image_processor = (
        processor if isinstance(processor, BaseImageProcessor) else vars(processor).get("image_processor")
    )
    if image_processor is None:
        return None
    steps = _steps(image_processor)
    name = type(image_processor).__name__
    if steps is None:
        logger.warning_once(
            f"It is unknown whether {name} crops or pads images, so boxes are passed to the model and read from its "
            "answers as if it saw the whole of each image. If it does not, they are wrong. Rows without boxes and "
            "square images are not affected."
        )
    return FrameRule(steps, name) if steps else None


def _steps(image_processor: Any) -> tuple[Step, ...] | None:
    """Return the steps that change the frame: none if nothing changes it, `None` if that is unknown."""
    definers = {_defining_class(type(image_processor), method) for method in _GEOMETRY} - _BACKENDS
    if not definers:
        return None if image_processor.do_pad else _resize_and_crop(image_processor)
    definer = definers.pop()
    if definers or definer is None or definer.__module__.partition(".")[0] != "transformers":
        return None
    return _OWN_STEPS.get(definer.__name__.removesuffix("Pil"), _unknown)(image_processor)


def _defining_class(kind: type, method: str) -> type | None:
    """Return the class in the inheritance of `kind` that defines a method."""
    return next((parent for parent in kind.__mro__ if method in vars(parent)), None)


def _resize_and_crop(image_processor: BaseImageProcessor) -> tuple[Step, ...]:
    """Resize, then crop, as both backends of transformers do. They pad last, which no known model asks for."""
    if not image_processor.do_center_crop:
        return ()  # resizing alone changes no fraction
    crop = (image_processor.crop_size.width, image_processor.crop_size.height)
    if not image_processor.do_resize:
        return (partial(Placement.centred, canvas=crop),)
    size = image_processor.size
    if (size.width, size.height) == crop:
        return ()
    return (partial(resize, size=size), partial(Placement.centred, canvas=crop))


def _llava(image_processor: BaseImageProcessor) -> tuple[Step, ...]:
    """LLaVA-1.5: pad to a square first if `do_pad` is set."""
    return (*([pad_to_square] if image_processor.do_pad else []), *_resize_and_crop(image_processor))


def _janus(image_processor: BaseImageProcessor) -> tuple[Step, ...]:
    """Resize the long side to the size and the short side in proportion, then pad to a square."""
    if not image_processor.do_pad:
        return ()
    if not image_processor.do_resize:
        return (pad_to_square,)
    resize = partial(resize_long_side, side=image_processor.size.height, min_side=image_processor.min_size)
    return (resize, pad_to_square)


def _whole(image_processor: BaseImageProcessor) -> tuple[Step, ...] | None:
    """Show the whole image, alone or with its tiles, with padding only where a mask or a size tells the model."""
    if not vars(image_processor).get("do_center_crop"):  # not every class has it
        return ()
    crop, size = image_processor.crop_size, image_processor.size
    uncropped = (size.height or size.shortest_edge, size.width or size.shortest_edge)
    return () if (crop.height, crop.width) == uncropped else None


def _unknown(image_processor: BaseImageProcessor) -> None:
    """Return `None`, for a class that was not analysed."""


# The methods that may move a pixel, and the classes whose versions of them are known here
_GEOMETRY = (
    "__call__",
    "preprocess",
    "_preprocess_image_like_inputs",
    "_prepare_image_like_inputs",
    "_preprocess",
    "process_image",
    "resize",
    "center_crop",
    "pad",
)
_BACKENDS = {BaseImageProcessor, PilBackend, TorchvisionBackend}
# Classes of transformers with their own versions, without the suffix of their PIL variants. A test of each of them
# finds a rectangle in its pixels.
_OWN_STEPS: dict[str, Callable[[BaseImageProcessor], tuple[Step, ...] | None]] = {
    "LlavaImageProcessor": _llava,
    "JanusImageProcessor": _janus,
    "DeepseekVLImageProcessor": _janus,
    **dict.fromkeys(
        (
            "Emu3ImageProcessor",
            "Gemma3ImageProcessor",
            "Glm4vImageProcessor",
            "GotOcr2ImageProcessor",
            "Idefics2ImageProcessor",
            "Idefics3ImageProcessor",
            "LlavaNextImageProcessor",
            "Ovis2ImageProcessor",
            "PixtralImageProcessor",
            "Qwen2VLImageProcessor",
            "SmolVLMImageProcessor",
        ),
        _whole,
    ),
}
