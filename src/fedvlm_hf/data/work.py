"""What a long build needs: all cores, progress, results that outlive a kill, and a count of what was left out."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm


T = TypeVar("T")


class Tally:
    """Counts per rule, in the order of the rules: read, left out and why, kept.

    Example:

    ```python
    >>> from fedvlm_hf.data.work import Tally

    >>> tally = Tally()
    >>> tally.read("rows of train.json", 10)
    >>> tally.exclude("rows in Chinese", 4, "English is the default")
    >>> tally.kept
    6
    ```
    """

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def read(self, what: str, count: int) -> None:
        """So many rows came in."""
        self.lines.append({"step": "read", "what": what, "count": count, "why": ""})

    def exclude(self, what: str, count: int, why: str) -> None:
        """So many rows were left out."""
        self.lines.append({"step": "excluded", "what": what, "count": count, "why": why})

    def note(self, what: str, count: int, why: str = "") -> None:
        """Something else worth counting, which changes no total: repaired rows, images, volumes."""
        self.lines.append({"step": "note", "what": what, "count": count, "why": why})

    @property
    def kept(self) -> int:
        """What was read less what was left out."""
        signs = {"read": 1, "excluded": -1, "note": 0}
        return sum(signs[line["step"]] * line["count"] for line in self.lines)


@dataclass
class Work:
    """Where and how a build works.

    Attributes:
        folder (`Path`, *optional*): Journals are kept here, so that a build goes on where it was stopped; nowhere by
            default.
        num_workers (`int`): Processes; 1 works in this one.
        tally ([`Tally`]): Counts per rule.
    """

    folder: Path | None = None
    num_workers: int = 1
    tally: Tally = field(default_factory=Tally)

    def map(
        self, name: str, function: Callable[[T], Any], items: Mapping[str, T], description: str | None = None
    ) -> dict[str, Any]:
        """Apply a function to many items over all processes, and remember what is done.

        Args:
            name (`str`):
                Names the journal, a JSON line a result.
            function (`Callable`):
                Of the top level of a module; its result is of JSON's types.
            items (`Mapping[str, T]`):
                Key to argument. A key says everything that the result depends on.
            description (`str`, *optional*):
                Of the progress bar; by default `name`.

        Returns:
            `dict[str, Any]`: key to result, in the order of `items`.

        Raises:
            `ValueError`: as `function` does.
        """
        done = self._journalled(name, items)
        todo = {key: item for key, item in items.items() if key not in done}
        with tqdm(total=len(items), initial=len(done), desc=description or name, delay=2, leave=False) as bar:
            for key, result in self._results(function, todo):
                self._remember(name, key, result)
                done[key] = result
                bar.update()
        return {key: done[key] for key in items}

    def _results(self, function: Callable[[T], Any], todo: Mapping[str, T]) -> Iterator[tuple[str, Any]]:
        keys, arguments = list(todo), list(todo.values())
        if self.num_workers == 1 or len(todo) < 2 * self.num_workers:
            yield from zip(keys, map(function, arguments), strict=True)
            return
        chunk = max(1, min(32, len(keys) // (4 * self.num_workers)))
        # Spawned and not forked: the parent has torch's and Arrow's threads, which a fork would leave locked
        with ProcessPoolExecutor(self.num_workers, mp_context=get_context("spawn")) as pool:
            yield from zip(keys, pool.map(function, arguments, chunksize=chunk), strict=True)

    def _journal(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.jsonl"

    def _journalled(self, name: str, items: Mapping[str, Any]) -> dict[str, Any]:
        path = self._journal(name)
        if path is None or not path.exists():
            return {}
        done = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                key, result = json.loads(line)
            except ValueError:  # the line that a kill cut off
                continue
            if key in items:
                done[key] = result
        return done

    def _remember(self, name: str, key: str, result: Any) -> None:
        path = self._journal(name)
        if path is None:
            return
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, result]) + "\n")


def default_workers() -> int:
    """All cores that this process may use."""
    return len(os.sched_getaffinity(0))


__all__ = ["Tally", "Work", "default_workers"]
