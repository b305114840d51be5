"""Tables of own data: CSV, JSON and JSON lines."""

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
    """One row of a table, or one image of a class's folder.

    Attributes:
        name (`str`): Of the row in its source and stable: its line or place, or the image's path.
        where (`str`): How errors name it, such as `"data/site_a.csv, line 3"`.
        folder (`Path`): Where the source lies; images may be relative to it.
        values (`dict[str, Any]`): By column, without those that are empty or null.
    """

    name: str
    where: str
    folder: Path
    values: dict[str, Any]


def read_table(path: Path) -> list[TableRow]:
    """Reads a `.csv`, `.jsonl` or `.json` file (a list of objects), whichever its name says.

    Args:
        path (`Path`):
            The file, in UTF-8.

    Returns:
        `list[TableRow]`: in the file's order; texts of a CSV file stay texts.

    Raises:
        `ValueError`: naming file and row, where the file is not whole or a row has other columns than the header.
    """
    rows = list(_FORMATS[path.suffix.lower()](path))
    if not rows:
        raise ValueError(f"{path} has no rows. Give it some, or take it away.")
    return rows


def _csv_rows(path: Path) -> Iterator[TableRow]:
    lines = csv.reader(io.StringIO(read_text(path, _EXPECTED).removeprefix("\ufeff")), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        if len(set(header)) < len(header) or not all(header):
            raise ValueError(f"{path}, line 1: the header {header} has a name twice or an empty one.")
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{path}, line {lines.line_num}: {len(cells)} values for the {len(header)} columns {header}. Is "
                    "the file cut off, or a text with a comma not in quotes?"
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
        raise ValueError(f"{where}: a row is an object with columns as keys, this is a {type(values).__name__}.")
    kept = {name: value for name, value in values.items() if value is not None and str(value).strip()}
    return TableRow(str(number), where, path.parent, kept)


_FORMATS = {".csv": _csv_rows, ".jsonl": _json_lines, ".json": _json_rows}

TABLE_SUFFIXES = tuple(_FORMATS)
"""Of the files that [`read_table`] reads."""
