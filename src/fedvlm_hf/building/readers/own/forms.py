"""Open a file or folder of the user's own data in the form that it has."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...images import ImageFile
from ..json_stream import JsonStream
from .coco import coco_form, coco_rows
from .folder import DataFolder
from .image_paths import IMAGE_SUFFIXES
from .parquet import parquet_rows
from .rows import Found, OwnRow, Source
from .tables import Record, csv_records, json_arrays, json_line_records, json_records, table_rows
from .webdataset import tar_rows
from .zips import unpack


SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of files and folders that are splits."""

IMAGES_BY_CLASS = "images by class"
"""The form of folders without tables."""

_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

_SHARD = re.compile(r"-\d+-of-\d+$")
_WORDS = "|".join(SPLIT_NAMES)
_SPLIT = re.compile(rf"(?:(?P<before>.+)[-_. ])?(?P<split>{_WORDS})\d*(?:[-_. ](?P<after>.+))?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")

# A dataset may have its tables in a subfolder, and this may have one folder per split
_DEPTH = 2


class UnknownFormError(ValueError):
    """A folder has rows in no form that is known."""


def split_name(path: Path) -> tuple[str, str | None]:
    """Return the name of a file or folder without the split and the numbers of shards, and its split.

    Example:

    ```python
    >>> from pathlib import Path

    >>> from fedvlm_hf.building.readers.own.forms import split_name

    >>> split_name(Path("north.csv")), split_name(Path("val.csv")), split_name(Path("north_test.csv"))
    (('north', None), ('', 'validation'), ('north', 'test'))
    >>> split_name(Path("train-00000-of-00002.parquet")), split_name(Path("instances_train2017.json"))
    (('', 'train'), ('instances', 'train'))
    ```
    """
    stem = _SHARD.sub("", path.name if path.is_dir() else path.stem)
    match = _SPLIT.fullmatch(stem)
    if not match:
        return stem, None
    rest = match["before"] or match["after"] or ""
    return "" if _NUMBER.fullmatch(rest) else rest, SPLIT_NAMES[match["split"].lower()]


def split_of(path: Path, source: Source) -> str | None:
    """Return the split of a source in a file or folder.

    Raises:
        `ValueError`: if the names of both say that it is another split.
    """
    split = split_name(path)[1]
    if None not in (split, source.split) and split != source.split:
        raise ValueError(
            f"{path.name} has rows of {split} according to its name, but {source.path.name} inside of it has rows of "
            f"{source.split}. Rename one of them."
        )
    return split or source.split


def is_shard(path: Path) -> bool:
    """Return whether a file is one of several with numbers, such as `north-00000-of-00002.parquet`."""
    return _SHARD.search(path.stem) is not None


def readable(files: list[Path], data: DataFolder) -> list[Path]:
    """Return the files that [`open_file`] reads, according to their suffixes."""
    for path in files:
        if path.name.lower().endswith(_COMPRESSED_TARS):
            raise ValueError(
                f"{data.label_of(path)} is a compressed tar, whose images cannot be read in place. Unpack it "
                "first, or make a tar without compression."
            )
    return [path for path in files if path.suffix.lower() in _OPEN or (_is_zip(path) and not data.in_zip)]


def open_file(path: Path, data: DataFolder) -> Found:
    """Open a table, Parquet file, tar or zip.

    Args:
        path (`Path`):
            A file that [`readable`] returned.
        data ([`DataFolder`]):
            The folder that it is in.

    Returns:
        [`Found`]: one source, or the sources of the zip.

    Raises:
        `ValueError`: if the file is damaged or has another form than its suffix says.
    """
    if not data.in_zip:  # the zip is recorded
        data.work.source(path)
    if _is_zip(path):
        return _open_zip(path, data)
    form, rows = _OPEN[path.suffix.lower()](path, data)
    return Found([Source(path.stem, path, form, split_name(path)[1], rows)], [])


