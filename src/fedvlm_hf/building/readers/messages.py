"""Read the text of a row in the usual formats of image-text datasets: messages, prompt and completion, or columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...data.spec import TASKS
from ..templates import chat


Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Asking:
    """How rows without chat messages become prompts.

    Attributes:
        question (`str`, *optional*): Column with the questions; by default `question`, if it exists.
        answer (`str`, *optional*): Column with the answers; by default `answer`, if it exists.
        instruction (`str`, *optional*): The prompt of every row, if no column has questions.
        task (`str`): The task of rows, if there is no column `task`.
        wording (`str`, *optional*): See `building.templates`.
    """

    question: str | None = None
    answer: str | None = None
    instruction: str | None = None
    task: str = "vqa"
    wording: str | None = None


@dataclass(frozen=True)
class RowText:
    """The text of a row in the row format.

    Attributes:
        prompt, completion (`list[dict[str, str]]`): Chat messages.
        task (`str`): One of `data.spec.TASKS`.
        references (`tuple[str, ...]`): Accepted answers.
    """

    prompt: Messages
    completion: Messages
    task: str
    references: tuple[str, ...]


def text_columns_of(columns: list[str], asking: Asking) -> list[str]:
    """Return the columns that [`row_text`] reads.

    Raises:
        `ValueError`: listing the columns, if a requested column does not exist, or no column has the answers.
    """
    wanted = {"question": asking.question, "answer": asking.answer}
    for option, name in wanted.items():
        if name is not None and name not in columns:
            raise ValueError(f"`{option}={name!r}` is not a column; the columns are {columns}.")
    also = [name for name in ("task", "references") if name in columns]
    if asking.question is None and asking.answer is None:
        for shape in (("prompt", "completion"), ("messages",)):
            if set(shape) <= set(columns):
                return [*shape, *also]
    answer = asking.answer or "answer"
    if answer not in columns:
        raise ValueError(
            f"`answer` must be the column with the answers; there is no column {answer!r}. The columns are "
            f"{columns}. Datasets with `prompt` and `completion`, or with `messages`, need no option."
        )
    question = asking.question or "question"
    return [*([question] if question in columns and asking.instruction is None else []), answer, *also]


def row_text(row: Mapping[str, Any], columns: list[str], asking: Asking) -> RowText:
    """Return the text of a row in the row format.

    Args:
        row (`Mapping[str, Any]`):
            The row.
        columns (`list[str]`):
            The result of [`text_columns_of`].
        asking ([`Asking`]):
            How rows become prompts.

    Raises:
        `ValueError`: if the task is unknown, a message is invalid, or there is no answer.
    """
    task = row["task"] if "task" in columns else asking.task
    if task not in TASKS:
        raise ValueError(f"the task {task!r} is not one of {list(TASKS)}.")
    if "completion" in columns:
        prompt, completion = _messages(row["prompt"], "user"), _messages(row["completion"], "assistant")
    elif "messages" in columns:
        *prompt, last = _messages(row["messages"], "user") or [{}]
        completion = [last]
        if last.get("role") != "assistant":
            raise ValueError("`messages` does not end with a message of the assistant.")
    else:
        return _from_columns(row, columns, task, asking)
    references = row.get("references") or [completion[-1]["content"]]
    return RowText(prompt, completion, task, _texts(references))


def _from_columns(row: Mapping[str, Any], columns: list[str], task: str, asking: Asking) -> RowText:
    answers = _texts(row[asking.answer or "answer"])
    if not answers:
        raise ValueError("there is no answer.")
    references = _texts(row.get("references")) or answers
    question = row.get(asking.question or "question") if asking.instruction is None else asking.instruction
    if question is None and task != "caption":
        raise ValueError("there is no question. Set its column with `question`, or use one `instruction` for all.")
    if question is None:
        parts = chat("caption", answers[0], asking.wording)
    elif task == "vqa" and asking.instruction is None:
        parts = chat("vqa", answers[0], asking.wording, question=str(question))
    else:
        parts = _chat_as_is(str(question), answers[0])
    return RowText(parts["prompt"], parts["completion"], task, references)


def _chat_as_is(question: str, answer: str) -> dict[str, Messages]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def _messages(value: Any, role: str) -> Messages:
    """Return chat messages with plain text. TRL's image parts are left out, since the images are in `images`."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    try:
        return [{"role": message["role"], "content": _content(message["content"])} for message in value]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{str(value)[:80]!r} is neither text nor chat messages.") from error


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _texts(value: Any) -> tuple[str, ...]:
    """Return one or several values as texts, without empty ones."""
    values = value if isinstance(value, list) else [value]
    return tuple(str(text).strip() for text in values if text is not None and str(text).strip())
