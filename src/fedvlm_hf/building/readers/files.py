"""Find and read files of an official download, with error messages that say what to do."""

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from .json_stream import JsonError, JsonStream
from .text import encoding_error, open_text


_POINTER = b"version https://git-lfs"

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\b")

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


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
    near = next((folder for folder in neighbours(raw) if any(_holds(folder / below, name) for below in inside)), None)
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` {no_folder(raw, near)} Expected is {download}.")
    hint = f"It is one level off: use {near}." if near else f"It contains {_some(raw)}."
    looked = " and no ".join(str(place / name) for place in places)
    raise ValueError(
        f"`raw={str(raw)!r}` is not the expected folder: there is no {looked}. {hint} Expected is {download}."
    )


def no_folder(raw: Path, near: Path | None) -> str:
    """Return what is wrong with a path that is no folder, and the folder `near` to use instead, if there is one."""
    reason = "is a file, not a folder." if raw.exists() else "does not exist."
    return f"{reason} Use {near}." if near else reason


class RootFolder:
    """A folder of files that are opened by names from data. No name and no symbolic link leads out of it.

    The folder itself may be a link. In a snapshot of the Hub's cache, links to the cache's own files are allowed.

    Args:
        path (`str` or `Path`):
            The folder.
        allow_links (`bool`, *optional*, defaults to `False`):
            Whether links may lead out of the folder: parts of an official download are often kept on another disk.
    """

    def __init__(self, path: str | Path, allow_links: bool = False):
        self.path = Path(path)
        self._allow_links = allow_links
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
        for name, is_folder in self._entries(folder / prefix, "*" if part == "**" else part):
            path = prefix + name
            if part == "**":
                if is_folder:
                    yield from self._names(folder, f"{path}/", parts)
                elif fnmatchcase(name, rest[0]):
                    yield path
            elif not rest:
                yield path + "/" * is_folder
            elif is_folder:
                yield from self._names(folder, f"{path}/", rest)

    def _entries(self, folder: Path, pattern: str) -> Iterator[tuple[str, bool]]:
        """Yield the names in a folder that are not hidden and match, and whether each is a folder."""
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.name.startswith(".") and fnmatchcase(entry.name, pattern):
                if entry.is_symlink():
                    self._check_link(Path(entry.path))
                yield entry.name, entry.is_dir()

    def _check_link(self, path: Path) -> None:
        target = Path(os.path.realpath(path))
        if Path(os.path.realpath(path.parent)).is_relative_to(target):
            raise ValueError(f"{path} is a link to {target}, a folder that contains the link itself. Remove the link.")
        if not self._allow_links and not any(target.is_relative_to(folder) for folder in self._inside):
            raise ValueError(
                f"{path} is a link to {target}, which is outside of {self.path}. Copy it into the folder instead."
            )


def read_text(path: Path, download: str) -> str:
    """Read a text file in UTF-8, with or without a byte order mark. Line endings become newlines.

    Raises:
        `ValueError`: if it is missing, cannot be read, is not text in UTF-8, or has NUL characters.
    """
    try:
        with open_text(path) as file:
            text = file.read().replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise unreadable(path, error, download) from error
    except UnicodeDecodeError as error:
        raise encoding_error(path, error) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path}, line {line}: a NUL character, so the file is damaged. Download it again.")
    return text


def read_json(path: Path, kind: type[list] | type[dict], download: str) -> Any:
    """Read a JSON file whose top level is a list or an object with content.

    Raises:
        `ValueError`: if it is missing, truncated, nested too deep, empty, or has another top level.
    """
    try:
        with JsonStream(path) as stream:
            content = _whole(stream)
            stream.end()
    except OSError as error:
        raise unreadable(path, error, download) from error
    except JsonError as error:
        raise ValueError(f"{error} {advice(path)}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} contains {kind_of(content)}, not {kind_of(kind())}. Expected is {download}.")
    if not content:
        raise ValueError(f"{path} is {kind_of(content)} without content. {advice(path)}")
    return content


def _whole(stream: JsonStream) -> Any:
    """Read a list or an object item by item, because the length of a single value is limited."""
    start = stream.peek()
    if start == "[":
        return list(stream.elements())
    return {key: stream.value() for key in stream.members()} if start == "{" else stream.value()


def unreadable(path: Path, error: OSError, download: str) -> ValueError:
    """Return an error for a file that is missing, is a folder, or cannot be read."""
    if os.path.isdir(path):
        reason = f"{path} is a folder, not a file"
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        reason = f"there is no file {path}"
    else:
        reason = f"{path} cannot be read ({error.strerror or error})"
    return ValueError(f"`raw`: {reason}. Expected is {download}.")


def advice(path: Path) -> str:
    """Return what to do about a file that is not what its name says."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:
        is_pointer = False
    if is_pointer:
        return "The file is only a pointer of Git LFS: run `git lfs pull`, or download the file itself."
    return "Download it again."


def check_shards(paths: Sequence[Path]) -> None:
    """Check by their names, such as `train-00000-of-00002.parquet`, that the files of a split are complete.

    Raises:
        `ValueError`: naming the missing files.
    """
    names = [match for path in paths if (match := _SHARD.match(path.name))]
    if len(names) < len(paths):
        return  # other names do not say how many files there are
    missing = sorted(set(range(int(names[0][3]))).difference(int(match[2]) for match in names))
    if missing:
        first = [f"{names[0][1]}-{number:05d}-of-{names[0][3]}" for number in missing[:3]]
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"{paths[0].parent} lacks {', '.join(first)}{more}. Download all files of this split.")


def kind_of(value: Any) -> str:
    """Return what a JSON value is, such as `"an object"` or `"null"`."""
    return _KINDS.get(type(value), f"of type {type(value).__name__}")


def excerpt(value: Any, most: int = 300) -> str:
    """Return a value as in a Python program, cut after `most` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested deeply, or a number with thousands of digits
        return "too large to show"
    return text if len(text) <= most else f"{text[:most]}..."


def _holds(folder: Path, name: str) -> bool:
    return any(path.is_file() for path in folder.glob(name))


def neighbours(raw: Path) -> Iterator[Path]:
    """Yield the parent folder of a path and the folders in it, where a download is often found instead."""
    yield raw.resolve().parent
    if raw.is_dir():
        yield from sorted(child for child in raw.iterdir() if child.is_dir())


def _some(raw: Path, most: int = 8) -> str:
    names = sorted(child.name + "/" * child.is_dir() for child in raw.iterdir())
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural: `"1 row"`, `"2,000 rows"`."""
    return f"{number:,} {noun}" + "s" * (number != 1)
