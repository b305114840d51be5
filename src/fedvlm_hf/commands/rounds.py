"""`fedvlm rounds`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


if TYPE_CHECKING:
    from ..hub.rounds import SavedRounds


def run(argv: Sequence[str]) -> None:
    """List the rounds of a run: when each was saved, its scores and its traffic.

    Rounds that can be loaded are named by their tag, or by their folder if the run
    is a folder. Private repositories need the token of `hf auth login` or HF_TOKEN.

    examples:
      A run's repository on the Hub:
        fedvlm rounds org/name
      A run's folder:
        fedvlm rounds out/fed_nature/fedavg-seed42
    """
    parser = OneLineParser("fedvlm rounds", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("run", help="Repository on the Hub, or folder of a run.")
    arguments = parser.parse_args(argv)
    # Imports that take seconds are here, so that `fedvlm --help` does not wait for them
    from ..hub.rounds import saved_rounds

    print(rounds_text(saved_rounds(arguments.run)))


def rounds_text(saved: "SavedRounds") -> str:
    """Return a run's rounds as a table; rounds that were deleted since have no revision."""
    from ..markdown import markdown_table
    from ..reporting.tables import MISSING, megabytes, score_columns

    history = saved.history()
    titles, scores = score_columns(history)
    rows = []
    for record, cells in zip(history, scores, strict=True):
        found = saved.rounds.get(record.round_idx)
        place = [found.place, f"{found.date:%Y-%m-%d %H:%M}"] if found else [MISSING, MISSING]
        traffic = [megabytes(record.bytes_down), megabytes(record.bytes_up)]
        rows.append([str(record.round_idx), *place, *cells, *traffic])
    table = markdown_table(["round", "revision", "saved (UTC)", *titles, "MB down", "MB up"], rows, num_labels=3)
    return f"{saved.name}: {len(saved.rounds)} rounds that can be loaded\n\n{table}"
