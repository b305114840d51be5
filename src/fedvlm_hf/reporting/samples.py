"""A figure of test images, each with its question, the answer of the model and the reference."""

import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..data.boxes import parse_box
from ..data.pixels import in_8_bits
from ..figures import COLOURS, DPI, GRID, INK, MUTED, new_figure, save
from ..types import Generation


if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_COLUMNS = 4
# in inches, except the font size, which is in points
CELL, GAP, HEAD, LINE, FONT_SIZE = 2.3, 0.3, 0.38, 0.14, 7.5
WRAP = 39  # characters that fit in the width of a cell
PREDICTION, REFERENCE = COLOURS[1], COLOURS[2]
# most lines shown of the question, of the answer and of the reference
MAX_LINES = (3, 6, 6)
Cell = tuple[Generation, Image.Image, list[list[str]]]


def pick(generations: Sequence[Generation]) -> list[list[Generation]]:
    """Choose the rows to show: a few of each task, evenly spaced, and the same ones at each round."""
    tasks: dict[str, list[Generation]] = {}
    for generation in generations:
        tasks.setdefault(generation.task, []).append(generation)
    lines = []
    for own in tasks.values():
        count = min(len(own), NUM_COLUMNS * max(1, 3 // len(tasks)))
        chosen = [own[place * len(own) // count] for place in range(count)]
        lines += [chosen[start : start + NUM_COLUMNS] for start in range(0, count, NUM_COLUMNS)]
    return lines


def sample_sheet(
    generations: Sequence[Generation],
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Draw the figure. Nothing is written if there are no generations.

    Args:
        generations (`Sequence[Generation]`):
            Answers of one evaluation set.
        rows (`Sequence[Mapping[str, Any]]`):
            The evaluation set: `rows[generation.row]` has `images` (PIL) and `prompt` (messages).
        path (`str` or `os.PathLike`):
            The PNG file to write.
        title (`str`):
            Title of the figure.
    """
    lines = [[_describe(generation, rows[generation.row]) for generation in line] for line in pick(generations)]
    if not lines:
        return
    tasks = [line[0][0].task for line in lines]
    heads = [HEAD if place == 0 or task != tasks[place - 1] else 0.0 for place, task in enumerate(tasks)]
    heights = [head + CELL + LINE * (3 + max(map(_num_lines, line))) for head, line in zip(heads, lines, strict=True)]
    width, height = NUM_COLUMNS * (CELL + GAP) + GAP, sum(heights) + HEAD + GAP
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    bold = {"x": GAP / width, "va": "top", "fontweight": "bold", "parse_math": False}
    figure.text(y=1 - GAP / height, s=title, fontsize=12, color=INK, **bold)
    top = height - GAP - HEAD
    for task, head, line, line_height in zip(tasks, heads, lines, heights, strict=True):
        if head:
            figure.text(y=(top - 0.12) / height, s=task, fontsize=10, color=MUTED, **bold)
        for column, (generation, image, texts) in enumerate(line):
            left = GAP + column * (CELL + GAP)
            _draw_image(figure, left, top - head, image, generation)
            _draw_texts(figure, left, top - head - CELL - LINE / 2, texts)
        top -= line_height
    with warnings.catch_warnings():
        # an untrained model may write any character; those that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        save(figure, path)


def _describe(generation: Generation, row: Mapping[str, Any]) -> Cell:
    """Return the generation, its image, made small for quick drawing, and wrapped question, answer and reference."""
    image = in_8_bits(row["images"][0]).convert("RGB")
    image.thumbnail((int(2 * CELL * DPI), int(2 * CELL * DPI)))
    more = f" (1 of {len(generation.references)})" if len(generation.references) > 1 else ""
    texts = (
        row["prompt"][-1]["content"],
        f"model: {generation.prediction.strip() or '(no answer)'}",
        f"reference{more}: {generation.references[0]}",
    )
    return generation, image, [_wrap(text, num_lines) for text, num_lines in zip(texts, MAX_LINES, strict=True)]


def _wrap(text: str, num_lines: int) -> list[str]:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.wrap(printable, WRAP, max_lines=num_lines, placeholder=" …")


def _num_lines(cell: Cell) -> int:
    return sum(len(text) for text in cell[2])


def _draw_image(figure: "Figure", left: float, top: float, image: Image.Image, generation: Generation) -> None:
    """Draw the image at the top of its cell, in coordinates from 0 to 1, which are those of the boxes."""
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, (top - CELL) / height, CELL / width, CELL / height), anchor="NW")
    smooth = max(image.size) > CELL * DPI / 3
    axes.imshow(
        image,
        extent=(0, 1, 1, 0),
        aspect=image.height / image.width,
        interpolation="antialiased" if smooth else "nearest",
    )
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    axes.spines[:].set_color(GRID)
    for text, colour, style in ((generation.references[0], REFERENCE, "-"), (generation.prediction, PREDICTION, "--")):
        if box := parse_box(text):
            size = (box.x2 - box.x1, box.y2 - box.y1)
            axes.add_patch(Rectangle(box[:2], *size, fill=False, edgecolor=colour, linewidth=2, linestyle=style))


def _draw_texts(figure: "Figure", left: float, top: float, texts: Sequence[Sequence[str]]) -> None:
    width, height = figure.get_size_inches()
    for text, colour in zip(texts, (INK, PREDICTION, REFERENCE), strict=True):
        for line in text:
            figure.text(left / width, top / height, line, fontsize=FONT_SIZE, color=colour, va="top", parse_math=False)
            top -= LINE
        top -= LINE / 3
