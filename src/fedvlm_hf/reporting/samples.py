"""A figure of test images, each with its question, the answer of the model, the reference and the score."""

import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..data.boxes import parse_box
from ..data.pixels import in_8_bits
from ..figures import COLOURS, DPI, GRID, INK, MUTED, new_figure, save
from ..metrics import PRIMARY
from ..types import Generation
from .runs import metric_name


if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_COLUMNS = 4
# in inches, except the font size, which is in points
CELL, GAP, HEAD, LINE, FONT_SIZE = 2.3, 0.3, 0.38, 0.14, 7.5
WRAP = 39  # characters that fit in the width of a cell
MAX_SHEET_LINES = 24  # of all evaluation sets: Matplotlib draws no figure of more than 65,536 pixels
PREDICTION, REFERENCE = COLOURS[1], COLOURS[2]
RIGHT, WRONG = "#1a7f37", "#b42318"
# most lines shown of the question, of the answer and of the reference
MAX_LINES = (3, 6, 6)
Text = tuple[list[str], str, str]  # its lines, colour and font weight
Cell = tuple[Generation, Image.Image, list[Text]]


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


def mark(generation: Generation) -> tuple[str, str] | None:
    """Return what to write about the score of an answer, and in which colour; `None` if it has no score.

    An answer is right from half of the highest score on: a box from an IoU of 0.5 on. Captions and reports are not
    right or wrong, so only their score is written.
    """
    if generation.score is None:
        return None
    metric = PRIMARY[generation.task]
    if metric not in ("accuracy", "mean_iou"):
        return f"{metric_name(metric)} {generation.score:.2f}", MUTED
    text, colour = ("\u2713 right", RIGHT) if generation.score >= 0.5 else ("\u2717 wrong", WRONG)
    if metric == "mean_iou":
        text += f", IoU {generation.score:.2f}"
    elif 0 < generation.score < 1:
        text += f", accuracy {generation.score:.2f}"
    return text, colour


def sample_sheet(
    answers: Mapping[str, Sequence[Generation]],
    datasets: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Draw some rows of each evaluation set, with a mark at each answer. Nothing is written without any answer.

    Args:
        answers (`Mapping[str, Sequence[Generation]]`):
            The answers by evaluation set.
        datasets (`Mapping[str, Sequence[Mapping[str, Any]]]`):
            The evaluation sets by name. `datasets[name][generation.row]` has `images` (PIL) and `prompt` (messages).
        path (`str` or `os.PathLike`):
            The PNG file to write.
        title (`str`):
            Title of the figure.
    """
    lines, tasks = [], []
    for name, generations in answers.items():
        for line in pick(generations)[: max(1, MAX_SHEET_LINES // len(answers))]:
            lines.append([_describe(generation, datasets[name][generation.row]) for generation in line])
            tasks.append(f"{name}: {line[0].task}" if len(answers) > 1 else line[0].task)
    if not lines:
        return
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
    """Return the generation, its image, made small for quick drawing, and its texts."""
    image = in_8_bits(row["images"][0]).convert("RGB")
    image.thumbnail((int(2 * CELL * DPI), int(2 * CELL * DPI)))
    more = f" (1 of {len(generation.references)})" if len(generation.references) > 1 else ""
    texts = (
        row["prompt"][-1]["content"],
        f"model: {generation.prediction.strip() or '(no answer)'}",
        f"reference{more}: {generation.references[0]}",
    )
    lines = [_wrap(text, num_lines) for text, num_lines in zip(texts, MAX_LINES, strict=True)]
    texts = [(line, colour, "normal") for line, colour in zip(lines, (INK, PREDICTION, REFERENCE), strict=True)]
    if found := mark(generation):
        texts.append(([found[0]], found[1], "bold"))
    return generation, image, texts


def _wrap(text: str, num_lines: int) -> list[str]:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.wrap(printable, WRAP, max_lines=num_lines, placeholder=" …")


def _num_lines(cell: Cell) -> int:
    return sum(len(text) for text, *_ in cell[2])


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


def _draw_texts(figure: "Figure", left: float, top: float, texts: Sequence[Text]) -> None:
    width, height = figure.get_size_inches()
    for lines, colour, weight in texts:
        look = {"fontsize": FONT_SIZE, "color": colour, "fontweight": weight, "va": "top", "parse_math": False}
        for line in lines:
            figure.text(left / width, top / height, line, **look)
            top -= LINE
        top -= LINE / 3
