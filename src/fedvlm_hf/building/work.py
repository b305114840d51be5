"""Tools for long builds: worker processes, progress bars, results that survive a kill, and row counts."""

import json
import os
import signal
import threading
import time
from collections import deque
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


class RowCounts:
    """Counts of the rows that were read and of those that each rule excluded, in the order of the rules.

    Example:

    ```python
    >>> from fedvlm_hf.building.work import RowCounts

    >>> counts = RowCounts()
    >>> counts.read("rows of train.json", 10)
    >>> counts.exclude("rows in Chinese", 4, "English is the default")
    >>> counts.kept
    6
    ```
    """

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def read(self, what: str, count: int) -> None:
        """Count rows that were read."""
        self.lines.append({"step": "read", "what": what, "count": count, "why": ""})

    def exclude(self, what: str, count: int, why: str) -> None:
        """Count rows that were left out, with the reason."""
        self.lines.append({"step": "excluded", "what": what, "count": count, "why": why})

    def note(self, what: str, count: int, why: str = "") -> None:
        """Count something that does not change the total, such as repaired rows, images or volumes."""
        self.lines.append({"step": "note", "what": what, "count": count, "why": why})

    @property
    def kept(self) -> int:
        """Number of rows read minus the number left out."""
        signs = {"read": 1, "excluded": -1, "note": 0}
        return sum(signs[line["step"]] * line["count"] for line in self.lines)


@dataclass
class Work:
    """The worker processes of a build, its row counts, and the checksums of its source files.

    Attributes:
        folder (`Path`, *optional*): Where journals are kept, so that an interrupted build can continue. By default no
            journal is kept.
        num_workers (`int`): Number of worker processes; with 1 the work is done in the current process.
        raw (`Path`, *optional*): The download's folder. Names in `sources` are relative to it.
        counts ([`RowCounts`]): Row counts per rule.
        sources (`dict[str, str]`): SHA-256 of each file that rows were read from, by name.
        start_after (`float`): Seconds for which work is done in this process before worker processes are started.
            Starting them takes about as long, so small datasets are finished sooner without them.
    """

    folder: Path | None = None
    num_workers: int = 1
    raw: Path | None = None
    counts: RowCounts = field(default_factory=RowCounts)
    sources: dict[str, str] = field(default_factory=dict)
    start_after: float = 1.0

    def source(self, path: str | os.PathLike[str]) -> Path:
        """Record the SHA-256 of a file that rows are read from.

        For annotation files only, since images are identified by their pixels.

        Args:
            path (`str` or `os.PathLike`):
                The file.

        Returns:
            `Path`: the same path, so that it can be read at once: `json.loads(work.source(path).read_text())`.

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
        """Apply a function to many items on all worker processes, and record the results in a journal.

        Args:
            name (`str`):
                Name of the journal, which has one JSON line per result.
            function (`Callable`):
                A top-level function of a module that returns JSON types. A result of `None` is not recorded, so a
                later run tries that item again.
            items (`Mapping[str, T]`):
                The argument for each key. The key must identify everything that the result depends on.
            description (`str`, *optional*):
                Label of the progress bar; `name` by default.
            is_long (`bool`, *optional*, defaults to `False`):
                Whether one item takes so long that it is worth starting processes for two items.

        Returns:
            `dict[str, Any]`: the result for each key, in the order of `items`.

        Raises:
            `ValueError`: if `function` raises it, or if a worker process was killed from outside.
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
        rest = deque(todo.items())
        stop = time.monotonic() + self.start_after
        while rest and (
            self.num_workers == 1 or time.monotonic() < stop or len(rest) < (2 if is_long else 2 * self.num_workers)
        ):
            key, argument = rest.popleft()
            yield key, function(argument)
        if not rest:
            return
        keys, arguments = [key for key, _ in rest], [argument for _, argument in rest]
        chunk = 1 if is_long else max(1, min(32, len(keys) // (4 * self.num_workers)))
        # Spawn, do not fork: the parent runs threads of torch and Arrow, and a fork would copy their locks as held
        pool = ProcessPoolExecutor(
            min(self.num_workers, len(keys)), mp_context=get_context("spawn"), initializer=_follow_parent
        )
        try:
            with pool:
                yield from zip(keys, pool.map(function, arguments, chunksize=chunk), strict=True)
        except BrokenProcessPool as error:
            raise ValueError(
                f"A worker process was killed during {name!r}, probably because memory ran out. Run the same command "
                f"again with fewer than {self.num_workers} processes (`--num_workers`): it continues from here."
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
            write_atomic(path, text[: text.rfind("\n") + 1])  # or the next line would be appended to the cut-off one
        for line in text.splitlines():
            try:
                key, result = json.loads(line)
            except ValueError:  # a line that was cut off by a kill
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
    """Set up a worker process: leave Ctrl-C to the parent, and exit if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent_process().join()
    os._exit(1)


def default_workers() -> int:
    """Return the number of CPU cores that this process may use, on every platform and within a container's limit."""
    from joblib import cpu_count  # not at the top: worker processes import this module and do not need it

    return cpu_count()
