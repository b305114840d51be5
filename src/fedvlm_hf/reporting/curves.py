"""Two figures over the rounds: the primary metric of each task, and the training loss of each client."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..figures import COLOURS, INK, MUTED, new_figure, png, style
from ..files import write_atomic
from ..metrics import PRIMARY
from ..types import RoundRecord
from .runs import Run, client_mean, evaluation_names, metric_name, primary_scores


MAX_NAMED_CLIENTS = 8
UNBOUNDED = ("cider",)
"""Metrics that may be larger than 1. The axes of all others are from 0 to 1."""
Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Line:
    """One line of a panel; the fields after `label` are those of Matplotlib's `plot`."""

    points: Points
    label: str
    color: str
    linestyle: str = "-"
    linewidth: float = 1.1
    marker: str | None = None
    markersize: float = 4
    alpha: float = 1.0


@dataclass(frozen=True)
class Panel:
    """A set of axes with its lines.

    The vertical axis starts at 0 and ends at `top`, or above the highest value of all panels with the same `ylabel`.
    """

    title: str
    ylabel: str
    lines: tuple[Line, ...]
    top: float | None = None


def learning_curves(run: Run, path: str | os.PathLike[str], others: Mapping[str, Run] | None = None) -> None:
    """Draw one panel for each task and evaluation set, with one colour for each run.

    The scores of a run on all rows are a line with markers. Thin lines in the same colour are the scores of each
    client's rows, where several clients have the task. Nothing is written if the run was never evaluated.

    Args:
        run (`Run`):
            The run to draw.
        path (`str` or `os.PathLike`):
            The PNG file to write.
        others (`Mapping[str, Run]`, *optional*):
            Other runs by label.
    """
    names = evaluation_names(run.history)
    rows = [row for name in names if (row := _evaluation_panels(run, name, others or {}))]
    if not rows:
        return
    longest = max(len(row) for row in rows)
    num_columns = min(longest, 2 if longest == 4 else 3)
    panels = [panel for row in rows for panel in [*row, *[None] * (-len(row) % num_columns)]]
    title = "Scores by round" if others else f"{run.method}: scores by round"
    title += f", evaluation set {names[0]}" if len(names) == 1 else ""
    num_rows = math.ceil(len(panels) / num_columns)
    size = (max(4.0 * num_columns, 6.0), 2.8 * num_rows + 0.9)
    write_atomic(path, _draw(tuple(panels), num_rows, num_columns, size, title))


def _evaluation_panels(run: Run, name: str, others: Mapping[str, Run]) -> list[Panel]:
    """Return the panels of an evaluation set, one for each task that the run has scores of."""
    has_one_set = len(evaluation_names(run.history)) == 1
    panels = []
    for task, metric in PRIMARY.items():
        if not (points := _task_points(run.history, name, task)):
            continue
        lines = [
            Line(_task_points(other.history, name, task), label, *_run_style(rank), marker="o", markersize=3)
            for rank, (label, other) in enumerate(others.items(), 1)
        ]
        clients = _client_points(run.history, name, task).values()
        lines += [
            Line(own, f"{run.method}, rows of each client", COLOURS[0], linewidth=0.8, alpha=0.4) for own in clients
        ]
        lines.append(Line(points, run.method, COLOURS[0], linewidth=2.2, marker="o", markersize=5))
        title = task if has_one_set else f"{task}, {name}"
        panels.append(Panel(title, metric_name(metric), tuple(lines), None if metric in UNBOUNDED else 1.0))
    return panels


