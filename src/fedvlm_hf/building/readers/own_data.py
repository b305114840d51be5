"""Read a folder of the user's own data: tables, and folders of images by class or with a metadata file."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ...data.boxes import box_text, parse_box
from ..templates import choice_letter
from ..work import Work
from .files import RootFolder
from .tables import TABLE_SUFFIXES, TableRow, read_table


IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes of images in the folder of a class."""

_METADATA = ("metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class Sources:
    """The tables and folders of the user's own data.

    Attributes:
        rows (`dict[str, list[TableRow]]`): The rows by source, sorted; a source is named by its file's stem or folder.
        tables (`list[Path]`): The files with the rows.
        ignored (`list[str]`): Names of other files, which were not read.
    """

    rows: dict[str, list[TableRow]]
    tables: list[Path]
    ignored: list[str]


def read_sources(raw: Path, expected: str, work: Work) -> Sources:
    """Read every table of a folder, and every subfolder whose images are not used by a table.

    Args:
        raw (`Path`):
            The folder. Hidden files and folders are ignored.
        expected (`str`):
            The expected layout, for error messages.
        work ([`Work`]):
            Records the folders that are listed. Its `raw` is the same folder.

    Returns:
        [`Sources`]: at least one.

    Raises:
        `ValueError`: if there is no source, if two have the same name, or see [`read_table`] and
            [`read_image_folder`].
    """
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` is not a folder. Expected is:\n{expected}")
    entries = work.listing(raw)
    tables = [path for path in entries if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES]
    found = [(path.stem, path, read_table(path)) for path in tables]
    images = [str(row.values.get("image", "")) for _, _, rows in found for row in rows]
    named = {image.removeprefix("./").split("/")[0] for image in images}
    folders = [path for path in entries if path.is_dir() and path.name not in named]
    found += [(path.name, path, read_image_folder(path, work)) for path in folders]
    rows_of: dict[str, list[TableRow]] = {}
    for name, path, rows in found:
        if name in rows_of:
            raise ValueError(
                f"{path}: another file or folder is also called {name!r}, but names identify clients. Rename one."
            )
        rows_of[name] = rows
    if not rows_of:
        raise ValueError(f"`raw`: {raw} has no table and no folder of images. Expected is:\n{expected}")
    metadata = [path / name for path in folders for name in _METADATA if (path / name).is_file()]
    ignored = [path.name for path in entries if path.is_file() and path not in tables]
    return Sources(dict(sorted(rows_of.items())), [*tables, *metadata], ignored)


def read_image_folder(folder: Path, work: Work) -> list[TableRow]:
    """Read a folder like the `imagefolder` loader of `datasets`: with a metadata file, or with classes.

    Args:
        folder (`Path`):
            A folder with `metadata.csv` or `metadata.jsonl`, whose `file_name` is the image; or with one subfolder of
            images per class, whose name is the answer.
        work ([`Work`]):
            Records the names that matter.

    Returns:
        `list[TableRow]`: the rows of the metadata file; or one row per image with the values `image`, `answer` and
            `task`, in the order of the paths.

    Raises:
        `ValueError`: if the folder has neither, or see [`read_table`].
    """
    for path in work.listing(folder, "metadata.*", _METADATA):
        return [_with_image(row) for row in read_table(path)]
    images = work.listing(folder, "*/*", IMAGE_SUFFIXES)
    if not images:
        raise ValueError(
            f"{folder} is not a client: no table uses its images, it has no metadata.csv or metadata.jsonl, and it "
            f"has no subfolders of images by class ({', '.join(IMAGE_SUFFIXES)}). Add one of these, or remove the "
            "folder."
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


def image_path(row: TableRow, root: RootFolder, work: Work) -> Path:
    """Return the path of a row's image, which is relative to the folder of its source or to the root folder.

    Args:
        row ([`TableRow`]):
            A row with the value `image`.
        root ([`RootFolder`]):
            The folder of all data.
        work ([`Work`]):
            Records the places that were tried before the file was found.

    Returns:
        `Path`: the path of an existing file in `root`.

    Raises:
        `ValueError`: if there is no such value or file, or see [`RootFolder.file`].
    """
    text = row.values.get("image")
    if not isinstance(text, str):
        raise ValueError(f"{row.where}: `image` must be the path of an image, got {text!r}.")
    for folder in dict.fromkeys((row.folder, root.path)):
        try:
            path = root.file(text, folder)
        except ValueError as error:
            raise ValueError(f"{row.where}: `image`: {error}") from error
        if path.is_file():
            return path
        work.missing(path)
    raise ValueError(f"{row.where}: there is no image {text!r} in {row.folder} or {root.path}.")


def _with_image(row: TableRow) -> TableRow:
    values = dict(row.values)
    if "file_name" in values:
        values["image"] = values.pop("file_name")
    return replace(row, values=values)


_BOX_TASKS = ("grounding", "detection")


def text_value(row: TableRow, name: str) -> str | None:
    """Return a value as text. Numbers and booleans are written as in JSON.

    Raises:
        `ValueError`: if the value is a list or an object.
    """
    value = row.values.get(name)
    if value is None or isinstance(value, str):
        return value and value.strip()
    if isinstance(value, dict | list):
        raise ValueError(f"`{name}` must be text or a number, got a {type(value).__name__}.")
    return json.dumps(value)


def choice_values(row: TableRow) -> list[str]:
    """Return the options of a multiple-choice question, or an empty list for other questions.

    Raises:
        `ValueError`: if the options are not texts.
    """
    choices = row.values.get("choices") or []
    if isinstance(choices, str):
        choices = choices.split("|")
    if not isinstance(choices, list) or not all(isinstance(text, str) and text.strip() for text in choices):
        raise ValueError(f"`choices` {choices!r} is not a list of options; in CSV they are separated by |.")
    return [text.strip() for text in choices]


def answer_values(row: TableRow, task: str) -> tuple[str, ...]:
    """Return the answer, followed by further accepted answers.

    Boxes are written in the text form of rows, and the answer to a multiple-choice question is a letter.

    Raises:
        `ValueError`: if there is no answer, `references` are not texts, or a box is invalid.
    """
    answer = text_value(row, "answer")
    if answer is None:
        raise ValueError(f"`answer` is missing; the columns with values are {list(row.values)}.")
    more = row.values.get("references", [])
    if isinstance(more, str):
        more = more.split("|")
    if not isinstance(more, list) or not all(isinstance(text, str) and text.strip() for text in more):
        raise ValueError(f"`references` {more!r} is not a list of answers; in CSV they are separated by |.")
    if choices := choice_values(row):
        return (_letter(answer, choices),)
    answers = [answer, *(text.strip() for text in more)]
    return tuple(dict.fromkeys(map(_box, answers) if task in _BOX_TASKS else answers))


def _letter(answer: str, choices: list[str]) -> str:
    """Return the letter of the answer, which may be given as an option or, if no option has this text, as a letter."""
    letters = [choice_letter(index) for index in range(len(choices))]
    if answer in choices:
        return letters[choices.index(answer)]
    if answer not in letters:
        raise ValueError(f"`answer` {answer!r} is neither one of the `choices` {choices} nor the letter of one.")
    return answer


def _box(text: str) -> str:
    box = parse_box(text)
    if box is None:
        raise ValueError(f"{text!r} is not a box [x1, y1, x2, y2] with x1 < x2 and y1 < y2.")
    return box_text(box)
