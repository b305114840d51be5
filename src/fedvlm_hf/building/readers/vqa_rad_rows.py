"""Questions of VQA-RAD, and how rows of its files become questions.

Values are repaired by fixed rules. Surrounding and repeated spaces are removed. A tab, which replaces a lost comma
(sometimes after a misplaced letter, as in `"splee n\\t"`), becomes a comma again, and the replacement character
becomes an apostrophe. Numbers become text. `"Yes"` and `"yes"` become the same answer. Question types are written in
upper case without typing errors and in alphabetical order.
"""

import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ..images import ImageBytes, ImageFile, StoredImage
from .files import RootFolder, excerpt, kind_of


_ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}
_SUBSETS = {"OPEN": "open", "CLOSED": "closed"}
_TYPE_SPELLINGS = {"ATRIB": "ATTRIB", "PRSE": "PRES"}
_FIELDS = (
    "qid", "image_name", "image_organ", "question", "answer", "answer_type", "question_type", "phrase_type",
)  # fmt: skip
_TEST_PREFIX = "test_"


@dataclass(frozen=True)
class Question:
    """One cleaned row of the files. Values that the Hub copy does not have are `None`.

    Attributes:
        qid (`str`): The row's id in the files; for the Hub copy its split and index, such as `"train-12"`.
        image (`StoredImage`): Identified by file name, or by content in the Hub copy.
        image_name (`str`, *optional*): The image's file name.
        organ (`str`, *optional*): `"head"`, `"chest"` or `"abdomen"`.
        question (`str`), answer (`str`): Texts.
        subset (`str`): `"open"` or `"closed"`. For the Hub copy `"yes or no"` or `"other"`, according to the answer,
            because 131 of the 2,095 closed questions have another answer than yes or no.
        question_type (`str`, *optional*): Such as `"MODALITY"`, or several: `"ATTRIB, PRES"`.
        phrase_type (`str`, *optional*): `"freeform"`, `"para"` (the same question rephrased) or `"frame"` (the same
            question in a fixed form).
        given_split (`str`): `"train"` or `"test"`.
        is_repaired (`bool`): Whether a text had stray spaces, a tab or a lost character, or was a number.
    """

    qid: str
    image: StoredImage
    image_name: str | None
    organ: str | None
    question: str
    answer: str
    subset: str
    question_type: str | None
    phrase_type: str | None
    given_split: str
    is_repaired: bool


def cleaned(row: Any, where: str, split: str | None, images: Path) -> Question:
    """Clean a row of the official file or the re-export.

    Args:
        row (`Any`):
            The row as it is in the file.
        where (`str`):
            The file and the row, for error messages.
        split (`str`, *optional*):
            The split; by default it is derived from the phrase type.
        images (`Path`):
            The folder of the images.

    Raises:
        `ValueError`: starting with `where`, if a field has no value, the organ or answer type is unknown, or the name
            of the image is a path.
    """
    try:
        if not isinstance(row, dict):
            raise ValueError(f"a row must be an object, not {kind_of(row)}.")
        return _clean(row, split, images)
    except ValueError as error:
        raise ValueError(f"{where}: {error} The row is {excerpt(row)}.") from error


def hub_question(qid: str, image: ImageBytes, row: dict[str, Any], split: str, question: str, answer: str) -> Question:
    """Make a question from a row of the Hub copy, whose texts are already repaired."""
    return Question(
        qid=qid,
        image=image,
        image_name=row["image"].get("path"),
        organ=None,
        question=question,
        answer=_yes_or_no_in_lower_case(answer),
        subset="yes or no" if answer.lower() in ("yes", "no") else "other",
        question_type=None,
        phrase_type=None,
        given_split=split,
        is_repaired=(question, answer) != (row["question"], row["answer"]),
    )


def repaired(text: str) -> str:
    """Repair the traces of re-encoding in a text."""
    text = text.replace("\N{REPLACEMENT CHARACTER}", "'")
    text = re.sub(r" (\w)\t", r"\1, ", text)
    text = re.sub(r"\s*\t", ", ", text)
    return " ".join(text.split())


def _clean(row: dict[str, Any], split: str | None, images: Path) -> Question:
    wrong = [field for field in _FIELDS if not _is_text_or_number(row.get(field))]
    if wrong:
        raise ValueError(f"{wrong} must be text or a number.")
    values = {field: repaired(str(row[field])) for field in _FIELDS if row.get(field) is not None}
    missing = [field for field in _FIELDS if not values.get(field)]
    if missing:
        raise ValueError(f"no value for {missing}.")
    organ, subset = values["image_organ"].upper(), values["answer_type"].upper()
    if organ not in _ORGANS:
        raise ValueError(f"`image_organ` is {excerpt(organ)}, not one of {sorted(_ORGANS)}.")
    if subset not in _SUBSETS:
        raise ValueError(f"`answer_type` is {excerpt(subset)}, not one of {sorted(_SUBSETS)}.")
    name, phrase_type = values["image_name"], values["phrase_type"].lower()
    if Path(name).name != name:
        raise ValueError(f"`image_name` is {excerpt(name)}, which is not a file name.")
    return Question(
        qid=values["qid"],
        image=ImageFile(f"{images.name}/{name}", RootFolder(images).file(name)),
        image_name=name,
        organ=_ORGANS[organ],
        question=values["question"],
        answer=_yes_or_no_in_lower_case(values["answer"]),
        subset=_SUBSETS[subset],
        question_type=_question_type(values["question_type"]),
        phrase_type=phrase_type.removeprefix(_TEST_PREFIX),
        given_split=split or ("test" if phrase_type.startswith(_TEST_PREFIX) else "train"),
        is_repaired=any(values[field] != row[field] for field in _FIELDS[1:]),  # `qid` is a number
    )


def _is_text_or_number(value: Any) -> bool:
    return isfinite(value) if isinstance(value, float) else isinstance(value, str | int | None)


def _yes_or_no_in_lower_case(answer: str) -> str:
    return answer.lower() if answer.lower() in ("yes", "no") else answer


def _question_type(text: str) -> str:
    parts = {part.strip().upper() for part in text.split(",")}
    return ", ".join(sorted(_TYPE_SPELLINGS.get(part, part) for part in parts))
