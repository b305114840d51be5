"""Read tables of the user's own data: CSV, JSON and JSON Lines."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import read_json, read_text


_EXPECTED = "a table with a header or keys, in UTF-8"


@dataclass(frozen=True)
class TableRow:
    """One row of a table, or one image in the folder of a class.

    Attributes:
        name (`str`): A fixed name of the row in its source: its line or index, or the path of the image.
        where (`str`): The row's name in error messages, such as `"data/site_a.csv, line 3"`.
        folder (`Path`): The folder of the source. Image paths may be relative to it.
        values (`dict[str, Any]`): The values by column, without empty and null values.
    """

    name: str
    where: str
    folder: Path
    values: dict[str, Any]


def read_table(path: Path) -> list[TableRow]:
    """Read a `.csv`, `.jsonl` or `.json` file (a list of objects), according to its suffix.

    Args:
        path (`Path`):
            The file, in UTF-8.

    Returns:
        `list[TableRow]`: in the order of the file; values of a CSV file stay text.

    Raises:
        `ValueError`: naming file and row, if the file is incomplete or a row has other columns than the header.
    """
    rows = list(_FORMATS[path.suffix.lower()](path))
    if not rows:
        raise ValueError(f"{path} has no rows. Add rows or remove the file.")
    return rows


def _csv_rows(path: Path) -> Iterator[TableRow]:
    lines = csv.reader(io.StringIO(read_text(path, _EXPECTED).removeprefix("\ufeff")), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        if len(set(header)) < len(header) or not all(header):
            raise ValueError(f"{path}, line 1: the header {header} has a duplicate or an empty name.")
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{path}, line {lines.line_num}: {len(cells)} values for the {len(header)} columns {header}. Is "
                    "the file truncated, or is a text with a comma not in quotes?"
                )
            yield _row(path, "line", lines.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise ValueError(f"{path}, line {lines.line_num}: not CSV ({error}).") from error


def _json_lines(path: Path) -> Iterator[TableRow]:
    for number, line in enumerate(read_text(path, _EXPECTED).removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error}).") from error
        yield _row(path, "line", number, row)


def _json_rows(path: Path) -> Iterator[TableRow]:
    for index, row in enumerate(read_json(path, list, "a list of objects")):
        yield _row(path, "row", index, row)


def _row(path: Path, unit: str, number: int, values: Any) -> TableRow:
    where = f"{path}, {unit} {number}"
    if not isinstance(values, dict):
        raise ValueError(
            f"{where}: a row must be an object with columns as keys, but this is a {type(values).__name__}."
        )
    kept = {name: value for name, value in values.items() if value is not None and str(value).strip()}
    return TableRow(str(number), where, path.parent, kept)


_FORMATS = {".csv": _csv_rows, ".jsonl": _json_lines, ".json": _json_rows}

TABLE_SUFFIXES = tuple(_FORMATS)
"""Suffixes of the files that [`read_table`] reads."""
