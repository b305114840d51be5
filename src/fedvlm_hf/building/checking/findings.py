"""The results of checks: one line per check, and the first rows that have problems."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


MAX_SHOWN = 5
"""How many problems a check lists; the others are only counted."""


class Location(NamedTuple):
    """The location of a problem.

    Attributes:
        file (`str`): The file, or the configuration if the problem is not in a single file.
        row (`int`, *optional*): Index of the row, from 0.
        id (`str`, *optional*): Id of the row.
    """

    file: str
    row: int | None = None
    id: str | None = None

    def __str__(self) -> str:
        parts = [self.file]
        parts += [] if self.row is None else [f"row {self.row}"]
        parts += [] if self.id is None else [f"id {self.id!r}"]
        return ", ".join(parts)


@dataclass
class Check:
    """The result of one check.

    Attributes:
        name (`str`): Name of the check, such as `"boxes"`.
        what (`str`): What is true if the check finds no problem.
        problems (`list[tuple[Location, str]]`): The first `MAX_SHOWN` problems.
        num_problems (`int`): Number of all problems.
        notes (`list[str]`): Information that is not an error, such as a declared leak.
        skipped (`str`): Why the check was not run; empty if it was.
    """

    name: str
    what: str = ""
    problems: list[tuple[Location, str]] = field(default_factory=list)
    num_problems: int = 0
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    def add(self, location: Location, problem: str, count: int = 1) -> None:
        """Add a problem, or `count` problems of which the first is at `location`."""
        self.num_problems += count
        if len(self.problems) < MAX_SHOWN:
            self.problems.append((location, problem))

    def merge(self, other: "Check") -> None:
        """Add the problems that the same check found in later rows."""
        self.num_problems += other.num_problems
        self.problems = [*self.problems, *other.problems][:MAX_SHOWN]

    def __str__(self) -> str:
        if self.skipped:
            return f"{'-':<6} {self.name:<16} {self.skipped}"
        head = f"{'WRONG' if self.num_problems else 'ok':<6} {self.name:<16} {self.what}"
        lines = [f"{head}: {self.num_problems:,} found" if self.num_problems else head]
        lines += [f"         {location}: {problem}" for location, problem in self.problems]
        hidden = self.num_problems - len(self.problems)
        lines += [f"         and {hidden:,} more"] if hidden > 0 else []
        return "\n".join([*lines, *(f"         note: {note}" for note in self.notes)])


def failed(checks: Iterable[Check]) -> list[str]:
    """Return the names of the checks that found problems."""
    return [check.name for check in checks if check.num_problems]
