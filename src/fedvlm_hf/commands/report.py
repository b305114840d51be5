"""`fedvlm report`."""

from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


if TYPE_CHECKING:
    from ..reporting.runs import Run


def run(argv: Sequence[str]) -> None:
    """Compare runs with the same data and the same evaluation sets.

    Prints the scores side by side, each run at its last evaluated round, and writes
    to --output_dir:

      learning_curves.png  the scores over the rounds
      index.html           scores, curves, what the runs did differently, clients
                           and rounds; one file that opens without network

    Neither has a row of the data. Method, seed, base model, tuning and any other
    setting may differ. Runs with other clients or evaluation sets are refused.

    examples:
      Three runs of one dataset:
        fedvlm report out/fed_nature/fedavg-seed42 out/fed_nature/local-seed42 \\
            out/fed_nature/central-seed42 --output_dir comparison
      A run on the Hub beside one in a folder:
        fedvlm report org/name out/fed_nature/fedavg-seed42 --output_dir comparison
    """
    parser = OneLineParser("fedvlm report", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="Folders of runs, or repositories on the Hub.")
    parser.add_argument("--output_dir", required=True, help="Folder for the curves and the page.")
    _report(parser.parse_args(argv))


@dataclass(frozen=True)
class _Compared:
    """One of the runs: its name as given, the content of its `run.json`, and its records."""

    name: str
    description: Mapping[str, Any]
    records: "Run"


