"""The subcommands of `fedvlm`: one module each, with a function `run(argv)`. Its docstring is the help text."""

import argparse
import inspect


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show the default of each option, and keep the line breaks of texts."""


def dedented(text: str | None) -> str:
    """Return a docstring without its indentation, as shown by `--help`."""
    return inspect.cleandoc(text or "")
