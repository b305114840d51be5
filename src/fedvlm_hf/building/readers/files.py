"""Find and read files of an official download, with error messages that say what to do."""

import json
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any


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
        `ValueError`: if it is missing, truncated, nested too deep, or has another top level.
    """
    try:
        content = json.loads(read_text(path, download))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not complete JSON ({error}). Download it again.") from error
    except RecursionError as error:
        raise ValueError(f"{path}: its lists and objects are nested too deep. Download it again.") from error
    if not isinstance(content, kind):
        expected = {list: "a list", dict: "an object"}[kind]
        raise ValueError(f"{path} contains a {type(content).__name__}, not {expected}. Expected is {download}.")
    return content


def _holds(folder: Path, name: str) -> bool:
    return any(path.is_file() for path in folder.glob(name))


def _neighbours(raw: Path) -> Iterator[Path]:
    yield raw.resolve().parent
    yield from sorted(child for child in raw.iterdir() if child.is_dir())


def _some(raw: Path, most: int = 8) -> str:
    names = sorted(child.name + "/" * child.is_dir() for child in raw.iterdir())
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural: `"1 row"`, `"2,000 rows"`."""
    return f"{number:,} {noun}" + "s" * (number != 1)
