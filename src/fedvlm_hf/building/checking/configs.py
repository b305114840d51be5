"""What is looked at in configurations as a whole: images, ids, and that no image is on both sides."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from ...data.naming import HELD_OUT, is_client
from ..dataset import FederatedDataset
from ..pieces import Piece
from ..writing.manifest import partition_hash
from .findings import Check, Place
from .rows import Pixels


class Row(NamedTuple):
    """A row without its content.

    Attributes:
        split (`str`): Where the configuration has it.
        place ([`Place`]): Where it is stored.
        id (`str`, *optional*): Its id.
        client_id (`str`, *optional*): Its column `client_id`.
        image_digest (`str`, *optional*): Its column `image_digest`.
        pixels (`list[Pixels]`): What decoding its images gave.
    """

    split: str
    place: Place
    id: str | None
    client_id: str | None
    image_digest: str | None
    pixels: list[Pixels]

    @property
    def images(self) -> list[str]:
        """Digests of the pixels of those images that decode."""
        return [pixels.digest for pixels in self.pixels if pixels.digest]


@dataclass(frozen=True)
class Rows:
    """What is known of all rows after each was read once.

    Attributes:
        federation ([`FederatedDataset`]): Which configuration has them where.
        tables (`Mapping[str, pa.Table]`): Name of a piece to its `Scan.rows`.
        pixels (`Mapping[bytes, Pixels]`): Hash of an image's encoded bytes to what decoding it gave.
    """

    federation: FederatedDataset
    tables: Mapping[str, pa.Table]
    pixels: Mapping[bytes, Pixels]

    def stored(self) -> Iterator[Row]:
        """Every stored row once, in the order of the files; the split is empty."""
        for pieces in self.federation.files.values():
            for piece in pieces:
                yield from self._of_piece(piece, split="")

    def of(self, config: str) -> Iterator[Row]:
        """The rows of a configuration in order."""
        for split, piece in self.federation.pieces(config):
            yield from self._of_piece(piece, split)

    def _of_piece(self, piece: Piece, split: str) -> Iterator[Row]:
        for offset, row in enumerate(self.tables[piece.name].to_pylist()):
            yield self._row(split, Place(piece.file, piece.first_row + offset, row["id"]), row)

    def _row(self, split: str, place: Place, row: Mapping[str, Any]) -> Row:
        pixels = [self.pixels[content] for content in row["contents"] if content in self.pixels]
        return Row(split, place, row["id"], row["client_id"], row["image_digest"], pixels)


def check_images(rows: Rows, images: Check) -> list[Check]:
    """Whether images decode, and are those that their rows name.

    Args:
        rows ([`Rows`]):
            The rows.
        images ([`Check`]):
            Where rows whose image does not decode are added.

    Returns:
        `list[Check]`: `image digests`.
    """
    digests = Check("image digests", "`image_digest` is that of the pixels")
    num_named = 0
    for row in rows.stored():
        num_named += row.image_digest is not None
        for pixels in row.pixels:
            if pixels.digest is None:
                images.add(row.place, pixels.error)
            elif row.image_digest is not None and row.image_digest != pixels.digest and len(row.pixels) == 1:
                digests.add(row.place, f"`image_digest` is {row.image_digest}, the pixels have {pixels.digest}")
    images.what += f"; {len(rows.pixels):,} different ones"
    missing = (rows.federation.manifest or {}).get("missing_images")
    if missing:
        images.notes.append(f"grey pictures stand in for {missing:,} images that the download did not have")
    if not num_named:
        digests.skipped = "no row has an `image_digest` with which to compare"
    return [digests]


def check_ids(rows: Rows) -> list[Check]:
    """`ids`: there and unique in a split. `one place`: no row in two splits."""
    ids, places = Check("ids", "every row has one of its own"), Check("one place", "no row is in two splits")
    for config in rows.federation.configs:
        seen: dict[str, Row] = {}
        for row in rows.of(config):
            if row.id is None:
                ids.add(row.place, f"{config}: the id is missing")
                continue
            first = seen.setdefault(row.id, row)
            if first is row:
                continue
            check = ids if first.split == row.split else places
            check.add(row.place, f"{config}: this id is in {row.split}, and in {first.split} too ({first.place})")
    return [ids, places]


def check_leaks(rows: Rows) -> Check:
    """Whether an image is on two sides, pixel by pixel: clients', `validation`, `test`.

    Where the manifest says that a configuration's own source has it so (`known_leak`), it is noted and no problem.
    """
    check = Check("leaks", "no image of `test` or `validation` is on another side too")
    for config in rows.federation.configs:
        leaks = list(_leaks(rows, config))
        known = rows.federation.entry(config).get("known_leak")
        if known:
            images = {image for _, _, image in leaks}
            check.notes.append(f"{config}: {len(images):,} images of {len(leaks):,} rows, as declared: {known}")
            continue
        for row, other, _ in leaks:
            check.add(row.place, f"{config}: its image in {row.split} is in {other.split} too ({other.place})")
    return check


def _leaks(rows: Rows, config: str) -> Iterator[tuple[Row, Row, str]]:
    """Held-out rows, `test` last, whose image an earlier side has, that side's first row, and the image."""
    owners: dict[str, Row] = {}
    sides = [is_client, *(split.__eq__ for split in HELD_OUT)]
    for is_side in sides:
        own = [row for row in rows.of(config) if is_side(row.split)]
        if is_side is not is_client:
            yield from ((row, owners[image], image) for row in own for image in row.images if image in owners)
        for row in own:
            owners.update({image: row for image in row.images if image not in owners})