def open_folder(folder: Path, data: DataFolder, depth: int = 0) -> Found:
    """Open a folder whose rows belong together.

    Args:
        folder (`Path`):
            A folder with metadata.csv, .jsonl or .parquet; with tables, Parquet files or tars; with one subfolder per
            split; with images by class; or with subfolders that have the tables.
        data ([`DataFolder`]):
            The folder that it is in.
        depth (`int`, *optional*, defaults to 0):
            How many folders are between this folder and the one that the user named.

    Returns:
        [`Found`]: the sources, and what is not read, relative to the folder.

    Raises:
        [`UnknownFormError`]: if the folder has none of these.
    """
    entries = data.entries(folder)
    files = [path for path in entries if path.is_file()]
    folders = [path for path in entries if path.is_dir()]
    tables = readable(files, data)
    tables = [path for path in tables if path.name.lower() in _METADATA][:1] or tables
    inner: list[Path] = []
    if tables:
        found = _pooled([(path, open_file(path, data)) for path in tables])
    elif inner := _with_tables(folders, data, depth):
        found = _pooled([(path, open_folder(path, data, depth + 1)) for path in inner])
        found.ignored.extend(f"{path.name}/" for path in folders if path not in inner)
    elif classes := _classes(folders, data):
        found = _class_folders(folder, classes, data)
        found.ignored.extend(f"{path.name}/" for path in folders if path.name not in classes)
    elif inner := [path for path in folders if depth < _DEPTH and _has_classes(path, data)]:
        found = _pooled([(path, open_folder(path, data, depth + 1)) for path in inner])
        found.ignored.extend(f"{path.name}/" for path in folders if path not in inner)
    else:
        raise UnknownFormError(_unknown(folder, files, data))
    unread = [path.name for path in files if path not in tables and not _is_image(path)]
    return Found(found.sources, [*unread, *found.ignored])


def _with_tables(folders: list[Path], data: DataFolder, depth: int) -> list[Path]:
    """Return the folders of splits; if there are none, the folders that have tables."""
    if depth >= _DEPTH:
        return []
    splits, others = [], []
    for folder in folders:
        entries = data.entries(folder)
        has_tables = bool(readable([path for path in entries if path.is_file()], data))
        # A folder with nothing but images may be a class, such as the vehicle `train`
        if folder.name.lower() in SPLIT_NAMES and (has_tables or any(path.is_dir() for path in entries)):
            splits.append(folder)
        elif has_tables:
            others.append(folder)
    return splits or others


def _pooled(opened: list[tuple[Path, Found]]) -> Found:
    """Join sources. If some are training rows by their name, those without a split are left out."""
    sources: list[Source] = []
    ignored: list[str] = []
    for path, found in opened:
        sources += [replace(source, split=split_of(path, source)) for source in found.sources]
        ignored += [f"{path.name}/{name}" for name in found.ignored]
    if any(source.split == "train" for source in sources):
        ignored += [source.path.name for source in sources if source.split is None]
        sources = [source for source in sources if source.split is not None]
    return Found(sources, ignored)


def _classes(folders: list[Path], data: DataFolder) -> dict[str, list[Path]]:
    """Return the files and folders in each folder that has images."""
    entries = {folder.name: data.entries(folder) for folder in folders}
    return {name: paths for name, paths in entries.items() if any(map(_is_image, paths))}


def _has_classes(folder: Path, data: DataFolder) -> bool:
    return bool(_classes([path for path in data.entries(folder) if path.is_dir()], data))


def _class_folders(folder: Path, classes: Mapping[str, list[Path]], data: DataFolder) -> Found:
    def rows() -> Iterator[OwnRow]:
        for name, paths in classes.items():
            for path in filter(_is_image, paths):
                values = {"answer": name, "label": name, "task": "classification"}
                image = ImageFile(data.key_of(path), path)
                yield OwnRow(f"{name}/{path.name}", data.label_of(path), values, image)

    unread = [name for paths in classes.values() for name in _not_images(paths)]
    return Found([Source(folder.name, folder, IMAGES_BY_CLASS, None, rows)], unread)


