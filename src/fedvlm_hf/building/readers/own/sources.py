"""Find the user's own data in a folder: for each client, or pooled for a partition."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ....markdown import front_matter
from ...work import Work
from .folder import DataFolder
from .forms import IMAGES_BY_CLASS, UnknownFormError, is_shard, open_file, open_folder, readable, split_name, split_of
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
    folders = [path for path in entries if path.is_dir()]
    opened: dict[Path, Found] = {path: open_file(path, data) for path in files}
    unknown: dict[Path, UnknownFormError] = {}
    for path in folders:
        try:
            opened[path] = open_folder(path, data)
        except UnknownFormError as error:
            unknown[path] = error
    for path in _used_folders(opened, unknown, data):
        opened.pop(path, None)
        unknown.pop(path, None)
    for path, error in unknown.items():
        raise ValueError(f"{data.label_of(path)} is not a client: no table uses its images, and {error}") from error
    sources: list[Source] = []
    _check_names(opened, data)
    ignored = [path.name for path in entries if path.is_file() and path not in files]
    for path, found in opened.items():
        sources += _owned(path, found.sources, data)
        ignored += [f"{path.name}/{name}" for name in found.ignored]
    if not sources:
        raise ValueError(f"`raw`: {raw} has no table and no folder of images.")
    return Found(_sorted(sources), ignored)


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
        if path.suffix.lower() != ".zip":  # a single file was meant as it is, whatever its name
            found = Found([replace(source, split=None) for source in found.sources], found.ignored)
    else:
        raise ValueError(f"`dataset`: {path} is no table, tar or zip that can be read.")
    sources = [replace(source, name=source.split or source.name) for source in found.sources]
    return Found(_sorted(sources), found.ignored)


def is_hub_layout(path: Path) -> bool:
    """Return whether a folder is a dataset in the layout of the Hub, or was written by `save_to_disk`."""
    if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
        return True
    card = path / "README.md"
    try:
        metadata = front_matter(card) if card.is_file() else {}
    except ValueError:  # a text with three dashes that is no card
        return False
    return bool({"configs", "dataset_info"} & metadata.keys())


def _used_folders(opened: Mapping[Path, Found], unknown: Iterable[Path], data: DataFolder) -> set[Path]:
    """Return the folders whose images are used by tables in other places. They are not clients."""
    by_class = [path for path, found in opened.items() if any(s.form == IMAGES_BY_CLASS for s in found.sources)]
    candidates = {path for path in (*unknown, *by_class) if path.parent == data.root and path.is_dir()}
    named = data.image_folder
    used = {path for path in candidates if named is not None and named.resolve().is_relative_to(path.resolve())}
    if used == candidates:
        return used
    scratch = replace(data, work=Work(raw=data.root))  # the rows are counted when they are read for the build
    tables = [path for path in opened if path not in candidates]
    for row in (row for path in tables for row in _rows_with_paths(path, scratch)):
        used |= candidates & set(row.image.file.parents)
        if used == candidates:
            break
    return used


def _rows_with_paths(path: Path, data: DataFolder) -> Iterator[OwnRow]:
    """Yield the rows of a file or folder, except a zip, whose images are files."""
    if path.suffix.lower() in (".zip", ".tar"):
        return
    found = open_folder(path, data) if path.is_dir() else open_file(path, data)
    for source in found.sources:
        yield from (row for row in source.rows() if row.image is not None and row.image.file is not None)


def _check_names(paths: Iterable[Path], data: DataFolder) -> None:
    """Check that no two files or folders have the rows of the same client or split, unless they are shards."""
    known: dict[tuple[str, str | None], Path] = {}
    for path in paths:
        other = known.setdefault(split_name(path), path)
        if other is not path and not (is_shard(path) and is_shard(other)):
            name = split_name(path)[0] or split_name(path)[1]
            raise ValueError(
                f"{data.label_of(path)}: another file or folder, {other.name}, is also called {name!r}, but names "
                "identify clients and splits. Rename one."
            )


def _owned(path: Path, sources: Sequence[Source], data: DataFolder) -> list[Source]:
    """Return the sources of a file or folder with the client that has them."""
    client, split = split_name(path)
    found = []
    for source in sources:
        own, part = client, split_of(path, source)
        if not client and path.is_dir() and split == "train" and len(sources) > 1:
            own = split_name(source.path)[0]  # a folder train with one table per client
        name = own or part
        found.append(replace(source, name=name, client=own or None, split=part))
    return found


def _sorted(sources: list[Source]) -> list[Source]:
    """Return the sources in the order of their names. Sources with the same name get different names of rows."""
    counts = Counter(source.name for source in sources)
    stems = Counter((source.name, source.path.stem) for source in sources)
    found = []
    for source in sources:
        if counts[source.name] > 1:
            is_unique = stems[source.name, source.path.stem] == 1
            prefix = source.path.stem if is_unique else f"{source.path.parent.name}/{source.path.stem}"
            source = replace(source, rows=partial(_prefixed, source.rows, prefix))
        found.append(source)
    return sorted(found, key=lambda source: (source.name, str(source.path)))


def _prefixed(rows: Callable[[], Iterator[OwnRow]], prefix: str) -> Iterator[OwnRow]:
    for row in rows():
        yield replace(row, name=f"{prefix}-{row.name}")
