"""Checks that a federated dataset is what its `manifest.json` says: files, counts, partitions, contents, totals."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ...data.naming import HELD_OUT, is_client
from ..dataset import FederatedDataset
from ..pieces import Piece
from ..writing.checks import FIXED_COLUMNS
from ..writing.manifest import CONFIG_KEYS, FORMAT, KEYS, NEW_KEYS, contents_digests, is_older, partition_hash
from .configs import NO_MANIFEST, Row, Rows
from .findings import Check, Location


_WHERE = Location("manifest.json")


def check_manifest(rows: Rows, are_images_right: bool) -> list[Check]:
    """Compare a dataset with its manifest.

    Args:
        rows ([`Rows`]):
            The rows.
        are_images_right (`bool`):
            Whether all images could be decoded, so that they can be counted.

    Returns:
        `list[Check]`: `counts`, `partition`, `contents` and `manifest`.
    """
    checks = {"counts": check_counts, "partition": check_partition, "contents": check_contents}
    if rows.federation.manifest is None:
        return [Check(name, skipped=NO_MANIFEST) for name in (*checks, "manifest")]
    return [*(check(rows) for check in checks.values()), check_totals(rows, are_images_right)]


def check_counts(rows: Rows) -> Check:
    """Check that files and splits have as many rows as the manifest says."""
    check = Check("counts", "files and splits have as many rows as manifest.json says")
    manifest = rows.federation.manifest or {}
    said = {file: _table(entry).get("num_rows") for file, entry in _table(manifest.get("files")).items()}
    _compare(check, "manifest.json", "the file", _num_rows(rows.federation.files), said)
    for config in {**_table(manifest.get("configs")), **rows.federation.configs}:
        found = _num_rows(_splits(rows.federation, config))
        _compare(check, config, "the split", found, _table(rows.federation.entry(config).get("counts")))
    return check


def check_partition(rows: Rows) -> Check:
    """Check that the partition of each configuration has the hash in the manifest."""
    check = Check("partition", "the partitions have the hashes in manifest.json")
    for config in rows.federation.configs:
        found = partition_hash((str(row.id), row.split, row.client_id) for row in rows.in_config(config))
        said = rows.federation.entry(config).get("partition")
        if found != said:
            check.add(Location(config), f"the partition has the hash {found}, manifest.json says {said}")
    return check


def check_contents(rows: Rows) -> Check:
    """Check that the rows of each split have the values that were written."""
    check = Check("contents", "texts, answers and columns are those that were written, by their digests")
    if is_older(rows.federation.manifest or {}):
        check.skipped = "built by an older version, without digests of the contents"
        return check
    for config in rows.federation.configs:
        found = contents_digests((row.split, row.content) for row in rows.in_config(config))
        said = _table(rows.federation.entry(config).get("contents"))
        for split in found:
            if found[split] != said.get(split):
                check.add(
                    Location(f"{config}/{split}"),
                    f"its rows have the digest {found[split]}, manifest.json says {said.get(split)}: a prompt, an "
                    "answer or another column has changed since they were written",
                )
    return check


def check_totals(rows: Rows, are_images_right: bool) -> Check:
    """Check that the manifest has all entries, and that its totals are right."""
    check = Check("manifest", "all entries are there, and the totals are right")
    manifest = rows.federation.manifest or {}
    older = NEW_KEYS if is_older(manifest) else frozenset()
    if older:
        check.notes.append("built by an older version: build it again to have its contents checked")
    elif manifest.get("format") != FORMAT:
        check.add(_WHERE, f"`format` is {manifest.get('format')!r}; this version of the package reads {FORMAT}")
    for key in KEYS - manifest.keys() - older:
        check.add(_WHERE, f"there is no `{key}`")
    for config, entry in _table(manifest.get("configs")).items():
        for key in sorted(CONFIG_KEYS - _table(entry).keys() - older):
            check.add(_WHERE, f"configuration {config!r} has no `{key}`")
    for key, value in _totals(rows).items():
        if key in manifest and manifest[key] != value:
            check.add(_WHERE, f"`{key}` is {manifest[key]!r}, the rows have {value!r}")
    if are_images_right:
        _check_image_totals(rows, check)
    return check


def _totals(rows: Rows) -> dict[str, Any]:
    federation = rows.federation
    config = next(iter(federation.configs))
    tasks = Counter(str(row.task) for row in rows.in_config(config))
    return {
        "num_rows": tasks.total(),
        "tasks": dict(sorted(tasks.items())),
        "columns": [name for name in federation.column_names(config) if name not in FIXED_COLUMNS],
    }


def _check_image_totals(rows: Rows, check: Check) -> None:
    manifest, configs = rows.federation.manifest or {}, rows.federation.configs
    said = _table(manifest.get("images"))
    first = list(rows.in_config(next(iter(configs))))
    pixels = {own.digest: own for row in first for own in row.pixels}
    found = {
        "num_images": len(pixels),
        "smallest": list(min((own.size for own in pixels.values()), default=())),
        "largest": list(max((own.size for own in pixels.values()), default=())),
    }
    for key, value in found.items():
        if said.get(key) != value:
            check.add(_WHERE, f"`images`: `{key}` is {said.get(key)!r}, the rows have {value!r}")
    # The same pixels may be stored in two files of different sizes, of which the manifest counts one
    sizes: dict[str | None, set[int]] = {}
    for own in (own for row in first for own in row.pixels):
        sizes.setdefault(own.digest, set()).add(own.num_bytes)
    low, high = (sum(map(choose, sizes.values())) for choose in (min, max))
    if not isinstance(said.get("num_bytes"), int) or not low <= said["num_bytes"] <= high:
        check.add(_WHERE, f"`images`: `num_bytes` is {said.get('num_bytes')!r}, the rows have {high:,}")
    for config in configs:
        entry, own = rows.federation.entry(config), list(rows.in_config(config))
        shown: dict[str, set[str]] = {}
        for row in own:
            shown.setdefault(row.split, set()).update(row.images)
        totals = {"images": {split: len(digests) for split, digests in shown.items()}, "leaked_images": _leaked(own)}
        for key, value in totals.items():
            if entry.get(key) != value:
                check.add(Location(config), f"`{key}` is {entry.get(key)!r} in manifest.json, the rows have {value!r}")


def _leaked(rows: Iterable[Row]) -> int:
    """Count the images that are in more than one of the clients, `validation` and `test`."""
    sides: dict[str, set[str]] = {}
    for row in rows:
        side = row.split if row.split in HELD_OUT else "client" if is_client(row.split) else row.split
        for image in row.images:
            sides.setdefault(image, set()).add(side)
    return sum(len(found) > 1 for found in sides.values())


def _table(value: Any) -> Mapping[str, Any]:
    """Return an object of the manifest; an empty one in place of another type, so that all of it counts as missing."""
    return value if isinstance(value, dict) else {}


def _splits(federation: FederatedDataset, config: str) -> dict[str, list[Piece]]:
    """Return the pieces of each split; nothing if there is no such configuration."""
    splits = federation.configs.get(config, {})
    return {split: [piece for file in files for piece in federation.files[file]] for split, files in splits.items()}


def _num_rows(pieces_of: Mapping[str, list[Piece]]) -> dict[str, int]:
    return {name: sum(piece.num_rows for piece in pieces) for name, pieces in pieces_of.items()}


def _compare(check: Check, where: str, what: str, found: Mapping[str, int], said: Mapping[str, Any]) -> None:
    for name in {**said, **found}:
        counts = [_rows_text(counts[name]) if name in counts else "nothing" for counts in (found, said)]
        if counts[0] != counts[1]:
            check.add(Location(where), f"{what} {name}: found {counts[0]}, manifest.json says {counts[1]}")


def _rows_text(count: Any) -> str:
    return f"{count:,} rows" if isinstance(count, int) else repr(count)
