"""Images in Parquet files, which are read only when they are needed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, local
from typing import Any
from weakref import WeakValueDictionary

import pyarrow as pa
import pyarrow.parquet as pq

from ..images import StoredImage


# Row groups with larger columns are read a few rows at a time
_GROUP_BYTES = 256 * 2**20
_BATCH_ROWS = 16

# Threads read images almost in order, so some batches are kept for rows that are requested a little later
_KEPT_BATCHES = 4


@dataclass(frozen=True)
class ParquetImage(StoredImage):
    """An image in a Parquet file. It is read on request, because the whole column would need too much memory.

    Attributes:
        key (`str`): Name of the image.
        path (`Path`): The file.
        column (`str`): A column of bytes, of objects with `bytes`, or of lists with one of these.
        row_group (`int`), row (`int`): The row, counted from the start of its row group.
    """

    key: str
    path: Path
    column: str
    row_group: int
    row: int

    def load(self) -> bytes:
        """Return the image's bytes as stored in the file.

        Raises:
            `ValueError`: if the row has only the path of the image.
        """
        status = self.path.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        value = _group(self.path.absolute(), version, self.column, self.row_group).value(self.row)
        value = value[0] if isinstance(value, list) else value
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise ValueError(
                f"{self.path}, row group {self.row_group}, row {self.row} has no image bytes, only a path."
            )
        return content


class _Group:
    """A column of a row group. Rows should be read roughly in order, because large groups are read in batches."""

    def __init__(self, path: Path, column: str, row_group: int):
        self._path, self._column, self._row_group = path, column, row_group
        self._lock = Lock()  # images are read in threads
        metadata = pq.read_metadata(path).row_group(row_group)
        leaves = (metadata.column(index) for index in range(metadata.num_columns))
        num_bytes = sum(leaf.total_uncompressed_size for leaf in leaves if leaf.path_in_schema.split(".")[0] == column)
        self.is_whole = num_bytes <= _GROUP_BYTES
        self._batch_rows = max(1, metadata.num_rows) if self.is_whole else _BATCH_ROWS
        self._start()

    def value(self, row: int) -> Any:
        """Return the value of a row."""
        with self._lock:
            if row < self._kept[0][0]:
                self._start()
            while row >= self._stop:
                batch = next(self._batches)
                self._kept.append((self._stop, batch))
                self._stop += len(batch)
            first, batch = next(kept for kept in reversed(self._kept) if kept[0] <= row)
            return batch[row - first].as_py()

    def _start(self) -> None:
        self._kept: deque[tuple[int, pa.Array]] = deque([(0, pa.array([]))], maxlen=_KEPT_BATCHES)
        self._stop = 0
        self._batches = self._read()

    def _read(self) -> Iterator[pa.Array]:
        # Page by page. By default Arrow reads whole row groups, and their images may not fit into memory
        with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=2**20) as file:
            for batch in file.iter_batches(self._batch_rows, row_groups=[self._row_group], columns=[self._column]):
                yield batch.column(self._column)


class _LastGroup(local):
    """The row group that a thread read last. Each thread requests its rows almost in order, so one is enough."""

    key: tuple[Any, ...] | None = None
    group: _Group | None = None


_last = _LastGroup()
# Row groups that are completely in memory are shared by the threads that read them at the moment. Large ones are not:
# threads at different rows would start from the first row again and again
_shared: "WeakValueDictionary[tuple[Any, ...], _Group]" = WeakValueDictionary()
_lock = Lock()


def _group(path: Path, version: tuple[int, ...], column: str, row_group: int) -> _Group:
    """Return a row group. The version is that of the file, which may be replaced between two builds of a process."""
    key = (path, version, column, row_group)
    if _last.group is None or _last.key != key:
        _last.group = None  # its memory is free before the next one is read
        with _lock:
            group = _shared.get(key) or _Group(path, column, row_group)
            if group.is_whole:
                _shared[key] = group
        _last.key, _last.group = key, group
    return _last.group
