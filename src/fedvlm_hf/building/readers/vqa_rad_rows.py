"""A question of VQA-RAD, and how a row of its files becomes one.

Dirty values are repaired by rule: surrounding and repeated spaces go; a tab, which stands where a comma was lost
(sometimes beside a letter that slipped, as in `"splee n\\t"`), becomes a comma again, and the character lost in
re-encoding an apostrophe; numbers become text; `"Yes"` and `"yes"` become one answer; question types are upper case,
free of typing errors and in alphabetical order.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..images import ImageBytes, ImageFile, StoredImage


_ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}
_SUBSETS = {"OPEN": "open", "CLOSED": "closed"}
_TYPE_SPELLINGS = {"ATRIB": "ATTRIB", "PRSE": "PRES"}
_FIELDS = (
    "qid", "image_name", "image_organ", "question", "answer", "answer_type", "question_type", "phrase_type",
)  # fmt: skip
_TEST_PREFIX = "test_"


@dataclass(frozen=True)
class Question:
    """One cleaned row of the files; `None` stands for what the Hub copy does not say.

    Attributes:
        qid (`str`): The row's id in the files; of the Hub copy its split and place, such as `"train-12"`.
        image (`StoredImage`): Found by file name, or in the Hub's rows by content.
        image_name (`str`, *optional*): The image's file name.
        organ (`str`, *optional*): `"head"`, `"chest"` or `"abdomen"`.
        question (`str`), answer (`str`): Texts.
        subset (`str`): `"open"` or `"closed"`; of the Hub copy `"yes or no"` or `"other"`, by the answer: of the 2,095
            closed questions 131 have another answer than yes or no.
        question_type (`str`, *optional*): Such as `"MODALITY"`, or several: `"ATTRIB, PRES"`.
        phrase_type (`str`, *optional*): `"freeform"`, `"para"` (the same rephrased) or `"frame"` (the same in a fixed
            form).
        given_split (`str`): `"train"` or `"test"`.
        is_repaired (`bool`): A text had stray spaces, a tab or a lost character, or was a number.
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


def cleaned(row: Any, path: Path, index: int, split: str | None, images: Path) -> Question:
    """Cleans a row of the official file or the re-export.

    Args:
        row (`Any`):
            As it stands in the file.
        path (`Path`), index (`int`):
            Where it stands, for errors.
        split (`str`, *optional*):
            Its part; by default as its phrase type says.
        images (`Path`):
            The folder of the images.

    Raises:
        `ValueError`: naming path and row, if a field has no value, an unknown organ or answer type, or the image's
            name is a path.
    """
    try:
        if not isinstance(row, dict):
            raise ValueError("it is not an object.")
        return _clean(row, split, images)
    except ValueError as error:
        raise ValueError(f"{path}, row {index}: {error} The row is {row}.") from error


def hub_question(qid: str, image: ImageBytes, row: dict[str, Any], split: str, question: str, answer: str) -> Question:
    """A row of the Hub copy, whose texts are repaired already."""
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
    """A text without what re-encodings left in it."""
    text = text.replace("\N{REPLACEMENT CHARACTER}", "'")
    text = re.sub(r" (\w)\t", r"\1, ", text)
    text = re.sub(r"\s*\t", ", ", text)
    return " ".join(text.split())


def _clean(row: dict[str, Any], split: str | None, images: Path) -> Question:
    values = {field: repaired(str(row[field])) for field in _FIELDS if row.get(field) is not None}
    missing = [field for field in _FIELDS if not values.get(field)]
    if missing:
        raise ValueError(f"no value for {missing}.")
    organ, subset = values["image_organ"].upper(), values["answer_type"].upper()
    if organ not in _ORGANS:
        raise ValueError(f"`image_organ` is {organ!r}, none of {sorted(_ORGANS)}.")
    if subset not in _SUBSETS:
        raise ValueError(f"`answer_type` is {subset!r}, none of {sorted(_SUBSETS)}.")
    name, phrase_type = values["image_name"], values["phrase_type"].lower()
    if Path(name).name != name:
        raise ValueError(f"`image_name` is {name!r}, which is no file name.")
    return Question(
        qid=values["qid"],
        image=ImageFile(f"{images.name}/{name}", images / name),
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


def _yes_or_no_in_lower_case(answer: str) -> str:
    return answer.lower() if answer.lower() in ("yes", "no") else answer


def _question_type(text: str) -> str:
    parts = {part.strip().upper() for part in text.split(",")}
    return ", ".join(sorted(_TYPE_SPELLINGS.get(part, part) for part in parts))