def _run_style(rank: int) -> tuple[str, str]:
    """Return colour and line style of a run. The styles change where the colours begin again."""
    return COLOURS[rank % len(COLOURS)], ("solid", "dashed", "dotted", "dashdot")[rank // len(COLOURS) % 4]


def client_loss(history: Sequence[RoundRecord], path: str | os.PathLike[str]) -> None:
    """Draw the training loss of each client and their mean. Nothing is written before the first training round."""
    clients: dict[str, list[tuple[int, float]]] = {}
    for record in history:
        for client_id, metrics in record.clients.items():
            if "train_loss" in metrics:
                clients.setdefault(client_id, []).append((record.round_idx, metrics["train_loss"]))
    if not clients:
        return
    lines = _client_lines({client_id: tuple(points) for client_id, points in sorted(clients.items())})
    if len(clients) > 1:
        means = [(record.round_idx, client_mean(record, "train_loss")) for record in history]
        known = tuple((round_idx, loss) for round_idx, loss in means if loss is not None)
        lines.append(Line(known, "mean", INK, "dashed", linewidth=2))
    panel = Panel("Training loss by client", "mean loss of the local steps", tuple(lines))
    write_atomic(path, _draw((panel,), 1, 1, (6.4, 3.8)))


# A pushed round writes every figure twice, to the run's folder and to the folder that is pushed, and each takes about
# a second to draw. Two figures for each of two folders, whose clients may have different names.
@lru_cache(maxsize=4)
def _draw(
    panels: tuple[Panel | None, ...],
    num_rows: int,
    num_columns: int,
    size: tuple[float, float],
    title: str | None = None,
) -> bytes:
    """Draw the panels, `None` being an empty place, with one common legend, and return the PNG file."""
    figure = new_figure(*size)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK, parse_math=False)
    entries, tops = {}, {}
    for place, panel in enumerate(panels):
        if panel is None:
            continue
        axes = figure.add_subplot(num_rows, num_columns, place + 1)
        style(axes, panel.title, ylabel=panel.ylabel)
        for line in panel.lines:
            rounds, values = zip(*line.points, strict=True) if line.points else ((), ())
            axes.plot(
                rounds, values, label=line.label, color=line.color, linestyle=line.linestyle, linewidth=line.linewidth,
                marker=line.marker, markersize=line.markersize, alpha=line.alpha, clip_on=False,
            )  # fmt: skip
        tops[panel.ylabel] = panel.top or max(axes.get_ylim()[1], tops.get(panel.ylabel, 1e-6))
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for axes in figure.axes:
        axes.set_ylim(0.0, tops[axes.get_ylabel()])  # neither scores nor losses are negative
    legend = figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), 5), frameon=False,
        fontsize=8, labelcolor=INK,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)  # names of runs and clients may have dollar signs
    return png(figure)


def _task_points(history: Sequence[RoundRecord], name: str, task: str) -> Points:
    results = [(record.round_idx, record.evaluations[name].scores) for record in history if name in record.evaluations]
    scores = [(round_idx, primary_scores(result)) for round_idx, result in results]
    return tuple((round_idx, values[task]) for round_idx, values in scores if task in values)


def _client_points(history: Sequence[RoundRecord], name: str, task: str) -> dict[str, Points]:
    """Points by client, or nothing if only one client has the task: its line would be the task's own line."""
    points: dict[str, list[tuple[int, float]]] = {}
    for record in history:
        result = record.evaluations.get(name)
        for client_id, scores in result.clients.items() if result else ():
            if task in primary_scores(scores):
                points.setdefault(client_id, []).append((record.round_idx, primary_scores(scores)[task]))
    return {client_id: tuple(line) for client_id, line in sorted(points.items())} if len(points) > 1 else {}


def _client_lines(points: Mapping[str, Points]) -> list[Line]:
    """Give each of a few clients a colour and a name; many clients become a band of grey lines with one name."""
    lines = []
    for rank, (client_id, line) in enumerate(points.items()):
        if len(points) <= MAX_NAMED_CLIENTS:
            dashes = "-" if rank < len(COLOURS) else "--"
            lines.append(Line(line, client_id, COLOURS[rank % len(COLOURS)], dashes, marker="."))
        else:
            label = f"{len(points)} clients"
            lines.append(Line(line, label, MUTED, linewidth=0.7, marker=".", markersize=3, alpha=0.4))
    return lines
