"""The instructions for each task. Builders fill them in; no prompt is written anywhere else."""

from collections.abc import Sequence
from string import Formatter, ascii_uppercase


TEMPLATES = {
    "vqa": {
        # LLaVA-1.5's prompt for short answers (https://huggingface.co/papers/2310.03744, table 7)
        "short": "{question}\nAnswer the question using a single word or phrase.",
        "plain": "{question}",
        "polite": "Please look at the image and answer in a word or phrase: {question}",
    },
    "choice": {
        "letter": "{question}\n{choices}\nAnswer with the option's letter from the given choices directly.",
        "plain": "{question}\n{choices}",
    },
    "classification": {
        "name": "What is the {attribute} of the {subject} in this image? Answer with the name only.",
        "plain": "{attribute} of the {subject}?",
        "polite": "Please look at the image and name the {attribute} of the {subject}.",
    },
    "caption": {
        "sentence": "Describe this image in one sentence.",
        "plain": "Describe the image.",
        "polite": "Please write a short caption for this image.",
    },
    "referring": {
        "phrase": "Describe the object in the region {box} with a short phrase.",
        "plain": "What is in {box}?",
        "polite": "Please write a short phrase that tells the object in {box} from all others.",
    },
    "report": {
        "findings": "Write the radiology report of this {study}: findings and impression.",
        "plain": "Report on this {study}.",
        "polite": "Please look at this {study} and write its findings and impression.",
    },
    "grounding": {
        "box": "Give the bounding box [x1, y1, x2, y2] of what this phrase describes: {expression}",
        "plain": "Where is {expression}?",
        "polite": "Please find what this phrase describes and give its bounding box [x1, y1, x2, y2]: {expression}",
    },
    "detection": {
        "box": "Give the bounding box [x1, y1, x2, y2] of the {target} in this {study}.",
        "plain": "Where is the {target} in this {study}?",
        "polite": "Please find the {target} in this {study} and give its bounding box [x1, y1, x2, y2].",
    },
}
"""For each kind of question its wordings by name. The first wording is the default."""

TASK_OF = {
    **{key: key for key in TEMPLATES},
    "choice": "vqa",
    "referring": "caption",
}
"""For each kind of question the row's `task`, which decides how the answer is scored."""


def chat(task: str, answer: str, wording: str | None = None, **fields: str) -> dict[str, list[dict[str, str]]]:
    """Return the `prompt` and `completion` of a row.

    Args:
        task (`str`):
            A key of `TEMPLATES`. The row's `task` is `TASK_OF[task]`.
        answer (`str`):
            The completion.
        wording (`str`, *optional*):
            Name of one of the wordings; the first one by default.
        **fields (`str`):
            Values for the wording's placeholders, such as `question`.

    Returns:
        `dict[str, list[dict[str, str]]]`: chat messages under `prompt` and `completion`.

    Raises:
        `ValueError`: if the task or wording is unknown, or if a field is missing or not used by the wording.

    Example:

    ```python
    >>> from fedvlm_hf.building.templates import chat

    >>> chat("vqa", "yes", question="Is the heart enlarged?")["completion"]
    [{'role': 'assistant', 'content': 'yes'}]
    ```
    """
    if task not in TEMPLATES:
        raise ValueError(f"`task={task!r}` has no instruction template; templates exist for {sorted(TEMPLATES)}.")
    wordings = TEMPLATES[task]
    wording = wording or next(iter(wordings))
    if wording not in wordings:
        raise ValueError(f"`wording={wording!r}` is unknown for `task={task!r}`; choose one of {list(wordings)}.")
    needed = {name for _, name, _, _ in Formatter().parse(wordings[wording]) if name}
    if needed != set(fields):
        raise ValueError(
            f"The wording {wording!r} of {task!r} needs the fields {sorted(needed)}, got {sorted(fields)}."
        )
    return {
        "prompt": [{"role": "user", "content": wordings[wording].format(**fields)}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def check_wording(wording: str | None, keys: Sequence[str]) -> None:
    """Check that several templates all have a wording, before any row is read.

    Args:
        wording (`str`, *optional*):
            The requested wording. With `None` each template uses its first one.
        keys (`Sequence[str]`):
            Keys of `TEMPLATES`.

    Raises:
        `ValueError`: naming the wordings that all these templates have.
    """
    if wording is not None and not all(wording in TEMPLATES[key] for key in keys):
        common = [name for name in TEMPLATES[keys[0]] if all(name in TEMPLATES[key] for key in keys)]
        raise ValueError(f"`wording={wording!r}` does not exist for all of {list(keys)}; choose one of {common}.")


def choices_text(choices: Sequence[str]) -> str:
    """Write the options of a multiple-choice question, one per line.

    Args:
        choices (`Sequence[str]`):
            2 to 26 options.

    Returns:
        `str`: the value of the field `choices` of the `"choice"` wordings.

    Raises:
        `ValueError`: if there are fewer or more options, or if one is empty.

    Example:

    ```python
    >>> from fedvlm_hf.building.templates import choice_letter, choices_text

    >>> print(choices_text(["cat", "dog"]))
    A. cat
    B. dog
    >>> choice_letter(1)
    'B'
    ```
    """
    if not 2 <= len(choices) <= len(ascii_uppercase):
        raise ValueError(
            f"`choices` must be 2 to {len(ascii_uppercase)} options, got {len(choices)}: each option has one letter."
        )
    if not all(choice.strip() for choice in choices):
        raise ValueError(f"`choices` has an empty option: {list(choices)}.")
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))


def choice_letter(index: int) -> str:
    """Return the letter of an option, counted from 0: the answer to a multiple-choice question.

    Raises:
        `ValueError`: if there is no letter for `index`.
    """
    if not 0 <= index < len(ascii_uppercase):
        raise ValueError(f"`index` must be 0 to {len(ascii_uppercase) - 1}, got {index}: each option has one letter.")
    return ascii_uppercase[index]
