"""FGVC-Aircraft's folder `data/`: photographs by manufacturer, with the copyright banner cropped.

Maji et al., "Fine-Grained Visual Classification of Aircraft", 2013 (https://huggingface.co/papers/1306.5151).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..images import StoredImage, encode, open_image
from .files import excerpt, find_folder, read_text


BANNER_PIXELS = 20
"""Height of the copyright banner at the bottom of each image, which the official README asks to remove."""

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""The official splits and our names for them."""

_DOWNLOAD = "the folder fgvc-aircraft-2013b of FGVC-Aircraft's archive, or its data/"
_LINE = re.compile(r"(\d{7}) (\S.*)")


@dataclass(frozen=True)
class BannerImage(StoredImage):
    """A photograph without its banner, encoded again as JPEG of quality 95 without chroma subsampling."""

    key: str
    path: Path

    is_made: ClassVar[bool] = True

    @property
    def file(self) -> Path:
        """The file that the image is made from."""
        return self.path

    def load(self) -> bytes:
        """Return the image above the banner.

        Raises:
            `FileNotFoundError`: if the file does not exist.
            `ValueError`: if it is not an image, or is not higher than the banner.
        """
        image = open_image(self.path.read_bytes(), str(self.path))
        if image.height <= BANNER_PIXELS:
            raise ValueError(
                f"{self.path} is {image.height} pixels high, so nothing is left above the banner of {BANNER_PIXELS} "
                "pixels. Was it already resized or cropped? Use the images of the official archive."
            )
        return encode(image.crop((0, 0, image.width, image.height - BANNER_PIXELS)))


@dataclass(frozen=True)
class Photograph:
    """One line of `images_manufacturer_<part>.txt`.

    Attributes:
        image_id (`str`): Seven digits, including leading zeros.
        manufacturer (`str`): Such as `"Cirrus Aircraft"`.
        given_split (`str`): `"train"`, `"validation"` or `"test"`.
        image ([`BannerImage`]): The photograph.
    """

    image_id: str
    manufacturer: str
    given_split: str
    image: BannerImage


def annotation_files(raw: str | Path) -> list[Path]:
    """Return the annotation files: `manufacturers.txt`, then those of the three splits.

    Raises:
        `ValueError`: if `raw` is not the archive's folder or its `data/`.
    """
    folder = find_folder(raw, "manufacturers.txt", ("data", ""), _DOWNLOAD)
    return [folder / "manufacturers.txt", *(folder / f"images_manufacturer_{part}.txt" for part in SPLITS)]


def read(raw: str | Path) -> list[Photograph]:
    """Read the official training, validation and test splits, in this order.

    Args:
        raw (`str` or `Path`):
            The archive's folder `fgvc-aircraft-2013b`, or its `data/`. The images need not exist.

    Returns:
        `list[Photograph]`: in the order of the files.

    Raises:
        `ValueError`: if a file is missing, a line is not an id and a name, a name is not in `manufacturers.txt`, or an
            id is not unique.
    """
    names_file, *parts = annotation_files(raw)
    names = {name for _, name in _lines(names_file)}
    photographs: dict[str, Photograph] = {}
    for path, split in zip(parts, SPLITS.values(), strict=True):
        for where, line in _lines(path):
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"{where} is not a 7-digit image id, a space and a manufacturer: {excerpt(line)}.")
            image_id, name = match.groups()
            if name not in names:
                raise ValueError(
                    f"{where}: the manufacturer {excerpt(name)} is not in {names_file}. One of the two files is "
                    "damaged or incomplete: download the annotations again."
                )
            if image_id in photographs:
                raise ValueError(
                    f"{where}: image {image_id} already occurred in {photographs[image_id].given_split}. Each image "
                    "is listed once; download the annotations again."
                )
            image = BannerImage(f"images/{image_id}.jpg", path.parent / "images" / f"{image_id}.jpg")
            photographs[image_id] = Photograph(image_id, name, split, image)
    return list(photographs.values())


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the location and the text of each line that is not empty."""
    lines = read_text(path, _DOWNLOAD).split("\n")
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path} is empty. Download it again.")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}, line {number}", line.rstrip()
