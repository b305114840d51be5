"""The tables of the report, as Markdown."""

from collections.abc import Mapping, Sequence

from ..markdown import MISSING, markdown_table, number
from ..metrics import PRIMARY
from ..types import EvalResult, RoundRecord
from .runs import Run, client_mean, evaluation_names, primary_scores, split_name


PLACES = {"local": 0, "central": 2}
"""Column order: local training is left of the federated runs (1), central training right of them."""


def significant(value: float | None, digits: int = 3) -> str:
    """Format `value` with a fixed number of significant digits, or as a dash if it is `None`."""
    return MISSING if value is None else f"{value:.{digits}g}"


def megabytes(num_bytes: float) -> str:
    """Format a number of bytes in MB (10^6 bytes)."""
    return f"{num_bytes / 1e6:.2f}"


def flat_scores(result: EvalResult | None) -> dict[tuple[str, str], float]:
    """Return scores by (task, metric): the primary metric of each task first, subsets last, as `task (subset)`."""
    if result is None:
        return {}
    tasks = list(PRIMARY)

    def place(name: str) -> tuple[int, bool]:
        task, metric = split_name(name)
        return (tasks.index(task) if task in tasks else len(tasks)), metric != PRIMARY.get(task)

    flat = {}
    for suffix, scores in [("", result.scores), *((f" ({name})", part) for name, part in result.subsets.items())]:
        for name in sorted(scores, key=place):
            task, metric = split_name(name)
            flat[task + suffix, metric] = scores[name]
    return flat


def results_table(run: Run, others: Mapping[str, Run], evaluation: str) -> str:
    """Show round 0, local, the federated runs and central side by side, each at its last evaluated round.

    Args:
        run (`Run`):
            The run that is reported. The title of its column is bold.
        others (`Mapping[str, Run]`):
            Other runs by label, from `comparable_runs`.
        evaluation (`str`):
            Name of the evaluation set.
    """
    runs = {label: other for label, other in others.items() if other.last(evaluation) is not None}
    runs[f"**{run.method}**"] = run
    runs = dict(sorted(runs.items(), key=lambda item: PLACES.get(item[1].method, 1)))
    columns = {label: flat_scores(other.last(evaluation)) for label, other in runs.items()}
    header = ["task", "metric", "round 0", *columns]
    own, start, central = columns[f"**{run.method}**"], flat_scores(run.first(evaluation)), columns.get("central")
    rows = [[*key, number(start.get(key)), *(number(scores.get(key)) for scores in columns.values())] for key in own]
    if central:  # the share of the central run's score that this run reaches
        header.append(f"{run.method} / central")
        for row, (key, value) in zip(rows, own.items(), strict=True):
            row.append(f"{value / central[key]:.0%}" if central.get(key, 0.0) > 0 else MISSING)
    table = markdown_table(header, rows, num_labels=2)
    rounds = ", ".join(f"{label} {other.last_round(evaluation)}" for label, other in runs.items())
    return f"{table}\nEach run at its last evaluated round: {rounds}.\n"


def score_columns(history: Sequence[RoundRecord]) -> tuple[list[str], list[list[str]]]:
    """Return column titles, one per task and evaluation set, and the primary scores of each record as cells."""
    names = evaluation_names(history)
    scores = [
        {(name, task): value for name in names if name in record.evaluations
         for task, value in primary_scores(record.evaluations[name].scores).items()}
        for record in history
    ]  # fmt: skip
    keys = list(dict.fromkeys(key for line in scores for key in line))
    titles = [f"{task} {PRIMARY[task]}" + (f" ({name})" if len(names) > 1 else "") for name, task in keys]
    return titles, [[number(line.get(key)) for key in keys] for line in scores]


def rounds_table(history: Sequence[RoundRecord]) -> str:
    """Show one line per round: primary metric of each task and evaluation set, mean client loss, traffic, time."""
    titles, scores = score_columns(history)
    header = ["round", *titles, "mean client loss", "learning rate", "MB down", "MB up", "seconds"]
    rows = [
        [
            str(record.round_idx),
            *cells,
            number(client_mean(record, "train_loss")),
            significant(client_mean(record, "learning_rate")),
            megabytes(record.bytes_down),
            megabytes(record.bytes_up),
            number(record.seconds.get("total"), 1),
        ]
        for record, cells in zip(history, scores, strict=True)
    ]
    return markdown_table(header, rows)


def clients_table(history: Sequence[RoundRecord]) -> str:
    """Show one line per client: weight, number of rounds, first and last loss, mean time; then the traffic."""
    header = ["client", "weight", "rounds", "first loss", "last loss", "seconds per round"]
    trained = [record for record in history if record.clients]
    rows = []
    for client_id in sorted({client_id for record in trained for client_id in record.clients}):
        metrics = [record.clients[client_id] for record in trained if client_id in record.clients]
        seconds = [line["seconds"] for line in metrics if "seconds" in line]
        rows.append(
            [
                client_id,
                number(metrics[-1].get("num_samples"), 0),
                str(len(metrics)),
                number(metrics[0].get("train_loss")),
                number(metrics[-1].get("train_loss")),
                number(sum(seconds) / len(seconds) if seconds else None, 1),
            ]
        )
    table = markdown_table(header, rows)
    if not trained:
        return table
    num_runs = sum(len(record.clients) for record in trained)
    down, up = sum(record.bytes_down for record in trained), sum(record.bytes_up for record in trained)
    return (
        f"{table}\nOn average a client receives {megabytes(down / num_runs)} MB and sends {megabytes(up / num_runs)} "
        f"MB per round; the total traffic is {megabytes(down + up)} MB.\n"
    )


def client_scores_table(run: Run, evaluation: str) -> str:
    """Show primary scores by client at round 0 and at the last evaluated round, and the lowest of each task."""
    first, last = run.first(evaluation), run.last(evaluation)
    scores = {client_id: primary_scores(part) for client_id, part in sorted(last.clients.items())} if last else {}
    rows, lowest = [], []
    for task, metric in PRIMARY.items():
        own = {client_id: line[task] for client_id, line in scores.items() if task in line}
        for client_id, value in own.items():
            start = primary_scores(first.clients.get(client_id, {})).get(task) if first else None
            rows.append([client_id, task, metric, number(start), number(value)])
        if len(own) > 1:
            worst = min(own, key=own.__getitem__)
            lowest.append(f"Lowest {task} {metric}: {worst}, {number(own[worst])}.\n")
    table = markdown_table(
        ["client", "task", "metric", "round 0", f"round {run.last_round(evaluation)}"], sorted(rows), 3
    )
    return "\n".join([table, *lowest]) if rows else ""
