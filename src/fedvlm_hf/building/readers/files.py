"""Find and read files of an official download, with error messages that say what to do."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
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
