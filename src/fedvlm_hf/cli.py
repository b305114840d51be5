"""The command `fedvlm <subcommand>`, for everything except training, which `recipes/` do."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from . import __version__
from .commands import dedented
from .launch.errors import OneLineParser, run_main
from .registry import unknown_name_message


COMMANDS = (
    "build", "check", "partition", "build-llava", "convert-showo", "inspect", "push", "rounds", "eval", "report",
    "merge", "methods", "hub-server", "hub-client",
)  # fmt: skip
"""Each subcommand is the function `run` of a module in `commands/`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv (`Sequence[str]`, *optional*):
            Arguments without the name of the program, by default those of the process.

    Returns:
        `int`: The exit status, 2 if the arguments, or the files that they name, cannot be used.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    debug = argv[:1] == ["--debug"]
    argv = argv[1:] if debug else argv
    return run_main(_run, argv, f"fedvlm {argv[0]}" if argv and argv[0] in COMMANDS else "fedvlm", debug)


def _run(argv: Sequence[str]) -> int:
    summaries = [f"  {name:<14} {dedented(_command(name).__doc__).splitlines()[0]}" for name in COMMANDS]
    parser = OneLineParser(
        prog="fedvlm",
        usage="fedvlm [--debug] SUBCOMMAND [--help] [OPTIONS]",
        description="\n".join(["Federated fine-tuning of vision-language models.", "", "subcommands:", *summaries]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedvlm_hf {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("subcommand", metavar="SUBCOMMAND", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv[:1])
    if arguments.subcommand not in COMMANDS:
        raise ValueError(unknown_name_message("SUBCOMMAND", arguments.subcommand, list(COMMANDS)))
    return _command(arguments.subcommand)(argv[1:]) or 0


def _command(name: str) -> Callable[[Sequence[str]], int | None]:
    # Modules import what takes seconds inside `run`, so that `fedvlm --help` does not wait for it
    return importlib.import_module(f"{__package__}.commands.{name.replace('-', '_')}").run


if __name__ == "__main__":
    sys.exit(main())
