"""The row format in one place: TRL's prompt-completion rows with images, plus what scoring needs.

| column | type | needed |
|---|---|---|
| `images` | list of images | always |
| `prompt` | list of chat messages, `{"role": str, "content": str}`, one of them the user's | always |
| `completion` | the same; the answer that is trained on | by clients |
| `chosen`, `rejected` | the same; the better and the worse answer | by clients of `FederatedDPOTrainer`, instead |
| `task` | one of `TASKS` | to score |
| `references` | list of accepted answers; for boxes the text `[x1, y1, x2, y2]`, 0-1 of the stored image | to score |
| `id` | string | |
| `client_id`, `subset` | string; scores are also given per value | |

Trainers also take, with [`~fedvlm_hf.data.rows.in_row_format`], a column `image` with one image instead of `images`,
images as paths or bytes, and TRL's `messages` with one answer instead of `prompt` and `completion`.

Contents are plain strings: TRL's collator puts the image placeholders before the first user message.
Boxes are of the row's first image as stored; FederatedTrainer and PreparedEvaluation map them where the processor pads
or crops, stock SFTTrainer does not.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import PIL.Image

from .pixels import decoding_problem, in_8_bits, is_deep


if TYPE_CHECKING:
    from datasets import Dataset, Image

TASKS = ("vqa", "classification", "caption", "report", "grounding", "detection")
ROLES = ("system", "user", "assistant", "tool")

IMAGE_PLACEHOLDERS = (
    "<image>", "<|image|>", "<|image_pad|>", "<|IMG_PATCH|>", "<|media_pad|>", "<IMG_CONTEXT>", "<start_of_image>",
    "<image_soft_token>", "<image_placeholder>", "[IMG]",
)  # fmt: skip
"""What the processors of the known model families replace by an image: LLaVA, Idefics and others, GLM and Gemma 4,
Qwen, Cohere and Aya, Kimi, InternVL, Gemma 3, DeepSeek and Janus, Pixtral and Mistral."""
PLACEHOLDER = re.compile("|".join(map(re.escape, IMAGE_PLACEHOLDERS)))

# Rows looked at together: enough to make Arrow's overhead small, few enough that large images do not pile up.
_BATCH_ROWS = 32


@dataclass(frozen=True)
class RowFormat:
    """What the rows of a trainer, or of an evaluation, must hold. Every trainer has its own.

    Args:
        name (`str`):
            Names the format in messages.
        columns (`tuple[str, ...]`):
            The columns that must be there. Other columns are allowed.
    """

    name: str
    columns: tuple[str, ...]

    def example(self) -> "Dataset":
        """One row of the format, for a trainer that looks at the kind of its rows and will train on none of them."""
        from datasets import Dataset, Features

        from .features import ALL_FEATURES

        text = [{"role": "user", "content": "?"}]
        values = {"images": [PIL.Image.new("RGB", (1, 1))], "task": "vqa", "references": ["?"]}
        row = {column: values.get(column, text) for column in self.columns}
        return Dataset.from_list([row], features=Features({column: ALL_FEATURES[column] for column in self.columns}))

    def check_columns(self, dataset: "Dataset", where: str) -> None:
        """Check the columns of a dataset without reading a row.

        Args:
            dataset (`Dataset`):
                The rows.
            where (`str`):
                How the error names the dataset, such as `client 'client_01'`.

        Raises:
            `ValueError`: if there are no rows, a column is missing, or `images` is not a list of decoded images.
        """
        from datasets import Image, LargeList, List

        if not dataset.num_rows:
            raise ValueError(f"{where} is empty. Leave it out, or give it rows.")
        missing = [column for column in self.columns if column not in dataset.column_names]
        if missing:
            raise ValueError(
                f"{where} has no column `{'`, `'.join(missing)}`; its columns are {sorted(dataset.column_names)}. "
                f"Rows of the {self.name} format need {list(self.columns)}: rename or map the columns (see "
                "fedvlm_hf.data.spec)."
            )
        feature = dataset.features["images"]
        image = feature.feature if isinstance(feature, List | LargeList) else None
        if not isinstance(image, Image) or not image.decode:
            raise ValueError(
                f"{where}: column `images` has the type {feature}; rows hold a list of images: paths, encoded bytes "
                "or the type `Image()` of `datasets`."
            )


PROMPT_COMPLETION = RowFormat("prompt-completion", ("images", "prompt", "completion"))
"""What SFTTrainer trains on."""
PREFERENCE = RowFormat("preference", ("images", "prompt", "chosen", "rejected"))
"""What DPOTrainer trains on."""
EVALUATION = RowFormat("evaluation", ("images", "prompt", "task", "references"))
"""What is answered by generation and scored."""

ANSWER_COLUMNS = ("completion", "chosen", "rejected")
"""Columns with an answer as chat messages."""


def text_columns(dataset: "Dataset") -> list[str]:
    """The columns of a dataset that hold chat messages."""
    return [column for column in ("prompt", *ANSWER_COLUMNS) if column in dataset.column_names]


def check_rows(dataset: "Dataset", where: str, columns: tuple[str, ...], seen: set[bytes]) -> Iterator[int]:
    """Check every row, a few at a time, and yield the number of rows of each step.

    Each distinct image is decoded once and dropped, so memory does not grow with the number of rows.

    Args:
        dataset (`Dataset`):
            Rows whose columns passed [`RowFormat.check_columns`].
        where (`str`):
            How the error names the dataset.
        columns (`tuple[str, ...]`):
            The columns to check. `task` is checked where it is present.
        seen (`set[bytes]`):
            Digests of the images decoded so far; grows. Pass one set for datasets that share images.

    Raises:
        `ValueError`: naming the dataset, the row, the column and what is wrong with it.
    """
    if "task" in dataset.column_names:
        columns = tuple({**dict.fromkeys(columns), "task": None})
    checks: dict[str, Callable[[Any], str | None]] = {**_CHECKS, "images": _image_check(dataset, seen)}
    row = 0
    for batch in dataset.select_columns(list(columns)).with_format("arrow").iter(_BATCH_ROWS):
        for column in columns:
            for offset, value in enumerate(batch[column].to_pylist()):
                problem = checks[column](value)
                if problem:
                    raise ValueError(f"{where}, row {row + offset}, column `{column}`: {problem}")
        row += batch.num_rows
        yield batch.num_rows


def text_problem(text: str) -> str | None:
    """What makes a text unusable, in words, or `None`: characters that are in damaged files, but in no text."""
    if "\0" in text:
        return "text with a NUL character. Is the file damaged, or in UTF-16 without a byte order mark?"
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return "text with half of a surrogate pair, which is not valid Unicode. Repair the text in the source."
    return None


def value_problem(column: str, value: Any) -> str | None:
    """What is wrong with a value of `prompt`, `completion`, `task` or `references`, in words, or `None`."""
    return _CHECKS[column](value)


def _check_messages(messages: Any) -> str | None:
    if not messages:
        return "there is no message; write [{'role': ..., 'content': ...}]."
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return (
            f"expected a list of chat messages, got {str(messages)[:80]!r}; write [{{'role': ..., 'content': ...}}]."
        )
    for message in messages:
        if message.get("role") not in ROLES:
            return f"a message has the role {message.get('role')!r}; roles are {list(ROLES)}."
        if not isinstance(message.get("content"), str):
            return "a message's `content` is not a string; images go in the column `images`, not in the message."
        problem = text_problem(message["content"])
        if problem:
            return f"a message has {problem}"
        placeholder = PLACEHOLDER.search(message["content"])
        if placeholder:
            return (
                f"the text {message['content'][:80]!r} has the image placeholder {placeholder.group()!r}. Image and "
                "text are combined in training: the image is placed before the first user message, and a processor "
                "would look for another image. Remove the placeholder from the text."
            )
    return None


def _check_prompt(messages: Any) -> str | None:
    problem = _check_messages(messages)
    if problem is None and not any(message["role"] == "user" for message in messages):
        problem = "there is no user message, before which the image would be placed."
    return problem


def _check_completion(messages: Any) -> str | None:
    problem = _check_messages(messages)
    if problem is None and not all(message["content"].strip() for message in messages):
        problem = "the answer is empty: nothing to learn from. Drop the row, or give it an answer."
    return problem


def _check_task(task: Any) -> str | None:
    return None if task in TASKS else f"unknown task {task!r}; tasks are {list(TASKS)}."


def _check_references(references: Any) -> str | None:
    if not isinstance(references, list) or not references:
        return "there is no reference to score against; write a list with at least one answer."
    if not all(isinstance(reference, str) and reference.strip() for reference in references):
        return f"a reference is not a non-empty string: {references!r}."
    return None


_CHECKS = {
    "prompt": _check_prompt,
    "completion": _check_completion,
    "chosen": _check_completion,
    "rejected": _check_completion,
    "task": _check_task,
    "references": _check_references,
}


def _image_check(dataset: "Dataset", seen: set[bytes]) -> Callable[[Any], str | None]:
    """Return a check that decodes each distinct image with the dataset's own feature, as training will."""
    from datasets import Image

    feature = dataset.features["images"].feature
    # With `Image(mode="RGB")`, `datasets` itself converts an image, and clips its values if it has more than 8 bits
    as_stored = Image() if feature.mode else feature

    def check(images: Any) -> str | None:
        if not images:
            return "there is no image."
        for image in images:
            if image is None:
                return "an image is missing (null)."
            name = f"the image {image['path'] or ''}".rstrip()
            content = image["bytes"] if image["bytes"] is not None else str(image["path"]).encode()
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest in seen:
                continue
            try:
                picture = as_stored.decode_example(image)
            except Exception as error:  # Pillow: OSError, SyntaxError, ValueError, struct.error, ... by image format
                return f"{name} does not decode ({decoding_problem(error)})."
            problem = _deep_problem(picture, feature)
            if problem:
                return f"{name} {problem}"
            seen.add(digest)
        return None

    return check


def _deep_problem(picture: PIL.Image.Image, feature: "Image") -> str | None:
    """Return why an image with more than 8 bits cannot be trained on, if it is one."""
    if feature.mode and is_deep(picture):
        return (
            f"has more than 8 bits, and the column has the type {feature}, which clips its values at 255 and makes it "
            'nearly white. Use `dataset.cast_column("images", List(Image()))`.'
        )
    try:
        in_8_bits(picture)
    except ValueError as error:
        return f"cannot be converted to 8 bits: {error}."
    return None