def _report(arguments: Namespace) -> None:
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    from ..files import write_atomic
    from ..reporting.curves import learning_curves
    from ..reporting.html import html_page
    from ..reporting.runs import evaluation_names
    from ..reporting.tables import results_table

    compared = read_runs(arguments.runs)
    folder = Path(arguments.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output_dir` '{folder}' is a file. Name a folder.")
    (_, first), *others = compared.items()
    others = {label: other.records for label, other in others}
    parts = [
        f"## Evaluation set `{name}`\n\n{results_table(first.records, others, name)}"
        for name in evaluation_names(first.records.history)
    ]
    text = "\n".join(
        ["# Runs compared\n", _overview(compared), *parts, "![Learning curves](curves)\n", *_details(compared)]
    )
    curves = folder / "learning_curves.png"
    learning_curves(first.records, curves, others)
    page = html_page("Runs compared", text, {"curves": curves.read_bytes()})
    write_atomic(folder / "index.html", page)
    print("\n".join(parts))
    print(f"Curves and the page are in {folder}/. Start with index.html.")


def read_runs(names: Sequence[str]) -> dict[str, _Compared]:
    """Read runs and check that their scores can be compared.

    Args:
        names (`Sequence[str]`):
            Folders of runs, or repositories on the Hub.

    Returns:
        `dict[str, _Compared]`: By label, which is the method, followed by the name of the run if several have the
        method.

    Raises:
        `ValueError`: if a run was never evaluated, or if clients or evaluation sets differ; it names them.
    """
    from ..hub.rounds import saved_rounds
    from ..reporting.run_info import public_name
    from ..reporting.runs import Run, evaluation_names

    if len(set(names)) < max(len(names), 2):
        raise ValueError(f"`RUN` must name two or more different runs, got {' '.join(names)}.")
    found = []
    for name in names:
        saved = saved_rounds(name)
        description, history = saved.run(next(reversed(saved.rounds), 0)), saved.history()
        if not evaluation_names(history):
            raise ValueError(
                f"`RUN` {name!r} was never evaluated, so it has no scores to compare. Score its rounds with "
                "`fedvlm eval`, or train with a split `test`."
            )
        found.append((name, description, history))
    for name, description, _ in found[1:]:
        _check_comparable(found[0][:2], (name, description))
    methods = Counter(description["method"] for _, description, _ in found)
    short = Counter(public_name(name) for name in names)
    compared = {}
    for name, description, history in found:
        label = description["method"]
        if methods[label] > 1:
            label += f" ({public_name(name) if short[public_name(name)] == 1 else name})"
        compared[label] = _Compared(name, description, Run(label, history))
    return compared


def _check_comparable(first: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]) -> None:
    """Compare the digests of the rows of each client and of each evaluation set."""
    clients = first[1]["clients"], other[1]["clients"]
    if clients[0] == _numbered(clients[1]) or _numbered(clients[0]) == clients[1]:
        clients = {}, {}  # the same rows, and one of the runs was pushed without the names of its clients
    evaluations = first[1]["evaluations"], other[1]["evaluations"]
    differences = []
    for (own, theirs), what in ((clients, "training rows of client"), (evaluations, "evaluation set")):
        for name in sorted({*own, *theirs}):
            if own.get(name) != theirs.get(name):
                state = (
                    "differs" if name in own and name in theirs else f"only in {(first if name in own else other)[0]}"
                )
                differences.append(f"{what} {name!r}: {state}")
    if differences:
        shown = [*differences[:5], *([f"and {len(differences) - 5} more"] if len(differences) > 5 else [])]
        raise ValueError(
            f"`RUN` {first[0]!r} and {other[0]!r} cannot be compared, since their data are not the same: "
            f"{'; '.join(shown)}. Compare runs of the same dataset and configuration with the same evaluation sets."
        )


def _numbered(clients: Mapping[str, str]) -> Mapping[str, str]:
    """Return clients with numbers for names, as a run is pushed without the names of its clients."""
    from ..hub.layout import number_clients, rename_keys

    return rename_keys(clients, number_clients(clients))


def _overview(compared: Mapping[str, _Compared]) -> str:
    """Return a table with the place, the length and the traffic of each run."""
    from ..markdown import markdown_table, number
    from ..reporting.run_info import public_name
    from ..reporting.tables import megabytes

    rows = []
    for label, own in compared.items():
        history = own.records.history
        minutes = sum(record.seconds.get("total", 0.0) for record in history) / 60
        traffic = [sum(getattr(record, key) for record in history) for key in ("bytes_down", "bytes_up")]
        length = [str(history[-1].round_idx), number(minutes, 1), *map(megabytes, traffic)]
        rows.append([label, public_name(own.name), public_name(own.description["base_model"]), *length])
    return markdown_table(["run", "folder", "base model", "rounds", "minutes", "MB down", "MB up"], rows, num_labels=3)


def _details(compared: Mapping[str, _Compared]) -> list[str]:
    """Return the parts of the page below the curves."""
    from ..markdown import markdown_table
    from ..reporting.runs import evaluation_names
    from ..reporting.tables import client_scores_table, rounds_table

    settings = {label: _settings(own.description) for label, own in compared.items()}
    names = dict.fromkeys(name for values in settings.values() for name in values)
    rows = [[f"`{name}`", *(str(values.get(name, "-")) for values in settings.values())] for name in names]
    different = [row for row in rows if len(set(row[1:])) > 1]
    parts = ["## What differs\n", markdown_table(["setting", *compared], different, num_labels=None)]
    for label, own in compared.items():
        history = own.records.history
        parts += [f"## {label}\n", rounds_table(history)]
        for name in evaluation_names(history):
            if table := client_scores_table(own.records, name):
                parts += [f"### Clients, evaluation set `{name}`\n", table]
    return parts


def _settings(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, without those that only say where it is saved, shown or pushed."""
    from ..reporting.run_info import NEVER_SHOWN, NEVER_SHOWN_PREFIXES, public_name, public_value

    config = {
        name: value
        for name, value in sorted(description["config"].items())
        if name not in NEVER_SHOWN - {"tuning"} and not name.startswith(NEVER_SHOWN_PREFIXES)
    }
    settings = {"base_model": public_name(description["base_model"]), "method": description["method"], **config}
    return public_value(settings)
