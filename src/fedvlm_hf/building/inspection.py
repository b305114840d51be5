"""Read and decode every distinct image of a download once, however many steps of a build need to know it."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.pixels import Window
from .builders.base import Example
from .images import (
    ImageFile,
    StoredImage,
    content_hash,
    convert_deep,
    file_hash,
    has_deep_colours,
    image_digest,
    num_frames,
    open_image,
)
from .work import Work


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image as the download has it.

    Attributes:
        content (`str`): Hash of the encoded bytes, see `building.images.content_hash`.
        num_bytes (`int`): Number of these bytes.
        digest (`str`): Digest of the pixels, in 8 bits, see `building.images.image_digest`.
        width, height (`int`): Size in pixels, as shown, with its EXIF rotation.
        is_deep (`bool`): Whether it is greyscale with more than 8 bits, see `data.pixels.is_deep`.
        has_deep_colours (`bool`): See `building.images.has_deep_colours`.
        num_frames (`int`): Number of pictures in the file. Only the first one is used.
        file_content (`str`, *optional*): Hash of the bytes of `StoredImage.file`, if there is one.
        kept (`str`, *optional*): File with the encoded bytes in the folder of the work, if they were made.
    """

    content: str
    num_bytes: int
    digest: str
    width: int
    height: int
    is_deep: bool
    has_deep_colours: bool
    num_frames: int
    file_content: str | None = None
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    image: StoredImage
    row: str
    folder: Path | None
    window: Window | None


def inspect_images(images: Iterable[tuple[StoredImage, str]], work: Work) -> dict[str, ImageFacts | None]:
    """Read and decode each distinct image, unless an earlier step of the build did. The files are recorded in `work`.

    Args:
        images (`Iterable[tuple[StoredImage, str]]`):
            Images, each with the name of the row that needs it. Images with equal keys are read once.
        work ([`Work`]):
            Worker processes, journal, and the images that are already known.

    Returns:
        `dict[str, ImageFacts | None]`: the facts by key in the given order; `None` if the file does not exist.

    Raises:
        `ValueError`: naming image and row, if an image cannot be read.
    """
    first: dict[str, tuple[StoredImage, str]] = {}
    for image, row in images:
        first.setdefault(image.key, (image, row))
    # The version is part of the key, because a file may change between an interrupted build and its continuation
    jobs = {
        f"{key} {image.version}": _Job(image, row, work.folder, work.window)
        for key, (image, row) in first.items()
        if image not in work.facts
    }
    found = work.map("images", _inspect, jobs, "reading images", in_threads=True, is_current=_is_current)
    for job, result in zip(jobs.values(), found.values(), strict=True):
        facts = work.facts[job.image] = None if result is None else ImageFacts(*result)
        if job.image.file is not None:
            work.image(job.image.file, facts and facts.file_content)
    return {key: work.facts[image] for key, (image, _) in first.items()}


def images_of(examples: Iterable[Example]) -> Iterable[tuple[StoredImage, str]]:
    """Yield the image and the name of each row."""
    return ((example.image, f"row {example.id!r}") for example in examples)


def _inspect(job: _Job) -> list[Any] | None:
    where = f"The image {job.image.file or job.image.key}, needed by {job.row},"
    try:
        content = job.image.load()
        file_content = _file_content(job.image, content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error}).") from error
    except ValueError as error:
        raise ValueError(f"{where} cannot be used: {error}") from error
    picture = open_image(content, where)
    shown = convert_deep(picture, where, job.window)
    kept = _keep(job, content) if job.image.is_made else None
    return [
        content_hash(content), len(content), image_digest(shown), *picture.size, shown is not picture,
        has_deep_colours(content), num_frames(content), file_content, kept,
    ]  # fmt: skip


def _file_content(image: StoredImage, content: bytes) -> str | None:
    if image.file is None:
        return None
    return content_hash(content) if isinstance(image, ImageFile) else file_hash(image.file)


def _keep(job: _Job, content: bytes) -> str | None:
    """Write what `load` made to a file, so that it is made once, and return the name of the file."""
    if job.folder is None:
        return None
    # Named by key and not by content, so that two processes never write the same file
    name = hashlib.blake2b(job.image.key.encode(), digest_size=16).hexdigest()
    path = job.folder / "made" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path.relative_to(job.folder).as_posix()


def _is_current(item: tuple[_Job, list[Any]]) -> bool:
    """Return whether an image is still the one of an interrupted build, by its bytes."""
    job, facts = item[0], ImageFacts(*item[1])
    try:
        if facts.kept is None:
            return content_hash(job.image.load()) == facts.content
        return (file_hash(job.folder / facts.kept), file_hash(job.image.file)) == (facts.content, facts.file_content)
    except (OSError, ValueError):
        return False
