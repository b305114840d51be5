"""The subcommands of `fedvlm`: one module each, with a function `run(argv)`. Its docstring is the help text."""

from inspect import cleandoc

from ..launch.help import HelpFormatter


__all__ = ["HelpFormatter", "dedented"]


def dedented(text: str | None) -> str:
    """Return a docstring without its indentation, as shown by `--help`."""
    return cleandoc(text or "")
