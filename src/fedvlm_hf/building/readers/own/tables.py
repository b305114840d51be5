"""Read tables of the user's own data row by row: CSV, JSON and JSON Lines."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any

from ..json_stream import JsonStream, parse_json
from ..text import encoding_error, open_text
from .image_paths import ImagePaths, image_column
from .rows import OwnRow


# Rows that decide which column has the images: in mixed data, some rows have none
_FIRST_ROWS = 1000

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

# Columns of CSV files whose cells may be lists in JSON
_LISTS = ("messages", "conversations", "prompt", "completion", "images")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file: its number, its name in error messages, and its values, with empty ones."""

    name: str
    where: str
    values: Any


def csv_records(path: Path, label: str) -> Iterator[Record]:
    """Read a CSV file whose columns are separated by commas, semicolons or tabs.

    Args:
        path (`Path`):
            The file, with a header. `.tsv` files have tabs.
        label (`str`):
            Name of the file in error messages.

    Yields:
        [`Record`]: a row, known by its line. Values are text; lists in JSON are read.

    Raises:
        `ValueError`: naming file and line, if the file is not CSV in UTF-8 or UTF-16, or a row has other columns than
            the header.
    """
    delimiter = _delimiter(path, label)
    try:
        with open_text(path) as file:
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                header = _header(next(lines, []), label)
                for cells in lines:
                    if not cells:
                        continue
                    where = f"{label}, line {lines.line_num}"
                    if len(cells) != len(header):
                        raise ValueError(
                            f"{where}: {len(cells)} values for the {len(header)} columns {header}. Is the file "
                            f"truncated, or is a text with a {_DELIMITERS[delimiter]} not in quotes?"
                        )
                    values = {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}
                    yield Record(str(lines.line_num), where, values)
            except csv.Error as error:
                raise ValueError(f"{label}, line {lines.line_num}: not CSV ({error}).") from error
    except UnicodeDecodeError as error:
        raise encoding_error(path, error, label) from error


def json_line_records(path: Path, label: str) -> Iterator[Record]:
    """Read a file with one JSON object per line.

    Yields:
        [`Record`]: a row, known by its line.

    Raises:
        `ValueError`: naming file and line.
    """
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    where = f"{label}, line {number}"
                    yield Record(str(number), where, parse_json(line, where))
    except UnicodeDecodeError as error:
        raise encoding_error(path, error, label) from error


def json_records(path: Path, label: str, key: str | None = None) -> Iterator[Record]:
    """Read a list of objects, which is the top level of a JSON file or the value of a key there.

    Yields:
        [`Record`]: a row, known by its index.

    Raises:
        `ValueError`: naming file and position.
    """
    with JsonStream(path, label) as stream:
        if key is None:
            yield from _elements(stream, label)
        else:
            for found in stream.members():
                if found == key:
                    yield from _elements(stream, label)
                else:
                    stream.skip()
        stream.end()


def json_arrays(path: Path, label: str) -> dict[str, Any] | None:
    """Return the first element of each array of a JSON object by key, or `None` if there are several objects.

    Reading stops where `images` and `annotations` have been found, since files of COCO are large.

    Raises:
        `ValueError`: if the file is not JSON, or its top level is neither an array nor an object.
    """
    arrays = {}
    with JsonStream(path, label) as stream:
        for key in stream.members():
            if stream.peek() == "[":
                elements = stream.elements()
                arrays[key] = next(elements, None)
                if {"images", "annotations"} <= arrays.keys():
                    return arrays
                for _ in elements:
                    pass
            else:
                stream.skip()
        if stream.peek() == "{":
            return None
        stream.end()
    return arrays


