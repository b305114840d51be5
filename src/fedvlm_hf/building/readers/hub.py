"""Read image-text datasets with any columns, from the Hub or from folders that `load_dataset` reads."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    LargeList,
    List,
    Value,
    load_dataset,
    load_from_disk,
)

from ...data.pixels import Window
from ..images import StoredImage, convert_deep, image_digest, open_image
from ..pieces import Piece, dataset_pieces, image_content
from ..work import Work


@dataclass(frozen=True)
class RowImage(StoredImage):
    """The image of a row of a loaded dataset. Its pickle has only the paths of Arrow files and the row's index."""

    key: str
    dataset: Dataset = field(compare=False)
    column: str = field(compare=False)
    row: int = field(compare=False)

    def load(self) -> bytes:
        """Return the bytes as the dataset stores them."""
        value = self.dataset.with_format("arrow")[self.row : self.row + 1][self.column][0].as_py()
        return image_content(value[0] if isinstance(value, list) else value)


def load_splits(name: str, config: str | None = None, revision: str | None = None) -> DatasetDict:
    """Load a dataset with its splits.

    Args:
        name (`str`):
            A dataset on the Hub, a folder that `load_dataset` reads, or one that `DatasetDict.save_to_disk` wrote.
        config (`str`, *optional*):
            The configuration.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Raises:
        `ValueError`: if the dataset cannot be found, or needs a configuration.
    """
    if (Path(name) / "dataset_dict.json").exists():
        return load_from_disk(name)
    try:
        return load_dataset(name, config, revision=revision)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(f"`dataset`: {name} cannot be loaded ({error}).") from error


def image_column(features: Features, wanted: str | None = None) -> str:
    """Return the column with the images: the wanted one, `images`, or the only one with images.

    Raises:
        `ValueError`: listing the columns, if there is no such column, it has no images, or there are several.
    """
    found = [name for name, feature in features.items() if _is_image(feature)]
    if wanted is None and "images" in found:
        return "images"
    if wanted in found or (wanted is None and len(found) == 1):
        return wanted or found[0]
    raise ValueError(
        f"`image={wanted!r}` must be the column with the images; columns with images are {found} of {list(features)}."
    )


def text_columns(features: Features) -> list[str]:
    """Return the columns that have one text, number or class per row."""
    return [name for name, feature in features.items() if isinstance(feature, Value | ClassLabel)]


def pixel_digests(dataset: Dataset, column: str, where: str, work: Work) -> list[str]:
    """Return the pixel digest of each row's image.

    Args:
        dataset (`Dataset`):
            The rows.
        column (`str`):
            The column with the image, or with a list of one image.
        where (`str`):
            Name of the dataset in error messages.
        work ([`Work`]):
            Worker processes and journal.

    Returns:
        `list[str]`: digests in row order.

    Raises:
        `ValueError`: naming the row, if it does not have exactly one image, or the image cannot be decoded.
    """
    pieces = dataset_pieces(dataset.select_columns([column]), where)
    # The fingerprint identifies the files and their version, so the journal of other rows is not used
    items = {f"{dataset._fingerprint} {column} {piece.name}": (piece, work.window) for piece in pieces}
    found = work.map("source_images", _digests, items, "reading images", is_long=True)
    return [digest for digests in found.values() for digest in digests]


def records(dataset: Dataset, columns: list[str]) -> list[dict[str, Any]]:
    """Return the rows without their images, and with the names of classes."""
    names = {name: feature.names for name, feature in dataset.features.items() if isinstance(feature, ClassLabel)}
    rows = dataset.select_columns(columns).with_format(None).to_list()
    for row in rows:
        for name in names.keys() & row.keys():
            value = row[name]
            row[name] = None if value is None or value < 0 else names[name][value]  # -1 means no class
    return rows


def _digests(item: tuple[Piece, Window | None]) -> list[str]:
    piece, window = item
    (column,) = piece.columns
    digests = []
    for batch in piece.batches([column]):
        for value in batch[column].to_pylist():
            where = f"{piece.file}, row {piece.first_row + len(digests)}"
            images = value if isinstance(value, list) else [value]
            if len(images or ()) != 1 or images[0] is None:
                raise ValueError(f"{where}: there must be one image, got {len(images or ())}.")
            picture = open_image(image_content(images[0]), f"{where}: the image")
            digests.append(image_digest(convert_deep(picture, f"{where}: the image", window)))
    return digests


def _is_image(feature: object) -> bool:
    return isinstance(feature.feature if isinstance(feature, List | LargeList) else feature, Image)
