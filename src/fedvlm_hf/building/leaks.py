"""Remove training rows whose image is also held out. Images are compared by their pixels."""

from collections.abc import Sequence

from .builders.base import Example
from .images import StoredImage
from .inspection import images_of, inspect_images
from .work import Work


_ORDER = ("train", "validation", "test")


def without_shared_images(examples: Sequence[Example], work: Work) -> list[Example]:
    """Leave out rows whose image is also in a later split, in the order train, validation, test.

    Two images are the same if all their pixels are equal, regardless of their file names. If a file is missing, its
    key is compared instead, so that annotations can be read without their images.

    Args:
        examples (`Sequence[Example]`):
            Rows with their given splits.
        work ([`Work`]):
            Runs the worker processes that read images, and counts the rows that are left out.

    Returns:
        `list[Example]`: the remaining rows in their order.

    Raises:
        `ValueError`: if an image cannot be read, naming it and its first row.
    """
    facts = inspect_images(images_of(examples), work)
    digests = {key: None if found is None else found.digest for key, found in facts.items()}
    latest: dict[str, int] = {}
    images: dict[str, set[str]] = {split: set() for split in _ORDER}
    for example in examples:
        name = _identity(example.image, digests)
        latest[name] = max(latest.get(name, 0), _ORDER.index(example.split))
        images[example.split].add(name)
    kept = [e for e in examples if _ORDER.index(e.split) == latest[_identity(e.image, digests)]]
    missing = sum(digest is None for digest in digests.values())
    if missing:
        work.counts.note("images without a file", missing, "compared by name, not by pixels")
    shared = len(images["test"] & images["train"])
    work.counts.note("test images that are also training images", shared, f"of {len(images['test'])} test images")
    for split, later in (("train", "validation or test"), ("validation", "test")):
        count = sum(e.split == split for e in examples) - sum(e.split == split for e in kept)
        work.counts.exclude(f"{split} rows whose image is also in {later}", count, "no client has a held-out image")
    return kept


def _identity(image: StoredImage, digests: dict[str, str | None]) -> str:
    return digests[image.key] or image.key
