"""Read JSON files value by value, in memory that does not grow with the file."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .text import encoding_error, open_text


MAX_VALUE_CHARACTERS = 64 * 2**20
"""A single value longer than this is refused: the file is damaged, and memory would grow with it."""

_BLOCK_CHARACTERS = 2**20

_TOO_DEEP = "lists and objects are nested too deep"

_SPACE = " \t\n\r"

# The longest piece of a number, a literal or an escape that the end of a block may cut off
_CUT_CHARACTERS = 16


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
            or has a value longer than `MAX_VALUE_CHARACTERS`.
    """
    expected = f"Expected is {download}."
    missing = set(arrays)
    try:
        with JsonStream(path) as stream:
            if stream.peek() not in ("{", ""):
                raise ValueError(f"{path} is not a JSON object. {expected}")
            for key in stream.members():
                if key not in arrays:
                    stream.skip()
                    continue
                if stream.peek() not in ("[", ""):
                    raise ValueError(f"{path}: `{key}` is not an array. {expected}")
                missing.discard(key)
                for element in stream.elements():
                    yield key, element
            stream.end()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"`raw`: there is no file {path}. {expected}") from error
    except JsonError as error:
        raise ValueError(f"{error} Download it again.") from error
    if missing:
        raise ValueError(f"{path} has no `{'`, `'.join(sorted(missing))}`. {expected}")


class JsonError(ValueError):
    """A text is not complete JSON."""


def parse_json(text: str, where: str) -> Any:
    """Return the value of a complete JSON text.

    Raises:
        [`JsonError`]: starting with `where`, if the text is not JSON, or an object has a key twice.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise JsonError(f"{where}: not complete JSON ({_TOO_DEEP}).") from error
    except json.JSONDecodeError as error:
        reason = f"{error.msg[:1].lower()}{error.msg[1:]}, column {error.pos + 1}"
        raise JsonError(f"{where}: not complete JSON ({reason}).") from error
    except ValueError as error:
        raise JsonError(f"{where}: not complete JSON ({error}).") from error


class JsonStream:
    """A JSON file, read from its start to its end, as a context manager.

    Every method raises a [`JsonError`] if the text is not complete JSON. A key that occurs twice in one object is an
    error too, because any reader would silently use only one of the two values.

    Args:
        path (`str` or `Path`):
            A file in UTF-8, or in UTF-16 with a byte order mark.
        label (`str`, *optional*):
            Its name in error messages.

    Raises:
        `OSError`: if the file cannot be opened.
    """

    def __init__(self, path: str | Path, label: str | None = None):
        self._path, self._label = Path(path), label or str(path)
        self._file = open_text(self._path)
        self._text, self._at = "", 0
        self._line, self._column = 1, 1  # of the start of `_text`

    def __enter__(self) -> "JsonStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def peek(self) -> str:
        """Return the next character that is not white space, or an empty text at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """Read the next value completely."""
        return self._value(_DECODER)

    def elements(self) -> Iterator[Any]:
        """Read an array element by element."""
        for _ in self._items("[", "]"):
            yield self.value()

    def members(self) -> Iterator[str]:
        """Read an object key by key. The caller must read or skip each value before the next key."""
        known: set[str] = set()
        for _ in self._items("{", "}"):
            if self.peek() != '"':
                raise self._error("a key in double quotes is missing")
            key = self.value()
            if key in known:
                raise self._error(f"the key {key!r} occurs twice")
            known.add(key)
            if self.peek() != ":":
                raise self._error(f"a colon after the key {key!r} is missing")
            self._at += 1
            yield key

    def skip(self) -> None:
        """Read the next value without keeping it. Its keys are not compared, which takes most of the time."""
        if self.peek() == "[":
            for _ in self._items("[", "]"):
                self._value(_FAST_DECODER)
        else:
            self._value(_FAST_DECODER)

    def end(self) -> None:
        """Check that nothing follows."""
        if self.peek():
            raise self._error("something follows after the end of the JSON text")

    def _value(self, decoder: json.JSONDecoder) -> Any:
        if not self.peek():
            raise self._error("a value is missing")
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or len(self._text) - error.pos < _CUT_CHARACTERS
                if is_cut and self._more():
                    continue
                raise self._error(error.msg, error.pos) from error
            except RecursionError as error:
                raise self._error(_TOO_DEEP) from error
            except ValueError as error:  # of `_object`, or a number with thousands of digits
                raise self._error(str(error)) from error
            is_number = self._text[self._at] in "-0123456789"
            if is_number and len(self._text) - end < _CUT_CHARACTERS and self._more():  # it may go on
                continue
            self._at = end
            return value

    def _items(self, start: str, stop: str) -> Iterator[None]:
        """Step through an array or object; the caller reads each item."""
        if self.peek() != start:
            raise self._error(f"{start} is missing")
        self._at += 1
        if self.peek() != stop:
            yield
            while self.peek() == ",":
                self._at += 1
                yield
        if self.peek() != stop:
            raise self._error(f"a comma or {stop} is missing")
        self._at += 1

    def _more(self) -> bool:
        """Read a further block. Each is as long as the text that is kept, so that long values take linear time."""
        kept = len(self._text) - self._at
        if kept > MAX_VALUE_CHARACTERS:
            raise JsonError(
                f"{self._label}, {self._position(self._at)}: a value of more than {MAX_VALUE_CHARACTERS:,} characters."
            )
        try:
            block = self._file.read(max(_BLOCK_CHARACTERS, kept))
        except UnicodeDecodeError as error:
            raise encoding_error(self._path, error, self._label) from error
        if not block:
            return False
        read = self._text[: self._at]
        if read:
            lines = read.count("\n")
            self._column = len(read) - read.rfind("\n") if lines else self._column + len(read)
            self._line += lines
        self._text, self._at = self._text[self._at :] + block, 0
        return True

    def _position(self, at: int) -> str:
        read = self._text[:at]
        lines = read.count("\n")
        column = at - read.rfind("\n") if lines else self._column + at
        return f"line {self._line + lines}, column {column}"

    def _error(self, reason: str, at: int | None = None) -> "JsonError":
        at = self._at if at is None else at
        near = self._text[at : at + 40]
        context = f"near {near!r}" if near else "at the end of the file"
        return JsonError(
            f"{self._label}, {self._position(at)}: not complete JSON ({reason[:1].lower()}{reason[1:]}, {context})."
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {key!r} occurs twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_FAST_DECODER = json.JSONDecoder()