def _not_images(paths: list[Path]) -> Iterator[str]:
    """Yield the names of what a class folder has besides images; several files of the same type as one pattern."""
    others = [path for path in paths if not _is_image(path)]
    suffixes = Counter(path.suffix for path in others)
    for path in others:
        if path.is_dir():
            yield f"{path.parent.name}/{path.name}/"
        elif suffixes[path.suffix] == 1:
            yield f"{path.parent.name}/{path.name}"
        elif count := suffixes.pop(path.suffix, 0):
            yield f"{path.parent.name}/*{path.suffix} ({count} files)"


def _open_zip(path: Path, data: DataFolder) -> Found:
    label, prefix = data.label_of(path), f"{data.key_of(path)}/"
    folder = unpack(path, label, data.work)
    found = open_folder(folder, DataFolder(folder, label, data.work, data.image, prefix=prefix, in_zip=True))
    return Found([replace(source, form=f"{source.form} in a zip") for source in found.sources], found.ignored)


def _unknown(folder: Path, files: list[Path], data: DataFolder) -> str:
    label = data.label_of(folder)
    if any(map(_is_image, files)):
        return (
            f"{label} has images, but nothing says what they show. Add metadata.csv with the columns file_name and "
            "answer, or move the images into one subfolder per class."
        )
    if any(path.suffix.lower() in (".dcm", ".dicom") for path in files):
        return f"{label} has DICOM files, which are not read. Convert them to PNG, and add metadata.csv."
    tables, images = ", ".join(_OPEN), ", ".join(IMAGE_SUFFIXES)
    return f"{label} has no table ({tables}) and no subfolders of images by class ({images})."


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


Opened = tuple[str, Callable[[], Iterator[OwnRow]]]


def _table(form: str, read: Callable[[Path, str], Iterator[Record]], path: Path, data: DataFolder) -> Opened:
    label, images = data.label_of(path), data.image_paths(path.parent)
    return form, lambda: table_rows(read(path, label), label, images, data.image)


def _json(path: Path, data: DataFolder) -> Opened:
    label, images = data.label_of(path), data.image_paths(path.parent)
    with JsonStream(path, label) as stream:
        start = stream.peek()
    if start == "[":
        return _table("JSON list", json_records, path, data)
    if start not in ("{", ""):
        raise ValueError(f"{label} has neither a list of rows nor an object, but starts with {start!r}.")
    arrays = json_arrays(path, label)
    if arrays is None:
        return _table("JSON Lines", json_line_records, path, data)
    if form := coco_form(arrays):
        return form, lambda: coco_rows(path, label, form, images, data.work)
    keys = [key for key, first in arrays.items() if isinstance(first, dict)]
    if len(keys) == 1:
        return _table("JSON list", partial(json_records, key=keys[0]), path, data)
    raise ValueError(
        f"{label} is an object in which {'several keys have' if keys else 'no key has'} a list of rows; lists are "
        f"{list(arrays)}. Expected is a list of rows, one list of rows under a key, or COCO's `images` and "
        "`annotations`."
    )


def _parquet(path: Path, data: DataFolder) -> Opened:
    label, images = data.label_of(path), data.image_paths(path.parent)
    return "Parquet", lambda: parquet_rows(path, label, data.key_of(path), images, data.image)


def _tar(path: Path, data: DataFolder) -> Opened:
    return "WebDataset tar", lambda: tar_rows(path, data.label_of(path), data.key_of(path), data.work)


_OPEN: dict[str, Callable[[Path, DataFolder], Opened]] = {
    ".csv": partial(_table, "CSV table", csv_records),
    ".tsv": partial(_table, "CSV table", csv_records),
    ".json": _json,
    ".jsonl": partial(_table, "JSON Lines", json_line_records),
    ".parquet": _parquet,
    ".tar": _tar,
}