_NO_MANIFEST = "there is no manifest.json with which to compare"


def check_counts(rows: Rows) -> Check:
    """Whether files and splits have as many rows as the manifest says."""
    check = Check("counts", "files and splits have as many rows as manifest.json says")
    manifest = rows.federation.manifest
    if manifest is None:
        return Check(check.name, skipped=_NO_MANIFEST)
    said = {file: entry["num_rows"] for file, entry in manifest.get("files", {}).items()}
    _compare(check, "manifest.json", "the file", _num_rows(rows.federation.files), said)
    for config in {**manifest.get("configs", {}), **rows.federation.configs}:
        found = _num_rows(_splits(rows.federation, config))
        _compare(check, config, "the split", found, rows.federation.entry(config).get("counts", {}))
    return check


def check_partition(rows: Rows) -> Check:
    """Whether each configuration has every row where the manifest's hash says."""
    check = Check("partition", "rows are where the hashes of manifest.json say")
    if rows.federation.manifest is None:
        return Check(check.name, skipped=_NO_MANIFEST)
    for config in rows.federation.configs:
        found = partition_hash((str(row.id), row.split, row.client_id) for row in rows.of(config))
        said = rows.federation.entry(config).get("partition")
        if found != said:
            check.add(Place(config), f"the rows' places have the hash {found}, manifest.json says {said}")
    return check


def check_same_rows(rows: Rows) -> Check:
    """Whether all configurations place the same rows, as those of one build do."""
    check = Check("same rows", "every configuration places the same ids")
    if rows.federation.manifest is None:
        return Check(check.name, skipped=_NO_MANIFEST)
    first, *others = rows.federation.configs
    expected = {row.id: row.place for row in rows.of(first)}
    for config in others:
        found = {row.id: row.place for row in rows.of(config)}
        for id, place in expected.items():
            if id not in found:
                check.add(place, f"in {first}, and not in {config}")
        for id, place in found.items():
            if id not in expected:
                check.add(place, f"in {config}, and not in {first}")
    return check


def _splits(federation: FederatedDataset, config: str) -> dict[str, list[Piece]]:
    """Split to its pieces; nothing where there is no such configuration."""
    splits = federation.configs.get(config, {})
    return {split: [piece for file in files for piece in federation.files[file]] for split, files in splits.items()}


def _num_rows(pieces_of: Mapping[str, list[Piece]]) -> dict[str, int]:
    return {name: sum(piece.num_rows for piece in pieces) for name, pieces in pieces_of.items()}


def _compare(check: Check, where: str, what: str, found: Mapping[str, int], said: Mapping[str, int]) -> None:
    for name in {**said, **found}:
        counts = [f"{counts[name]:,} rows" if name in counts else "nothing of it" for counts in (found, said)]
        if counts[0] != counts[1]:
            check.add(Place(where), f"{what} {name}: found {counts[0]}, manifest.json says {counts[1]}")
