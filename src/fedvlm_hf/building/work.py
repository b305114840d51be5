"""What a long build needs: all cores, progress, results that outlive a kill, and a count of what was left out."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from ..files import file_sha256, write_atomic


T = TypeVar("T")


class Tally:
    """Counts per rule, in the order of the rules: read, left out and why, kept.

    Example:

    ```python
    >>> from fedvlm_hf.building.work import Tally

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
        raw (`Path`, *optional*): The download's folder, which the names of `sources` are relative to.
        tally ([`Tally`]): Counts per rule.
        sources (`dict[str, str]`): SHA-256 of the files that rows were read from, by name.
    """

    folder: Path | None = None
    num_workers: int = 1
    raw: Path | None = None
    tally: Tally = field(default_factory=Tally)
    sources: dict[str, str] = field(default_factory=dict)

    def source(self, path: str | os.PathLike[str]) -> Path:
        """Notes the SHA-256 of a file that rows are read from; for annotations, images are known by their pixels.

        Args:
            path (`str` or `os.PathLike`):
                The file.

        Returns:
            `Path`: the same, to be read: `json.loads(work.source(path).read_text())`.

        Raises:
            `ValueError`: if there is no such file.
        """
        path = Path(path)
        try:
            checksum = file_sha256(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ValueError(f"`raw`: there is no file {path}. See the layout in `--help`.") from error
        inside = self.raw is not None and path.is_relative_to(self.raw)
        self.sources[path.relative_to(self.raw).as_posix() if inside else path.name] = checksum
        return path

    def map(
        self,
        name: str,
        function: Callable[[T], Any],
        items: Mapping[str, T],
        description: str | None = None,
        is_long: bool = False,
    ) -> dict[str, Any]:
        """Apply a function to many items over all processes, and remember what is done.

        Args:
            name (`str`):
                Names the journal, a JSON line a result.
            function (`Callable`):
                Of the top level of a module; its result is of JSON's types. `None` is not remembered: a later run
                tries that item again.
            items (`Mapping[str, T]`):
                Key to argument. A key says everything that the result depends on.
            description (`str`, *optional*):
                Of the progress bar; by default `name`.
            is_long (`bool`, *optional*, defaults to `False`):
                An item takes so long that processes are worth starting for two.

        Returns:
            `dict[str, Any]`: key to result, in the order of `items`.

        Raises:
            `ValueError`: as `function` does, or if a process was killed from outside.
        """
        done = self._journalled(name, items)
        todo = {key: item for key, item in items.items() if key not in done}
        with tqdm(total=len(items), initial=len(done), desc=description or name, delay=2, leave=False) as bar:
            for key, result in self._results(name, function, todo, is_long):
                self._remember(name, key, result)
                done[key] = result
                bar.update()
        return {key: done[key] for key in items}

    def _results(
        self, name: str, function: Callable[[T], Any], todo: Mapping[str, T], is_long: bool
    ) -> Iterator[tuple[str, Any]]:
        keys, arguments = list(todo), list(todo.values())
        if self.num_workers == 1 or len(todo) < (2 if is_long else 2 * self.num_workers):
            yield from zip(keys, map(function, arguments), strict=True)
            return
        chunk = 1 if is_long else max(1, min(32, len(keys) // (4 * self.num_workers)))
        # Spawned and not forked: the parent has torch's and Arrow's threads, which a fork would leave locked
        pool = ProcessPoolExecutor(
            min(self.num_workers, len(todo)), mp_context=get_context("spawn"), initializer=_follow_parent
        )
        try:
            with pool:
                yield from zip(keys, pool.map(function, arguments, chunksize=chunk), strict=True)
        except BrokenProcessPool as error:
            raise ValueError(
                f"A process was killed during {name!r}, as the system does when memory runs out. Start the same "
                f"command again with fewer than {self.num_workers} processes (`--num_workers`): it goes on from here."
            ) from error

    def _journal(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.jsonl"

    def _journalled(self, name: str, items: Mapping[str, Any]) -> dict[str, Any]:
        path = self._journal(name)
        if path is None or not path.exists():
            return {}
        done = {}
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            write_atomic(path, text[: text.rfind("\n") + 1])  # or the next line would be written onto the cut-off one
        for line in text.splitlines():
            try:
                key, result = json.loads(line)
            except ValueError:  # the line that a kill cut off
                continue
            if key in items:
                done[key] = result
        return done

    def _remember(self, name: str, key: str, result: Any) -> None:
        path = self._journal(name)
        if path is None or result is None:
            return
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, result]) + "\n")


def _follow_parent() -> None:
    """A process's start: Ctrl-C is the parent's to handle, and where the parent was killed nothing is left behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent_process().join()
    os._exit(1)


def default_workers() -> int:
    """Return the number of CPU cores that this process may use, on every platform and within a container's limit."""
    from joblib import cpu_count  # not at the top: worker processes import this module and do not need it

    return cpu_count()
