"""Checks of single rows: formats, answers, boxes, and whether images can be decoded."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from ...data.boxes import BOX_TASKS, box_problem
from ...data.spec import value_problem
from ..images import convert_deep, has_deep_colours, image_digest, open_image
from ..pieces import Piece, image_content
from ..writing.manifest import row_digest
from .findings import Check, Location


ROW_CHECKS = ("row format", "answers", "boxes", "images")

_CHECK_OF = {"prompt": "row format", "task": "row format", "completion": "answers", "references": "answers"}
_KEPT = ("id", "client_id", "image_digest", "task")
# Not part of a row's content: images have digests of their own, and `client_id` depends on the configuration
_NOT_CONTENT = ("images", "client_id")
_CONTENTS = pa.field("contents", pa.list_(pa.binary(16)))


@dataclass(frozen=True)
class Scan:
    """The result of reading the rows of a piece once, without their images.

    Attributes:
        rows (`pa.Table`): `id`, `client_id`, `image_digest` and `task` as stored (null if there is no such column),
            `content`: a digest of the row's values, and `contents`: a hash of each image's encoded bytes.
        checks (`dict[str, Check]`): The checks in `ROW_CHECKS` by name.
    """

    rows: pa.Table
    checks: dict[str, Check]


class Pixels(NamedTuple):
    """The result of decoding an image.

    Attributes:
        digest (`str`, *optional*): Digest of the pixels, if the image could be decoded.
        error (`str`): Why it could not be decoded.
        size (`tuple[int, int]`): Width and height.
        num_bytes (`int`): Number of its encoded bytes.
        is_deep (`bool`): Whether it has more than 8 bits, in greyscale.
        has_deep_colours (`bool`): See `building.images.has_deep_colours`.
    """

    digest: str | None
    error: str = ""
    size: tuple[int, int] = (0, 0)
    num_bytes: int = 0
    is_deep: bool = False
    has_deep_colours: bool = False


@dataclass(frozen=True)
class Decoding:
    """Images to decode: those that no earlier row has.

    Attributes:
        piece ([`Piece`]): The piece with the rows.
        images (`dict[int, list[int]]`): For each row of the piece the indices into its `images`.
    """

    piece: Piece
    images: dict[int, list[int]]


def scan(piece: Piece) -> Scan:
    """Read every row of a piece once. Images are hashed, but not decoded."""
    checks = {name: Check(name) for name in ROW_CHECKS}
    kept: dict[str, list[Any]] = {name: [] for name in (*_KEPT, "content", "contents")}
    row = piece.first_row
    try:
        for batch in piece.batches(piece.columns):
            for values in batch.to_pylist():
                _look(values, Location(piece.file, row, values.get("id")), checks)
                for name in _KEPT:
                    kept[name].append(None if values.get(name) is None else str(values[name]))
                kept["content"].append(_content(values))
                kept["contents"].append([_content_hash(image) for image in values.get("images") or ()])
                row += 1
    except (OSError, pa.ArrowInvalid) as error:
        checks["row format"].add(Location(piece.file, row), f"the file is damaged from here on ({error})")
    schema = pa.schema([*((name, pa.string()) for name in _KEPT), ("content", pa.binary(16)), _CONTENTS])
    return Scan(pa.table(kept, schema), checks)


def decode(decoding: Decoding) -> dict[tuple[int, int], Pixels]:
    """Decode images, and return the results by row of the piece and index into the row's `images`."""
    found = {}
    rows = islice(_rows(decoding.piece), max(decoding.images) + 1)  # later rows may be damaged
    for row, values in enumerate(rows):
        for place in decoding.images.get(row, ()):
            image = values["images"][place]
            where = f"the image {image['path'] or ''}".rstrip()
            try:
                found[row, place] = _pixels(image_content(image), where)
            except (ValueError, OSError) as error:
                found[row, place] = Pixels(None, str(error))
    return found


def _pixels(content: bytes, where: str) -> Pixels:
    stored = open_image(content, where)
    shown = convert_deep(stored, where)
    is_deep_colour = has_deep_colours(content)
    return Pixels(image_digest(shown), "", shown.size, len(content), shown is not stored, is_deep_colour)


def _rows(piece: Piece) -> Iterator[dict[str, Any]]:
    for batch in piece.batches(["images"]):
        yield from batch.to_pylist()


def _look(values: dict[str, Any], location: Location, checks: dict[str, Check]) -> None:
    for column, check in _CHECK_OF.items():
        problem = value_problem(column, values[column]) if column in values else None
        if problem:
            checks[check].add(location, f"column `{column}`: {problem}")
    if "images" in values and (not values["images"] or None in values["images"]):
        checks["images"].add(location, "there is no image")
    if values.get("task") in BOX_TASKS:
        for text in _box_texts(values):
            problem = box_problem(text) if isinstance(text, str) else f"{text!r} is not a box"
            if problem:
                checks["boxes"].add(location, problem)
                break


def _box_texts(values: dict[str, Any]) -> list[Any]:
    messages = values.get("completion") or ()
    return [*(values.get("references") or ()), *(message["content"] for message in messages)]


def _content(values: dict[str, Any]) -> bytes:
    return row_digest({name: value for name, value in values.items() if name not in _NOT_CONTENT})


def _content_hash(image: dict[str, Any] | None) -> bytes | None:
    if image is None:
        return None
    stored = image["bytes"] if image["bytes"] is not None else str(image["path"]).encode()
    return hashlib.blake2b(stored, digest_size=16).digest()
