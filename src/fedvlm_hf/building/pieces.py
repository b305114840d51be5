"""Rows on disk in pieces: small enough for one process and little memory, whatever the size of the files."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset


PIECE_ROWS = 1000
"""Rows of a piece, where row groups allow: some seconds of work."""

# Rows in memory together: full-size photographs are a few MB each
_BATCH_ROWS = 16


@dataclass(frozen=True)
class Piece(ABC):
    """Consecutive rows of one file or split; picklable, so that another process may read them.

    Attributes:
        file (`str`): As errors name it.
        first_row (`int`): Where in the file the piece starts, from 0.
        num_rows (`int`): How many rows it has.
    """

    file: str
    first_row: int
    num_rows: int

    @property
    def name(self) -> str:
        """Unique in a dataset."""
        return f"{self.file}:{self.first_row}"

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Names of the columns."""

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows in order, a few at a time, images as `{"bytes", "path"}`.

        Raises:
            `OSError` or `pyarrow.ArrowInvalid`: where the file is damaged.
        """


@dataclass(frozen=True)
class ParquetPiece(Piece):
    """Row groups of a Parquet file."""

    path: Path
    row_groups: tuple[int, ...]

    @property
    def columns(self) -> list[str]:
        """Of the file's schema."""
        return pq.read_schema(self.path).names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Reads page by page: by default Arrow reads whole row groups, whose images may be larger than the memory."""
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=2**20) as file:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=list(self.row_groups), columns=list(columns)):
                yield pa.Table.from_batches([batch])


@dataclass(frozen=True)
class DatasetPiece(Piece):
    """Rows of a loaded `datasets.Dataset`."""

    dataset: Dataset = field(compare=False)

    @property
    def columns(self) -> list[str]:
        """Of the dataset."""
        return self.dataset.column_names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Reads from the dataset's Arrow files."""
        rows = self.dataset.select_columns(list(columns)).with_format("arrow")
        stop = self.first_row + self.num_rows
        for start in range(self.first_row, stop, _BATCH_ROWS):
            yield rows[start : min(start + _BATCH_ROWS, stop)]


def image_content(image: Mapping[str, Any]) -> bytes:
    """The encoded image of a stored value, also where only its path is stored, as loaded image folders have it.

    Raises:
        `OSError`: if the path cannot be read.
    """
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


def parquet_pieces(path: Path, file: str) -> list[Piece]:
    """A Parquet file in pieces.

    Args:
        path (`Path`):
            The file.
        file (`str`):
            As errors name it.

    Returns:
        `list[Piece]`: in row order.

    Raises:
        `OSError` or `pyarrow.ArrowInvalid`: if it is missing or not a whole Parquet file.
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


def dataset_pieces(dataset: Dataset, file: str) -> list[Piece]:
    """A loaded split in pieces, named `file` in errors."""
    starts = range(0, dataset.num_rows, PIECE_ROWS)
    return [DatasetPiece(file, start, min(PIECE_ROWS, dataset.num_rows - start), dataset) for start in starts]
