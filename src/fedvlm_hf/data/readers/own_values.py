"""Values of a row of own data: texts, answers, boxes."""

import json

from ..boxes import box_text, parse_box
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


def answer_values(row: TableRow, task: str) -> tuple[str, ...]:
    """The answer, then what else is accepted; boxes as rows write them.

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
    answers = [answer, *(text.strip() for text in more)]
    return tuple(dict.fromkeys(map(_box, answers) if task in _BOX_TASKS else answers))


def _box(text: str) -> str:
    box = parse_box(text)
    if box is None:
        raise ValueError(f"{text!r} is no box [x1, y1, x2, y2] with x1 < x2 and y1 < y2.")
    return box_text(box)
