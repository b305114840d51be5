"""Images on their way from a download to a row: found, checked, reduced where asked, and named by their pixels."""

import hashlib
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps


class StoredImage(ABC):
    """How to get one image of a download. Small, picklable, and equal where `key` is."""

    key: str
    """Unique in the dataset, such as the path relative to the raw folder."""

    @abstractmethod
    def load(self) -> bytes:
        """The encoded image as it is to be stored.

        Raises:
            `FileNotFoundError`: if it is not there.
            `ValueError`: if it is there and cannot be read, naming the path.
        """


@dataclass(frozen=True)
class ImageFile(StoredImage):
    """An image file whose bytes are stored untouched."""

    key: str
    path: Path

    def load(self) -> bytes:
        """The file's bytes."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class ImageBytes(StoredImage):
    """An image that came as bytes, as in a Hub dataset's row; for sources small enough to be in memory."""

    key: str
    content: bytes

    def load(self) -> bytes:
        """The bytes."""
        return self.content


# Modes whose values do not fit 8 bits: `convert("RGB")` clips them, and different radiographs would become all white
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


def open_image(content: bytes, where: str) -> Image.Image:
    """Decodes an encoded image fully, and turns it as its EXIF data says, which `datasets` does too.

    Args:
        content (`bytes`):
            PNG, JPEG, or whatever Pillow reads.
        where (`str`):
            How the error names it, such as its path.

    Returns:
        `PIL.Image.Image`: in the image's own mode.

    Raises:
        `ValueError`: if it does not decode.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation) is not None:
            image = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow: OSError, SyntaxError, ValueError, struct.error, ... by image format
        raise ValueError(f"{where} cannot be read as an image ({type(error).__name__}: {error}).") from error
    return image


def image_digest(image: Image.Image) -> str:
    """Names an image by its pixels: equal pixels, whatever the file format, have the same digest.

    Args:
        image (`PIL.Image.Image`):
            The decoded image.

    Returns:
        `str`: 32 hexadecimal digits; over RGB of 8 bits, or over the values themselves where they have more.
    """
    pixels = image if image.mode in _DEEP_MODES else image.convert("RGB")
    kind = f"{image.mode} " if image.mode in _DEEP_MODES else ""
    digest = hashlib.blake2b(f"{kind}{pixels.width}x{pixels.height}".encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB of 8 bits. Values of more bits are stretched, the least becomes 0 and the greatest 255: radiographs of 12
    bits lie in files of 16, and dividing by 256 would leave them black. A new image always.
    """
    if image.mode not in _DEEP_MODES:
        return image.convert("RGB") if image.mode != "RGB" else image.copy()
    low, high = image.getextrema()
    scale = 255 / ((high - low) or 1)
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L").convert("RGB")


def encode(image: Image.Image) -> bytes:
    """JPEG of quality 95 without chroma subsampling, RGB: for images whose pixels had to change."""
    buffer = io.BytesIO()
    to_rgb(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def shrink(image: Image.Image, max_side: int) -> Image.Image:
    """Reduces the long side to `max_side` pixels; smaller images keep their size. The shape stays within a pixel."""
    reduced = to_rgb(image)
    reduced.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return reduced


def pad_square(image: Image.Image) -> Image.Image:
    """Centers an image on a black square, as radiographs are surrounded: processors that crop keep all of it."""
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(to_rgb(image), ((side - image.width) // 2, (side - image.height) // 2))
    return square
