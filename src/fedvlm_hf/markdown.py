"""Markdown tables, as cards, reports and the screen show them."""

from collections.abc import Iterable, Sequence


MISSING = "-"
"""Stands in a cell without a value."""


def number(value: float | None, digits: int = 3) -> str:
    """`value` with a fixed number of decimals, or a dash."""
    return MISSING if value is None else f"{value:.{digits}f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], num_labels: int | None = 1) -> str:
    """A Markdown table with padded columns.

    Args:
        header (`Sequence[str]`):
            Column titles.
        rows (`Iterable[Sequence[object]]`):
            One cell a column; whole numbers get separators between thousands.
        num_labels (`int`, *optional*, defaults to 1):
            How many columns at the left are words; the others are numbers and stand to the right. With `None` columns
            that hold nothing but whole numbers are.

    Returns:
        `str`: lines, each with its line feed.
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
