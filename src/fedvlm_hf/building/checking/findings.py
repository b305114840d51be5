"""What checks found: a line each, and the first rows where something is wrong."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


MAX_SHOWN = 5
"""Offending rows that a check names; the others are counted."""


class Place(NamedTuple):
    """Where something is wrong.

    Attributes:
        file (`str`): The file, or the configuration where no single file is meant.
        row (`int`, *optional*): Its row, from 0.
        id (`str`, *optional*): The row's id.
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
    """One thing that was looked at.

    Attributes:
        name (`str`): Such as `"boxes"`.
        what (`str`): What holds where nothing is wrong, and on how much it was looked at.
        problems (`list[tuple[Place, str]]`): The first `MAX_SHOWN` of them.
        num_problems (`int`): How many there are.
        notes (`list[str]`): What a reader should know and is no error, such as a declared leak.
        skipped (`str`): Why nothing was looked at; empty where something was.
    """

    name: str
    what: str = ""
    problems: list[tuple[Place, str]] = field(default_factory=list)
    num_problems: int = 0
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    def add(self, place: Place, problem: str, count: int = 1) -> None:
        """One problem more, or `count` of them whose first is at `place`."""
        self.num_problems += count
        if len(self.problems) < MAX_SHOWN:
            self.problems.append((place, problem))

    def merge(self, other: "Check") -> None:
        """The problems of the same check on later rows."""
        self.num_problems += other.num_problems
        self.problems = [*self.problems, *other.problems][:MAX_SHOWN]

    def __str__(self) -> str:
        if self.skipped:
            return f"{'-':<6} {self.name:<16} {self.skipped}"
        head = f"{'WRONG' if self.num_problems else 'ok':<6} {self.name:<16} {self.what}"
        lines = [f"{head}: {self.num_problems:,} found" if self.num_problems else head]
        lines += [f"         {place}: {problem}" for place, problem in self.problems]
        hidden = self.num_problems - len(self.problems)
        lines += [f"         and {hidden:,} more"] if hidden > 0 else []
        return "\n".join([*lines, *(f"         note: {note}" for note in self.notes)])


def failed(checks: Iterable[Check]) -> list[str]:
    """Names of the checks that found something wrong."""
    return [check.name for check in checks if check.num_problems]
