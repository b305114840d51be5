"""Read each image of a download once: check it, resize or pad it if requested, and compute its digest."""

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
    has_deep_colours,
    image_digest,
    open_image,
    pad_square,
    shrink,
)
from ..work import RowCounts, Work
from .options import WriteOptions


@dataclass(frozen=True)
class StagedImage:
    """An image as it will be stored.

    Attributes:
        path (`Path`): A file with its bytes: the file of the download if the image is unchanged.
        content (`str`): Hash of these bytes.
        num_bytes (`int`): Number of these bytes.
        digest (`str`): Digest of the pixels, see `building.images.image_digest`.
        width, height (`int`): Size in pixels.
        frame (`tuple[int, int]`): Width and height of the picture without padding.
        was_deep (`bool`): Whether the download has it in greyscale with more than 8 bits.
        had_deep_colours (`bool`): See `building.images.has_deep_colours`.
    """

    path: Path
    content: str
    num_bytes: int
    digest: str
    width: int
    height: int
    frame: tuple[int, int]
    was_deep: bool = False
    had_deep_colours: bool = False


@dataclass(frozen=True)
class MissingImage(StoredImage):
    """The replacement for a missing image: grey, crossed out, with a different pattern for each key."""

    key: str

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


@dataclass(frozen=True)
class _Job:
    image: StoredImage
    where: str
    folder: Path
    max_side: int | None
    pad_to_square: bool
    window: Window | None


def stage_images(
    examples: Sequence[Example], folder: Path, options: WriteOptions, work: Work
) -> tuple[dict[str, StagedImage], list[str]]:
    """Read every distinct image and prepare it for storage.

    Args:
        examples (`Sequence[Example]`):
            The rows.
        folder (`Path`):
            Where images are written that are not files, or whose pixels change.
        options ([`WriteOptions`]):
            `max_side`, `pad_to_square`, `window` and `allow_missing_images`.
        work ([`Work`]):
            Worker processes and journal.

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
    jobs = {key: _job(example, example.image, folder, options) for key, example in first.items()}
    results = work.map("images", _stage, jobs, "reading images")
    missing = [key for key, result in results.items() if result is None]
    if missing and not options.allow_missing_images:
        _refuse_missing(first[missing[0]], len(missing), len(jobs))
    stand_ins = {key: _job(first[key], MissingImage(key), folder, options) for key in missing}
    results.update(work.map("missing_images", _stage, stand_ins, "replacing missing images"))
    return {key: _staged(first[key].image, folder, result) for key, result in results.items()}, missing


def note_deep_images(staged: Mapping[str, StagedImage], options: WriteOptions, counts: RowCounts) -> None:
    """Count the images of the download that have more than 8 bits, and say how they were converted."""
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


def _job(example: Example, image: StoredImage, folder: Path, options: WriteOptions) -> _Job:
    name = str(image.path) if isinstance(image, ImageFile) else image.key
    where = f"The image {name}, needed by row {example.id!r},"
    return _Job(image, where, folder, options.max_side, options.pad_to_square, options.shown_values)


def _stage(job: _Job) -> dict[str, Any] | None:
    """Prepare one image and return its journal entry, or `None` if the image does not exist."""
    try:
        content = job.image.load()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{job.where} cannot be read ({error}).") from error
    except ValueError as error:
        raise ValueError(f"{job.where} cannot be used: {error}") from error
    stored = open_image(content, job.where)
    picture = convert_deep(stored, job.where, job.window)
    was_deep, had_deep_colours = picture is not stored, has_deep_colours(content)
    if job.max_side is not None and max(picture.size) > job.max_side:
        picture = shrink(picture, job.max_side)
    frame = picture.size
    if job.pad_to_square and picture.width != picture.height:
        picture = pad_square(picture)
    is_changed = picture is not stored
    if is_changed:
        content = encode_grey(picture) if was_deep else encode(picture)
        stored = open_image(content, job.where)
    file = None
    if is_changed or not isinstance(job.image, ImageFile):
        # Named by key and not by content, so that two processes never write the same file
        name = hashlib.blake2b(job.image.key.encode(), digest_size=16).hexdigest()
        file = f"{name[:2]}/{name}"
        write_atomic(job.folder / file, content)
    return {
        "file": file,
        "content": content_hash(content),
        "num_bytes": len(content),
        "digest": image_digest(stored),
        "size": stored.size,
        "frame": frame,
        "was_deep": was_deep,
        "had_deep_colours": had_deep_colours,
    }


def _staged(image: StoredImage, folder: Path, result: Mapping[str, Any]) -> StagedImage:
    path = image.path if result["file"] is None and isinstance(image, ImageFile) else folder / result["file"]
    width, height = result["size"]
    frame_width, frame_height = result["frame"]
    return StagedImage(
        path.absolute(),
        result["content"],
        result["num_bytes"],
        result["digest"],
        width,
        height,
        (frame_width, frame_height),
        result["was_deep"],
        result["had_deep_colours"],
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
