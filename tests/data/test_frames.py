"""Compare frames with the image processors: find a white rectangle on a black image in the processed pixels."""

from collections.abc import Callable
from math import floor

import numpy as np
import pytest
from PIL import Image, ImageDraw
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    BlipImageProcessorPil,
    ChameleonImageProcessorPil,
    CLIPImageProcessorPil,
    DeepseekVLImageProcessorPil,
    Emu3ImageProcessor,
    FuyuImageProcessorPil,
    Gemma3ImageProcessorPil,
    Glm4vImageProcessorPil,
    GotOcr2ImageProcessorPil,
    Idefics2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    JanusImageProcessorPil,
    LlavaImageProcessorPil,
    LlavaNextImageProcessorPil,
    MllamaImageProcessorPil,
    Ovis2ImageProcessorPil,
    PixtralImageProcessorPil,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
    SmolVLMImageProcessorPil,
)
from transformers.utils import logging

import tiny
import tiny_parts
from fedvlm_hf.data.boxes import Box, from_corners, from_mask
from fedvlm_hf.data.frames import Frame, frame_rule
from fedvlm_hf.mini import base_model
from fedvlm_hf.models.builder import build_processor


LANDSCAPE, PORTRAIT, EXTREME, SQUARE = (640, 360), (270, 451), (600, 90), (300, 300)
SQUARE_224 = {"height": 224, "width": 224}


def picture(size: tuple[int, int], edges: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", size)
    ImageDraw.Draw(image).rectangle((edges[0], edges[1], edges[2] - 1, edges[3] - 1), fill="white")
    return image


def built(kind: type, view: Callable, **kwargs):
    """One case; skipped where this processor needs torchvision, as some did before transformers 5.23."""
    try:
        return pytest.param(kind(**kwargs), view)
    except ImportError:
        return pytest.param(None, view, marks=pytest.mark.skip(reason=f"{kind.__name__} needs torchvision"))


def rectangle(size: tuple[int, int], left: float, top: float, right: float, bottom: float) -> tuple[int, ...]:
    width, height = size
    return floor(left * width), floor(top * height), floor(right * width), floor(bottom * height)


def unpatched(output, merge: int = 2, patch: int = 14) -> np.ndarray:
    """Make an image of Qwen2-VL's flat patches: (rows / 2, columns / 2, 2, 2) patches of (channel, time, y, x)."""
    _, rows, columns = np.asarray(output["image_grid_thw"])[0]
    blocks = np.asarray(output["pixel_values"]).reshape(
        rows // merge, columns // merge, merge, merge, 3, 2, patch, patch
    )
    return blocks[:, :, :, :, :, 0].transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * patch, columns * patch)


def first(output) -> np.ndarray:
    return np.asarray(output["pixel_values"][0])


def first_tile(output) -> np.ndarray:
    return np.asarray(output["pixel_values"][0][0])


def last_tile(output) -> np.ndarray:
    return np.asarray(output["pixel_values"][0][-1])


def seen(image_processor, image: Image.Image, view=first) -> tuple[Box, tuple[int, int]]:
    """Return the rectangle in the processed image, and the size of that image in pixels."""
    pixels = view(image_processor(images=[image], do_normalize=False, return_tensors="np"))[0]
    height, width = pixels.shape
    return from_mask(pixels > 0.75 * pixels.max()), (width, height)


def check_rectangles(image_processor, view, sizes) -> None:
    """Accurate to a pixel of the processed image, or of the stored image if it is enlarged."""
    rule = frame_rule(image_processor)
    for size in sizes:
        for place in ((0.4, 0.3, 0.55, 0.8), (0.45, 0.1, 0.7, 0.35)):
            edges = rectangle(size, *place)
            frame = rule(*size) if rule else Frame()
            expected = frame.to_model(from_corners(*edges, *size))
            found, sides = seen(image_processor, picture(size, edges), view)
            for edge, value, side, length in zip(found, expected, sides * 2, size * 2, strict=True):
                assert abs(edge - value) <= 1.01 * max(1 / side, 1 / length), (size, place, found, expected)


