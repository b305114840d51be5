"""What is looked at in configurations as a whole: images, ids, and that no image is on both sides."""

from collections.abc import Iterator

from ...data.naming import HELD_OUT, is_client
from .findings import Check
from .table import Row, Rows


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
