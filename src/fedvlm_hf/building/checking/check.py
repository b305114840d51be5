"""All checks of a federated dataset, each row read once and each image decoded once."""

from ..dataset import FederatedDataset
from ..pieces import Piece
from ..work import Work
from .configs import check_ids, check_images, check_leaks
from .findings import Check
from .manifest import check_counts, check_partition, check_same_rows
from .rows import ROW_CHECKS, Decoding, Pixels, Scan, decode, scan
from .structure import check_columns, check_files, check_splits
from .table import Rows


_WHAT = {
    "row format": "prompts and tasks are those of fedvlm_hf.data.spec",
    "answers": "no completion and no reference is empty",
    "boxes": "grounding and detection have 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1",
    "images": "every row has one, and each decodes",
}


def check_federation(federation: FederatedDataset, work: Work | None = None) -> list[Check]:
    """Verifies a federated dataset.

    Rows are read piece by piece on `work.num_workers` processes. A file that several configurations list is read once,
    and an image that many rows show is decoded once; kept of a row are its id, its place and two hashes.

    Args:
        federation ([`FederatedDataset`]):
            From `read_folder` or `from_splits`.
        work ([`Work`], *optional*):
            How many processes; one by default.

    Returns:
        `list[Check]`: in the order in which to mend what they find: files, columns, rows, images, places, manifest.
    """
    work = work or Work()
    scans = work.map("rows", scan, _pieces(federation), "Reading rows")
    pixels = work.map("images", decode, _first_shows(federation, scans), "Decoding images")
    rows = Rows(federation, {name: result.rows for name, result in scans.items()}, _by_content(scans, pixels))
    own = {name: Check(name, what) for name, what in _WHAT.items()}
    for result in scans.values():
        for name in ROW_CHECKS:
            own[name].merge(result.checks[name])
    return [
        check_files(federation),
        check_splits(federation),
        check_columns(federation),
        *own.values(),
        *check_images(rows, own["images"]),
        *check_ids(rows),
        check_leaks(rows),
        check_counts(rows),
        check_same_rows(rows),
        check_partition(rows),
    ]


def _pieces(federation: FederatedDataset) -> dict[str, Piece]:
    return {piece.name: piece for pieces in federation.files.values() for piece in pieces}


def _first_shows(federation: FederatedDataset, scans: dict[str, Scan]) -> dict[str, Decoding]:
    """Of each different image, the first row that shows it."""
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
    """What decoding gave, by the hash of the encoded bytes."""
    found = {}
    for name, decoded in pixels.items():
        contents = scans[name].rows["contents"].to_pylist()
        found.update({contents[row][place]: result for (row, place), result in decoded.items()})
    return found
