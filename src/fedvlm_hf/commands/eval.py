"""`fedvlm eval`."""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


if TYPE_CHECKING:
    from ..types import EvalResult


def run(argv: Sequence[str]) -> None:
    r"""Score rounds of a run again, by generation, on rows of a dataset.

    Rounds are scored as in training: for each task, client and subset. Clients
    that have their own models are scored with those.

    examples:
      Three rounds of a repository on the Hub:
        fedvlm eval org/name --rounds 1,5,10 \
            --dataset_name org/dataset --dataset_config noniid
      The last round of a run's folder, on rows that it was not scored on:
        fedvlm eval out/fed_nature/fedavg-seed42 --dataset_name org/dataset \
            --split validation --out scores.json
    """
    parser = OneLineParser("fedvlm eval", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("run", help="Repository on the Hub, or folder of a run.")
    parser.add_argument("--rounds", help="Such as 1,5,10, or all. The last one by default.")
    parser.add_argument("--dataset_name", required=True, help="Dataset on the Hub, or folder.")
    parser.add_argument("--dataset_config", help="Configuration of the dataset.")
    parser.add_argument("--split", default="test", help="Split with the rows to answer.")
    parser.add_argument("--base_model", help="Base model. By default the one that the rounds name.")
    parser.add_argument("--dtype", default="float32", help="Dtype of the base model.")
    parser.add_argument("--batch_size", type=int, default=8, help="Number of rows that are answered together.")
    parser.add_argument("--max_new_tokens", type=int, help="Longest answer in tokens. That of the run by default.")
    parser.add_argument("--num_threads", type=int, help="CPU threads. All cores by default.")
    parser.add_argument("--out", help="JSON file to write the scores to.")
    _evaluate(parser.parse_args(argv))


def _evaluate(arguments: Namespace) -> None:
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    from ..files import write_atomic
    from ..hub.rounds import saved_rounds
    from ..hub.scoring import RoundScorer
    from ..launch import load_federation, use_threads
    from ..progress import evaluation_bar

    saved = saved_rounds(arguments.run)
    rounds = chosen_rounds(arguments.rounds, list(saved.rounds))
    dataset = load_federation(arguments.dataset_name, arguments.dataset_config)
    if arguments.split not in dataset:
        raise ValueError(f"`split` {arguments.split!r} is not a split of the dataset, which has {', '.join(dataset)}.")
    use_threads(arguments.num_threads)
    scorer = RoundScorer(saved, rounds, arguments.base_model, arguments.dtype)
    prepared = scorer.prepare(dataset[arguments.split], arguments.batch_size, arguments.max_new_tokens)
    results = {}
    for round_idx in rounds:
        with evaluation_bar(len(prepared)) as bar:
            result = scorer.score(round_idx, prepared, bar.update)
        results[round_idx] = replace(result, generations=[])
    print(results_text(results, arguments.split))
    if arguments.out:
        asked = {key: getattr(arguments, key) for key in ("run", "dataset_name", "dataset_config", "split")}
        scores = {str(key): {"scores": r.scores, "clients": r.clients, "subsets": r.subsets}
                  for key, r in results.items()}  # fmt: skip
        content = {**asked, "base_model": scorer.base_model, "rounds": scores}
        write_atomic(arguments.out, json.dumps(content, indent=2) + "\n")


def chosen_rounds(text: str | None, there: Sequence[int]) -> list[int]:
    """Return the rounds that `--rounds` names, or the last one if it is not given."""
    if not there:
        raise ValueError("The run has no round that can be loaded.")
    if text is None:
        return [there[-1]]
    if text == "all":
        return list(there)
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"`rounds` must be numbers separated by commas, such as 1,5,10, got {text!r}.") from None


def results_text(results: Mapping[int, "EvalResult"], split: str) -> str:
    """Return the scores of each round as a table."""
    from ..markdown import markdown_table
    from ..reporting.tables import flat_scores, number

    columns = {round_idx: flat_scores(result) for round_idx, result in results.items()}
    keys = list(dict.fromkeys(key for scores in columns.values() for key in scores))
    header = ["task", "metric", *(f"round {round_idx}" for round_idx in results)]
    rows = [[*key, *(number(scores.get(key)) for scores in columns.values())] for key in keys]
    return f"Rows of {split!r}, answers generated greedily:\n\n{markdown_table(header, rows, num_labels=2)}"
