"""Interpret the text of a row of own data: chat messages, prompt and completion, or columns. One way for all forms."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ....data.boxes import ANY_BOX, BOX_TASKS, box_problem, box_text, parse_box
from ....data.spec import TASKS, text_problem, value_problem
from ...templates import chat, choice_letter, choices_text


Messages = list[dict[str, str]]
Values = Mapping[str, Any]

IMAGE_MARK = "<image>"
"""How LLaVA's format writes the place of the image in a text."""

_TEMPLATE_FIELDS = {
    "vqa": ("question",),
    "classification": ("attribute", "subject"),
    "caption": (),
    "report": ("study",),
    "grounding": ("expression",),
    "detection": ("target", "study"),
}
"""The placeholders of each task's templates. Their values are columns of the row, or [`TextOptions`]."""

_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""The roles of the speakers in LLaVA's `conversations`."""


@dataclass(frozen=True)
class TextOptions:
    """How rows become prompts and answers.

    Attributes:
        question (`str`, *optional*): Column with the questions; by default `question`.
        answer (`str`, *optional*): Column with the answers; by default `answer`.
        instruction (`str`, *optional*): The prompt of every row, instead of a question.
        task (`str`, *optional*): The task of rows without a value `task`. By default vqa, or caption without a
            question.
        wording (`str`, *optional*): See `building.templates`.
        attribute, subject, study (`str`, *optional*): Values of templates for rows without a column of this name.
    """

    question: str | None = None
    answer: str | None = None
    instruction: str | None = None
    task: str | None = None
    wording: str | None = None
    attribute: str | None = None
    subject: str | None = None
    study: str | None = None


@dataclass(frozen=True, slots=True)
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


def row_texts(values: Values, options: TextOptions) -> list[RowText]:
    """Return the texts of a row: one, or one for each answer of a conversation, with all turns before it as prompt.

    A row has one of these forms, and the first one that fits is used: `prompt` and `completion`; `messages`;
    `conversations` as in LLaVA's files; or `answer` with `question`, `prompt` or neither. With the options `question`
    or `answer` the last one is used.

    Args:
        values (`Mapping[str, Any]`):
            The values by column, without empty, null and NaN values.
        options ([`TextOptions`]):
            Names of columns and the values of templates.

    Raises:
        `ValueError`: if the task is unknown, there is no answer, a message or box is invalid, or a text has an image
            placeholder where it cannot be removed.
    """
    form = _chat_form(values, options)
    is_asked = form is not None or options.instruction or {"question", "prompt", options.question} & set(values)
    task = text_value(values, "task") or options.task or ("vqa" if is_asked else "caption")
    if task not in TASKS:
        raise ValueError(f"`task` {task!r} is unknown; tasks are {list(TASKS)}.")
    texts = _CHAT_FORMS[form](values, task, options) if form else _from_columns(values, task, options)
    for text in texts:
        for name, messages in (("prompt", text.prompt), ("completion", text.completion)):
            problem = value_problem(name, messages)
            if problem:
                raise ValueError(f"`{name}`: {problem}")
    return texts


def text_columns(values: Values, options: TextOptions) -> tuple[str, ...]:
    """Return the columns from which the text of a row is read, those of its form first."""
    form = _chat_form(values, options)
    if form is None:
        asked = () if options.instruction else (options.question or "question", "prompt")
        form = (options.answer or "answer", *asked)
    return (*form, "task", "references", "choices")


def _chat_form(values: Values, options: TextOptions) -> tuple[str, ...] | None:
    """Return the columns with the complete chat of a row, or `None` if its text is in single columns."""
    if options.question is not None or options.answer is not None:
        return None
    return next((form for form in _CHAT_FORMS if all(name in values for name in form)), None)


