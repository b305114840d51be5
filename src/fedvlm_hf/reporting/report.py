"""The tables and figures in the `report/` folder of a run."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..callbacks import RoundCallback, RoundEnd
from ..files import write_atomic
from ..types import RoundRecord
from .curves import client_loss, learning_curves
from .runs import Run, comparable_runs, evaluation_names
from .samples import sample_sheet
from .tables import client_scores_table, clients_table, results_table, rounds_table


class ReportCallback(RoundCallback):
    """Update `report/` after each round: tables and losses always, the other files if the round was evaluated.

    - `results.md`: round 0, local, federated and central training side by side, if runs of these methods are in
      folders beside `output_dir` (see [`~reporting.runs.comparable_runs`]), and one line per round;
    - `clients.md`: weights, losses, times and scores by client;
    - `learning_curves.png`, `client_loss.png`;
    - `samples.png`: test images with question, answer and reference;
    - `generations.jsonl`: every answer of the last evaluated round.

    All of it is derived from the records, so a run that was killed and resumed leaves the same report.

    Args:
        output_dir (`str` or `os.PathLike`):
            The folder of the run.
        method (`str`):
            Name of the method in tables and legends.
        eval_datasets (`Mapping[str, Sequence[Mapping[str, Any]]]`):
            The evaluation sets by name. Their rows have `images` and `prompt`.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        method: str,
        eval_datasets: Mapping[str, Sequence[Mapping[str, Any]]],
    ):
        self.output_dir = Path(output_dir)
        self.method = method
        self.eval_datasets = eval_datasets
        self._history: list[RoundRecord] = []
        self._finished_round: int | None = None

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Take over the rounds of a resumed run."""
        self._history = list(history)

    def on_round_end(self, end: RoundEnd) -> None:
        """Write the files that the round changed."""
        self._history[-1:] = [*(earlier.without_generations() for earlier in self._history[-1:]), end.record]
        self._write(everything=bool(end.record.evaluations))

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Write the whole report, unless the last round has just done so."""
        self._history = list(history)
        if history and history[-1].round_idx != self._finished_round:
            self._write(everything=True)

    def _write(self, everything: bool) -> None:
        folder, run = self.output_dir / "report", Run(self.method, self._history)
        write_pages(folder, run, comparable_runs(self.output_dir), with_curves=everything)
        if everything:
            self._write_generations(folder)
            self._finished_round = self._history[-1].round_idx

    def _write_generations(self, folder: Path) -> None:
        """Write the answers of the last evaluated round, if they are in memory."""
        record = next((record for record in reversed(self._history) if record.evaluations), None)
        answers = {name: result.generations for name, result in record.evaluations.items()} if record else {}
        if not any(answers.values()):
            return
        lines = [
            {"round_idx": record.round_idx, "evaluation": name, **vars(generation)}
            for name, generations in answers.items()
            for generation in generations
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(folder / "generations.jsonl", text)
        name = next(iter(answers))
        title = f"{self.method}, {name}, round {record.round_idx}"
        sample_sheet(answers[name], self.eval_datasets[name], folder / "samples.png", title)


def write_pages(folder: Path, run: Run, others: Mapping[str, Run], with_curves: bool = True) -> None:
    """Write the part of a report that shows no row of the data.

    Args:
        folder (`Path`):
            The folder of the report.
        run (`Run`):
            The run that is reported.
        others (`Mapping[str, Run]`):
            Other runs by label, from `comparable_runs`.
        with_curves (`bool`, *optional*, defaults to `True`):
            Whether to draw the learning curves too, which change only when a round is evaluated.
    """
    write_atomic(folder / "results.md", results_page(run, others))
    write_atomic(folder / "clients.md", clients_page(run))
    client_loss(run.history, folder / "client_loss.png")
    if with_curves:
        learning_curves(run, folder / "learning_curves.png", others)


def results_page(run: Run, others: Mapping[str, Run]) -> str:
    """Return `results.md`: one table per evaluation set, then the rounds.

    Args:
        run (`Run`):
            The run that is reported.
        others (`Mapping[str, Run]`):
            Other runs by label, from `comparable_runs`.
    """
    parts = ["# Results\n"]
    for name in evaluation_names(run.history):
        parts += [f"## Evaluation set `{name}`\n", results_table(run, others, name)]
    if not evaluation_names(run.history):
        parts.append("Nothing was evaluated: there was no split `test` and no other evaluation set.\n")
    known = {run.method, *(other.method for other in others.values())}
    missing = [f"`{method}`" for method in ("local", "central") if method not in known]
    if missing:
        parts.append(
            f"There is no run of {' or '.join(missing)} with the same base model, data, evaluation and seed beside "
            "this folder. The table will include such runs when they exist.\n"
        )
    parts += ["## Rounds\n", rounds_table(run.history)]
    return "\n".join(parts)


def clients_page(run: Run) -> str:
    """Return `clients.md`: the training of each client, and its scores if the evaluation rows name their client."""
    parts = ["# Clients\n", clients_table(run.history)]
    for name in evaluation_names(run.history):
        if table := client_scores_table(run, name):
            parts += [f"## Evaluation set `{name}`\n", table]
    return "\n".join(parts)
