"""Tools for long builds: workers, progress bars, results that survive a kill, and row counts."""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm.auto import tqdm

from ..data.pixels import Window
from ..files import file_sha256, write_atomic
from .inputs import Inputs, Listing
from .pools import in_order, process_pool


if TYPE_CHECKING:
    from .images import StoredImage
    from .inspection import ImageFacts

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
    """The workers of a build, its row counts, and the record of what it reads.

    A second build must notice every change of the download, so a builder reads nothing that is not recorded:

    - files with rows: `work.source(path)`;
    - folders whose contents decide what is read: `work.listing(folder, "*.parquet")`;
    - files that would be read if they existed: `work.missing(path)`;
    - images: `inspect_images` records the `file` of each image. A build calls it for all images of the examples.

    Digests of anything else can be added to `sources`. Then a second build has to read everything again to compare.

    Attributes:
        folder (`Path`, *optional*): Where journals are kept, so that an interrupted build can continue. By default no
            journal is kept.
        num_workers (`int`): Number of threads or processes; with 1 the work is done in the current thread.
        raw (`Path`, *optional*): The download's folder. Names in `sources` are relative to it.
        counts ([`RowCounts`]): Row counts per rule.
        sources (`dict[str, str]`): SHA-256 of each file that rows were read from, by name. They become public.
        window ([`~fedvlm_hf.data.pixels.Window`], *optional*): The range of values to show of images with more than 8
            bits; by default that of each image. Images are compared by what is stored, so reading needs it too.
        facts (`dict[StoredImage, ImageFacts | None]`): The images that were inspected, see `building.inspection`.
        start_after (`float`): Seconds for which work is done in this process before worker processes are started.
            Starting them takes about as long, so small datasets are finished sooner without them.
    """

    folder: Path | None = None
    num_workers: int = 1
    raw: Path | None = None
    counts: RowCounts = field(default_factory=RowCounts)
    sources: dict[str, str] = field(default_factory=dict)
    window: Window | None = None
    facts: "dict[StoredImage, ImageFacts | None]" = field(default_factory=dict, repr=False)
    start_after: float = 1.0
    _inputs: Inputs = field(default_factory=Inputs, repr=False)

    @property
    def inputs(self) -> Inputs:
        """What has been read so far."""
        values = {name: digest for name, digest in self.sources.items() if name not in self._inputs.files}
        return replace(self._inputs, values=values)

    def source(self, path: str | os.PathLike[str]) -> Path:
        """Record a file that rows are read from, with its SHA-256.

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
        name = self._name(path)
        self.sources[name or path.name] = checksum
        if name is not None:
            self._inputs.files[name] = checksum
        return path

    def listing(
        self,
        folder: str | os.PathLike[str],
        pattern: str = "*",
        suffixes: Sequence[str] = (),
        allow_links: bool = False,
    ) -> list[Path]:
        """List a folder of the download, and record the names. A second build notices if there are others.

        Args:
            folder (`str` or `os.PathLike`):
                The folder, in or equal to `raw`. Names in other folders are not recorded. If the folder does not
                exist, the list is empty, and this is recorded.
            pattern (`str`, *optional*, defaults to `"*"`):
                Such as `"train-*.parquet"`, `"*/*"`, or `"**/*"` for all files at any depth. Hidden files and folders
                never match.
            suffixes (`Sequence[str]`, *optional*):
                Lower-case endings of the names that matter, such as `(".jpg", ".png")`. All names by default.
            allow_links (`bool`, *optional*, defaults to `False`):
                Whether symbolic links may lead out of `raw`, as in official downloads with parts on other disks.

        Returns:
            `list[Path]`: files and folders, sorted by name.

        Raises:
            `ValueError`: naming path and target, if a symbolic link leads out of `raw` or to a folder around itself.
        """
        folder = Path(folder)
        name = self._name(folder)
        listing = Listing(name or ".", pattern, tuple(suffixes), allow_links)
        names = listing.read(folder if name is None else self.raw)
        if name is not None:
            self._inputs.listings[listing] = names
        return [folder / path for path in names]

    def looked_up(self, raw: str | os.PathLike[str], patterns: Sequence[str]) -> None:
        """Record which files of an official download exist, if a reader chooses between names or finds files by name.

        Args:
            raw (`str` or `os.PathLike`):
                The folder of the download.
            patterns (`Sequence[str]`):
                The names that the reader looks for, relative to this folder, such as `"data/train-*.parquet"`.
        """
        for pattern in patterns:
            self.listing(raw, pattern, allow_links=True)

    def missing(self, path: str | os.PathLike[str]) -> None:
        """Record that a file does not exist, which would be read if it existed."""
        self.image(path, None)

    def image(self, path: str | os.PathLike[str], content: str | None) -> None:
        """Record the hash of an image file, or `None` if the file does not exist.

        `inspect_images` does this; builders need it only for images that they leave out because of their content.
        """
        name = self._name(Path(path))
        if name is not None:
            self._inputs.images[name] = content

    def _name(self, path: Path) -> str | None:
        """Return the name of a file in the download, or `None` for a file elsewhere."""
        try:
            return None if self.raw is None else path.relative_to(self.raw).as_posix()
        except ValueError:
            return None

    def map(
        self,
        name: str,
        function: Callable[[T], Any],
        items: Mapping[str, T],
        description: str | None = None,
        is_long: bool = False,
        in_threads: bool = False,
        is_current: Callable[[tuple[T, Any]], bool] | None = None,
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
            in_threads (`bool`, *optional*, defaults to `False`):
                Whether to use threads, because the function spends its time in libraries that release Python's lock:
                decoding and encoding images, hashing, reading files, Arrow. Threads start at once; a process needs
                about a second to start.
            is_current (`Callable`, *optional*):
                A top-level function that gets an item with its result in the journal of an interrupted build, and
                returns whether the result is still right. By default it is right if the key is the same.

        Returns:
            `dict[str, Any]`: the result for each key, in the order of `items`.

        Raises:
            `ValueError`: if `function` raises it, or if a worker process was killed from outside.
        """
        done = self._journalled(name, items)
        if is_current is not None and done:
            pairs = {key: (items[key], result) for key, result in done.items()}
            done = {
                key: done[key] for key, right in self._results(name, is_current, pairs, is_long, in_threads) if right
            }
        todo = {key: item for key, item in items.items() if key not in done}
        with (
            self._journal_writer(name) as remember,
            tqdm(total=len(items), initial=len(done), desc=description or name, delay=2, leave=False) as bar,
        ):
            for key, result in self._results(name, function, todo, is_long, in_threads):
                remember(key, result)
                done[key] = result
                bar.update()
        return {key: done[key] for key in items}

    def _results(
        self, name: str, function: Callable[[T], Any], todo: Mapping[str, T], is_long: bool, in_threads: bool
    ) -> Iterator[tuple[str, Any]]:
        keys, fewest = deque(todo), 2 if is_long else 2 * self.num_workers
        stop = time.monotonic() + (0 if in_threads else self.start_after)
        while keys and (self.num_workers == 1 or len(keys) < fewest or time.monotonic() < stop):
            key = keys.popleft()
            yield key, function(todo[key])
        if not keys:
            return
        chunk = 1 if is_long else max(1, min(32, len(keys) // (4 * self.num_workers)))
        num_workers = min(self.num_workers, len(keys))
        try:
            with ThreadPoolExecutor(num_workers) if in_threads else process_pool(num_workers) as pool:
                results = in_order(pool, function, (todo[key] for key in keys), chunk, 4 * num_workers)
                yield from zip(keys, results, strict=True)
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

    @contextmanager
    def _journal_writer(self, name: str) -> Iterator[Callable[[str, Any], None]]:
        path = self._journal(name)
        if path is None:
            yield lambda key, result: None
            return
        with path.open("a", encoding="utf-8", buffering=1) as file:  # line by line, so that a kill loses nothing

            def remember(key: str, result: Any) -> None:
                if result is not None:
                    file.write(json.dumps([key, result]) + "\n")

            yield remember


def default_workers() -> int:
    """Return the number of CPU cores that this process may use, on every platform and within a container's limit."""
    from joblib import cpu_count  # not at the top: worker processes import this module and do not need it

    return cpu_count()
