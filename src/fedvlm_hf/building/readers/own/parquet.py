"""Read Parquet files of the user's own data, without their images."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..parquet import ParquetImage
from .image_paths import IMAGE_COLUMNS, ImagePaths
from .rows import OwnRow
from .tables import Record, table_rows, without_missing


_BATCH_ROWS = 1000


@dataclass(frozen=True)
class _Column:
    """The column with the images.

    Attributes:
        name (`str`): Its name.
        read (`str`): What is read to know which rows have an image: paths next to the images, or the column.
        is_list (`bool`): Whether a row has a list of images.
    """

    name: str
    read: str
    is_list: bool


def parquet_rows(path: Path, label: str, key: str, images: ImagePaths, image: str | None) -> Iterator[OwnRow]:
    """Read the rows of a Parquet file.

    Args:
        path (`Path`):
            The file.
        label (`str`):
            Its name in error messages.
        key (`str`):
            Start of the keys of its images.
        images ([`ImagePaths`]):
            Where the images are, if the file has only their paths.
        image (`str`, *optional*):
            The column with the images or their paths.

    Yields:
        [`OwnRow`]: known by its index. Classes of the Hub have their names.

    Raises:
        `ValueError`: naming file and row, if the file is damaged or has no rows, or no column has the images.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            column = _stored_images(file.schema_arrow, image, label)
            if column is None:
                yield from table_rows(_records(file, label), label, images, image)
                return
            if not file.metadata.num_rows:
                raise ValueError(f"{label} has no rows. Add rows or remove the file.")
            yield from _rows(file, path, label, key, column)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{label} is not a complete Parquet file ({error}).") from error


def _rows(file: pq.ParquetFile, path: Path, label: str, key: str, column: _Column) -> Iterator[OwnRow]:
    names = _class_names(file.schema_arrow)
    texts = _readable(file.schema_arrow)
    index = 0
    for group in range(file.num_row_groups):
        row = 0
        # A column without paths is read to see which rows have an image, so only a few rows at a time
        size = _BATCH_ROWS if column.read != column.name else 16
        for batch in file.iter_batches(size, row_groups=[group], columns=[*texts, column.read]):
            found = batch.column(column.name)
            rows = batch.select(texts).to_pylist() if texts else [{} for _ in range(batch.num_rows)]
            for values, number in zip(rows, _num_images(found, column), strict=True):
                image = ParquetImage(f"{key}/{index}", path, column.name, group, row) if number == 1 else None
                values = without_missing(_with_class_names(values, names))
                yield OwnRow(str(index), f"{label}, row {index}", values, image, number)
                index, row = index + 1, row + 1


def _records(file: pq.ParquetFile, label: str) -> Iterator[Record]:
    names, texts, index = _class_names(file.schema_arrow), _readable(file.schema_arrow), 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=texts):
        for values in batch.to_pylist():
            yield Record(str(index), f"{label}, row {index}", _with_class_names(values, names))
            index += 1


def _num_images(values: pa.Array, column: _Column) -> list[int]:
    if column.is_list:
        return [length or 0 for length in pc.list_value_length(values).to_pylist()]
    return [int(is_valid) for is_valid in values.is_valid().to_pylist()]


def _stored_images(schema: pa.Schema, wanted: str | None, label: str) -> _Column | None:
    """Return the column that has images and not only their paths, or `None` if there is none."""
    found = {}
    for field in schema:
        is_list = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        kind = field.type.value_type if is_list else field.type
        is_object = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if not is_object and not _is_binary(kind):
            continue
        has_path = is_object and kind.get_field_index("path") >= 0
        item = f".list.{field.type.value_field.name}" if is_list else ""
        found[field.name] = _Column(field.name, f"{field.name}{item}.path" if has_path else field.name, is_list)
    if wanted is not None:
        return found.get(wanted)
    known = [name for name in IMAGE_COLUMNS if name in schema.names] or list(found)
    if len(found) > 1 and known == list(found):
        raise ValueError(f"{label}: `image` must name the column with the images; columns with images are {known}.")
    return found.get(known[0]) if known else None


def _readable(schema: pa.Schema) -> list[str]:
    """Return the columns without images: neither bytes, nor objects or lists that have them."""
    return [field.name for field in schema if not _has_bytes(field.type)]


def _has_bytes(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return _is_binary(kind) or any(map(_has_bytes, inner))


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the classes in columns that `datasets` wrote as numbers."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _with_class_names(values: dict[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    for name in names.keys() & values.keys():
        number = values[name]
        is_class = isinstance(number, int) and 0 <= number < len(names[name])  # -1 means no class
        values[name] = names[name][number] if is_class else None
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Return dates, times and decimal numbers as text."""
    return value if value is None or isinstance(value, str | bool | int | float | list | dict) else str(value)
