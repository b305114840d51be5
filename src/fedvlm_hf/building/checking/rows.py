"""Checks of single rows: formats, answers, boxes, and whether images can be decoded."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from ...data.boxes import BOX_TASKS, box_problem
from ...data.spec import value_problem
from ..images import image_digest, open_image
from ..pieces import Piece, image_content
from .findings import Check, Location


ROW_CHECKS = ("row format", "answers", "boxes", "images")

_CHECK_OF = {"prompt": "row format", "task": "row format", "completion": "answers", "references": "answers"}
_KEPT = ("id", "client_id", "image_digest")
_CONTENTS = pa.field("contents", pa.list_(pa.binary(16)))


@dataclass(frozen=True)
class Scan:
    """The result of reading the rows of a piece once, without their images.

    Attributes:
        rows (`pa.Table`): `id`, `client_id` and `image_digest` as stored (null if there is no such column), and
            `contents`: a hash of each image's encoded bytes.
        checks (`dict[str, Check]`): The checks in `ROW_CHECKS` by name.
    """

    rows: pa.Table
    checks: dict[str, Check]


class Pixels(NamedTuple):
    """The result of decoding an image.

    Attributes:
        digest (`str`, *optional*): Digest of the pixels, if the image could be decoded.
        error (`str`): Why it could not be decoded.
    """

    digest: str | None
    error: str = ""


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
    columns = [name for name in ("images", *_CHECK_OF, *_KEPT) if name in piece.columns]
    kept: dict[str, list[Any]] = {name: [] for name in (*_KEPT, "contents")}
    row = piece.first_row
    try:
        for batch in piece.batches(columns):
            for values in batch.to_pylist():
                _look(values, Location(piece.file, row, values.get("id")), checks)
                for name in _KEPT:
                    kept[name].append(None if values.get(name) is None else str(values[name]))
                kept["contents"].append([_content_hash(image) for image in values.get("images") or ()])
                row += 1
    except (OSError, pa.ArrowInvalid) as error:
        checks["row format"].add(Location(piece.file, row), f"the file is damaged from here on ({error})")
    schema = pa.schema([*((name, pa.string()) for name in _KEPT), _CONTENTS])
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
                found[row, place] = Pixels(image_digest(open_image(image_content(image), where)))
            except (ValueError, OSError) as error:
                found[row, place] = Pixels(None, str(error))
    return found


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


def _content_hash(image: dict[str, Any] | None) -> bytes | None:
    if image is None:
        return None
    stored = image["bytes"] if image["bytes"] is not None else str(image["path"]).encode()
    return hashlib.blake2b(stored, digest_size=16).digest()
