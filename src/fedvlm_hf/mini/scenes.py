"""Scenes for Fed-Nature mini: real handwritten digits, colored and placed on cluttered backgrounds.

The digits are scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin and
Kaynak, 1998; 1,797 images of 8x8 pixels by 13 writers, CC BY 4.0, https://doi.org/10.24432/C50P49). Nothing is
downloaded: the file ships with scikit-learn. The set is ordered by writer, so splitting it into contiguous blocks is
harder and more honest than shuffling it.

A scene is a pure function of `(block, seed, index)`: 2 to 4 digits in the cells of a 3x3 grid, in one of six
arrangements.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits


IMAGE_SIZE = 48
CELL = 16
# Source digits by use. No digit is in two blocks, so no test scene shows a digit that was used in training.
DIGIT_BLOCKS = {
    "public": range(0, 900),
    "client_00": range(900, 1040),
    "client_01": range(1040, 1180),
    "client_02": range(1180, 1320),
    "client_03": range(1320, 1460),
    "validation": range(1460, 1560),
    "test": range(1560, 1797),
}
COLORS = {
    "red": (224, 48, 44),
    "green": (56, 190, 64),
    "blue": (66, 104, 240),
    "yellow": (238, 214, 52),
    "purple": (186, 76, 214),
    "white": (240, 240, 240),
}
GROUNDS = ("plain", "striped", "checked", "dotted", "shaded", "speckled")
ARRANGEMENTS = ("pair", "row", "column", "diagonal", "corners", "scattered")
SIZES = ("small", "large")
PLACES = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip

_LINES = {
    "row": ((0, 1, 2), (3, 4, 5), (6, 7, 8)),
    "column": ((0, 3, 6), (1, 4, 7), (2, 5, 8)),
    "diagonal": ((0, 4, 8), (2, 4, 6)),
    "corners": ((0, 2, 6, 8),),
}
_REGULAR = {frozenset(cells) for lines in _LINES.values() for cells in lines}
_HEIGHTS = {"small": (9.0, 11.0), "large": (13.5, 15.5)}
_MAX_ANGLE = np.deg2rad(10.0)
_MAX_SHEAR = 0.15
_CANVAS = 24
_MIN_INK = 0.3
_ROWS, _COLUMNS = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE]


@dataclass(frozen=True)
class Item:
    """One digit of a scene.

    Attributes:
        digit (`int`): The digit's class, 0 to 9.
        color (`str`): A key of `COLORS`.
        size (`str`): `"small"` (about 10 pixels high) or `"large"` (about 14).
        cell (`int`): Cell of the 3x3 grid in reading order, an index into `PLACES`.
        source (`int`): Index of the handwritten digit in `load_digits()`.
        ink (`tuple[int, int, int, int]`): x1, y1, x2, y2 of the drawn ink in pixels; x2 and y2 are one past the last
            inked pixel.
    """

    digit: int
    color: str
    size: str
    cell: int
    source: int
    ink: tuple[int, int, int, int]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 as fractions of the image, in [0, 0.999], so that "1.000" never occurs."""
        return tuple(min(edge / IMAGE_SIZE, 0.999) for edge in self.ink)


@dataclass(frozen=True)
class Scene:
    """An image and its complete description.

    Attributes:
        pixels (`np.ndarray`): `(48, 48, 3)` uint8.
        items (`tuple[Item, ...]`): The 2 to 4 digits in reading order; no two share both digit and color.
        arrangement (`str`): One of `ARRANGEMENTS`.
        ground (`str`): One of `GROUNDS`.
        owner (`np.ndarray`): `(6, 6)` int8: for each patch of 8x8 pixels, the index of the item with most ink in it,
            or -1.
    """

    pixels: np.ndarray
    items: tuple[Item, ...]
    arrangement: str
    ground: str
    owner: np.ndarray

    def image(self) -> Image.Image:
        """Return the scene as an RGB PIL image."""
        return Image.fromarray(self.pixels)


def make_scene(block: str, seed: int, index: int) -> Scene:
    """Draw scene number `index` of a stream.

    Args:
        block (`str`): Key of `DIGIT_BLOCKS`, which selects the handwritten digits.
        seed (`int`): Seed of the stream.
        index (`int`): Number of the scene in the stream. The same three arguments always give the same bits.

    Returns:
        [`Scene`]: The scene.
    """
    if block not in DIGIT_BLOCKS:
        raise ValueError(
            f"`block` must be one of {sorted(DIGIT_BLOCKS)}, which have disjoint source digits, got {block!r}."
        )
    rng = np.random.default_rng([sorted(DIGIT_BLOCKS).index(block), seed, index])
    arrangement = ARRANGEMENTS[rng.integers(len(ARRANGEMENTS))]
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    pixels = _draw_ground(ground, rng)
    items, masks = [], []
    for cell in _draw_cells(arrangement, rng):
        item, mask = _draw_item(cell, DIGIT_BLOCKS[block], items, pixels, rng)
        items.append(item)
        masks.append(mask)
    pixels += rng.integers(-9, 10, pixels.shape, dtype=np.int8)
    return Scene(pixels.clip(0, 255).astype(np.uint8), tuple(items), arrangement, ground, _owners(masks))


def _draw_cells(arrangement: str, rng: np.random.Generator) -> list[int]:
    if arrangement == "pair":
        return sorted(rng.permutation(9)[:2].tolist())
    if arrangement in _LINES:
        lines = _LINES[arrangement]
        return list(lines[rng.integers(len(lines))])
    while True:
        cells = rng.permutation(9)[: 3 + (rng.random() < 0.6)].tolist()
        if frozenset(cells) not in _REGULAR:
            return sorted(cells)


