"""SLAKE's three annotation files: questions in English and Chinese about CT, MRI and X-ray images.

Liu et al., "SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical Visual Question Answering", ISBI 2021
(https://huggingface.co/papers/2102.09542).
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..images import ImageFile
from .files import RootFolder, excerpt, find_folder, kind_of, read_json


FILES = {"train": ("train.json",), "validation": ("validate.json", "validation.json"), "test": ("test.json",)}
"""The file of each split. One of them has another name in the authors' copy on the Hub."""

LOOKED_UP = tuple(f"{below}{name}" for below in ("", "Slake1.0/") for names in FILES.values() for name in names)
"""The names by which [`annotation_files`] finds the files."""

MODALITIES = ("CT", "MRI", "X-Ray")
LANGUAGES = ("en", "zh")
_SUBSETS = {"OPEN": "open", "CLOSED": "closed"}

_DOWNLOAD = (
    "SLAKE's folder Slake1.0 with train.json, validate.json (validation.json in the copy on the Hub), test.json and "
    "imgs/, or its parent folder"
)
_TEXTS = (
    "img_name", "question", "answer", "q_lang", "location", "modality", "answer_type", "base_type", "content_type",
)  # fmt: skip
_MAY_BE_EMPTY = {"answer"}


@dataclass(frozen=True)
class Question:
    """One row of the files.

    Attributes:
        qid (`str`): The row's id, unique over all files.
        image ([`ImageFile`]): `imgs/<img_name>`.
        language (`str`): `"en"` or `"zh"`.
        question, answer (`str`): Texts. The answer may be empty.
        subset (`str`): `"open"` or `"closed"`.
        modality (`str`): `"CT"`, `"MRI"` or `"X-Ray"`.
        location (`str`): Part of the body, such as `"Lung"`.
        content_type (`str`): Subject of the question, such as `"Organ"` or `"Position"`.
        base_type (`str`): `"vqa"`, or `"kvqa"` if the answer needs outside knowledge.
        given_split (`str`): `"train"`, `"validation"` or `"test"`.
        is_repaired (`bool`): Whether surrounding or repeated spaces were removed from a text.
    """

    qid: str
    image: ImageFile
    language: str
    question: str
    answer: str
    subset: str
    modality: str
    location: str
    content_type: str
    base_type: str
    given_split: str
    is_repaired: bool


def annotation_files(raw: str | Path) -> list[Path]:
    """Return the three annotation files.

    Raises:
        `ValueError`: if `raw` is neither `Slake1.0` nor its parent.
    """
    folder = find_folder(raw, "train.json", ("", "Slake1.0"), _DOWNLOAD)
    return [
        next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
        for names in FILES.values()
    ]


def read(raw: str | Path) -> list[Question]:
    """Read all rows of both languages, in the order training, validation, test.

    Surrounding and repeated spaces are removed from texts. Nothing else is changed.

    Args:
        raw (`str` or `Path`):
            The folder `Slake1.0`, or its parent. The images need not exist.

    Returns:
        `list[Question]`: in the order of the files.

    Raises:
        `ValueError`: if a file is missing or truncated, or a row lacks a field, has an unknown language, modality or
            answer type, or an id that is not unique.
    """
    questions: dict[str, Question] = {}
    for path, split in zip(annotation_files(raw), FILES, strict=True):
        for index, row in enumerate(read_json(path, list, _DOWNLOAD)):
            try:
                question = _question(row, split, path.parent)
                if question.qid in questions:
                    raise ValueError(
                        f"`qid` {question.qid} already occurred in {questions[question.qid].given_split}."
                    )
            except ValueError as error:
                raise ValueError(f"{path}, row {index}: {error} The row is {excerpt(row)}.") from error
            questions[question.qid] = question
    return list(questions.values())


def _question(row: Any, split: str, folder: Path) -> Question:
    texts = _texts(row)
    values = {name: " ".join(text.split()) for name, text in texts.items()}
    missing = [name for name in _TEXTS if not values[name] and name not in _MAY_BE_EMPTY]
    if missing:
        raise ValueError(f"no value for {missing}.")
    for name, known in (("q_lang", LANGUAGES), ("modality", MODALITIES), ("answer_type", tuple(_SUBSETS))):
        if values[name] not in known:
            raise ValueError(f"`{name}` is {excerpt(values[name])}, not one of {list(known)}.")
    image_name = PurePosixPath(values["img_name"])
    if image_name.is_absolute() or ".." in image_name.parts:
        raise ValueError(f"`img_name` {str(image_name)!r} is outside of imgs/.")
    image = RootFolder(folder / "imgs").file(str(image_name))
    return Question(
        qid=str(row["qid"]),
        image=ImageFile(f"imgs/{image_name}", image),
        language=values["q_lang"],
        question=values["question"],
        answer=values["answer"],
        subset=_SUBSETS[values["answer_type"]],
        modality=values["modality"],
        location=values["location"],
        content_type=values["content_type"],
        base_type=values["base_type"],
        given_split=split,
        is_repaired=values != texts,
    )


def _texts(row: Any) -> dict[str, str]:
    if not isinstance(row, dict):
        raise ValueError(f"a row must be an object, not {kind_of(row)}.")
    missing = [name for name in ("qid", *_TEXTS) if name not in row]
    if missing:
        raise ValueError(f"the fields {missing} are missing.")
    wrong = [name for name in _TEXTS if not isinstance(row[name], str)]
    if wrong:
        raise ValueError(f"{wrong} must be text.")
    if type(row["qid"]) not in (int, str):
        raise ValueError("`qid` must be a whole number or text.")
    return {name: row[name] for name in _TEXTS}
