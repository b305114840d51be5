"""Which image processors pad, crop, or show the whole picture: what is known of the classes of transformers 5."""

from collections.abc import Callable
from functools import partial
from typing import Any

from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from .frames import FrameRule, Placement, Step, pad_to_square, resize, resize_long_side


logger = logging.get_logger(__name__)


def frame_rule(processor: Any) -> FrameRule | None:
    """What a model's processor does to the frame of its pictures.

    Args:
        processor ([`~transformers.ProcessorMixin`] or [`~transformers.BaseImageProcessor`]):
            The processor, whose image processor decides.

    Returns:
        [`FrameRule`] or `None`: `None` where the model sees the whole of every picture and nothing else, or where
        there is no image processor. So too, with a warning, where what a class does is unknown here.

    Example:

    ```python
    >>> from transformers import CLIPImageProcessorPil
    >>> from fedvlm_hf.data.boxes import Box
    >>> from fedvlm_hf.models.frame_rules import frame_rule

    >>> frame = frame_rule(CLIPImageProcessorPil())(448, 224)  # the middle of a picture twice as wide as high
    >>> frame.to_model(Box(0.25, 0.0, 0.5, 1.0))
    Box(x1=0.0, y1=0.0, x2=0.5, y2=1.0)
    >>> frame.to_model(Box(0.0, 0.0, 0.2, 1.0)) is None
    True
    ```
    """
    # a tokenizer, and a processor of other things than images, have none
    image_processor = (
        processor if isinstance(processor, BaseImageProcessor) else vars(processor).get("image_processor")
    )
    if image_processor is None:
        return None
    steps = _steps(image_processor)
    name = type(image_processor).__name__
    if steps is None:
        logger.warning_once(
            f"It is unknown whether {name} crops or pads pictures, so the boxes of rows are given to the model and "
            "taken from it as if it saw the whole of each: they are off if it does not. It does not matter where rows "
            "have no boxes, nor for square pictures."
        )
    return FrameRule(steps, name) if steps else None


def _steps(image_processor: Any) -> tuple[Step, ...] | None:
    """What changes the frame; empty where nothing does, `None` where it is unknown."""
    authors = {_author(type(image_processor), method) for method in _GEOMETRY} - _BACKENDS
    if not authors:
        return None if image_processor.do_pad else _resize_and_crop(image_processor)
    author = authors.pop()
    if authors or author is None or author.__module__.partition(".")[0] != "transformers":
        return None
    return _OWN_STEPS.get(author.__name__.removesuffix("Pil"), _unknown)(image_processor)


def _author(kind: type, method: str) -> type | None:
    """The class that wrote a method of `kind`."""
    return next((parent for parent in kind.__mro__ if method in vars(parent)), None)


def _resize_and_crop(image_processor: BaseImageProcessor) -> tuple[Step, ...]:
    """The order of both backends of transformers. They pad last, which no model that we know asks for."""
    if not image_processor.do_center_crop:
        return ()  # a resize alone changes no fraction
    crop = (image_processor.crop_size.width, image_processor.crop_size.height)
    if not image_processor.do_resize:
        return (partial(Placement.centred, canvas=crop),)
    size = image_processor.size
    if (size.width, size.height) == crop:
        return ()
    return (partial(resize, size=size), partial(Placement.centred, canvas=crop))


def _llava(image_processor: BaseImageProcessor) -> tuple[Step, ...]:
    """LLaVA-1.5: padding to a square first, or not."""
    return (*([pad_to_square] if image_processor.do_pad else []), *_resize_and_crop(image_processor))


def _janus(image_processor: BaseImageProcessor) -> tuple[Step, ...]:
    """The long side to the size, the short one in proportion; then padding to a square."""
    if not image_processor.do_pad:
        return ()
    if not image_processor.do_resize:
        return (pad_to_square,)
    resize = partial(resize_long_side, side=image_processor.size.height, min_side=image_processor.min_size)
    return (resize, pad_to_square)


def _whole(image_processor: BaseImageProcessor) -> tuple[Step, ...] | None:
    """Nothing: the whole picture, as one or with its tiles, padded only where a mask or its size says so."""
    if not vars(image_processor).get("do_center_crop"):  # not every class has it
        return ()
    crop, size = image_processor.crop_size, image_processor.size
    uncropped = (size.height or size.shortest_edge, size.width or size.shortest_edge)
    return () if (crop.height, crop.width) == uncropped else None


def _unknown(image_processor: BaseImageProcessor) -> None:
    """A class that nobody has looked into."""


# The methods that may move a pixel, and the classes whose versions of them are understood here
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
# Classes of transformers with a version of their own, less the suffix of their PIL variant. Each of them has a test
# that finds a rectangle in its pixels.
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
