"""Show help texts with defaults in words."""

import argparse
from enum import Enum


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Show the default of each option in words, and keep the line breaks of texts."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if default in (None, argparse.SUPPRESS, "") or default == [] or action.nargs == 0 or "default" in text.lower():
            return text
        if isinstance(default, bool):
            default = "yes" if default else "no"
        elif isinstance(default, Enum):
            default = default.value
        elif isinstance(default, list):
            default = " ".join(map(str, default))
        return f"{text.rstrip('. ')} (default: {str(default).replace('%', '%%')})"


class RecipeHelp(HelpFormatter):
    """Show each option in one spelling, with the kind of its value."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        name = next((text for text in action.option_strings if text.startswith("--")), action.option_strings[0])
        if action.nargs == 0:
            return name
        kinds = {"int": "INT", "float": "FLOAT", "string_to_bool": "BOOL"}
        value = action.metavar or kinds.get(getattr(action.type, "__name__", ""), "TEXT")
        return f"{name} {value}{' ...' if action.nargs == '+' else ''}"
