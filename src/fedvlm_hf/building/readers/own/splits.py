"""Open a dataset without clients by its splits: own files, a folder in the layout of the Hub, or one on the Hub."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dataset import read_folder
from ...work import Work
from .rows import OwnRow, Source
from .sources import open_source


if TYPE_CHECKING:
    from datasets import Dataset


class OpenedSplits:
    """The splits of a dataset.

    Attributes:
        rows (`dict[str, Callable[[], Iterator[OwnRow]]]`): Reads the rows of each split.
        ignored (`Sequence[str]`): Names of files and folders that are not read.
    """

    def __init__(self, ignored: Sequence[str] = ()):
        self.rows: dict[str, Callable[[], Iterator[OwnRow]]] = {}
        self.ignored = ignored
        self._sizes: dict[str, int] = {}
        self._checksums: dict[str, Any] = {}

    def add_loaded(self, name: str, dataset: "Dataset", where: str, image: str | None) -> None:
        """Add a split of a loaded dataset."""
        from .loaded import loaded_rows

        # A hash of the content, since `datasets` hashes times and paths of files, which differ between machines
        checksum = self._checksums[name] = hashlib.sha256()

        def rows() -> Iterator[OwnRow]:
            for row in loaded_rows(dataset, name, where, image):
                checksum.update(json.dumps(row.values, sort_keys=True, default=str).encode())
                yield row

        self.rows[name] = rows
        self._sizes[name] = dataset.num_rows

    def num_rows(self, name: str) -> int:
        """Return the number of rows of a split. Files are read for this."""
        return self._sizes[name] if name in self._sizes else sum(1 for _ in self.rows[name]())

    def record(self, name: str, images: Iterable[str], work: Work) -> None:
        """Record the checksum of a split that was read and is not a file: of its rows, and their images."""
        checksum = self._checksums.get(name)
        if checksum is not None:
            for image in images:
                checksum.update(image.encode())
            work.sources[f"split {name}"] = checksum.hexdigest()


def open_splits(
    name: str,
    split: str,
    config: str | None,
    revision: str | None,
    image: str | None,
    image_folder: Path | None,
    work: Work,
) -> OpenedSplits:
    """Open a dataset by its splits.

    Args:
        name (`str`):
            A file or folder in one of the forms of own data; a folder in the layout of the Hub, or one that
            `save_to_disk` wrote; or a dataset on the Hub.
        split (`str`):
            The split that will be divided. If it is `"train"` and nothing is named so, files that are not named like
            a split are its rows.
        config (`str`, *optional*), revision (`str`, *optional*):
            The configuration of a folder or dataset of the Hub, and its branch, tag or commit.
        image (`str`, *optional*), image_folder (`Path`, *optional*):
            See [`open_source`].
        work ([`Work`]):
            Records what is read.

    Raises:
        `ValueError`: if the dataset does not exist or cannot be read.
    """
    path = Path(name)
    if path.exists():
        found = open_source(path, work, image, image_folder)
        if found is not None:
            return _from_sources(found.sources, split, found.ignored)
        if (path / "README.md").is_file():
            sources = _card_sources(path, config, partial(open_source, work=work, image=image))
            return _from_sources(sources, split, [])
    # Imported here, since own files are read without `datasets` and transformers, which take seconds to import
    from .loaded import load_splits

    opened = OpenedSplits()
    for found_split, dataset in load_splits(name, config, revision).items():
        opened.add_loaded(found_split, dataset, f"{name}, split {found_split}", image)
    return opened


def _card_sources(folder: Path, config: str | None, open_file: Callable[[Path], Any]) -> list[Source]:
    """Return the sources of the files that the card of a folder lists."""
    federation = read_folder(folder)
    config = config or next(iter(federation.configs))
    if config not in federation.configs:
        raise ValueError(
            f"`dataset_config={config!r}` is not a configuration of {folder}: {list(federation.configs)}."
        )
    sources = []
    for split, files in federation.configs[config].items():
        if not files:
            raise ValueError(f"`dataset`: {folder} has no file for the split {split!r} of its card.")
        for file in files:
            sources += [replace(source, name=split, split=split) for source in open_file(folder / file).sources]
    return sources


def _from_sources(sources: Sequence[Source], wanted: str, ignored: Sequence[str]) -> OpenedSplits:
    by_name: dict[str, list[Source]] = {}
    has_train = any(source.split == "train" for source in sources)
    for source in sources:
        is_pool = source.split is None and wanted == "train" and not has_train
        by_name.setdefault("train" if is_pool else source.split or source.name, []).append(source)
    opened = OpenedSplits(ignored)
    for name, found in by_name.items():
        opened.rows[name] = partial(_all_rows, found)
    return opened


def _all_rows(sources: Sequence[Source]) -> Iterator[OwnRow]:
    for source in sources:
        yield from source.rows()
