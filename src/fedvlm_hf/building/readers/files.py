"""Files of an official download: found at the right folder level, read whole, with errors that say what to do."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def locate(raw: str | Path, name: str, inside: Sequence[str], download: str) -> Path:
    """The folder of a download that holds a file.

    Args:
        raw (`str` or `Path`):
            What the user gave as `--raw`.
        name (`str`):
            A file that the folder must hold, such as `"manufacturers.txt"`, or a pattern, `"train-*.parquet"`.
        inside (`Sequence[str]`):
            Where the folder may lie below `raw`, tried in order; `""` is `raw` itself.
        download (`str`):
            What is expected, for the error: `"FGVC-Aircraft's folder fgvc-aircraft-2013b, or its data/"`.

    Returns:
        `Path`: the folder.

    Raises:
        `ValueError`: if there is no such folder. It names a folder a level up or down that would do.
    """
    raw = Path(raw)
    places = [raw / below for below in inside]
    for place in places:
        if _holds(place, name):
            return place
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` is not a folder. Expected is {download}.")
    near = next((folder for folder in _neighbours(raw) if any(_holds(folder / below, name) for below in inside)), None)
    hint = f"It is one level off: give {near}." if near else f"It holds {_some(raw)}."
    looked = ", ".join(str(place / name) for place in places)
    raise ValueError(
        f"`raw={str(raw)!r}` is not the folder expected: there is no {looked}. Expected is {download}. {hint}"
    )


def read_text(path: Path, download: str) -> str:
    """A text file in UTF-8.

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
    """A JSON file whose top level is a list or an object.

    Raises:
        `ValueError`: if it is missing, truncated, or of another kind.
    """
    try:
        content = json.loads(read_text(path, download))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not whole JSON ({error}). Download it again.") from error
    if not isinstance(content, kind):
        expected = {list: "a list", dict: "an object"}[kind]
        raise ValueError(f"{path} holds a {type(content).__name__}, not {expected}. Expected is {download}.")
    return content


def _holds(folder: Path, name: str) -> bool:
    return any(path.is_file() for path in folder.glob(name))


def _neighbours(raw: Path) -> Iterator[Path]:
    yield raw.resolve().parent
    yield from sorted(child for child in raw.iterdir() if child.is_dir())


def _some(raw: Path, most: int = 8) -> str:
    names = sorted(child.name + "/" * child.is_dir() for child in raw.iterdir())
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