def text_value(values: Values, name: str) -> str | None:
    """Return a value as text, or `None` if there is none. Numbers and booleans are written as in JSON.

    Raises:
        `ValueError`: if the value is a list or an object.
    """
    value = values.get(name)
    try:
        return as_text(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must be text or a number, got {error}.") from error


def as_text(value: Any) -> str | None:
    """Return a text, number, boolean or date as text; `None` for null, NaN and text without any letter.

    Raises:
        `ValueError`: with the type, if the value is something else; or if a text has characters that no text has.
    """
    if isinstance(value, str):
        problem = text_problem(value)
        if problem:
            raise ValueError(problem)
        return value.strip() or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, dict | list | tuple | bytes):
        raise ValueError(f"a {type(value).__name__}")
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _from_columns(values: Values, task: str, options: TextOptions) -> list[RowText]:
    choices = _listed(values, "choices")
    answers = _answers(values, task, options.answer or "answer")
    if choices:
        answers = (_letter(answers[0], choices),)
    parts = _asked(values, task, options, choices, answers[0])
    return [RowText(parts["prompt"], parts["completion"], task, answers)]


def _asked(
    values: Values, task: str, options: TextOptions, choices: list[str], answer: str
) -> dict[str, list[dict[str, str]]]:
    prompt, question = options.instruction, None
    if prompt is None:
        prompt, question = text_value(values, "prompt"), text_value(values, options.question or "question")
    if prompt and question:
        raise ValueError("there is a `question` and a `prompt`; a row must have only one of them.")
    if options.question and not question and options.instruction is None:
        raise ValueError(f"`question={options.question!r}`: {_no_column(values, options.question)}")
    prompt, question = prompt and _without_mark(prompt), question and _without_mark(question)
    if choices and (question or options.instruction):
        return chat("choice", answer, options.wording, question=question or prompt, choices=choices_text(choices))
    if prompt or (question and task != "vqa"):
        return {
            "prompt": [{"role": "user", "content": prompt or question}],
            "completion": [{"role": "assistant", "content": answer}],
        }
    given = {"attribute": options.attribute, "subject": options.subject, "study": options.study}
    fields = {name: text_value(values, name) or given.get(name) for name in _TEMPLATE_FIELDS[task]}
    if "question" in fields:
        fields["question"] = question
    missing = [name for name, value in {**fields, **({"question": None} if choices else {})}.items() if not value]
    if missing:
        raise ValueError(
            f"{task!r} needs the column `{missing[0]}`, or a `prompt`; the columns with values are {list(values)}. "
            "Another column, one instruction for all rows, or another task can be given by an option: see --help."
        )
    return chat(task, answer, options.wording, **fields)


def _answers(values: Values, task: str, name: str) -> tuple[str, ...]:
    """Return the answer, followed by further accepted answers."""
    given = values.get(name)
    if task in BOX_TASKS and _is_numbers(given):
        given = json.dumps(given)
    answers = _listed({name: given}, name) if isinstance(given, list) else [text_value({name: given}, name)]
    if not answers or answers[0] is None:
        raise ValueError(f"`{name}` is missing: {_no_column(values, name)}")
    return _accepted([*answers, *_listed(values, "references")], task)


def _accepted(answers: list[str], task: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_box, answers) if task in BOX_TASKS else answers))


def _listed(values: Values, name: str) -> list[str]:
    """Return a list of texts, which is separated by | in tables."""
    given = values.get(name, [])
    listed = given.split("|") if isinstance(given, str) else given
    try:
        if not isinstance(listed, list):
            raise ValueError(f"a {type(listed).__name__}")
        texts = [as_text(value) for value in listed]
    except ValueError as error:
        raise ValueError(
            f"`{name}` {given!r} is not a list of texts, it has {error}; in CSV they are separated by |."
        ) from error
    return [text for text in texts if text is not None]


def _letter(answer: str, choices: list[str]) -> str:
    """Return the letter of the answer, which may be given as an option or, if no option has this text, as a letter."""
    letters = [choice_letter(index) for index in range(len(choices))]
    if answer in choices:
        return letters[choices.index(answer)]
    if answer not in letters:
        raise ValueError(f"`answer` {answer!r} is neither one of the `choices` {choices} nor the letter of one.")
    return answer


def _box(text: str) -> str:
    problem = box_problem(text)
    if problem is None and not ANY_BOX.fullmatch(text.strip()):
        problem = f"{text!r} is not a box alone"
    if problem:
        raise ValueError(f"{problem}. Boxes are fractions of the image, [x1, y1, x2, y2].")
    return box_text(parse_box(text))


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(number, int | float) for number in value)


def _no_column(values: Values, name: str) -> str:
    return f"the row has no value in the column {name!r}; the columns with values are {list(values)}."


