"""Find the user's own data in a folder: for each client, or pooled for a partition."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from huggingface_hub.repocard import metadata_load

from ...images import ImageFile
from ...work import Work
from ..coco import Photograph
from .folder import DataFolder
from .forms import open_file, open_folder, readable, split_name
from .rows import Found, OwnRow, Source


def find_sources(raw: Path, work: Work, image: str | None = None, image_folder: Path | None = None) -> Found:
    """Find the clients of a folder: each table, Parquet file, tar, zip and subfolder is one.

    Files and folders with the name of a split (`train`, `val`, `test` and their other spellings) are not clients but
    rows of all clients. Folders with images that a table uses are no clients either.

    Args:
        raw (`Path`):
            The folder. Hidden files and folders are ignored.
        work ([`Work`]):
            Records every file that is read and every folder that is listed, and counts rows that are left out.
        image (`str`, *optional*):
            The column with the image or its path. By default it is found by its name.
        image_folder (`Path`, *optional*):
            Where the images of tables are. By default next to the table, or in `raw`.

    Returns:
        [`Found`].

    Raises:
        `ValueError`: if there is no source, two clients have the same name, or a file cannot be read.
    """
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` is not a folder.")
    data = DataFolder(raw, str(raw), work, image, image_folder)
    entries = data.entries(raw)
    files = readable([path for path in entries if path.is_file()], data)
    opened = [(path, open_file(path, data)) for path in files]
    used = _used_folders(files, [path for path in entries if path.is_dir()], data)
    opened += [(path, _open_client(path, data)) for path in entries if path.is_dir() and path not in used]
    sources: list[Source] = []
    ignored = [path.name for path in entries if path.is_file() and path not in files]
    for path, found in opened:
        sources += _named(path, found.sources)
        ignored += [f"{path.name}/{name}" for name in found.ignored]
    if not sources:
        raise ValueError(f"`raw`: {raw} has no table and no folder of images.")
    _check_names(sources, data)
    return Found(sorted(_with_unique_rows(sources), key=lambda source: (source.name, source.path)), ignored)


def open_source(path: Path, work: Work, image: str | None = None, image_folder: Path | None = None) -> Found | None:
    """Open a file or folder whose rows are pooled, not divided into clients.

    Args:
        path (`Path`):
            A table, Parquet file, tar or zip; or a folder with one or several of them, with images by class, or with
            one subfolder per split.
        work ([`Work`]):
            Records every file that is read and every folder that is listed, and counts rows that are left out.
        image (`str`, *optional*):
            The column with the image or its path. By default it is found by its name.
        image_folder (`Path`, *optional*):
            Where the images of tables are. By default next to the table, or in `path`.

    Returns:
        [`Found`], *optional*: several sources may have the same split, such as the shards of a dataset. `None` if
            `path` is a folder in the layout of the Hub, for which there is `load_dataset` or `load_from_disk`.

    Raises:
        `ValueError`: if there is no such file or folder, or it has no rows in a known form.
    """
    if not path.exists():
        raise ValueError(f"`dataset`: there is no file or folder {path}.")
    if is_hub_layout(path):
        return None
    root = path if path.is_dir() else path.parent
    data = DataFolder(root, str(root), work, image, image_folder)
    if path.is_dir():
        found = open_folder(path, data)
    elif readable([path], data):
        found = open_file(path, data)
    else:
        raise ValueError(f"`dataset`: {path} is in no known form.")
    sources = [replace(source, name=source.split or source.name) for source in found.sources]
    return Found(sorted(_with_unique_rows(sources), key=lambda source: (source.name, source.path)), found.ignored)


def is_hub_layout(path: Path) -> bool:
    """Return whether a folder is a dataset in the layout of the Hub, or was written by `save_to_disk`."""
    if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
        return True
    card = path / "README.md"
    try:
        metadata = metadata_load(card) if card.is_file() else None
    except ValueError:  # a text with three dashes that is no card
        return False
    return isinstance(metadata, dict) and bool({"configs", "dataset_info"} & metadata.keys())


def _open_client(folder: Path, data: DataFolder) -> Found:
    try:
        return open_folder(folder, data)
    except ValueError as error:
        raise ValueError(
            f"{data.label_of(folder)} is not a client, because no table uses its images: {error}"
        ) from error


def _used_folders(files: list[Path], folders: list[Path], data: DataFolder) -> set[Path]:
    """Return the folders whose images are used by tables in other places. They are not clients."""


def _named(path: Path, sources: Iterable[Source]) -> list[Source]:
    """Return the sources of a file or folder with the client that has them."""
