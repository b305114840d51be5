"""Images on both sides of a split, found by their pixels: rows on the training side are left out and counted."""

from collections.abc import Sequence

from .builders.base import Example
from .images import StoredImage, image_digest, open_image
from .work import Work


_ORDER = ("train", "validation", "test")


def without_shared_images(examples: Sequence[Example], work: Work) -> list[Example]:
    """Leaves out rows whose image belongs to a later split too: test over validation over train.

    Two images are one where all their pixels are equal, whatever their file names. Where a file is missing its key
    stands for it, so that annotations alone can be looked at.

    Args:
        examples (`Sequence[Example]`):
            Rows with their given splits.
        work ([`Work`]):
            Reads the images over all processes and counts what is left out.

    Returns:
        `list[Example]`: the others, in their order.

    Raises:
        `ValueError`: if an image cannot be read, naming it and its first row.
    """
    shown: dict[str, Example] = {}
    for example in examples:
        shown.setdefault(example.image.key, example)
    digests = work.map("digests", _digest, shown, "comparing images")
    latest: dict[str, int] = {}
    images: dict[str, set[str]] = {split: set() for split in _ORDER}
    for example in examples:
        name = _identity(example.image, digests)
        latest[name] = max(latest.get(name, 0), _ORDER.index(example.split))
        images[example.split].add(name)
    kept = [e for e in examples if _ORDER.index(e.split) == latest[_identity(e.image, digests)]]
    missing = sum(digest is None for digest in digests.values())
    if missing:
        work.tally.note("images without a file", missing, "told apart by name, not by their pixels")
    shared = len(images["test"] & images["train"])
    work.tally.note("test images that are training images too", shared, f"of {len(images['test'])} test images")
    for split, later in (("train", "validation or test"), ("validation", "test")):
        count = sum(e.split == split for e in examples) - sum(e.split == split for e in kept)
        work.tally.exclude(f"{split} rows whose image is in {later} too", count, "no held-out image is a client's")
    return kept


def _identity(image: StoredImage, digests: dict[str, str | None]) -> str:
    return digests[image.key] or image.key


def _digest(example: Example) -> str | None:
    where = f"The image {example.image.key}, needed by row {example.id!r},"
    try:
        return image_digest(open_image(example.image.load(), where))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error}).") from error