def table_rows(records: Iterable[Record], label: str, images: ImagePaths, image: str | None) -> Iterator[OwnRow]:
    """Make rows of the records of a table.

    Args:
        records (`Iterable[Record]`):
            The records.
        label (`str`):
            Name of the table in error messages.
        images ([`ImagePaths`]):
            Where the images are.
        image (`str`, *optional*):
            The column with the images' paths. By default it is found by its name.

    Yields:
        [`OwnRow`]: in the order of the records, without empty values.

    Raises:
        `ValueError`: naming the row, if it is not an object, or the path of its image is invalid; or if there are no
            rows.
    """
    records = iter(records)
    first = [_checked(record) for record in islice(records, _FIRST_ROWS)]
    if not first:
        raise ValueError(f"{label} has no rows. Add rows or remove the file.")
    column = image_column([record.values for record in first], image, label)
    yield from (_row(record, column, images) for record in first)
    yield from (_row(_checked(record), column, images) for record in records)


def without_missing(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not missing: neither null, nor NaN, nor text without characters."""
    return {name: value for name, value in values.items() if not _is_missing(value)}


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and isnan(value))


def _checked(record: Record) -> Record:
    if not isinstance(record.values, dict):
        kind = type(record.values).__name__
        raise ValueError(f"{record.where}: a row must be an object with columns as keys, but this is a {kind}.")
    return Record(record.name, record.where, without_missing(record.values))


def _row(record: Record, column: str, images: ImagePaths) -> OwnRow:
    value = record.values.pop(column, [])
    listed = value if isinstance(value, list) else [value]
    try:
        image = images.find(listed[0]) if len(listed) == 1 else None
    except (OSError, ValueError) as error:
        raise ValueError(f"{record.where}: `{column}`: {error}") from error
    return OwnRow(record.name, record.where, record.values, image, len(listed))


def _elements(stream: JsonStream, label: str) -> Iterator[Record]:
    for index, values in enumerate(stream.elements()):
        yield Record(str(index), f"{label}, row {index}", values)


def _delimiter(path: Path, label: str) -> str:
    """Return the delimiter that divides the header into the most columns, or the first row into as many."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    try:
        with open_text(path) as file:
            start = [line for line in islice(file, 20) if line.strip()]
    except UnicodeDecodeError as error:
        raise encoding_error(path, error, label) from error
    if start and "\0" in start[0]:
        raise ValueError(
            f"{label}, line 1: not text in UTF-8. It may be UTF-16 without a byte order mark: "
            f"iconv -f UTF-16LE -t UTF-8 {path.name} > utf8/{path.name}"
        )
    widths = {delimiter: _widths(start, delimiter) for delimiter in _DELIMITERS}
    most = max(width[0] for width in widths.values())
    best = [delimiter for delimiter, width in widths.items() if width[0] == most]
    even = [delimiter for delimiter in best if len(set(widths[delimiter])) == 1]
    if most > 1 and len(best) > 1 and len(even) != 1:
        names = " and by ".join(f"{_DELIMITERS[delimiter]}s" for delimiter in best)
        raise ValueError(f"{label}, line 1: the header can be divided by {names}. Put its names in quotes.")
    return (even or best)[0]


def _widths(lines: list[str], delimiter: str) -> list[int]:
    """Return the numbers of cells in the first two rows; 1 if quotes show that the delimiter is another one."""
    try:
        rows = list(islice(csv.reader(lines, delimiter=delimiter), 2))
    except csv.Error:
        return [1]
    if not rows or any('"' in cell for cell in rows[0]):
        return [1]
    return [len(row) for row in rows]


def _header(cells: list[str], label: str) -> list[str]:
    header = [name.strip() for name in cells]
    if len(set(header)) < len(header) or not all(header):
        raise ValueError(f"{label}, line 1: the header {header} has a duplicate or an empty name.")
    return header


def _cell(name: str, cell: str) -> Any:
    if cell.strip() in ("NaN", "nan"):
        return None
    if name in _LISTS and cell.lstrip().startswith("["):
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            return cell  # a text that starts with a bracket
        return found if isinstance(found, list) else cell
    return cell
