"""Find and read files of an official download, with error messages that say what to do."""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import ijson


MAX_VALUE_BYTES = 64 * 2**20
"""`array_elements` refuses a single value longer than this: the file is damaged, and memory would grow with it."""

_BLOCK_BYTES = 2**20


def find_folder(raw: str | Path, name: str, inside: Sequence[str], download: str) -> Path:
    """Find the folder of a download that has a given file.

    Args:
        raw (`str` or `Path`):
            The path that the user gave as `--raw`.
        name (`str`):
            A file that the folder must have, such as `"manufacturers.txt"`, or a pattern such as `"train-*.parquet"`.
        inside (`Sequence[str]`):
            Possible locations of the folder relative to `raw`, tried in order; `""` is `raw` itself.
        download (`str`):
            What is expected, for error messages: `"FGVC-Aircraft's folder fgvc-aircraft-2013b, or its data/"`.

    Returns:
        `Path`: the folder.

    Raises:
        `ValueError`: if there is no such folder. If a folder one level up or down is right, the message names it.
    """
    raw = Path(raw)
    places = [raw / below for below in inside]
    for place in places:
        if _holds(place, name):
            return place
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` is not a folder. Expected is {download}.")
    near = next((folder for folder in _neighbours(raw) if any(_holds(folder / below, name) for below in inside)), None)
    hint = f"It is one level off: use {near}." if near else f"It contains {_some(raw)}."
    looked = ", ".join(str(place / name) for place in places)
    raise ValueError(
        f"`raw={str(raw)!r}` is not the expected folder: there is no {looked}. Expected is {download}. {hint}"
    )


class RootFolder:
    """A folder of files that are opened by names from data. No name and no symbolic link leads out of it.

    The folder itself may be a link. In a snapshot of the Hub's cache, links to the cache's own files are allowed.

    Args:
        path (`str` or `Path`):
            The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        real = Path(os.path.realpath(path))
        self._inside = (real, real.parent.parent / "blobs") if real.parent.name == "snapshots" else (real,)
        self._checked = {self.path}

    def file(self, name: str, folder: Path | None = None) -> Path:
        """Return the path of a file, which need not exist, by its name in some data.

        Args:
            name (`str`):
                A relative path.
            folder (`Path`, *optional*):
                The folder that the name is relative to, in or equal to this folder, which is the default.

        Raises:
            `ValueError`: naming path and target, if the name is absolute, has `..`, or a link leads out of the folder.
        """
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{name!r} must be a relative path without `..`, inside of {self.path}.")
        return self.check((folder or self.path) / parts)

    def check(self, path: Path) -> Path:
        """Return a path in this folder, after a check of all links on the way to it.

        Raises:
            `ValueError`: naming path and target, if a link leads out of the folder, or to a folder around itself.
        """
        if path.parent not in self._checked and path not in self._checked:
            if not path.is_relative_to(self.path):
                raise ValueError(f"{path} is not inside of {self.path}.")
            self._checked.add(self.check(path.parent))
        if os.path.islink(path):
            self._check_link(path)
        return path

    def names(self, folder: Path, pattern: str = "*") -> list[str]:
        """Return the sorted names in a folder that match a pattern, without hidden ones. It may be missing.

        Args:
            folder (`Path`):
                The folder, in or equal to this folder.
            pattern (`str`, *optional*, defaults to `"*"`):
                Names with wildcards, separated by `/`. `"**/*.png"` finds all such files at any depth.

        Returns:
            `list[str]`: paths relative to `folder`; those of folders end with `/`.

        Raises:
            `ValueError`: see [`RootFolder.check`].
        """
        return sorted(self._names(self.check(folder), "", tuple(pattern.split("/"))))

    def _names(self, folder: Path, prefix: str, parts: tuple[str, ...]) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        for name, is_folder in self._entries(folder / prefix):
            path = prefix + name
            if part == "**":
                if is_folder:
                    yield from self._names(folder, f"{path}/", parts)
                elif fnmatchcase(name, rest[0]):
                    yield path
            elif fnmatchcase(name, part):
                if not rest:
                    yield path + "/" * is_folder
                elif is_folder:
                    yield from self._names(folder, f"{path}/", rest)

    def _entries(self, folder: Path) -> Iterator[tuple[str, bool]]:
        """Yield the names in a folder that are not hidden, and whether each is a folder."""
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.name.startswith("."):
                if entry.is_symlink():
                    self._check_link(Path(entry.path))
                yield entry.name, entry.is_dir()

    def _check_link(self, path: Path) -> None:
        target = Path(os.path.realpath(path))
        if not any(target.is_relative_to(folder) for folder in self._inside):
            raise ValueError(
                f"{path} is a link to {target}, which is outside of {self.path}. Copy it into the folder instead."
            )
        if Path(os.path.realpath(path.parent)).is_relative_to(target):
            raise ValueError(f"{path} is a link to {target}, a folder that contains the link itself. Remove the link.")


def read_text(path: Path, download: str) -> str:
    """Read a text file in UTF-8.

    Raises:
        `ValueError`: if it is missing or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"`raw`: there is no file {path}. Expected is {download}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}). Download it again.") from error


def read_json(path: Path, kind: type[list] | type[dict], download: str) -> Any:
    """Read a JSON file whose top level is a list or an object.

    Raises:
        `ValueError`: if it is missing, truncated, or has another top level.
    """
    try:
        content = json.loads(read_text(path, download))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not complete JSON ({error}). Download it again.") from error
    if not isinstance(content, kind):
        expected = {list: "a list", dict: "an object"}[kind]
        raise ValueError(f"{path} contains a {type(content).__name__}, not {expected}. Expected is {download}.")
    return content


def array_elements(path: str | Path, arrays: Collection[str], download: str) -> Iterator[tuple[str, Any]]:
    """Read the elements of some arrays of a JSON object one by one, in memory that does not grow with the file.

    COCO's `instances_train2014.json` has 330 MB and would take more than a gigabyte as Python objects, most of it
    polygons that are not needed.

    Args:
        path (`str` or `Path`):
            A file whose top level is an object.
        arrays (`Collection[str]`):
            Keys of this object whose values are arrays. All other keys are skipped.
        download (`str`):
            What is expected, for error messages.

    Yields:
        `tuple[str, Any]`: the key of an array and its next element, in the order of the file.

    Raises:
        `ValueError`: if the file is missing, is not complete JSON in UTF-8, is not an object, lacks one of the arrays,
            or has a value longer than `MAX_VALUE_BYTES`.
    """
    expected = f"Expected is {download}."
    try:
        with Path(path).open("rb") as file:
            yield from _members(_BoundedFile(file, path), arrays, f"{path}", expected)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"`raw`: there is no file {path}. {expected}") from error
    except ijson.JSONError as error:
        raise ValueError(f"{path} is not complete JSON ({_reason(error)}). Download it again.") from error


class _BoundedFile:
    """A file that refuses to read on when a value is longer than `MAX_VALUE_BYTES`."""

    def __init__(self, file: BinaryIO, path: str | Path):
        self.num_bytes = 0
        self._file, self._path = file, path

    def read(self, size: int) -> bytes:
        if self.num_bytes > MAX_VALUE_BYTES:
            raise ValueError(
                f"{self._path} has a value of more than {MAX_VALUE_BYTES:,} bytes before byte {self._file.tell():,}. "
                "Download it again."
            )
        block = self._file.read(size)
        self.num_bytes += len(block)
        return block


def _members(file: _BoundedFile, arrays: Collection[str], name: str, expected: str) -> Iterator[tuple[str, Any]]:
    # Events and not `ijson.items`, which reads one array in each pass over the file, and whose memory grows with the
    # square of the nesting depth. Numbers as JSON has them, not as Decimal.
    events = ijson.basic_parse(file, use_float=True, buf_size=_BLOCK_BYTES)
    if next(events)[0] != "start_map":
        raise ValueError(f"{name} is not a JSON object. {expected}")
    missing = set(arrays)
    for event, key in events:
        if event == "end_map":
            break
        first = next(events)
        if key not in arrays:
            _build(first, events)
            continue
        if first[0] != "start_array":
            raise ValueError(f"{name}: `{key}` is not an array. {expected}")
        missing.discard(key)
        for element in events:
            if element[0] == "end_array":
                break
            value = _build(element, events)
            file.num_bytes = 0
            yield key, value
    next(events, None)  # raises an error if anything follows the object
    if missing:
        raise ValueError(f"{name} has no `{'`, `'.join(sorted(missing))}`. {expected}")


def _build(first: tuple[str, Any], events: Iterator[tuple[str, Any]]) -> Any:
    """Build the value that begins with the event `first`, and read no further."""
    builder = ijson.ObjectBuilder()
    builder.event(*first)
    if builder.containers:
        for event in events:
            builder.event(*event)
            if not builder.containers:
                break
    return builder.value


def _reason(error: ijson.JSONError) -> str:
    """The first line of the parser's message, and the text around the place that it points to."""
    message = error.args[0]
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    reason, *context = text.splitlines()
    near = context[0].strip() if context else ""
    return f"{reason}, near {near}" if near else reason


def _holds(folder: Path, name: str) -> bool:
    return any(path.is_file() for path in folder.glob(name))


def _neighbours(raw: Path) -> Iterator[Path]:
    yield raw.resolve().parent
    yield from sorted(child for child in raw.iterdir() if child.is_dir())


def _some(raw: Path, most: int = 8) -> str:
    names = sorted(child.name + "/" * child.is_dir() for child in raw.iterdir())
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
