"""The command `fedvlm <subcommand>`, for everything except training, which `recipes/` do."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from . import __version__
from .commands import dedented


COMMANDS = (
    "build", "check", "partition", "build-llava", "push", "rounds", "eval", "report", "merge", "methods", "hub-server",
    "hub-client",
)  # fmt: skip
"""Each subcommand is the function `run` of a module in `commands/`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv (`Sequence[str]`, *optional*):
            Arguments without the name of the program, by default those of the process.

    Returns:
        `int`: The exit status, 1 if the arguments, or the files that they name, cannot be used.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    summaries = [f"  {name:<14} {dedented(_command(name).__doc__).splitlines()[0]}" for name in COMMANDS]
    parser = argparse.ArgumentParser(
        prog="fedvlm",
        usage="fedvlm SUBCOMMAND [--help] [OPTIONS]",
        description="\n".join(["Federated fine-tuning of vision-language models.", "", "subcommands:", *summaries]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedvlm_hf {__version__}")
    parser.add_argument("subcommand", choices=COMMANDS, help=argparse.SUPPRESS)
    command = parser.parse_args(argv[:1]).subcommand
    try:
        _command(command)(argv[1:])
    except (ValueError, OSError) as error:  # the user can correct these; a traceback would hide the line that says how
        print(f"fedvlm {command}: error: {error}", file=sys.stderr)
        return 1
    return 0


def _command(name: str) -> Callable[[Sequence[str]], None]:
    # Modules import what takes seconds inside `run`, so that `fedvlm --help` does not wait for it
    return importlib.import_module(f"{__package__}.commands.{name.replace('-', '_')}").run


if __name__ == "__main__":
    sys.exit(main())
