"""Read captions and boxes of the user's own data in the format of COCO."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ....data.boxes import box_text, from_xywh
from ...images import ImageFile
from ...work import Work
from ..coco import Photograph, box_edges, value
from ..json_stream import JsonStream
from .image_paths import ImagePaths
from .rows import OwnRow
from .tables import without_missing


_ID = (int, str)
_OF_IMAGES = ("file_name", "width", "height")


def coco_form(arrays: dict[str, Any]) -> str | None:
    """Return what a JSON file has, given the first element of each of its arrays; `None` if it is not of COCO."""
    if not {"images", "annotations"} <= arrays.keys() or not isinstance(arrays["annotations"], dict):
        return None
    if "caption" in arrays["annotations"]:
        return "COCO captions"
    return "COCO detection" if "bbox" in arrays["annotations"] else None


def coco_rows(path: Path, label: str, form: str, images: ImagePaths, work: Work) -> Iterator[OwnRow]:
    """Read the rows of a file in the format of COCO.

    Args:
        path (`Path`):
            The file.
        label (`str`):
            Its name in error messages.
        form (`str`):
            The result of [`coco_form`].
        images ([`ImagePaths`]):
            Where the images are.
        work ([`Work`]):
            Counts annotations that are left out.

    Yields:
        [`OwnRow`]: one per caption; or one per image and category with exactly one object, because the answer of a
            detection row is one box.

    Raises:
        `ValueError`: naming file and entry, if a field is missing or has another type, an id is unknown or occurs
            twice, or a box is outside of its image.
    """
    file = _CocoFile(path, label, images, work)
    yield from _ROWS[form](file, work)


class _CocoFile:
    """The images and categories of a file. Its annotations are not kept in memory."""

    def __init__(self, path: Path, label: str, paths: ImagePaths, work: Work):
        self.path, self.label, self.paths = path, label, paths
        self._work = work
        self.images: dict[Any, tuple[str, dict[str, Any]]] = {}
        self.categories: dict[Any, str] = {}
        for array, where, entry in self._entries("images", "categories"):
            if array == "images":
                self._add(
                    self.images, entry, where, (where, {name: entry[name] for name in _OF_IMAGES if name in entry})
                )
            else:
                self._add(self.categories, entry, where, value(entry, "name", (str,), where))

    def annotations(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield the index of each annotation, its name in messages, and its content."""
        annotated = set()
        for index, (_, where, entry) in enumerate(self._entries("annotations")):
            annotated.add(self._check(entry, "image_id", self.images, where))
            yield index, where, entry
        if len(annotated) < len(self.images):
            self._work.counts.note(
                f"images without annotations in {self.path.name}", len(self.images) - len(annotated)
            )

    def category(self, entry: dict[str, Any], where: str) -> Any:
        """Return the id of an annotation's category."""
        return self._check(entry, "category_id", self.categories, where)

    def image(self, key: Any) -> ImageFile:
        """Return the file of an image."""
        where, entry = self.images[key]
        name = value(entry, "file_name", (str,), where)
        try:
            return self.paths.find(name)
        except (OSError, ValueError) as error:
            raise ValueError(f"{where}: `file_name`: {error}") from error

    def photograph(self, key: Any) -> Photograph:
        """Return an image that must have the size that the file says, or boxes would be wrong."""
        where, entry = self.images[key]
        width, height = (value(entry, side, (int,), where) for side in ("width", "height"))
        if width < 1 or height < 1:
            raise ValueError(f"{where}: the size must be positive, got {width} x {height}.")
        file = self.image(key)
        return Photograph(file.key, file.path, width, height)

    def _entries(self, *arrays: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        with JsonStream(self.path, self.label) as stream:
            for key in stream.members():
                if key not in arrays:
                    stream.skip()
                    continue
                for index, entry in enumerate(stream.elements()):
                    where = f"{self.label}, {key}[{index}]"
                    if not isinstance(entry, dict):
                        raise ValueError(f"{where}: expected is an object, got a {type(entry).__name__}.")
                    yield key, where, entry
            stream.end()

    @staticmethod
    def _add(table: dict[Any, Any], entry: dict[str, Any], where: str, record: Any) -> None:
        key = value(entry, "id", _ID, where)
        if key in table:
            raise ValueError(f"{where}: the id {key!r} already occurred.")
        table[key] = record

    @staticmethod
    def _check(entry: dict[str, Any], name: str, known: dict[Any, Any], where: str) -> Any:
        key = value(entry, name, _ID, where)
        if key not in known:
            raise ValueError(f"{where}: `{name}` {key!r} is not one of the {len(known)} ids that the file lists.")
        return key


def _captions(file: _CocoFile, work: Work) -> Iterator[OwnRow]:
    for index, where, entry in file.annotations():
        values = {"answer": value(entry, "caption", (str,), where), "task": "caption"}
        yield OwnRow(str(index), where, without_missing(values), file.image(entry["image_id"]))


def _detections(file: _CocoFile, work: Work) -> Iterator[OwnRow]:
    single: dict[tuple[Any, Any], tuple[str, tuple[float, ...]] | None] = {}
    num_groups = num_several = num_empty = 0
    for _, where, entry in file.annotations():
        pair = (entry["image_id"], file.category(entry, where))
        if entry.get("iscrowd"):
            num_groups += 1
            continue
        single[pair] = None if pair in single else (where, box_edges(entry, where))
    for (image, category), found in single.items():
        if found is None:
            num_several += 1
            continue
        where, (x, y, width, height) = found
        if width <= 0 or height <= 0:
            num_empty += 1
            continue
        photograph = file.photograph(image)
        try:
            box = from_xywh(x, y, width, height, photograph.width, photograph.height)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        values = {"target": file.categories[category], "answer": box_text(box), "task": "detection"}
        yield OwnRow(f"{image}-{category}", where, values, photograph)
    for what, count, why in (
        ("groups of objects (iscrowd)", num_groups, "their box is not of one object"),
        ("images with several objects of a category", num_several, "the answer of a detection row is one box"),
        ("boxes without area", num_empty, "they show no object"),
    ):
        if count:
            work.counts.read(f"{what} in {file.path.name}", count)
            work.counts.exclude(f"{what} in {file.path.name}", count, why)


_ROWS: dict[str, Callable[[_CocoFile, Work], Iterator[OwnRow]]] = {
    "COCO captions": _captions,
    "COCO detection": _detections,
}
