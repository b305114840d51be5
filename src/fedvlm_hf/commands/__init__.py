"""The subcommands of `fedvlm`: a module each, with a function `run(argv)` whose docstring is the help."""

import argparse
import inspect


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults after each option, and texts with their own line ends."""


def dedented(text: str | None) -> str:
    """A docstring as `--help` shows it."""
    return inspect.cleandoc(text or "")
