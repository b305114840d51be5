"""Checks of whole configurations: images, ids, leaks, and that all have the same rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from ...data.naming import HELD_OUT, is_client
from ..dataset import FederatedDataset
from ..pieces import Piece
from .findings import Check, Location
from .rows import Pixels


class Row(NamedTuple):
    """A row without its content.

    Attributes:
        split (`str`): Its split in the configuration.
        location ([`Location`]): Where it is stored.
        id (`str`, *optional*): Its id.
        client_id (`str`, *optional*): Its value of `client_id`.
        image_digest (`str`, *optional*): Its value of `image_digest`.
        task (`str`, *optional*): Its value of `task`.
        content (`bytes`): A digest of its values, see `building.writing.manifest.row_digest`.
        pixels (`list[Pixels]`): The results of decoding its images.
    """

    split: str
    location: Location
    id: str | None
    client_id: str | None
    image_digest: str | None
    task: str | None
    content: bytes
    pixels: list[Pixels]

    @property
    def images(self) -> list[str]:
        """Digests of the pixels of all images that can be decoded."""
        return [pixels.digest for pixels in self.pixels if pixels.digest]


@dataclass(frozen=True)
class Rows:
    """All rows of a federated dataset without their content: ids, locations and image digests.

    Attributes:
        federation ([`FederatedDataset`]): The configurations, splits and files.
        tables (`Mapping[str, pa.Table]`): `Scan.rows` by name of the piece.
        pixels (`Mapping[bytes, Pixels]`): The result of decoding each image, by hash of its encoded bytes.
    """

    federation: FederatedDataset
    tables: Mapping[str, pa.Table]
    pixels: Mapping[bytes, Pixels]

    def stored(self) -> Iterator[Row]:
        """Yield every stored row once, in the order of the files, with an empty split."""
        for pieces in self.federation.files.values():
            for piece in pieces:
                yield from self._of_piece(piece, split="")

    def in_config(self, config: str) -> Iterator[Row]:
        """Yield the rows of a configuration in order."""
        for split, piece in self.federation.pieces(config):
            yield from self._of_piece(piece, split)

    def _of_piece(self, piece: Piece, split: str) -> Iterator[Row]:
        for offset, row in enumerate(self.tables[piece.name].to_pylist()):
            yield self._row(split, Location(piece.file, piece.first_row + offset, row["id"]), row)

    def _row(self, split: str, location: Location, row: Mapping[str, Any]) -> Row:
        pixels = [self.pixels[content] for content in row["contents"] if content in self.pixels]
        kept = (row[name] for name in ("id", "client_id", "image_digest", "task", "content"))
        return Row(split, location, *kept, pixels)


def check_images(rows: Rows, images: Check) -> list[Check]:
    """Check that images can be decoded, and that their digests are those of their rows.

    Args:
        rows ([`Rows`]):
            The rows.
        images ([`Check`]):
            The check to which rows with undecodable images are added.

    Returns:
        `list[Check]`: `image digests`.
    """
    digests = Check("image digests", "`image_digest` is the digest of the pixels")
    num_named = 0
    for row in rows.stored():
        num_named += row.image_digest is not None
        for pixels in row.pixels:
            if pixels.digest is None:
                images.add(row.location, pixels.error)
            elif row.image_digest is not None and row.image_digest != pixels.digest and len(row.pixels) == 1:
                digests.add(row.location, f"`image_digest` is {row.image_digest}, the pixels have {pixels.digest}")
    images.what += f"; {len(rows.pixels):,} distinct images"
    missing = (rows.federation.manifest or {}).get("missing_images")
    if missing:
        images.notes.append(f"{missing:,} images were missing in the download and are replaced by grey pictures")
    _note_unusual_images(rows, images)
    if not num_named:
        digests.skipped = "no row has an `image_digest` to compare with"
    return [digests]


def _note_unusual_images(rows: Rows, images: Check) -> None:
    num_grey = sum(pixels.is_deep for pixels in rows.pixels.values())
    if num_grey:
        images.notes.append(
            f"images with more than 8 bits: {num_grey:,}. Training and evaluation convert each by its own range of "
            "values; stock trainers clip the values at 255, which makes such images nearly white"
        )
    num_colour = sum(pixels.has_deep_colours for pixels in rows.pixels.values())
    if num_colour:
        images.notes.append(
            f"images with 16 bits per colour: {num_colour:,}. Pillow reads the upper 8 bits, so they are dark if they "
            "use only the lower ones"
        )


def check_ids(rows: Rows) -> list[Check]:
    """Check that every row has an id that is unique in its split (`ids`), and is in one split (`one place`)."""
    ids, places = Check("ids", "every row has a unique id"), Check("one place", "no row is in two splits")
    for config in rows.federation.configs:
        seen: dict[str, Row] = {}
        for row in rows.in_config(config):
            if row.id is None:
                ids.add(row.location, f"{config}: the id is missing")
                continue
            first = seen.setdefault(row.id, row)
            if first is row:
                continue
            check = ids if first.split == row.split else places
            check.add(row.location, f"{config}: its id in {row.split} is also in {first.split} ({first.location})")
    return [ids, places]


def check_leaks(rows: Rows) -> Check:
    """Check that no image of the clients, `validation` and `test` is in two of them. Pixels are compared.

    If the manifest declares that the official split of a configuration has this leak (`known_leak`), it is a note and
    not a problem.
    """
    check = Check("leaks", "no image of `test` or `validation` is in another split or a client")
    for config in rows.federation.configs:
        leaks = list(_leaks(rows, config))
        known = rows.federation.entry(config).get("known_leak")
        if known:
            images = {image for _, _, image in leaks}
            check.notes.append(f"{config}: {len(images):,} images in {len(leaks):,} rows, as declared: {known}")
            continue
        for row, other, _ in leaks:
            check.add(row.location, f"{config}: its image in {row.split} is also in {other.split} ({other.location})")
    return check


def _leaks(rows: Rows, config: str) -> Iterator[tuple[Row, Row, str]]:
    """Yield held-out rows whose image is also in a client or an earlier split, with the first row there, the image."""
    owners: dict[str, Row] = {}
    sides = [is_client, *(split.__eq__ for split in HELD_OUT)]
    for is_side in sides:
        own = [row for row in rows.in_config(config) if is_side(row.split)]
        if is_side is not is_client:
            yield from ((row, owners[image], image) for row in own for image in row.images if image in owners)
        for row in own:
            owners.update({image: row for image in row.images if image not in owners})


NO_MANIFEST = "there is no manifest.json to compare with"


def check_same_rows(rows: Rows) -> Check:
    """Check that all configurations have the same rows, as in every build."""
    check = Check("same rows", "all configurations have the same ids")
    if rows.federation.manifest is None:
        return Check(check.name, skipped=NO_MANIFEST)
    first, *others = rows.federation.configs
    expected = {row.id: row.location for row in rows.in_config(first)}
    for config in others:
        found = {row.id: row.location for row in rows.in_config(config)}
        for id, location in expected.items():
            if id not in found:
                check.add(location, f"in {first}, but not in {config}")
        for id, location in found.items():
            if id not in expected:
                check.add(location, f"in {config}, but not in {first}")
    return check
