"""Read the rows of datasets that `datasets` loads: from the Hub, or from a folder that `save_to_disk` wrote."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Image, LargeList, List, load_from_disk
from datasets import load_dataset as load_from_hub

from ....repository.requests import check_on_hub, is_repo_id
from ...images import StoredImage
from ...pieces import image_content
from .rows import OwnRow
from .tables import without_missing


_BATCH_ROWS = 1000
_FILE_SUFFIXES = {".arrow", ".csv", ".gz", ".json", ".jsonl", ".parquet", ".tar", ".tsv", ".txt", ".zip"}


class PickledOnce:
    """A dataset that is pickled and unpickled once per process, however many images refer to it."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._content: bytes | None = None

    def __getstate__(self) -> bytes:
        if self._content is None:
            self._content = pickle.dumps(self.dataset)  # the paths of Arrow files, without rows
        return self._content

    def __setstate__(self, content: bytes) -> None:
        self.dataset = _unpickled(content)
        self._content = content


@lru_cache(maxsize=8)
def _unpickled(content: bytes) -> Dataset:
    return pickle.loads(content)


@dataclass(frozen=True)
class LoadedImage(StoredImage):
    """The image of a row of a loaded dataset. Its pickle has only the paths of Arrow files and the row's index."""

    key: str
    rows: PickledOnce = field(compare=False, repr=False)
    row: int = field(compare=False)

    @property
    def version(self) -> str:
        """The fingerprint of the dataset, which identifies its files and their version."""
        return self.rows.dataset._fingerprint

    def load(self) -> bytes:
        """Return the bytes as the dataset stores them."""
        (column,) = self.rows.dataset[self.row : self.row + 1].columns
        value = column[0].as_py()
        return image_content(value[0] if isinstance(value, list) else value)


def load_splits(name: str, config: str | None = None, revision: str | None = None) -> DatasetDict:
    """Load a dataset with its splits.

    Args:
        name (`str`):
            A dataset on the Hub, or a folder that `DatasetDict.save_to_disk` wrote.
        config (`str`, *optional*):
            The configuration.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Raises:
        `ValueError`: if the dataset does not exist, the Hub cannot be reached, or a configuration is needed.
    """
    if Path(name).is_dir():
        return _from_disk(Path(name))
    if _looks_local(name):
        raise ValueError(
            f"`dataset`: there is no file or folder {name}. Check the path; datasets on the Hub have names such as "
            "org/dataset."
        )
    check_on_hub("dataset", name, "dataset", revision)
    try:
        return load_from_hub(name, config, revision=revision)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(f"`dataset`: {name} cannot be loaded ({error}).") from error


def _from_disk(folder: Path) -> DatasetDict:
    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"`dataset`: {folder} is not a complete folder of `save_to_disk` ({error}). Save it again."
        ) from error
    return loaded if isinstance(loaded, DatasetDict) else DatasetDict({"train": loaded})


def _looks_local(name: str) -> bool:
    """Return whether a name that is no file or folder is more likely a mistyped path than a dataset on the Hub."""
    path = PurePosixPath(name.replace("\\", "/"))
    is_path = name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or len(path.parts) > 2
    return is_path or path.suffix.lower() in _FILE_SUFFIXES or (not is_repo_id(name) and "/" in name)


def loaded_rows(dataset: Dataset, split: str, where: str, image: str | None = None) -> Iterator[OwnRow]:
    """Read the rows of a loaded dataset, a batch at a time and without their images.

    Args:
        dataset (`Dataset`):
            The rows.
        split (`str`):
            Name of the split, which is part of the images' keys.
        where (`str`):
            Name of the dataset in error messages.
        image (`str`, *optional*):
            The column with the images; by default `images`, or the only one with images.

    Yields:
        [`OwnRow`]: a row, known by its index. Classes have their names, and columns with other images are left out.

    Raises:
        `ValueError`: if no column has the images, or several do.
    """
    column = image_column(dataset.features, image)
    images = PickledOnce(dataset.select_columns([column]).with_format("arrow"))
    read = [name for name, feature in dataset.features.items() if name != column and not _has_media(feature)]
    names = {name: dataset.features[name].names for name in read if isinstance(dataset.features[name], ClassLabel)}
    row = 0
    for batch in dataset.select_columns([*read, column]).with_format("arrow").iter(_BATCH_ROWS):
        counts = _num_images(batch[column])
        for values, num_images in zip(batch.select(read).to_pylist(), counts, strict=True):
            for name in names:
                index = values[name]
                values[name] = None if index is None or index < 0 else names[name][index]  # -1 means no class
            yield OwnRow(
                name=str(row),
                where=f"{where}, row {row}",
                values=without_missing(values),
                image=LoadedImage(f"{split}/{row:07d}", images, row) if num_images else None,
                num_images=num_images,
            )
            row += 1


def image_column(features: Features, wanted: str | None = None) -> str:
    """Return the column with the images: the wanted one, `images`, or the only one with images.

    Raises:
        `ValueError`: listing the columns, if there is no such column, it has no images, or there are several.
    """
    found = [name for name, feature in features.items() if isinstance(_element(feature), Image)]
    if wanted is None and "images" in found:
        return "images"
    if wanted in found or (wanted is None and len(found) == 1):
        return wanted or found[0]
    raise ValueError(
        f"`image={wanted!r}` must be the column with the images; columns with images are {found} of {list(features)}."
    )


def _num_images(column: pa.ChunkedArray) -> list[int]:
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        counts = pc.fill_null(pc.list_value_length(column), 0)
    else:
        counts = pc.cast(column.is_valid(), pa.int64())
    return counts.to_pylist()


def _has_media(feature: Any) -> bool:
    return isinstance(_element(feature), Image | Audio)


def _element(feature: Any) -> Any:
    return feature.feature if isinstance(feature, List | LargeList) else feature
