"""A folder of own data: its tables, and folders of images by class or with a metadata file."""

import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ...data.boxes import box_text, parse_box
from ..templates import choice_letter
from .tables import TABLE_SUFFIXES, TableRow, read_table


IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files of a class's folder that are images."""

_METADATA = ("metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class Sources:
    """The tables and folders of own data.

    Attributes:
        rows (`dict[str, list[TableRow]]`): By name, which is a file's stem or a folder's name, sorted.
        tables (`list[Path]`): The files with the rows.
        passed_over (`list[str]`): Names of other files, which were not read.
    """

    rows: dict[str, list[TableRow]]
    tables: list[Path]
    passed_over: list[str]


def read_sources(raw: Path, expected: str) -> Sources:
    """Reads every table of a folder, and every sub-folder whose images no table names.

    Args:
        raw (`Path`):
            The folder. Hidden files and folders are not looked at.
        expected (`str`):
            The layout, for the error.

    Returns:
        [`Sources`]: at least one.

    Raises:
        `ValueError`: if there is none, two have one name, or as [`read_table`] and [`read_image_folder`].
    """
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` is not a folder. Expected is:\n{expected}")
    entries = sorted(path for path in raw.iterdir() if not path.name.startswith("."))
    tables = [path for path in entries if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES]
    found = [(path.stem, path, read_table(path)) for path in tables]
    images = [str(row.values.get("image", "")) for _, _, rows in found for row in rows]
    named = {image.removeprefix("./").split("/")[0] for image in images}
    folders = [path for path in entries if path.is_dir() and path.name not in named]
    found += [(path.name, path, read_image_folder(path)) for path in folders]
    rows_of: dict[str, list[TableRow]] = {}
    for name, path, rows in found:
        if name in rows_of:
            raise ValueError(
                f"{path}: another file or folder is called {name!r} too, and names are clients. Rename one."
            )
        rows_of[name] = rows
    if not rows_of:
        raise ValueError(f"`raw`: {raw} has no table and no folder of images. Expected is:\n{expected}")
    metadata = [path / name for path in folders for name in _METADATA if (path / name).is_file()]
    passed_over = [path.name for path in entries if path.is_file() and path not in tables]
    return Sources(dict(sorted(rows_of.items())), [*tables, *metadata], passed_over)


def read_image_folder(folder: Path) -> list[TableRow]:
    """Reads a folder as `datasets`' imagefolder does: a metadata file whose `file_name` is the image, or classes.

    Args:
        folder (`Path`):
            With `metadata.csv` or `metadata.jsonl`; or with a sub-folder of images a class, whose name is the answer.

    Returns:
        `list[TableRow]`: with the values `image`, `answer` and `task` where sub-folders are the classes, in the order
            of their paths.

    Raises:
        `ValueError`: if it is neither, or as [`read_table`].
    """
    for name in _METADATA:
        if (folder / name).is_file():
            return [_with_image(row) for row in read_table(folder / name)]
    images = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ValueError(
            f"{folder} is no client: no table names its images, it has no metadata.csv or metadata.jsonl, and no "
            f"sub-folders of images, one a class ({', '.join(IMAGE_SUFFIXES)}). Add what is missing, or take it away."
        )
    return [
        TableRow(
            name=path.relative_to(folder).as_posix(),
            where=str(path),
            folder=folder,
            values={
                "image": path.relative_to(folder).as_posix(),
                "answer": path.parent.name,
                "task": "classification",
            },
        )
        for path in images
    ]


def image_path(row: TableRow, root: Path) -> Path:
    """The image of a row: relative to its source's folder or to the root, and inside the root.

    Args:
        row ([`TableRow`]):
            With the value `image`.
        root (`Path`):
            The folder of all the data.

    Returns:
        `Path`: of an existing file.

    Raises:
        `ValueError`: if there is no such value or file, or the path is absolute or has `..`.
    """
    text = row.values.get("image")
    if not isinstance(text, str):
        raise ValueError(f"{row.where}: no path in `image`.")
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{row.where}: `image` {text!r} must be relative, without `..`: data stay inside {root}.")
    for folder in dict.fromkeys((row.folder, root)):
        if (folder / path).is_file():
            return folder / path
    raise ValueError(f"{row.where}: there is no image {text!r} in {row.folder} or {root}.")


def _with_image(row: TableRow) -> TableRow:
    values = dict(row.values)
    if "file_name" in values:
        values["image"] = values.pop("file_name")
    return replace(row, values=values)


_BOX_TASKS = ("grounding", "detection")


def text_value(row: TableRow, name: str) -> str | None:
    """A value as text; numbers and truth values as JSON writes them.

    Raises:
        `ValueError`: if it is a list or an object.
    """
    value = row.values.get(name)
    if value is None or isinstance(value, str):
        return value and value.strip()
    if isinstance(value, dict | list):
        raise ValueError(f"`{name}` is a {type(value).__name__}, neither text nor number.")
    return json.dumps(value)


def choice_values(row: TableRow) -> list[str]:
    """The options of a multiple-choice question; none where it is no such question.

    Raises:
        `ValueError`: if they are not texts.
    """
    choices = row.values.get("choices") or []
    if isinstance(choices, str):
        choices = choices.split("|")
    if not isinstance(choices, list) or not all(isinstance(text, str) and text.strip() for text in choices):
        raise ValueError(f"`choices` {choices!r} is no list of options; in CSV they are divided by |.")
    return [text.strip() for text in choices]


def answer_values(row: TableRow, task: str) -> tuple[str, ...]:
    """The answer, then what else is accepted; boxes as rows write them, of options the letter.

    Raises:
        `ValueError`: if there is no answer, `references` are not answers, or a box is none.
    """
    answer = text_value(row, "answer")
    if answer is None:
        raise ValueError(f"no value in `answer`; columns with one are {list(row.values)}.")
    more = row.values.get("references", [])
    if isinstance(more, str):
        more = more.split("|")
    if not isinstance(more, list) or not all(isinstance(text, str) and text.strip() for text in more):
        raise ValueError(f"`references` {more!r} is no list of answers; in CSV they are divided by |.")
    if choices := choice_values(row):
        return (_letter(answer, choices),)
    answers = [answer, *(text.strip() for text in more)]
    return tuple(dict.fromkeys(map(_box, answers) if task in _BOX_TASKS else answers))


def _letter(answer: str, choices: list[str]) -> str:
    """The letter of the answer, which is an option or, where no option is written so, a letter already."""
    letters = [choice_letter(index) for index in range(len(choices))]
    if answer in choices:
        return letters[choices.index(answer)]
    if answer not in letters:
        raise ValueError(f"`answer` {answer!r} is none of the `choices` {choices}, nor a letter of one.")
    return answer


def _box(text: str) -> str:
    box = parse_box(text)
    if box is None:
        raise ValueError(f"{text!r} is no box [x1, y1, x2, y2] with x1 < x2 and y1 < y2.")
    return box_text(box)
