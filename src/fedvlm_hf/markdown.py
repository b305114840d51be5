"""Markdown tables for cards, reports and the terminal."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


_FRONT_MATTER = re.compile(r"\s*---(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$)", re.DOTALL)

MISSING = "-"
"""The content of a cell without a value."""


def front_matter(path: Path) -> dict[str, Any]:
    """Return the YAML above the text of a card, or an empty dict if there is none.

    It reads what `huggingface_hub.metadata_load` reads, whose import takes a quarter of a second.

    Raises:
        `ValueError`: if it is not the YAML of an object.
    """
    import yaml

    found = _FRONT_MATTER.match(path.read_text(encoding="utf-8-sig"))
    try:
        content = yaml.safe_load(found[1]) if found else None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} does not begin with valid YAML ({error}).") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"{path} begins with YAML that is a {type(content).__name__}, not an object.")
    return content or {}


def number(value: float | None, digits: int = 3) -> str:
    """Format `value` with a fixed number of decimals, or as a dash if it is `None`."""
    return MISSING if value is None else f"{value:.{digits}f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], num_labels: int | None = 1) -> str:
    """Return a Markdown table with padded columns.

    Written by hand, because tabulate (0.10) does less here: it does not escape `|`, it splits a cell with a line break
    into two rows, which breaks the table, and its output depends on whether the package `wcwidth` is installed, while
    the card of the same build must have the same bytes everywhere.

    Args:
        header (`Sequence[str]`):
            Titles of the columns.
        rows (`Iterable[Sequence[object]]`):
            One cell per column; integers get thousands separators.
        num_labels (`int`, *optional*, defaults to 1):
            How many columns on the left are text; the others are numbers and aligned to the right. With `None`,
            columns that have only integers are numbers.

    Returns:
        `str`: the lines of the table, each with a line feed.
    """
    body = [list(row) for row in rows]
    numbers = [
        bool(body) and all(isinstance(row[place], int) for row in body) if num_labels is None else place >= num_labels
        for place in range(len(header))
    ]
    table = [[_cell(cell) for cell in row] for row in [header, *body]]
    columns = []
    for is_number, cells in zip(numbers, zip(*table, strict=True), strict=True):
        width = max(3, *map(len, cells))
        if is_number:
            padded, rule = [cell.rjust(width) for cell in cells], "-" * (width - 1) + ":"
        else:
            padded, rule = [cell.ljust(width) for cell in cells], "-" * width
        columns.append([padded[0], rule, *padded[1:]])
    return "".join(f"| {' | '.join(line)} |\n" for line in zip(*columns, strict=True))


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
