"""All checks of a federated dataset. Each row is read once and each image is decoded once."""

import re

from datasets import Features, Image, LargeList, List

from ...data.features import FEATURES
from ...data.naming import CLIENT_PREFIX, HELD_OUT, is_client
from ...data.spec import EVALUATION, PROMPT_COMPLETION
from ..dataset import FederatedDataset
from ..pieces import Piece
from ..work import Work
from .configs import Rows, check_ids, check_images, check_leaks, check_same_rows
from .findings import Check, Location
from .manifest import check_manifest
from .rows import ROW_CHECKS, Decoding, Pixels, Scan, decode, scan


_WHAT = {
    "row format": "prompts and tasks follow fedvlm_hf.data.spec",
    "answers": "no completion and no reference is empty",
    "boxes": "grounding and detection have 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1",
    "images": "every row has an image, and each image can be decoded",
}


def check_federation(federation: FederatedDataset, work: Work | None = None) -> list[Check]:
    """Check a federated dataset.

    Rows are read piece by piece by `work.num_workers` processes. A file that several configurations list is read once,
    and an image that many rows have is decoded once. Only the id, the location and two hashes of a row are kept in
    memory.

    Args:
        federation ([`FederatedDataset`]):
            The dataset, from `read_folder` or `from_splits`.
        work ([`Work`], *optional*):
            Sets the number of worker processes; one by default.

    Returns:
        `list[Check]`: in the order in which problems should be fixed: files, columns, rows, images, splits, manifest.
    """
    work = work or Work()
    scans = work.map("rows", scan, _pieces(federation), "Reading rows")
    pixels = work.map("images", decode, _first_shows(federation, scans), "Decoding images", in_threads=True)
    rows = Rows(federation, {name: result.rows for name, result in scans.items()}, _by_content(scans, pixels))
    own = {name: Check(name, what) for name, what in _WHAT.items()}
    for result in scans.values():
        for name in ROW_CHECKS:
            own[name].merge(result.checks[name])
    digests = check_images(rows, own["images"])
    are_images_right = not any(check.num_problems for check in (own["images"], *digests))
    return [
        check_files(federation),
        check_splits(federation),
        check_columns(federation),
        *own.values(),
        *digests,
        *check_ids(rows),
        check_leaks(rows),
        check_same_rows(rows),
        *check_manifest(rows, are_images_right),
    ]


def _pieces(federation: FederatedDataset) -> dict[str, Piece]:
    return {piece.name: piece for pieces in federation.files.values() for piece in pieces}


def _first_shows(federation: FederatedDataset, scans: dict[str, Scan]) -> dict[str, Decoding]:
    """Return the first row that has each distinct image."""
    seen: set[bytes] = set()
    decodings = {}
    for name, piece in _pieces(federation).items():
        images: dict[int, list[int]] = {}
        for row, contents in enumerate(scans[name].rows["contents"].to_pylist()):
            for place, content in enumerate(contents):
                if content is not None and content not in seen:
                    seen.add(content)
                    images.setdefault(row, []).append(place)
        if images:
            decodings[name] = Decoding(piece, images)
    return decodings


def _by_content(scans: dict[str, Scan], pixels: dict[str, dict[tuple[int, int], Pixels]]) -> dict[bytes, Pixels]:
    """Return the results of decoding by the hash of the encoded bytes."""
    found = {}
    for name, decoded in pixels.items():
        contents = scans[name].rows["contents"].to_pylist()
        found.update({contents[row][place]: result for (row, place), result in decoded.items()})
    return found


# Split names that `load_dataset` accepts, with the prefix of clients
_CLIENT = re.compile(CLIENT_PREFIX + r"\w+(\.\w+)*")


def check_files(federation: FederatedDataset) -> Check:
    """Check that every file listed by a configuration exists and is complete, and that there are no others."""
    num_rows = sum(piece.num_rows for pieces in federation.files.values() for piece in pieces)
    check = Check("files", f"all {len(federation.files):,} files with {num_rows:,} rows exist and are complete")
    for file, problem in federation.problems:
        check.add(Location(file), problem)
    for file in federation.unlisted:
        check.add(Location(file), "no configuration in README.md lists it, so `load_dataset` does not read it")
    return check


def check_splits(federation: FederatedDataset) -> Check:
    """Check that splits are `client_*`, `validation` or `test`, and that no configuration lacks clients or rows."""
    check = Check("split names", f"all are client_*, {' or '.join(HELD_OUT)}, and none is empty")
    for config, splits in federation.configs.items():
        for split, files in splits.items():
            if split not in HELD_OUT and not _CLIENT.fullmatch(split):
                check.add(Location(f"{config}/{split}"), f"a split must be client_* or one of {', '.join(HELD_OUT)}")
            if not sum(piece.num_rows for file in files for piece in federation.files[file]):
                check.add(Location(f"{config}/{split}"), "has no row")
        if not any(map(is_client, splits)):
            check.add(Location(config), f"has no client; its splits are {', '.join(splits)}")
    return check


def check_columns(federation: FederatedDataset) -> Check:
    """Check that all files have the same columns, and that the columns of the row format exist with their types."""
    features = {file: Features.from_arrow_schema(schema) for file, schema in federation.schemas.items()}
    check = Check("columns", f"equal in all {len(features):,} files, and complete for the row format")
    first = next(iter(features), None)
    for file, own in features.items():
        for name in sorted(own.keys() ^ features[first].keys()):
            having, lacking = (file, first) if name in own else (first, file)
            check.add(Location(file), f"column `{name}` is in {having}, but not in {lacking}")
        for name in sorted(own.keys() & features[first].keys()):
            if own[name] != features[first][name]:
                check.add(
                    Location(file), f"column `{name}` is {own[name]}, and in {first} it is {features[first][name]}"
                )
    for file, needed in _needed(federation).items():
        own = features.get(file, {})
        missing = [name for name in sorted(needed) if name not in own]
        if own and missing:
            check.add(Location(file), f"has no column `{'`, `'.join(missing)}`; its columns are {list(own)}")
        for name in sorted(needed & own.keys()):
            if not _is_type(own[name], name):
                check.add(Location(file), f"column `{name}` is {own[name]}; the row format needs {FEATURES[name]}")
    return check


def _needed(federation: FederatedDataset) -> dict[str, set[str]]:
    """Return for each file the columns that its splits need."""
    needed: dict[str, set[str]] = {}
    for splits in federation.configs.values():
        for split, files in splits.items():
            columns = (PROMPT_COMPLETION if is_client(split) else EVALUATION).columns
            for file in files:
                needed.setdefault(file, {"id"}).update(columns)
    return needed


def _is_type(feature: object, name: str) -> bool:
    if name == "images":
        image = feature.feature if isinstance(feature, List | LargeList) else None
        return isinstance(image, Image) and image.decode
    return feature == FEATURES[name]
