"""JSON files too large to hold: the elements of their arrays one by one, in memory that does not grow with the file.

COCO's `instances_train2014.json` has 330 MB and would take more than a gigabyte as Python objects, most of it polygons
that are not needed.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO


MAX_CHARACTERS = 64 * 2**20
"""A single value longer than this is refused: the file is broken, and reading on would hold all of it."""


def array_elements(
    path: str | Path, arrays: Collection[str], download: str, block: int = 2**20
) -> Iterator[tuple[str, Any]]:
    """The elements of some arrays of a JSON object.

    Args:
        path (`str` or `Path`):
            A file whose top level is an object.
        arrays (`Collection[str]`):
            Members of it that are arrays. Others are passed over.
        download (`str`):
            What is expected, for the errors.
        block (`int`, *optional*, defaults to `2**20`):
            Characters to read at a time; more where a value does not fit.

    Yields:
        `tuple[str, Any]`: an array's name and its next element, in the order of the file.

    Raises:
        `ValueError`: if the file is missing, is not whole JSON in UTF-8, is not an object, lacks one of the arrays, or
            holds a value longer than `MAX_CHARACTERS`.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            yield from _members(_Reader(file, path, block), arrays, f"Expected is {download}.")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"`raw`: there is no file {path}. Expected is {download}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}). Download it again.") from error


def _members(reader: "_Reader", arrays: Collection[str], expected: str) -> Iterator[tuple[str, Any]]:
    if reader.peek() != "{":
        raise ValueError(f"{reader.path} does not hold a JSON object. {expected}")
    missing = set(arrays)
    for _ in reader.items("}"):
        name = reader.value()
        reader.take(":")
        if name not in arrays:
            reader.value()
            continue
        if reader.peek() not in ("[", ""):
            raise ValueError(f"{reader.path}: `{name}` is not an array. {expected}")
        missing.discard(name)
        for _ in reader.items("]"):
            yield name, reader.value()
    if reader.peek():
        raise reader.broken("something follows its end")
    if missing:
        raise ValueError(f"{reader.path} has no `{'`, `'.join(sorted(missing))}`. {expected}")


class _Reader:
    """A window on the file that moves from value to value."""

    def __init__(self, file: TextIO, path: str | Path, block: int):
        self.path, self._block = path, block
        self._file, self._text, self._position, self._passed = file, "", 0, 0
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._position < len(self._text) and self._text[self._position] in " \t\r\n":
                self._position += 1
            if self._position < len(self._text) or not self._more():
                return self._text[self._position : self._position + 1]

    def take(self, characters: str) -> str:
        """The next character, which has to be one of these."""
        found = self.peek()
        if not found or found not in characters:
            raise self.broken(f"{found!r} where one of {characters!r} belongs" if found else "it is cut off")
        self._position += 1
        return found

    def items(self, end: str) -> Iterator[None]:
        """Stands before each item of the array or object that opens here, which the caller has to read."""
        self.take("[{")
        if self.peek() == end:
            self._position += 1
            return
        yield
        while self.take("," + end) == ",":
            yield

    def value(self) -> Any:
        """The next value whole."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._position)
            except RecursionError as error:
                raise self.broken("a value is nested too deeply") from error
            except json.JSONDecodeError as error:
                place = self._passed + error.pos
                if len(self._text) - self._position > MAX_CHARACTERS or not self._more():
                    raise self.broken(f"{error.msg} (character {place})") from error
                continue
            # A number that the window's end cuts leaves at most two characters behind what is read: 12 of `12e-`
            length = end - self._position
            if end + 2 < len(self._text) or not self._more():
                self._position += length
                return value

    def broken(self, why: str) -> ValueError:
        """The error to raise."""
        place = self._passed + self._position
        return ValueError(f"{self.path} is not whole JSON: {why}, after character {place}. Download it again.")

    def _more(self) -> bool:
        """Drops what was read and reads on, more each time that a value does not fit."""
        rest = self._text[self._position :]
        block = self._file.read(max(self._block, len(rest)))
        self._passed += self._position
        self._text, self._position = rest + block, 0
        return bool(block)
