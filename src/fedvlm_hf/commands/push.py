"""`fedvlm push`."""

from argparse import BooleanOptionalAction
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


if TYPE_CHECKING:
    from ..hub.layout import PushTarget


def run(argv: Sequence[str]) -> None:
    """Send the rounds of a run that are not on the Hub yet, in order.

    OUT is the output_dir of a run that has ended or was killed. No model is
    loaded. A run that was trained with --push_to_hub knows its repository. For
    any other run, name the repository with --repo, and all rounds are sent. It
    needs HF_TOKEN or a login, and uses HF_ENDPOINT.

    Clients' states, test images and generated answers are not sent. The rounds
    that were sent are noted in OUT/outbox; delete that folder to have every round
    compared with the repository again.

    examples:
      The Hub was away at the end of a run:
        fedvlm push out/fedavg-seed42
      A run that was trained without the Hub:
        fedvlm push out/fedavg-seed42 --repo my-name/fed-slake-fedavg
    """
    parser = OneLineParser("fedvlm push", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("out", help="The run's output_dir.")
    parser.add_argument("--repo", help="Repository, such as my-name/my-run. By default the one of the training.")
    parser.add_argument(
        "--private", action=BooleanOptionalAction, help="Whether a new repository is private. It is by default."
    )
    parser.add_argument("--hub_revision", help="Branch of the rounds' commits. main by default.")
    parser.add_argument("--hub_base_model", help="Repository of the base model, if the run loaded it from a folder.")
    parser.add_argument(
        "--share_client_names",
        action=BooleanOptionalAction,
        help="Share clients' names, or number them. Shared by default.",
    )
    parser.add_argument(
        "--push_client_adapters",
        action=BooleanOptionalAction,
        help="Also send each client's own adapter and state, on its own branch.",
    )
    parser.add_argument("--patience", type=float, default=600.0, help="Seconds to wait out an outage.")
    arguments = parser.parse_args(argv)
    # Imports that take seconds are here, so that `fedvlm --help` does not wait for them
    from ..hub.push import push_run

    target = _target(arguments.out, {name: value for name, value in vars(arguments).items() if value is not None})
    url = push_run(
        arguments.out,
        target,
        patience=arguments.patience,
        on_sent=lambda round_idx, commit: print(f"round {round_idx}: {commit[:8]}", flush=True),
    )
    print(f"All rounds are at {url}")


def _target(out: str, options: dict) -> "PushTarget":
    """Return the target of the training, changed by the options."""
    from dataclasses import replace
    from pathlib import Path

    from ..hub.layout import PushTarget
    from ..repository.requests import HubRefusedError

    known = PushTarget.read(Path(out) / "outbox")
    if known is None and "repo" not in options:
        raise HubRefusedError(f"'{out}' holds no run that was pushed before. Name a repository: `--repo OWNER/NAME`.")
    fields = {
        "repo": "repo_id",
        "private": "private",
        "hub_revision": "branch",
        "hub_base_model": "base_model",
        "share_client_names": "share_client_names",
        "push_client_adapters": "push_client_adapters",
    }
    said = {field: options[option] for option, field in fields.items() if option in options}
    return replace(known, **said) if known else PushTarget(**said)
