"""COCO 2014: the object annotations `annotations/instances_{train2014,val2014}.json`, and the photographs.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014 (https://huggingface.co/papers/1405.0312).
"""

import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from ...data.pixels import decoding_problem
from ..images import StoredImage, encode
from .files import excerpt, find_folder, kind_of, unreadable
from .json_stream import array_elements


PARTS = ("train2014", "val2014")

_DOWNLOAD = "COCO 2014's annotations/ next to its train2014/ and val2014/"
_INT, _NUMBER, _STR = (int,), (int, float), (str,)
_EXPECTED = {float: "a number", int: "a whole number", str: "text", list: "a list"}
_TOO_LARGE = 10**18


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One entry of `images`.

    Attributes:
        image_id (`int`): COCO's id, unique over all parts.
        file_name (`str`): Such as `"COCO_train2014_000000000009.jpg"`.
        width (`int`), height (`int`): Size in pixels.
    """

    image_id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """One entry of `annotations`, without its polygons.

    Attributes:
        annotation_id (`int`), image_id (`int`), category_id (`int`): Ids. Categories are 1-90, with gaps.
        bbox (`tuple[float, float, float, float]`): Left, top, width and height in pixels, as in the file: the box may
            exceed the image or be empty.
        area (`float`): Area of the segmentation in square pixels.
        is_crowd (`bool`): Whether this is a group of objects.
    """

    annotation_id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    is_crowd: bool


@dataclass(frozen=True)
class Instances:
    """An annotation file.

    Attributes:
        path (`Path`): The file.
        images (`dict[int, CocoImage]`): By image id, in the order of the file.
        annotations (`dict[int, Annotation]`): By annotation id, in the order of the file.
        categories (`dict[int, str]`): Names by category id.
    """

    path: Path
    images: dict[int, CocoImage]
    annotations: dict[int, Annotation]
    categories: dict[int, str]


def annotation_file(raw: str | Path, part: str = "train2014") -> Path:
    """Return the path of `annotations/instances_<part>.json`.

    Args:
        raw (`str` or `Path`):
            The folder that has `annotations/`.
        part (`str`, *optional*, defaults to `"train2014"`):
            One of `PARTS`.

    Raises:
        `ValueError`: if the part is unknown, or `raw` is another folder.
    """
    if part not in PARTS:
        raise ValueError(f"`part={part!r}` is unknown; COCO 2014 has object annotations for {list(PARTS)}.")
    name = f"instances_{part}.json"
    return find_folder(raw, name, ("annotations",), _DOWNLOAD) / name


def image_folders(part: str = "train2014") -> list[str]:
    """Return where a part's photographs may be: `<part>`, `images/<part>`, or where RefCOCO's tools expect them."""
    return [f"{below}{part}" for below in ("", "images/", "images/mscoco/images/")]


def image_folder(raw: str | Path, part: str = "train2014") -> Path:
    """Return the first of [`image_folders`] that exists, or the first one if there is none."""
    places = [Path(raw) / place for place in image_folders(part)]
    return next((place for place in places if place.is_dir()), places[0])


def read(path: str | Path) -> Instances:
    """Read an annotation file, of COCO or RefCOCO's `instances.json`, in bounded memory.

    Args:
        path (`str` or `Path`):
            The file. The images need not exist.

    Returns:
        [`Instances`].

    Raises:
        `ValueError`: naming path and row, if the file is missing or truncated, a field is missing or has another type,
            an id is not unique, or an annotation has an unknown image or category.
    """
    path = Path(path)
    tables: dict[str, dict[int, Any]] = {name: {} for name in _MAKE}
    rows = dict.fromkeys(_MAKE, 0)
    for name, row in _elements(path):
        where = f"{path}, {name}[{rows[name]}]"
        rows[name] += 1
        key, record = _MAKE[name](row, where)
        if tables[name].setdefault(key, record) is not record:
            raise ValueError(f"{where}: the id {key} already occurred. Download the file again.")
    instances = Instances(path, **tables)
    for index, annotation in enumerate(instances.annotations.values()):
        for kind, key, known in (
            ("image", annotation.image_id, instances.images),
            ("category", annotation.category_id, instances.categories),
        ):
            if key not in known:
                raise ValueError(
                    f"{path}, annotations[{index}] (id {annotation.annotation_id}) has {kind} {key}, which the file "
                    "does not list. Is it part of another file?"
                )
    return instances


def _elements(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        yield from array_elements(path, _MAKE, _DOWNLOAD)
    except OSError as error:
        raise unreadable(path, error, _DOWNLOAD) from error


def value(row: Any, name: str, kinds: Collection[type], where: str) -> Any:
    """Return a field of a JSON object, which must have one of the given types (a bool is not a number).

    Raises:
        `ValueError`: if it is missing, of another type, or an integer of more than 63 bits.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be an object, not {kind_of(row)}.")
    if name not in row:
        raise ValueError(f"{where} has no `{name}`. It is {excerpt(row)}.")
    found = row[name]
    if type(found) not in kinds:
        named = [kind for kind in _EXPECTED if kind in kinds and not (kind is int and float in kinds)]
        expected = " or ".join(_EXPECTED[kind] for kind in named)
        raise ValueError(f"{where}: `{name}` must be {expected}, not {excerpt(found)}.")
    if type(found) is int and abs(found) >= _TOO_LARGE:
        raise ValueError(f"{where}: `{name}` is a number of more than 18 digits, so the file is damaged.")
    return found