def test_padding_to_a_square_by_hand():
    """640 x 360: 140 rows above and below. y -> (140 + 360 y) / 640 = 0.21875 + 0.5625 y; x stays."""
    rule = frame_rule(LlavaImageProcessorPil(do_pad=True, size=SQUARE_224, crop_size=SQUARE_224))
    assert rule(*LANDSCAPE) == Frame(scale=(1.0, 0.5625), offset=(0.0, 0.21875))
    assert rule(*LANDSCAPE).to_model(Box(0.25, 0.0, 0.5, 1.0)) == Box(0.25, 0.21875, 0.5, 0.78125)
    assert rule(*LANDSCAPE).to_stored(Box(0.25, 0.21875, 0.5, 0.78125)) == Box(0.25, 0.0, 0.5, 1.0)
    assert rule(*LANDSCAPE).to_stored(Box(0.0, 0.0, 1.0, 0.5)).y1 == pytest.approx(-140 / 360)  # in the padding
    assert rule(90, 360) == Frame(scale=(0.25, 1.0), offset=(0.375, 0.0))


def test_cropping_the_middle_by_hand():
    """400 x 200 becomes 448 x 224, of which columns 112 to 336 are left: x -> 2 x - 0.5; y stays."""
    rule = frame_rule(CLIPImageProcessorPil())
    assert rule(400, 200) == Frame(scale=(2.0, 1.0), offset=(-0.5, 0.0))
    assert rule(400, 200).to_model(Box(0.2, 0.1, 0.5, 0.9)) == Box(0.0, 0.1, 0.5, 0.9)  # clipped at -0.1
    assert rule(400, 200).to_model(Box(0.0, 0.1, 0.25, 0.9)) is None  # its right edge is on the border
    assert rule(400, 200).to_model(Box(0.7, 0.1, 0.76, 0.9)) == pytest.approx(Box(0.9, 0.1, 1.0, 0.9))
    assert rule(200, 400) == Frame(scale=(1.0, 2.0), offset=(0.0, -0.5))


@pytest.mark.parametrize(
    "image_processor",
    [
        CLIPImageProcessorPil(),
        LlavaImageProcessorPil(),  # crops unless told to pad
        LlavaImageProcessorPil(do_pad=True, do_center_crop=False, size=SQUARE_224),
        LlavaImageProcessorPil(do_pad=True),
        JanusImageProcessorPil(),
        DeepseekVLImageProcessorPil(),
    ],
)
def test_a_square_picture_keeps_its_frame_to_the_bit(image_processor):
    rule = frame_rule(image_processor)
    assert all(rule(side, side).is_identity for side in range(1, 700))
    assert not rule(*LANDSCAPE).is_identity


@pytest.mark.parametrize(
    ("image_processor", "sizes"),
    [
        (CLIPImageProcessorPil(), (LANDSCAPE, PORTRAIT, SQUARE)),
        # as ImageNet's classifiers: a square picture loses its margin too
        (CLIPImageProcessorPil(size={"shortest_edge": 256}), (LANDSCAPE, PORTRAIT, SQUARE)),
        (CLIPImageProcessorPil(size={"height": 256, "width": 300}), (LANDSCAPE, PORTRAIT, SQUARE)),
        (CLIPImageProcessorPil(size={"shortest_edge": 250, "longest_edge": 400}), (LANDSCAPE, PORTRAIT, EXTREME)),
        (CLIPImageProcessorPil(size={"max_height": 400, "max_width": 300}), (LANDSCAPE, PORTRAIT, SQUARE)),
        (CLIPImageProcessorPil(do_resize=False), (LANDSCAPE, PORTRAIT, SQUARE)),
        # a crop larger than the picture pads it
        (CLIPImageProcessorPil(crop_size={"height": 300, "width": 400}), (LANDSCAPE, PORTRAIT, SQUARE)),
        (ChameleonImageProcessorPil(), (LANDSCAPE, PORTRAIT)),
        (LlavaImageProcessorPil(), (LANDSCAPE, PORTRAIT)),
        (LlavaImageProcessorPil(do_pad=True), (LANDSCAPE, PORTRAIT, EXTREME)),
        (LlavaImageProcessorPil(do_pad=True, do_center_crop=False, size=SQUARE_224), (LANDSCAPE, PORTRAIT, EXTREME)),
        (LlavaImageProcessorPil(do_pad=True, do_resize=False, do_center_crop=False), (LANDSCAPE, PORTRAIT)),
        (JanusImageProcessorPil(), (LANDSCAPE, PORTRAIT, EXTREME)),
        (JanusImageProcessorPil(min_size=100), (EXTREME,)),
        (JanusImageProcessorPil(do_resize=False), (LANDSCAPE, PORTRAIT)),
        (DeepseekVLImageProcessorPil(), (LANDSCAPE, PORTRAIT)),
    ],
)
def test_what_pads_or_crops_puts_the_rectangle_where_the_frame_says(image_processor, sizes):
    assert frame_rule(image_processor) is not None
    check_rectangles(image_processor, first, sizes)


