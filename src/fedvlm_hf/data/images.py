"""Image files to what is stored: squares of a bounded size."""

import io
from os import PathLike

from PIL import Image


def square_jpeg(path: str | PathLike, max_side: int) -> bytes:
    """Reads an image file, pads it to a square and encodes it again.

    The padding is black, as the surroundings of a radiograph are, and centers the image: image processors that crop to
    a square then keep all of it. Larger images are reduced to a long side of `max_side` pixels; smaller ones keep
    theirs.

    Args:
        path (`str` or `PathLike`):
            The image file.
        max_side (`int`):
            Upper bound of the side in pixels.

    Returns:
        `bytes`: JPEG of quality 95 without chroma subsampling, RGB.

    Raises:
        `ValueError`: if the file is missing or is not an image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise ValueError(f"{path} cannot be read as an image ({error}).") from error
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    buffer = io.BytesIO()
    square.save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
