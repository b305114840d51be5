"""COCO's photographs, as large and as turned as their annotations have them."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from ..images import StoredImage, encode


@dataclass(frozen=True)
class Photograph(StoredImage):
    """A photograph with the size that its annotations are of.

    Attributes:
        key (`str`): Part and file name.
        path (`Path`): The file.
        width (`int`), height (`int`): In pixels, as the annotations have it.
    """

    key: str
    path: Path
    width: int
    height: int

    def load(self) -> bytes:
        """The file's bytes, untouched unless it asks to be turned.

        COCO's boxes are of the pixels as the file stores them, while `datasets` turns an image as its EXIF data say.
        Such an image is encoded again without them.

        Raises:
            `FileNotFoundError`: if it is not there.
            `ValueError`: if it is not an image, or not of the annotations' size.
        """
        content = self.path.read_bytes()
        try:
            image = Image.open(io.BytesIO(content))  # the header only
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            turned = encode(image) if is_turned else None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"{self.path} cannot be read as an image ({type(error).__name__}: {error}).") from error
        if image.size != (self.width, self.height):
            raise ValueError(
                f"{self.path} has {image.width} x {image.height} pixels, its annotations are of {self.width} x "
                f"{self.height}: boxes would be wrong. Use COCO's own images, not reduced or cropped."
            )
        return content if turned is None else turned
