"""Read and decode every distinct image of a download once, however many steps of a build need to know it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..data.pixels import Window
from .builders.base import Example
from .images import StoredImage, content_hash, convert_deep, image_digest, open_image
from .work import Work


@dataclass(frozen=True)
class ImageFacts:
    """An image as the download has it.

    Attributes:
        content (`str`): Hash of the encoded bytes, see `building.images.content_hash`.
        num_bytes (`int`): Number of these bytes.
        digest (`str`): Digest of the pixels, in 8 bits, see `building.images.image_digest`.
        width, height (`int`): Size in pixels, as shown, with its EXIF rotation.
        mode (`str`): Pillow's mode of the pixels, such as `"L"`, `"RGB"` or `"I;16"`.
    """

    content: str
    num_bytes: int
    digest: str
    width: int
    height: int
    mode: str


def inspect_images(images: Iterable[tuple[StoredImage, str]], work: Work) -> dict[str, ImageFacts | None]:
    """Read and decode each distinct image, unless an earlier step of the build did.

    Args:
        images (`Iterable[tuple[StoredImage, str]]`):
            Images, each with the name of the row that needs it. Images with equal keys are read once.
        work ([`Work`]):
            Worker processes and journal.

    Returns:
        `dict[str, ImageFacts | None]`: the facts by key in the given order; `None` if the file does not exist.

    Raises:
        `ValueError`: naming image and row, if an image cannot be read.
    """
    first: dict[str, tuple[StoredImage, str]] = {}
    for image, row in images:
        first.setdefault(image.key, (image, row))
    # The version is part of the key, because a file may change between an interrupted build and its continuation
    items = {f"{key} {image.version}": (image, row, work.window) for key, (image, row) in first.items()}
    found = work.map("images", _inspect, items, "reading images")
    return {
        image.key: None if facts is None else ImageFacts(**facts)
        for (image, *_), facts in zip(items.values(), found.values(), strict=True)
    }


def images_of(examples: Iterable[Example]) -> Iterable[tuple[StoredImage, str]]:
    """Yield the image and the name of each row."""
    return ((example.image, f"row {example.id!r}") for example in examples)


def _inspect(item: tuple[StoredImage, str, Window | None]) -> dict[str, Any] | None:
    image, row, window = item
    where = f"The image {image.key}, needed by {row},"
    try:
        content = image.load()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error}).") from error
    picture = open_image(content, where)
    digest = image_digest(convert_deep(picture, where, window))
    return asdict(ImageFacts(content_hash(content), len(content), digest, *picture.size, picture.mode))