def box_edges(row: Any, where: str) -> tuple[float, float, float, float]:
    """Return the field `bbox` of an annotation, in COCO's order: left, top, width, height.

    Raises:
        `ValueError`: if it is not four finite numbers.
    """
    bbox = value(row, "bbox", (list,), where)
    if len(bbox) != 4 or not all(type(edge) in _NUMBER and abs(edge) < _TOO_LARGE for edge in bbox):
        raise ValueError(f"{where}: `bbox` must be four numbers, got {excerpt(bbox)}.")
    return tuple(bbox)


def _image(row: Any, where: str) -> tuple[int, CocoImage]:
    image_id, name = value(row, "id", _INT, where), value(row, "file_name", _STR, where)
    width, height = (value(row, side, _INT, where) for side in ("width", "height"))
    if width < 1 or height < 1 or Path(name).name != name:
        raise ValueError(
            f"{where}: expected a file name without folders and a positive size, got {excerpt(name)}, {width} x "
            f"{height}."
        )
    return image_id, CocoImage(image_id, name, width, height)


def _annotation(row: Any, where: str) -> tuple[int, Annotation]:
    annotation_id, image_id, category_id = (
        value(row, name, _INT, where) for name in ("id", "image_id", "category_id")
    )
    bbox, area = box_edges(row, where), value(row, "area", _NUMBER, where)
    if not abs(area) < _TOO_LARGE:
        raise ValueError(f"{where}: `area` must be a number, got {excerpt(area)}.")
    is_crowd = value(row, "iscrowd", _INT, where) != 0
    return annotation_id, Annotation(annotation_id, image_id, category_id, bbox, area, is_crowd)


def _category(row: Any, where: str) -> tuple[int, str]:
    return value(row, "id", _INT, where), value(row, "name", _STR, where)


_MAKE = {"images": _image, "annotations": _annotation, "categories": _category}


@dataclass(frozen=True)
class Photograph(StoredImage):
    """A photograph, with the size that its annotations refer to.

    Attributes:
        key (`str`): Part and file name.
        path (`Path`): The file.
        width (`int`), height (`int`): Size in pixels according to the annotations.
    """

    key: str
    path: Path
    width: int
    height: int

    @property
    def file(self) -> Path:
        """The file that the image is made from."""
        return self.path

    def load(self) -> bytes:
        """Return the file's bytes, unchanged unless its EXIF data ask for a rotation.

        COCO's boxes refer to the pixels as stored in the file, but `datasets` rotates an image according to its EXIF
        data. Such an image is encoded again without EXIF data.

        Raises:
            `FileNotFoundError`: if the file does not exist.
            `ValueError`: if it is not an image, or does not have the size of the annotations.
        """
        content = self.path.read_bytes()
        try:
            image = Image.open(io.BytesIO(content))  # reads only the header
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            turned = encode(image) if is_turned else None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"{self.path} cannot be read as an image ({decoding_problem(error)}).") from error
        if image.size != (self.width, self.height):
            raise ValueError(
                f"{self.path} has {image.width} x {image.height} pixels, but its annotations expect {self.width} x "
                f"{self.height}: boxes would be wrong. Use COCO's original images, not resized or cropped ones."
            )
        return content if turned is None else turned
