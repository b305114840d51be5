"""Rows on disk in pieces that are small enough for one process and little memory, however large the files are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq


if TYPE_CHECKING:
    from datasets import Dataset


PIECE_ROWS = 1000
"""Rows per piece, if the row groups allow it: a few seconds of work."""

# Rows in memory at the same time: full-size photographs have a few MB each
_BATCH_ROWS = 16


@dataclass(frozen=True)
class Piece(ABC):
    """Consecutive rows of one file or split. Picklable, so that another process can read them.

    Attributes:
        file (`str`): Name of the file in error messages.
        first_row (`int`): Index of the first row in the file, from 0.
        num_rows (`int`): Number of rows.
    """

    file: str
    first_row: int
    num_rows: int

    @property
    def name(self) -> str:
        """A name that is unique in the dataset."""
        return f"{self.file}:{self.first_row}"

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Names of all columns."""

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows in order, a few at a time, with images as `{"bytes", "path"}`.

        Raises:
            `OSError` or `pyarrow.ArrowInvalid`: if the file is damaged.
        """


@dataclass(frozen=True)
class ParquetPiece(Piece):
    """Row groups of a Parquet file."""

    path: Path
    row_groups: tuple[int, ...]

    @property
    def columns(self) -> list[str]:
        """Names of the columns in the file's schema."""
        return pq.read_schema(self.path).names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read page by page. By default Arrow reads whole row groups, and their images may not fit into memory."""
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=2**20) as file:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=list(self.row_groups), columns=list(columns)):
                yield pa.Table.from_batches([batch])


@dataclass(frozen=True)
class DatasetPiece(Piece):
    """Rows of a loaded `datasets.Dataset`."""

    dataset: "Dataset" = field(compare=False)

    @property
    def columns(self) -> list[str]:
        """Names of the dataset's columns."""
        return self.dataset.column_names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read from the dataset's Arrow files."""
        rows = self.dataset.select_columns(list(columns)).with_format("arrow")
        stop = self.first_row + self.num_rows
        for start in range(self.first_row, stop, _BATCH_ROWS):
            yield rows[start : min(start + _BATCH_ROWS, stop)]


def image_content(image: Mapping[str, Any]) -> bytes:
    """Return the encoded image of a stored value, which may also be just a path, as in loaded image folders.

    Raises:
        `OSError`: if the path cannot be read.
    """
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


def parquet_pieces(path: Path, file: str) -> list[Piece]:
    """Split a Parquet file into pieces.

    Args:
        path (`Path`):
            The file.
        file (`str`):
            Name of the file in error messages.

    Returns:
        `list[Piece]`: in row order.

    Raises:
        `OSError` or `pyarrow.ArrowInvalid`: if the file is missing or not a complete Parquet file.
    """
    metadata = pq.read_metadata(path)
    pieces: list[Piece] = []
    groups: list[int] = []
    first = stop = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        stop += metadata.row_group(group).num_rows
        if stop - first >= PIECE_ROWS or group == metadata.num_row_groups - 1:
            pieces.append(ParquetPiece(file, first, stop - first, path, tuple(groups)))
            first, groups = stop, []
    return pieces


def dataset_pieces(dataset: "Dataset", file: str) -> list[Piece]:
    """Split a loaded dataset into pieces that error messages call `file`."""
    starts = range(0, dataset.num_rows, PIECE_ROWS)
    return [DatasetPiece(file, start, min(PIECE_ROWS, dataset.num_rows - start), dataset) for start in starts]