@pytest.mark.parametrize(
    ("image_processor", "view"),
    [
        (CLIPImageProcessorPil(size=SQUARE_224, do_center_crop=False), first),
        (CLIPImageProcessorPil(size=SQUARE_224), first),
        (CLIPImageProcessorPil(do_center_crop=False), first),
        (SiglipImageProcessorPil(), first),
        (BlipImageProcessorPil(), first),
        (LlavaImageProcessorPil(size=SQUARE_224, do_center_crop=False), first),
        (JanusImageProcessorPil(do_pad=False), first),
        (Gemma3ImageProcessorPil(), first),
        (
            Gemma3ImageProcessorPil(
                do_pan_and_scan=True,
                pan_and_scan_min_crop_size=16,
                pan_and_scan_max_num_crops=4,
                pan_and_scan_min_ratio_to_activate=1.2,
            ),
            first,
        ),
        (GotOcr2ImageProcessorPil(), first),
        (GotOcr2ImageProcessorPil(crop_to_patches=True), lambda output: np.asarray(output["pixel_values"][-1])),
        built(Ovis2ImageProcessorPil, first),
        built(Ovis2ImageProcessorPil, first, crop_to_patches=True),
        (PixtralImageProcessorPil(), first),
        (Emu3ImageProcessor(), first),
        built(Idefics2ImageProcessorPil, first_tile),
        built(Idefics2ImageProcessorPil, last_tile, do_image_splitting=True),
        built(Idefics3ImageProcessorPil, last_tile),
        built(Idefics3ImageProcessorPil, last_tile, do_image_splitting=False),
        built(SmolVLMImageProcessorPil, last_tile),
        (LlavaNextImageProcessorPil(), first_tile),
        (Qwen2VLImageProcessorPil(), unpatched),
        (Glm4vImageProcessorPil(), unpatched),
    ],
)
def test_what_shows_the_whole_picture_has_no_rule(image_processor, view):
    assert frame_rule(image_processor) is None
    check_rectangles(image_processor, view, (LANDSCAPE, PORTRAIT))


def test_processors_of_models():
    """Ours pads; the tiny one is stock CLIP, which crops; the mini base stretches."""
    vision, _ = tiny_parts.full_size_configs()
    assert frame_rule(build_processor(tiny_parts.llama3_tokenizer(), vision)).name == "LlavaImageProcessorPil"
    assert frame_rule(tiny.tiny_processor()).name == "CLIPImageProcessorPil"
    assert frame_rule(AutoProcessor.from_pretrained(base_model("llava"))) is None
    assert frame_rule(AutoTokenizer.from_pretrained(base_model("llava"))) is None


class OwnResize(CLIPImageProcessorPil):
    def resize(self, image, size, **kwargs):
        return image


class OwnName(LlavaImageProcessorPil):
    """Only the name is new."""


class OwnSteps(LlavaImageProcessorPil):
    def _preprocess(self, images, **kwargs):
        return super()._preprocess(images, **kwargs)


@pytest.mark.parametrize(
    "image_processor",
    [
        FuyuImageProcessorPil(),
        MllamaImageProcessorPil(),
        OwnResize(),
        OwnSteps(),
        CLIPImageProcessorPil(do_pad=True),
        LlavaNextImageProcessorPil(crop_size={"height": 200, "width": 200}),
    ],
)
def test_what_is_unknown_is_said_once(image_processor, caplog, monkeypatch):
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    logger = logging.get_logger("fedvlm_hf.data.frames")
    logging.warning_once.cache_clear()
    with caplog.at_level("WARNING", logger.name):
        assert frame_rule(image_processor) is None
        assert frame_rule(image_processor) is None
    assert [record.getMessage().split(" crops")[0] for record in caplog.records] == [
        f"It is unknown whether {type(image_processor).__name__}"
    ]


def test_a_subclass_without_steps_of_its_own_is_known():
    assert frame_rule(OwnName(do_pad=True))(*LANDSCAPE) == frame_rule(LlavaImageProcessorPil(do_pad=True))(*LANDSCAPE)
