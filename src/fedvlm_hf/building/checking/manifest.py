"""What `manifest.json` says of a build, beside what is there."""

from collections.abc import Mapping

from ..dataset import FederatedDataset
from ..pieces import Piece
from ..writing.manifest import partition_hash
from .findings import Check, Place
from .table import Rows


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