def _draw_item(
    cell: int, sources: range, others: list[Item], pixels: np.ndarray, rng: np.random.Generator
) -> tuple[Item, np.ndarray]:
    """Draw a new combination of digit and color, and blend it into `pixels` in place; also return its ink mask."""
    inks, classes = _digits()
    taken = {(item.digit, item.color) for item in others}
    while True:
        source, color = sources[rng.integers(len(sources))], list(COLORS)[rng.integers(len(COLORS))]
        digit = int(classes[source])
        if (digit, color) not in taken:
            break
    size = SIZES[rng.integers(2)]
    low, high = _HEIGHTS[size]
    draw = rng.random(7)
    angle, shear = (2 * draw[:2] - 1) * (_MAX_ANGLE, _MAX_SHEAR)
    alpha = stamp(inks[source], low + (high - low) * draw[2], angle, shear)
    height, width = alpha.shape
    center_y, center_x = (np.array(divmod(cell, 3)) + 0.5) * CELL + (2 * draw[3:5] - 1) * (
        2.5 if size == "small" else 1.0
    )
    top = min(max(round(center_y - height / 2), 0), IMAGE_SIZE - height)
    left = min(max(round(center_x - width / 2), 0), IMAGE_SIZE - width)
    paint = np.clip(np.array(COLORS[color]) + rng.integers(-24, 25, 3), 0, 255)
    window = pixels[top : top + height, left : left + width]
    window += ((paint - window) * alpha[..., None]).astype(np.int16)
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=bool)
    mask[top : top + height, left : left + width] = alpha >= _MIN_INK
    return Item(digit, color, size, cell, source, (left, top, left + width, top + height)), mask


@cache
def _digits() -> tuple[list[Image.Image], np.ndarray]:
    """Return the digits as 8-bit images with a margin of two pixels for rotated strokes, and their classes."""
    digits = load_digits()
    padded = np.pad(digits.images * (255 / 16), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    return [Image.fromarray(image) for image in padded], digits.target


def stamp(ink: Image.Image, height: float, angle: float, shear: float) -> np.ndarray:
    """Scale, rotate and shear one handwritten digit, and crop it to its ink.

    Args:
        ink (`Image.Image`): 12x12 8-bit ink image, which is the 8x8 original with a margin of two.
        height (`float`): Height in pixels of the original's 8 rows after scaling.
        angle (`float`): Rotation in radians.
        shear (`float`): Horizontal shift per row.

    Returns:
        `np.ndarray`: Opacity in [0, 1]. Each border row and column contains ink (an opacity of 0.3 or more).
    """
    scale, cos, sin = 8 / height, np.cos(angle), np.sin(angle)
    a, b, d, e = scale * (cos - shear * sin), scale * (-sin - shear * cos), scale * sin, scale * cos
    middle = _CANVAS / 2
    matrix = (a, b, 6 - (a + b) * middle, d, e, 6 - (d + e) * middle)
    drawn = np.asarray(ink.transform((_CANVAS, _CANVAS), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))
    alpha = np.clip((drawn.astype(np.float32) - 40) / 150, 0, 1)
    inked = alpha >= _MIN_INK
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _draw_ground(ground: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a dark tinted ground with a faint pattern and 2 to 5 low-contrast strokes, as `(48, 48, 3)` int16."""
    base = rng.integers(20, 80, 3)
    contrast = rng.integers(18, 34) * (1 if rng.random() < 0.7 else -0.6)
    pattern = _PATTERNS[ground](rng)
    pixels = base + contrast * pattern[..., None]
    canvas = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(2, 6)):
        x1, y1, x2, y2 = rng.integers(0, IMAGE_SIZE, 4).tolist()
        pen.line((x1, y1, x2, y2), fill=tuple((base + rng.integers(-20, 40)).clip(0, 255).tolist()), width=1)
    return np.asarray(canvas).astype(np.int16)


def _plain(rng: np.random.Generator) -> np.ndarray:
    return np.zeros((IMAGE_SIZE, IMAGE_SIZE))


def _striped(rng: np.random.Generator) -> np.ndarray:
    period, (down, right) = rng.integers(3, 6), ((0, 1), (1, 0), (1, 1), (1, -1))[rng.integers(4)]
    return ((down * _ROWS + right * _COLUMNS + rng.integers(8)) // period) % 2


def _checked(rng: np.random.Generator) -> np.ndarray:
    period, shift = rng.integers(4, 8), rng.integers(8)
    return ((_ROWS + shift) // period + (_COLUMNS + shift) // period) % 2


def _dotted(rng: np.random.Generator) -> np.ndarray:
    period, shift = rng.integers(5, 8), rng.integers(8)
    return (((_ROWS + shift) % period < 2) & ((_COLUMNS + shift) % period < 2)) * 1.6


def _shaded(rng: np.random.Generator) -> np.ndarray:
    ramp = (_ROWS if rng.random() < 0.5 else _COLUMNS) / IMAGE_SIZE
    return 2.2 * (ramp if rng.random() < 0.5 else 1 - ramp)


def _speckled(rng: np.random.Generator) -> np.ndarray:
    return (rng.random((IMAGE_SIZE, IMAGE_SIZE)) < 0.2) * 1.5


_PATTERNS = dict(zip(GROUNDS, (_plain, _striped, _checked, _dotted, _shaded, _speckled), strict=True))


def _owners(masks: list[np.ndarray]) -> np.ndarray:
    """Return `(6, 6)` int8: the item with most ink in each 8x8 patch, or -1 below four inked pixels."""
    ink = np.stack(masks).reshape(len(masks), 6, 8, 6, 8).sum((2, 4))
    return np.where(ink.max(0) >= 4, ink.argmax(0), -1).astype(np.int8)
