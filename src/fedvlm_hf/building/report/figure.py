"""A figure of a partition: one stacked bar of labels per client, with its size and its distance from the pool."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...figures import COLOURS, INK, MUTED, new_figure, save
from .numbers import Histogram, PartitionReport


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LABELS = 12
"""How many labels have their own colour; all others are grey."""

MAX_BARS = 100
"""How many labels have their own segment; all others are one segment."""

OTHER = "#c3c9d1"
POOL = "all clients"

# Inches: width of the first panel, of the other panels, of the bars of sizes, of numbers, ...
_FIRST, _PANEL, _SIZES, _NUMBER, _GAP, _HEAD, _MARGIN, _LEGEND_LINE = 4.4, 2.7, 1.2, 0.5, 0.3, 0.95, 0.2, 0.16
_CHARACTER = 0.073
# Characters
_MAX_NAME, _MAX_LEGEND = 36, 27
_BOLD = {"fontweight": "bold", "color": INK, "parse_math": False}


def draw_partition(report: PartitionReport, path: str | os.PathLike[str]) -> None:
    """Draw one panel per column, with all clients together on top, then each client and each held-out split.

    Args:
        report ([`PartitionReport`]):
            The numbers to draw.
        path (`str` or `os.PathLike`):
            The PNG file to write.
    """
    names = [_name(row, report) for row in (POOL, *report.sizes)]
    pitch = 0.34 if len(names) <= 14 else 0.24
    left = _MARGIN + _CHARACTER * max(map(len, names)) + 0.1
    bottom = _MARGIN + 0.1 + _LEGEND_LINE * max(_legend_lines(own, rank) for rank, own in enumerate(report.histograms))
    body = pitch * (_places(report)[-1] + 1)
    panels = _FIRST + _PANEL * (len(report.histograms) - 1) + (_NUMBER + _GAP) * len(report.histograms)
    figure = new_figure(left + panels + _SIZES + _NUMBER + _MARGIN, bottom + body + _HEAD)
    figure.set_layout_engine("none")
    _draw_title(figure, report)
    for rank, histogram in enumerate(report.histograms):
        width = _PANEL if rank else _FIRST
        axes = _axes(figure, left, bottom, width, body, report)
        _draw_shares(axes, histogram, report, 1 + _NUMBER / width)
        _legend(axes, histogram, rank)
        if rank == 0:
            axes.set_yticks(_places(report), names, fontsize=8.5, color=INK, parse_math=False)
        left += width + _NUMBER + _GAP
    _draw_sizes(_axes(figure, left, bottom, _SIZES, body, report), report)
    save(figure, path)


def _draw_title(figure: "Figure", report: PartitionReport) -> None:
    width, height = figure.get_size_inches()
    title = f"{report.config}: what {len(report.clients)} client{'s have' if len(report.clients) > 1 else ' has'}"
    figure.text(_MARGIN / width, 1 - 0.15 / height, title, va="top", fontsize=12, **_BOLD)
    below = "Shares of rows. TV: total variation distance from all clients together, 0 (alike) to 1."
    figure.text(_MARGIN / width, 1 - 0.4 / height, below, va="top", fontsize=8, color=MUTED)


def _draw_shares(axes: "Axes", histogram: Histogram, report: PartitionReport, end: float) -> None:
    """Draw one stacked bar per split. Labels without their own colour are grey, with white lines between them."""
    colours = label_colours(histogram.labels)
    counts = [histogram.pool, *(histogram.counts[split] for split in report.sizes)]
    lefts = [0.0] * len(counts)
    for labels in _bars(histogram.labels):
        shares = [sum(count.get(label, 0) for label in labels) / sum(count.values()) for count in counts]
        colour = colours.get(labels[0], OTHER)
        axes.barh(_places(report), shares, left=lefts, height=0.78, color=colour, edgecolor="white", linewidth=0.3)
        lefts = [left + share for left, share in zip(lefts, shares, strict=True)]
    axes.set_xlim(0, 1)
    axes.set_title(f"by {_short(histogram.column, 30)}", loc="left", fontsize=9.5, pad=5, **_BOLD)
    style = {"ha": "right", "fontsize": 8, "color": INK}
    axes.annotate("TV", (end, 1), (0, 5), xycoords=("data", "axes fraction"), textcoords="offset points", **style)
    for place, split in zip(_places(report)[1:], report.sizes, strict=True):
        axes.text(end, place, f"{histogram.total_variation(split):.2f}", va="center_baseline", **style)


def _bars(labels: list[str]) -> list[list[str]]:
    rest = labels[MAX_BARS:]
    return [*([label] for label in labels[:MAX_BARS]), *([rest] if rest else [])]


def _draw_sizes(axes: "Axes", report: PartitionReport) -> None:
    """Draw a bar for the rows of each split. The pool is only a number: its bar would make all others short."""
    sizes = [sum(report.sizes[client] for client in report.clients), *report.sizes.values()]
    axes.barh(_places(report)[1:], sizes[1:], height=0.5, color=MUTED, linewidth=0)
    largest = max(sizes[1:])
    axes.set_xlim(0, largest)
    axes.set_title("rows", loc="left", fontsize=9.5, pad=5, **_BOLD)
    for place, size, end in zip(_places(report), sizes, [0, *sizes[1:]], strict=True):
        axes.text(end + 0.04 * largest, place, f"{size:,}", va="center", fontsize=8, color=INK)


def label_colours(labels: Sequence[str]) -> dict[str, str]:
    """Return the colours of the first `MAX_LABELS` labels: those of all figures, then the same colours lighter."""
    palette = [*COLOURS, *map(_lighter, COLOURS)]
    return dict(zip(labels[:MAX_LABELS], palette, strict=False))


def _lighter(colour: str) -> str:
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(part + 0.55 * (255 - part)):02x}" for part in parts)


def _legend(axes: "Axes", histogram: Histogram, rank: int) -> None:
    from matplotlib.patches import Patch

    colours = label_colours(histogram.labels)
    entries = [(_short(label, _MAX_LEGEND), colour) for label, colour in colours.items()]
    num_others = len(histogram.labels) - len(colours)
    entries += [(f"{num_others:,} other{'s' if num_others > 1 else ''}", OTHER)] if num_others else []
    legend = axes.legend(
        [Patch(color=colour) for _, colour in entries], [label for label, _ in entries], loc="upper left",
        bbox_to_anchor=(0, 0), ncols=_legend_columns(rank), frameon=False, fontsize=8, labelcolor=INK, handlelength=1,
        handleheight=1, borderaxespad=0.3, borderpad=0, columnspacing=1.2, labelspacing=0.35,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _legend_columns(rank: int) -> int:
    return 1 if rank else 2


def _legend_lines(histogram: Histogram, rank: int) -> int:
    return math.ceil(min(len(histogram.labels), MAX_LABELS + 1) / _legend_columns(rank))


def _axes(
    figure: "Figure", left: float, bottom: float, width: float, height: float, report: PartitionReport
) -> "Axes":
    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))
    axes.set_ylim(_places(report)[-1] + 0.5, -0.5)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes


def _places(report: PartitionReport) -> list[float]:
    """Return the vertical positions of the pool, the clients and the held-out splits, with gaps between the three."""
    clients = [1.35 + place for place in range(len(report.clients))]
    return [0.0, *clients, *(clients[-1] + 1.35 + place for place in range(len(report.held_out)))]


def _name(row: str, report: PartitionReport) -> str:
    return _short(f"{row}  {report.names[row]}" if row in report.names else row, _MAX_NAME)


def _short(text: str, length: int) -> str:
    """Shorten a text in the middle, because long names often differ at the end."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    if len(printable) <= length:
        return printable
    return f"{printable[: length - length // 3 - 1]}…{printable[-(length // 3) :]}"
