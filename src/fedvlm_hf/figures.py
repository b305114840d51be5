"""The common look of the figures. Matplotlib takes half a second to import, so it is imported on first use."""

import io
import logging
import os
from typing import TYPE_CHECKING

from .files import write_atomic


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e3e7ec"
# Okabe and Ito's palette, which readers with any colour vision can distinguish. Its yellow is too faint for lines.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DPI = 150


def new_figure(width: float, height: float) -> "Figure":
    """Create a white figure of `width` x `height` inches without pyplot, to leave the user's figures alone."""
    # the first time it runs on a machine, matplotlib warns that it builds its font cache
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    return figure


def style(axes: "Axes", title: str, ylabel: str) -> None:
    """Set a left-aligned title, a light horizontal grid and whole rounds on the x axis."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel("round", fontsize=8.5, color=MUTED)
    axes.set_ylabel(ylabel, fontsize=8.5, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def png(figure: "Figure") -> bytes:
    """Render the figure and return the PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write the figure as a PNG file. An interrupted write leaves no partial file."""
    write_atomic(path, png(figure))
