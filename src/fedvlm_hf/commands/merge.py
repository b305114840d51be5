"""`fedvlm merge`."""

import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


if TYPE_CHECKING:
    from ..hub.rounds import SavedRounds
    from ..hub.scoring import RoundScorer


def run(argv: Sequence[str]) -> None:
    """Merge the adapter of a round into its base model, and save the result as an ordinary model.

    The folder contains weights, configuration, processor and a model card. It is
    loaded by `AutoModelForImageTextToText.from_pretrained` and needs neither PEFT
    nor the base model. The weights of the base model are read, never changed.

    examples:
      The last round of a run's folder:
        fedvlm merge out/fed_nature/fedavg-seed42 --output_dir merged
      One of its rounds, in half of the space:
        fedvlm merge out/fed_nature/fedavg-seed42/rounds/round-0003 \\
            --output_dir merged-3 --dtype bfloat16
      A round on the Hub:
        fedvlm merge org/name@round-0003 --output_dir merged-3
      The model of one client, if each client has its own:
        fedvlm merge out/fed_nature/ditto-seed42 --client_id client_00 \\
            --output_dir merged-client_00
    """
    parser = OneLineParser("fedvlm merge", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("run", help="Folder of a run or of one of its rounds, or org/name or org/name@round-0003.")
    parser.add_argument("--output_dir", required=True, help="New folder for the merged model.")
    parser.add_argument("--client_id", help="Client, if each client has its own model.")
    parser.add_argument("--base_model", help="Base model. By default the one that the round names.")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="Dtype of the merged model."
    )
    _merge(parser.parse_args(argv))


def _merge(arguments: Namespace) -> None:
    folder = Path(arguments.output_dir)
    if folder.exists():
        raise ValueError(f"`output_dir` '{folder}' exists already, and is not overwritten. Name a new folder.")
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    import torch

    from ..files import new_folder, round_tag
    from ..hub.scoring import RoundScorer
    from ..reporting.round_card import MergedRound, merged_card

    saved, round_idx = _find_round(arguments.run)
    scorer = RoundScorer(saved, [round_idx], arguments.base_model, arguments.dtype)
    _check_client(scorer, arguments.client_id)
    model = scorer.load(round_idx, arguments.client_id).merge_and_unload(safe_merge=True)
    model.to(getattr(torch, arguments.dtype))  # what was trained is in fp32 until here
    is_our_class = type(model).__module__.startswith("fedvlm_hf.")
    records = [record for record in saved.history() if record.round_idx == round_idx]
    merged = MergedRound(
        run=str(Path(saved.name).resolve()) if Path(saved.name).is_dir() else saved.name,
        round_idx=round_idx,
        method=scorer.run["method"],
        base_model=scorer.base_model,
        client_id=arguments.client_id,
        evaluations=records[0].evaluations if records else {},
        run_card=saved.card(round_idx),
        is_our_class=is_our_class,
    )
    with new_folder(folder) as temporary:
        model.save_pretrained(temporary)
        scorer.processor.save_pretrained(temporary)
        (temporary / "README.md").write_text(f"{merged_card(merged, folder)}\n", encoding="utf-8")
    what = round_tag(round_idx) if arguments.client_id is None else f"{round_tag(round_idx)} of {arguments.client_id}"
    print(f"{what} of {saved.name}, merged into {scorer.base_model}, is in {folder}/ ({arguments.dtype}).")
    if is_our_class:
        print(f"Its class {type(model).__name__} comes with fedvlm_hf: import fedvlm_hf before loading it.")


def _find_round(text: str) -> "tuple[SavedRounds, int]":
    """Return the run and the round that the user named; the last round if only the run was named."""
    from ..hub.layout import METRICS, parse_source
    from ..hub.rounds import saved_rounds

    source, path = parse_source(text), Path(text).resolve()
    if source is not None:
        return saved_rounds(source.repo_id), source.round_idx
    if re.fullmatch(r"round-\d{4,}", path.name) and (path.parents[1] / METRICS).is_file():
        return saved_rounds(str(path.parents[1])), int(path.name.removeprefix("round-"))
    saved = saved_rounds(text)
    if not saved.rounds:
        raise ValueError(f"`run` {text!r} has no round that can be loaded.")
    return saved, list(saved.rounds)[-1]


def _check_client(scorer: "RoundScorer", client_id: str | None) -> None:
    """Check that a client is named exactly if each client has its own model."""
    clients = ", ".join(sorted(scorer.run["clients"]))
    if scorer.is_personal and client_id is None:
        raise ValueError(
            f"`--client_id` is needed: with the method {scorer.run['method']!r} each client has its own model, and a "
            f"round has only what all clients share. Name one of {clients}."
        )
    if client_id is None:
        return
    if not scorer.is_personal:
        raise ValueError(
            f"`--client_id` is {client_id!r}, but with the method {scorer.run['method']!r} all clients have the same "
            "model. Leave it out."
        )
    if client_id not in scorer.run["clients"]:
        raise ValueError(f"`--client_id` {client_id!r} is not a client of the run. Name one of {clients}.")
