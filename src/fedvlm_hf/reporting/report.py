"""ReportCallback: the tables and figures in a run's `report/` folder."""

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
    """Keep `report/` in step with the run: the tables and losses every round, the rest where the round was evaluated.

    - `results.md`: round 0, local, federated and central side by side, as far as such runs lie beside `output_dir`
      (see [`~reporting.runs.comparable_runs`]), and one line per round;
    - `clients.md`: weights, losses, times and scores by client;
    - `learning_curves.png`, `client_loss.png`;
    - `samples.png`: test images with question, answer and reference; `generations.jsonl`: every answer of that round.

    All of it follows from the records, so a run that was killed and resumed leaves the same report.

    Args:
        output_dir (`str` or `os.PathLike`):
            The run's folder.
        method (`str`):
            The run's method, as tables and legends call it.
        eval_datasets (`Mapping[str, Sequence[Mapping[str, Any]]]`):
            The evaluation sets by name, whose rows have `images` and `prompt`.
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
        """Take up the rounds of a resumed run."""
        self._history = list(history)

    def on_round_end(self, end: RoundEnd) -> None:
        """Write what the round changed."""
        self._history[-1:] = [*(earlier.without_generations() for earlier in self._history[-1:]), end.record]
        self._write(everything=bool(end.record.evaluations))

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Write the whole report, unless the last round just did."""
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
        """The answers of the latest evaluated round, if they are in memory."""
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
    """Everything of a report that shows no row of the data.

    Args:
        folder (`Path`):
            The report's folder.
        run (`Run`):
            The run that is reported.
        others (`Mapping[str, Run]`):
            Label to run, as `comparable_runs` finds them.
        with_curves (`bool`, *optional*, defaults to `True`):
            Whether the learning curves are drawn too, which change only where a round was evaluated.
    """
    write_atomic(folder / "results.md", results_page(run, others))
    write_atomic(folder / "clients.md", clients_page(run))
    client_loss(run.history, folder / "client_loss.png")
    if with_curves:
        learning_curves(run, folder / "learning_curves.png", others)


def results_page(run: Run, others: Mapping[str, Run]) -> str:
    """`results.md`: a table per evaluation set, then the rounds.

    Args:
        run (`Run`):
            The run that is reported.
        others (`Mapping[str, Run]`):
            Label to run, as `comparable_runs` finds them.
    """
    parts = ["# Results\n"]
    for name in evaluation_names(run.history):
        parts += [f"## Evaluation set `{name}`\n", results_table(run, others, name)]
    known = {run.method, *(other.method for other in others.values())}
    missing = [f"`{method}`" for method in ("local", "central") if method not in known]
    if missing:
        parts.append(
            f"No run of {' or '.join(missing)} on the same base model, data, evaluation and seed lies beside this "
            "folder; the table shows such runs once they are there.\n"
        )
    parts += ["## Rounds\n", rounds_table(run.history)]
    return "\n".join(parts)


def clients_page(run: Run) -> str:
    """`clients.md`: what each client did, then its scores where the evaluation rows name their client."""
    parts = ["# Clients\n", clients_table(run.history)]
    for name in evaluation_names(run.history):
        if table := client_scores_table(run, name):
            parts += [f"## Evaluation set `{name}`\n", table]
    return "\n".join(parts)
