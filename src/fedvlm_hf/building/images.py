"""Images between download and row: loading, decoding, resizing, padding, and a digest of their pixels."""

import hashlib
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import ExifTags, Image, ImageOps

from ..data.pixels import Window, decoding_problem, in_8_bits


class StoredImage(ABC):
    """How to load one image of a download. Instances are small and picklable, and equal if their keys are equal."""

    key: str
    """Unique in the dataset, such as the path relative to the raw folder."""

    is_made: ClassVar[bool] = False
    """Whether `load` makes the image, such as a slice of a volume, so that its result is worth keeping in a file."""

    @property
    def file(self) -> Path | None:
        """The file that the image is read from; `None` if `Work.source` records it, or if there is none."""
        return None

    @property
    def version(self) -> str:
        """A text that changes with `file`: its size and the time of its last change. Empty if it does not exist."""
        try:
            status = None if self.file is None else self.file.stat()
        except OSError:
            return ""
        return "" if status is None else f"{status.st_size} {status.st_mtime_ns}"

    @abstractmethod
    def load(self) -> bytes:
        """Return the encoded image as it should be stored.

        Raises:
            `FileNotFoundError`: if the image does not exist.
            `ValueError`: naming the path, if the image exists but cannot be read.
        """


@dataclass(frozen=True)
class ImageFile(StoredImage):
    """An image file whose bytes are stored unchanged."""

    key: str
    path: Path

    @property
    def file(self) -> Path:
        """The file itself."""
        return self.path

    def load(self) -> bytes:
        """Return the file's bytes."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class ImageBytes(StoredImage):
    """An image that is already in memory, as in a row of a Hub dataset. Only for small sources."""

    key: str
    content: bytes

    def load(self) -> bytes:
        """Return the bytes."""
        return self.content


def open_image(content: bytes, where: str) -> Image.Image:
    """Decode an image completely, and rotate it according to its EXIF data, as `datasets` does.

    Args:
        content (`bytes`):
            PNG, JPEG, or any other format that Pillow reads.
        where (`str`):
            Name of the image in the error message, such as its path.

    Returns:
        `PIL.Image.Image`: in the mode of the file.

    Raises:
        `ValueError`: if it does not decode.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation) is not None:
            image = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow: OSError, SyntaxError, ValueError, struct.error, ... by image format
        raise ValueError(f"{where} cannot be read as an image ({decoding_problem(error)}).") from error
    return image


def has_deep_colours(content: bytes) -> bool:
    """Return whether an image file stores colours, or grey with transparency, in 16 bits per channel.

    Pillow reads only the upper 8 bits of each channel, in every library that uses it, so that values below 256 are
    black. Only the file tells; PNG and TIFF can have such images.
    """
    if not content.startswith((b"\x89PNG", b"II*\0", b"MM\0*")):
        return False
    with Image.open(io.BytesIO(content)) as image:  # reads only the header
        layouts = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile]
        return image.mode.startswith(("RGB", "CMYK")) and any(";16" in layout for layout in layouts)


def num_frames(content: bytes) -> int:
    """Return the number of pictures in an image file, of which Pillow decodes the first: GIF, TIFF, and WebP."""
    if not content.startswith((b"GIF8", b"II*\0", b"MM\0*", b"RIFF")):
        return 1
    with Image.open(io.BytesIO(content)) as image:
        return getattr(image, "n_frames", 1)


def convert_deep(image: Image.Image, where: str, window: Window | None = None) -> Image.Image:
    """Convert an image that has more than 8 bits, see [`~fedvlm_hf.data.pixels.in_8_bits`].

    Args:
        image (`PIL.Image.Image`):
            The decoded image.
        where (`str`):
            Name of the image in the error message.
        window ([`~fedvlm_hf.data.pixels.Window`], *optional*):
            The range of values to show; by default the image's own.

    Returns:
        `PIL.Image.Image`: a new image, or the same object if it has 8 bits.

    Raises:
        `ValueError`: if it has no finite value.
    """
    try:
        return in_8_bits(image, window)
    except ValueError as error:
        raise ValueError(f"{where} cannot be converted to 8 bits: {error}.") from error


def content_hash(content: bytes) -> str:
    """Return a hash of encoded bytes, by which a build notices that a file changed: 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def file_hash(path: Path) -> str:
    """Return [`content_hash`] of a file without reading the whole file into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def image_digest(image: Image.Image) -> str:
    """Return a digest of an image's pixels. Equal pixels have the same digest in every file format.

    Args:
        image (`PIL.Image.Image`):
            The decoded image. If it has more than 8 bits, it is converted by its own range of values, so that its
            digest is that of its converted copy.

    Returns:
        `str`: 32 hexadecimal digits, over 8-bit RGB.
    """
    pixels = in_8_bits(image)
    pixels = pixels if pixels.mode == "RGB" else pixels.convert("RGB")
    digest = hashlib.blake2b(f"{pixels.width}x{pixels.height}".encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a new 8-bit RGB image. Images with more than 8 bits are converted by their own range of values."""
    return image.copy() if image.mode == "RGB" else in_8_bits(image).convert("RGB")


def encode(image: Image.Image) -> bytes:
    """Encode an image whose pixels had to change: RGB JPEG of quality 95 without chroma subsampling."""
    buffer = io.BytesIO()
    to_rgb(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def encode_grey(image: Image.Image) -> bytes:
    """Encode a greyscale image, in any mode of 8 bits, without a loss: PNG in mode `L`."""
    buffer = io.BytesIO()
    image.convert("L").save(buffer, format="PNG")
    return buffer.getvalue()


def shrink(image: Image.Image, max_side: int) -> Image.Image:
    """Reduce the long side to at most `max_side` pixels, keeping the aspect ratio up to rounding."""
    reduced = to_rgb(image)
    reduced.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return reduced


def pad_square(image: Image.Image) -> Image.Image:
    """Center an image on a square, black like the surroundings of radiographs: processors that crop keep all of it."""
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(to_rgb(image), ((side - image.width) // 2, (side - image.height) // 2))
    return square
