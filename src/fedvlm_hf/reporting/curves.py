"""Two figures against the round: the primary metric of each task, and the training loss of each client."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..figures import COLOURS, INK, MUTED, new_figure, save, style
from ..metrics import PRIMARY
from ..types import RoundRecord
from .runs import Run, client_mean, evaluation_names, primary_scores


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED_CLIENTS = 8
Points = Sequence[tuple[int, float]]


def learning_curves(run: Run, path: str | os.PathLike[str], others: Mapping[str, Run] | None = None) -> None:
    """One panel a task: a line per evaluation set, thin ones per client if several have the task, grey for other runs.

    Args:
        run (`Run`):
            The run to draw. Nothing is written where it was never evaluated.
        path (`str` or `os.PathLike`):
            The PNG.
        others (`Mapping[str, Run]`, *optional*):
            Label to run; each is drawn for the first evaluation set.
    """
    names = evaluation_names(run.history)
    tasks = [task for task in PRIMARY if any(_task_points(run.history, name, task) for name in names)]
    if not tasks:
        return
    num_columns = min(len(tasks), 2 if len(tasks) == 4 else 3)
    num_rows = math.ceil(len(tasks) / num_columns)
    figure = new_figure(max(4.0 * num_columns, 6.0), 2.8 * num_rows + 0.6)
    for place, task in enumerate(tasks):
        axes = figure.add_subplot(num_rows, num_columns, place + 1)
        style(axes, task, ylabel=PRIMARY[task])
        for rank, (label, other) in enumerate((others or {}).items()):
            dashes = ("dotted", "dashed", "dashdot")[rank % 3]
            _line(axes, _task_points(other.history, names[0], task), label, color=MUTED, linestyle=dashes)
        _client_lines(axes, _client_points(run.history, names[0], task))
        for rank, name in enumerate(names):
            dashes = ("solid", "dashed", "dashdot", "dotted")[rank % 4]
            points = _task_points(run.history, name, task)
            _line(axes, points, f"{run.method}, {name}", INK, linewidth=2, marker="o", linestyle=dashes)
    _finish(figure)
    save(figure, path)


def client_loss(history: Sequence[RoundRecord], path: str | os.PathLike[str]) -> None:
    """Training loss of each client against the round, and their mean. Nothing is written before the first round."""
    clients: dict[str, list[tuple[int, float]]] = {}
    for record in history:
        for client_id, metrics in record.clients.items():
            if "train_loss" in metrics:
                clients.setdefault(client_id, []).append((record.round_idx, metrics["train_loss"]))
    if not clients:
        return
    figure = new_figure(6.4, 3.8)
    axes = figure.add_subplot()
    style(axes, "Training loss by client", ylabel="mean loss of the local steps")
    _client_lines(axes, dict(sorted(clients.items())))
    if len(clients) > 1:
        means = [
            (record.round_idx, loss) for record in history if (loss := client_mean(record, "train_loss")) is not None
        ]
        _line(axes, means, "mean", INK, linewidth=2, linestyle="dashed")
    _finish(figure)
    save(figure, path)


def _task_points(history: Sequence[RoundRecord], name: str, task: str) -> Points:
    results = [(record.round_idx, record.evaluations[name].scores) for record in history if name in record.evaluations]
    return [
        (round_idx, primary_scores(scores)[task]) for round_idx, scores in results if task in primary_scores(scores)
    ]


def _client_points(history: Sequence[RoundRecord], name: str, task: str) -> dict[str, Points]:
    """Points by client, or nothing where only one client has the task: its line would be the task's own."""
    points: dict[str, list[tuple[int, float]]] = {}
    for record in history:
        result = record.evaluations.get(name)
        for client_id, scores in result.clients.items() if result else ():
            if task in primary_scores(scores):
                points.setdefault(client_id, []).append((record.round_idx, primary_scores(scores)[task]))
    return dict(sorted(points.items())) if len(points) > 1 else {}


def _client_lines(axes: "Axes", points: Mapping[str, Points]) -> None:
    """A colour and a name for each of a few clients; many clients are one grey band of lines with one name."""
    for rank, (client_id, line) in enumerate(points.items()):
        if len(points) <= MAX_NAMED_CLIENTS:
            _line(
                axes,
                line,
                client_id,
                COLOURS[rank % len(COLOURS)],
                marker=".",
                linestyle="-" if rank < len(COLOURS) else "--",
            )
        else:
            _line(axes, line, f"{len(points)} clients", MUTED, linewidth=0.7, alpha=0.4, marker=".", markersize=3)


def _line(
    axes: "Axes", points: Points, label: str, color: str, linewidth: float = 1.1, markersize: float = 4, **style: Any
) -> None:
    rounds, values = zip(*points, strict=True) if points else ((), ())
    axes.plot(
        rounds, values, label=label, color=color, linewidth=linewidth, markersize=markersize, clip_on=False, **style
    )


def _finish(figure: "Figure") -> None:
    """One legend below all panels, each label once, and no axis below 0: neither scores nor losses are."""
    entries = {}
    for axes in figure.axes:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], 0.0))
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), 5), frameon=False,
        fontsize=8, labelcolor=INK,
    )  # fmt: skip
