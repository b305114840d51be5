"""Decide how each image of a download is stored: its bytes as they are, resized, padded, or replaced if missing."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ...data.boxes import BOX_TEXT, box_text, parse_box
from ...data.pixels import Window
from ...files import write_atomic
from ..builders.base import Example
from ..images import (
    ImageFile,
    StoredImage,
    content_hash,
    convert_deep,
    encode,
    encode_grey,
    image_digest,
    open_image,
    pad_square,
    shrink,
)
from ..inspection import ImageFacts, images_of, inspect_images
from ..work import RowCounts, Work
from .options import WriteOptions


@dataclass(frozen=True, slots=True)
class StagedImage:
    """An image as it will be stored.

    Attributes:
        image ([`StoredImage`]): How to load its bytes: from the download, unless its pixels had to change.
        content (`str`): Hash of these bytes.
        num_bytes (`int`): Number of these bytes.
        digest (`str`): Digest of the pixels, see `building.images.image_digest`.
        width, height (`int`): Size in pixels.
        frame (`tuple[int, int]`): Width and height of the picture without padding.
        was_deep (`bool`): Whether the download has it in greyscale with more than 8 bits.
        had_deep_colours (`bool`): See `building.images.has_deep_colours`.
        num_frames (`int`): Number of pictures in the file of the download.
    """

    image: StoredImage
    content: str
    num_bytes: int
    digest: str
    width: int
    height: int
    frame: tuple[int, int]
    was_deep: bool = False
    had_deep_colours: bool = False
    num_frames: int = 1


@dataclass(frozen=True)
class MissingImage(StoredImage):
    """The replacement for a missing image: grey, crossed out, with a different pattern for each key."""

    key: str

    @property
    def version(self) -> str:
        """A text that is not the version of any file."""
        return "missing"

    def load(self) -> bytes:
        """Return a PNG of 224 x 224 pixels."""
        bits = int.from_bytes(hashlib.blake2b(self.key.encode(), digest_size=32).digest(), "big")
        picture = Image.frombytes("L", (16, 16), bytes(120 + 16 * (bits >> place & 1) for place in range(256)))
        picture = picture.resize((224, 224), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(picture)
        for line in ((0, 0, 223, 223), (0, 223, 223, 0)):
            draw.line(line, fill=255, width=5)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Job:
    image: StoredImage
    facts: ImageFacts
    folder: Path
    max_side: int | None
    pad_to_square: bool
    window: Window | None


def stage_images(
    examples: Sequence[Example], folder: Path, options: WriteOptions, work: Work
) -> tuple[dict[str, StagedImage], list[str]]:
    """Inspect every distinct image, and prepare those for storage whose pixels have to change.

    Args:
        examples (`Sequence[Example]`):
            The rows.
        folder (`Path`):
            Where images are written whose pixels change.
        options ([`WriteOptions`]):
            `max_side`, `pad_to_square`, `window` and `allow_missing_images`.
        work ([`Work`]):
            Worker processes and journal, and the images that were inspected before.

    Returns:
        `tuple[dict[str, StagedImage], list[str]]`: the images by key, and the keys of the missing images.

    Raises:
        `ValueError`: naming path and row, if an image cannot be read, or is missing and this is not allowed.
    """
    first: dict[str, Example] = {}
    for example in examples:
        known = first.setdefault(example.image.key, example)
        if known.image != example.image:
            raise ValueError(
                f"The rows {known.id!r} and {example.id!r} have different images with the same key, "
                f"{example.image.key!r}."
            )
    facts = inspect_images(images_of(first.values()), work)
    missing = [key for key, found in facts.items() if found is None]
    if missing and not options.allow_missing_images:
        _refuse_missing(first[missing[0]], len(missing), len(facts))
    images = {key: example.image for key, example in first.items()} | {key: MissingImage(key) for key in missing}
    facts |= inspect_images(((images[key], f"row {first[key].id!r}") for key in missing), work)
    images |= {key: ImageFile(key, work.folder / found.kept) for key, found in facts.items() if found.kept is not None}
    jobs = {
        f"{key} {facts[key].content}": _Job(
            image, facts[key], folder, options.max_side, options.pad_to_square, options.shown_values
        )
        for key, image in images.items()
        if _must_change(facts[key], options)
    }
    done = work.map("staged", _stage, jobs, "changing images", in_threads=True)
    results = {job.image.key: result for job, result in zip(jobs.values(), done.values(), strict=True)}
    return {key: _staged(image, facts[key], folder, results.get(key)) for key, image in images.items()}, missing


def note_unusual_images(staged: Mapping[str, StagedImage], options: WriteOptions, counts: RowCounts) -> None:
    """Count the images of the download that have more than 8 bits or several frames, and say what was done."""
    num_grey = sum(image.was_deep for image in staged.values())
    if num_grey:
        shown = "the range of values of each image"
        if options.window is not None:
            black, white = options.shown_values.limits
            shown = f"the window {options.window}, so that {black:g} becomes 0 and {white:g} becomes 255"
        counts.note("images with more than 8 bits", num_grey, f"converted to 8 bits by {shown}")
    num_colour = sum(image.had_deep_colours for image in staged.values())
    if num_colour:
        why = "Pillow reads the upper 8 bits, so they are dark if they use only the lower ones"
        counts.note("images with 16 bits per colour", num_colour, why)
    num_animated = sum(image.num_frames > 1 for image in staged.values())
    if num_animated:
        counts.note("images with several frames", num_animated, "only the first frame is used")


def _must_change(facts: ImageFacts, options: WriteOptions) -> bool:
    is_large = options.max_side is not None and max(facts.width, facts.height) > options.max_side
    return facts.is_deep or is_large or (options.pad_to_square and facts.width != facts.height)


def _stage(job: _Job) -> list[Any]:
    """Change one image, and return its journal entry."""
    content = read_unchanged(job.image, job.facts.content)
    where = f"The image {job.image.file or job.image.key}"
    picture = convert_deep(open_image(content, where), where, job.window)
    if job.max_side is not None and max(picture.size) > job.max_side:
        picture = shrink(picture, job.max_side)
    frame = picture.size
    if job.pad_to_square and picture.width != picture.height:
        picture = pad_square(picture)
    content = encode_grey(picture) if job.facts.is_deep else encode(picture)
    stored = open_image(content, job.image.key)
    # Named by key and not by content, so that two processes never write the same file
    name = hashlib.blake2b(job.image.key.encode(), digest_size=16).hexdigest()
    file = f"{name[:2]}/{name}"
    write_atomic(job.folder / file, content)
    return [file, content_hash(content), len(content), image_digest(stored), *stored.size, frame]


def read_unchanged(image: StoredImage, content: str) -> bytes:
    """Load an image that was inspected before.

    Args:
        image ([`StoredImage`]):
            The image.
        content (`str`):
            The hash of its bytes when it was inspected.

    Raises:
        `ValueError`: if its bytes are others now.
    """
    try:
        encoded = image.load()
    except OSError:
        encoded = None
    if encoded is None or content_hash(encoded) != content:
        raise ValueError(
            f"{image.file or image.key} has changed since this build first read it. Run the same command again."
        )
    return encoded


def _staged(image: StoredImage, facts: ImageFacts, folder: Path, result: Sequence[Any] | None) -> StagedImage:
    origin = facts.is_deep, facts.has_deep_colours, facts.num_frames
    if result is None:
        size = (facts.width, facts.height)
        return StagedImage(image, facts.content, facts.num_bytes, facts.digest, *size, size, *origin)
    file, content, num_bytes, digest, width, height, frame = result
    return StagedImage(
        ImageFile(image.key, folder / file), content, num_bytes, digest, width, height, tuple(frame), *origin
    )


def _refuse_missing(example: Example, num_missing: int, num_images: int) -> None:
    try:
        example.image.load()
        path = example.image.key
    except FileNotFoundError as error:
        path = error.filename or example.image.key
    raise ValueError(
        f"`raw`: {num_missing} of {num_images} images are missing. The first is {path}, needed by row {example.id!r}. "
        "Complete the download, or use `--allow_missing_images` to replace them by grey pictures."
    )


def move_boxes(example: Example, image: StagedImage) -> dict[str, Any]:
    """Return the texts of a row, with boxes as fractions of the stored image.

    Args:
        example ([`Example`]):
            The row. Boxes in its prompt, completion and references are fractions of the picture before padding.
        image ([`StagedImage`]):
            The row's image, with its size before and after padding.

    Returns:
        `dict[str, Any]`: `prompt`, `completion` and `references`.
    """
    references = list(example.references)
    if image.frame == (image.width, image.height):
        return {"prompt": example.prompt, "completion": example.completion, "references": references}
    return {
        "prompt": _moved_chat(example.prompt, image),
        "completion": _moved_chat(example.completion, image),
        "references": [_moved(reference, image) for reference in references],
    }


def _moved_chat(messages: list[dict[str, str]], image: StagedImage) -> list[dict[str, str]]:
    return [{**message, "content": _moved(message["content"], image)} for message in messages]


def _moved(text: str, image: StagedImage) -> str:
    width, height = image.frame
    # The position at which `building.images.pad_square` pastes the picture
    left, top = (image.width - width) // 2, (image.height - height) // 2

    def move(match: re.Match[str]) -> str:
        box = parse_box(match.group())
        if box is None:  # four numbers that are not a box
            return match.group()
        xs = [(left + x * width) / image.width for x in (box.x1, box.x2)]
        ys = [(top + y * height) / image.height for y in (box.y1, box.y2)]
        return box_text((xs[0], ys[0], xs[1], ys[1]))

    return BOX_TEXT.sub(move, text)