def _from_completion(values: Values, task: str, options: TextOptions) -> list[RowText]:
    prompt = _messages(values["prompt"], "prompt", "user")
    completion = _messages(values["completion"], "completion", "assistant")
    return _from_turns([(prompt, completion)], values, task, options)


def _from_messages(values: Values, task: str, options: TextOptions) -> list[RowText]:
    messages = _messages(values["messages"], "messages", "user")
    return _from_turns(_by_answer(messages, "messages"), values, task, options)


def _from_conversations(values: Values, task: str, options: TextOptions) -> list[RowText]:
    messages = []
    for turn in _objects(values["conversations"], "conversations", ("from", "value")):
        if turn["from"] not in _SPEAKERS:
            raise ValueError(f"`conversations` has a turn from {turn['from']!r}; it must be from {list(_SPEAKERS)}.")
        messages.append({"role": _SPEAKERS[turn["from"]], "content": _content(turn["value"], "conversations")})
    return _from_turns(_by_answer(messages, "conversations"), values, task, options)


_CHAT_FORMS: dict[tuple[str, ...], Callable[[Values, str, TextOptions], list[RowText]]] = {
    ("prompt", "completion"): _from_completion,
    ("messages",): _from_messages,
    ("conversations",): _from_conversations,
}
"""The forms with complete chats, by their columns."""


def _from_turns(
    turns: list[tuple[Messages, Messages]], values: Values, task: str, options: TextOptions
) -> list[RowText]:
    if options.instruction:
        raise ValueError("`instruction` would replace the prompt that the row has. Leave the option out.")
    references = _listed(values, "references")
    if references and len(turns) > 1:
        raise ValueError(
            f"`references` belongs to one answer, but the row has {len(turns)} answers. Make one row each."
        )
    texts = []
    for prompt, completion in turns:
        if not completion:
            raise ValueError("`completion` has no message.")
        first = next((place for place, message in enumerate(prompt) if message["role"] == "user"), None)
        if first is not None:
            prompt = [*prompt]
            prompt[first] = {**prompt[first], "content": _without_mark(prompt[first]["content"])}
        answer = completion[-1]["content"].strip()
        if task in BOX_TASKS:
            completion = [*completion[:-1], {**completion[-1], "content": _box(answer)}]
        accepted = _accepted(references or [answer], task)
        texts.append(RowText(prompt, completion, task, accepted))
    return texts


def _by_answer(messages: Messages, name: str) -> list[tuple[Messages, Messages]]:
    """Return each answer to a user with all messages before it."""
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError(f"`{name}` does not end with a message of the assistant.")
    roles = [message["role"] for message in messages]
    first = roles.index("user") if "user" in roles else 0
    answers = [place for place, role in enumerate(roles) if role == "assistant" and place >= first]
    return [(messages[:place], [messages[place]]) for place in answers]


def _messages(value: Any, name: str, role: str) -> Messages:
    """Return chat messages with plain text."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    messages = _objects(value, name, ("role", "content"))
    return [{"role": message["role"], "content": _content(message["content"], name)} for message in messages]


def _objects(value: Any, name: str, keys: tuple[str, str]) -> list[dict[str, Any]]:
    is_known = isinstance(value, list) and all(isinstance(turn, dict) and set(keys) <= set(turn) for turn in value)
    if not is_known:
        raise ValueError(f"`{name}` {str(value)[:80]!r} is not a list of turns with `{keys[0]}` and `{keys[1]}`.")
    return value


def _content(content: Any, name: str) -> str:
    """Return the text of a message. In TRL's lists of parts an image is written as [`IMAGE_MARK`]."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise ValueError(f"`{name}` has a message whose content is neither text nor a list of parts: {content!r}.")
    texts = []
    for part in content:
        if part.get("type") == "image":
            texts.append(IMAGE_MARK)
        elif part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise ValueError(f"`{name}` has a message with a part {str(part)[:80]}, neither a text nor an image.")
    return "\n".join(texts)


def _without_mark(text: str) -> str:
    """Remove one mark at the start or end of the first user message, before which the image is placed in training."""
    stripped = text.strip()
    if stripped.startswith(IMAGE_MARK):
        return stripped.removeprefix(IMAGE_MARK).lstrip()
    return stripped.removesuffix(IMAGE_MARK).rstrip() if stripped.endswith(IMAGE_MARK) else text
