"""Run a command so that a user's mistake is one line on stderr, and parse options so that it names the option."""

import os
import re
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from ..registry import did_you_mean


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run. Its message says what is saved and how to continue."""


def run_main(
    main: Callable[[Sequence[str]], int | None], argv: Sequence[str], program: str, debug: bool = False
) -> int:
    """Run a command, and print errors that the user can correct as one line.

    Args:
        main (`Callable`):
            Takes the arguments, and returns an exit status or `None`.
        argv (`Sequence[str]`):
            Arguments without the name of the program.
        program (`str`):
            The name at the start of an error line.
        debug (`bool`, *optional*, defaults to `False`):
            Show the traceback of an error.

    Returns:
        `int`: The exit status: 2 after an error, 130 after Ctrl-C.
    """
    try:
        return main(argv) or 0
    except (ValueError, OSError, ImportError) as error:  # a traceback would hide the line that says what to correct
        if debug:
            raise
        print(f"{program}: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if debug:
            raise
        _wait_for_launcher()
        print(f"{program}: interrupted{f'. {stop}' if str(stop) else ''}", file=sys.stderr)
        return 130


def run_recipe(main: Callable[[Sequence[str]], None], argv: Sequence[str], program: str) -> int:
    """Run a recipe with [`run_main`]. `--debug` without a value shows the traceback of an error.

    With a value, `--debug` is the option of [`~transformers.TrainingArguments`].
    """
    sys.excepthook = sys.__excepthook__  # the imports are over, see `start_recipe`
    launcher = launch_command()  # before Ctrl-C, which ends accelerate at once
    argv = list(argv)
    flags = [
        i for i, text in enumerate(argv) if text == "--debug" and (argv[i + 1 : i + 2] or ["-"])[0].startswith("-")
    ]
    for i in reversed(flags):
        del argv[i]
    status = run_main(main, argv, program, bool(flags))
    if status == 2 and launcher and not {"--quiet", "-q"} & set(launcher):
        print("The lines below are of accelerate. `accelerate launch --quiet` leaves them out.", file=sys.stderr)
    return status


def start_recipe(program: str) -> None:
    """Say that imports take a while, and print one line if Ctrl-C ends them.

    Call it before them, in a program that then calls [`run_recipe`]. To import this package before torch also makes
    torch's threads wait as they should.

    Args:
        program (`str`):
            The name at the start of an error line.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            return sys.__excepthook__(kind, error, traceback)
        _wait_for_launcher()
        print(f"{program}: interrupted. Nothing was started.", file=sys.stderr)

    sys.excepthook = hook
    launch_command()
    print("loading torch, transformers and trl ...", flush=True)


@cache
def launch_command() -> list[str]:
    """Return the `accelerate launch` command that started this process, or an empty list if none did."""
    import psutil

    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):  # the parent has ended, or belongs to another user
        return []
    for i in range(1, len(words)):
        if words[i] == "launch" and Path(words[i - 1]).name == "accelerate":
            return ["accelerate", *words[i:]]
    return []


@contextmanager
def resumable(output_dir: str | os.PathLike[str], num_rounds: int) -> Iterator[None]:
    """Turn Ctrl-C into a [`RunInterrupted`] that counts the saved rounds and gives the command that continues.

    Args:
        output_dir (`str` or `os.PathLike`):
            The folder of the run.
        num_rounds (`int`):
            The number of rounds of the whole run.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        folders = Path(output_dir, "rounds").glob("round-[0-9]*")
        saved = max((int(path.name.removeprefix("round-")) for path in folders), default=0)
        raise RunInterrupted(
            f"{saved} of {num_rounds} rounds are saved in {output_dir}. To continue: {_resume_command()}"
        ) from stop


class OneLineParser(ArgumentParser):
    """An `ArgumentParser` that raises a `ValueError` that names the option, and prints no usage."""

    def error(self, message: str) -> NoReturn:
        """Raise a `ValueError` for an error of `argparse`."""
        unknown = re.fullmatch(r"unrecognized arguments: (.*)", message, flags=re.DOTALL)
        named = re.fullmatch(r"argument ([^\s/:]+)\S*: (.*)", message, flags=re.DOTALL)
        if unknown:
            words = unknown[1].split()
            option = next((word for word in words if word.startswith("--")), words[0]).split("=")[0]
            message = f"`{option}` is not an option.{did_you_mean(option, self.option_names(), quote='`', most=1)}"
        elif named:
            message = f"`{named[1]}`: {named[2]}."
        else:
            message = re.sub("(--[a-z0-9_]+)(/--[a-z0-9-]+)?", r"`\1`", message) + "."
        raise ValueError(f"{message} `--help` lists the options.")

    def option_names(self) -> list[str]:
        """Return the long options, each in one spelling."""
        return [action.option_strings[0] for action in self._actions if action.option_strings]


def _wait_for_launcher() -> None:
    """Wait until accelerate has printed the traceback with which it ends on Ctrl-C, so that our line is the last."""
    import psutil

    if not launch_command():
        return
    with suppress(psutil.Error, AttributeError):
        launcher = psutil.Process().parent()
        if "accelerate" in " ".join(launcher.cmdline()):  # it may have ended, and this process has another parent now
            launcher.wait(timeout=2)


def _one_line(error: Exception) -> str:
    parts = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
    return " ".join(" ".join(parts).split())


def _resume_command() -> str:
    words = launch_command() or ["python", *sys.argv]
    if "--resume_from_checkpoint" not in words:
        words = [*words, "--resume_from_checkpoint", "true"]
    return shlex.join(words)
