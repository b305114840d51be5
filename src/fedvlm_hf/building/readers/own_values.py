"""Values of a row of own data: texts, answers, boxes."""

import json

from ...data.boxes import box_text, parse_box
from ..templates import choice_letter
from .tables import TableRow


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
