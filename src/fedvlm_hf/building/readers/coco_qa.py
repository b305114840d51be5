"""COCO-QA: questions generated from COCO's captions by rules, with one-word answers, in files with one item per line.

Ren, Kiros and Zemel, "Exploring Models and Data for Image Question Answering", NeurIPS 2015
(https://huggingface.co/papers/1505.02074).

The folder has `train/` and `test/`, each with `questions.txt`, `answers.txt`, `img_ids.txt` and `types.txt`. Line n of
these files describes the same question. Images of `train/` are from COCO's train2014, those of `test/` from val2014.
"""

from dataclasses import dataclass
from pathlib import Path

from .files import excerpt, find_folder, read_text


TYPES = ("object", "number", "color", "location")
"""Question types in the order of their numbers in `types.txt`."""
SPLITS = ("train", "test")

_FILES = ("questions", "answers", "img_ids", "types")
_MAX_ID_DIGITS = 12
_DOWNLOAD = (
    "COCO-QA's folder cocoqa/ with train/ and test/, each with questions.txt, answers.txt, img_ids.txt, types.txt"
)


@dataclass(frozen=True)
class Question:
    """One line of the four files.

    Attributes:
        question_id (`str`): Split and line, counted from 1, such as `"train-12"`.
        image_id (`int`): COCO's image id.
        question (`str`): As in the file: in lower case, usually without a question mark.
        answer (`str`): One word.
        question_type (`str`): One of `TYPES`.
        given_split (`str`): `"train"` or `"test"`.
    """

    question_id: str
    image_id: int
    question: str
    answer: str
    question_type: str
    given_split: str


def annotation_files(raw: str | Path) -> list[Path]:
    """Return the four files of `train/`, then those of `test/`.

    Raises:
        `ValueError`: if `raw` is neither the folder with `train/` and `test/` nor the folder that has it as `cocoqa/`.
    """
    folder = find_folder(raw, "train/questions.txt", ("cocoqa", ""), _DOWNLOAD)
    return [folder / split / f"{name}.txt" for split in SPLITS for name in _FILES]


def read(raw: str | Path) -> list[Question]:
    """Read both parts.

    Args:
        raw (`str` or `Path`):
            The folder `cocoqa/`, or its parent.

    Returns:
        `list[Question]`: the lines of `train/`, then of `test/`.

    Raises:
        `ValueError`: naming path and line, if a file is missing, the files of a part have different numbers of lines,
            a line is empty, or an image id or a type is invalid.
    """
    paths = annotation_files(raw)
    questions: list[Question] = []
    for number, split in enumerate(SPLITS):
        questions += _read_split(paths[number * len(_FILES) : (number + 1) * len(_FILES)], split)
    return questions


def _read_split(paths: list[Path], split: str) -> list[Question]:
    columns = [_lines(path) for path in paths]
    counts = [len(column) for column in columns]
    if not any(counts):
        raise ValueError(
            f"{paths[0].parent}: {', '.join(path.name for path in paths)} are empty. Download them again."
        )
    if len(set(counts)) != 1:
        named = ", ".join(f"{path.name} {count:,}" for path, count in zip(paths, counts, strict=True))
        raise ValueError(
            f"{paths[0].parent}: the files must have the same number of lines, got {named}. Is one of them truncated? "
            "Download it again."
        )
    long = sum(len(answer.split()) > 1 for answer in columns[1])
    if long > counts[1] / 2:
        raise ValueError(
            f"{paths[1]}: {long:,} of {counts[1]:,} lines have several words, but the answers of COCO-QA have one. "
            "Is it another file?"
        )
    return [
        _question(values, [f"{path}, line {line}" for path in paths], f"{split}-{line}", split)
        for line, values in enumerate(zip(*columns, strict=True), start=1)
    ]


def _question(values: tuple[str, ...], where: list[str], question_id: str, split: str) -> Question:
    for place, text in zip(where, values, strict=True):
        if not text:
            raise ValueError(f"{place} is empty.")
    question, answer, image_id, kind = values
    if not (image_id.isascii() and image_id.isdigit() and len(image_id) <= _MAX_ID_DIGITS):
        raise ValueError(f"{where[2]} is {excerpt(image_id)}, not an image id of COCO.")
    kinds = {str(number): name for number, name in enumerate(TYPES)}
    if kind not in kinds:
        raise ValueError(f"{where[3]} is {excerpt(kind)}, not one of {list(kinds)}.")
    return Question(question_id, int(image_id), question, answer, kinds[kind], split)


def _lines(path: Path) -> list[str]:
    """Return the stripped lines; the last one may lack a newline."""
    # Not splitlines, which would also split at other characters that may be part of a text
    lines = [line.strip() for line in read_text(path, _DOWNLOAD).split("\n")]
    return lines[:-1] if not lines[-1] else lines
