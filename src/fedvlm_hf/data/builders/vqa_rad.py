"""VQA-RAD by organ: questions on head, chest and abdomen images, one client each.

Lau et al., "A dataset of clinically generated visual questions and answers about radiology images", Scientific Data
2018 (https://doi.org/10.1038/sdata.2018.251): 3,515 questions on 314 radiographs, CT and MR images.

Reads the re-export that came with MEVF (Nguyen et al., 2019): `trainset.json`, `testset.json` and `images/`. Every row
becomes a row of `fedvlm_hf.data.spec`; the clients are `client_00` head, `client_01` chest, `client_02` abdomen.

**The given split leaks.** All 203 images of the given test set are training images too. `split="given"` keeps it, for
comparison with the literature; `split="clean"` holds test images out.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, DatasetInfo, Features, Value

from ..images import square_jpeg
from ..partitions.holdout import hold_out_groups
from ..spec import FEATURES
from ..templates import chat


SOURCE = (
    "the folder `data_RAD/` of the public repository github.com/longle0702/med-v2qa at commit "
    "4ae21bc19dd20cb5e76fa89f3e77c07230b526c3, with trainset.json, testset.json and images/"
)
CLIENTS = {"head": "client_00", "chest": "client_01", "abdomen": "client_02"}
"""Each organ's client."""

NOTES = {
    "given": (
        "VQA-RAD with its given split, in which every test image (203 of 203) is a training image too. Scores compare "
        "with the literature, and overstate what the model does on images that it has not seen."
    ),
    "clean": (
        "VQA-RAD with images held out: within each organ 20 % of the images are test and 10 % validation, in a seeded "
        "order, and every question goes where its image goes. No test image is in a client; scores do not compare "
        "with those on the given split. Patients cannot be told apart in the files."
    ),
}
"""What a reader of scores must know, by split; also in `dataset.info.description`."""

_ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}
_SUBSETS = {"OPEN": "open", "CLOSED": "closed"}
_TYPE_SPELLINGS = {"ATRIB": "ATTRIB", "PRSE": "PRES"}
_FIELDS = (
    "qid", "image_name", "image_organ", "question", "answer", "answer_type", "question_type", "phrase_type",
)  # fmt: skip
_FILES = {"trainset.json": "train", "testset.json": "test"}
_HELD_OUT_SHARES = {"test": 0.2, "validation": 0.1}

Kind = tuple[str, str]
"""Question type, open or closed."""

_HOMEPAGE = "https://doi.org/10.1038/sdata.2018.251"
_OWN_COLUMNS = ("client_id", "subset", "organ", "question_type", "phrase_type", "image_name")
_ROW_FEATURES = Features({**FEATURES, **{column: Value("string") for column in _OWN_COLUMNS}})


@dataclass(frozen=True)
class Question:
    """One cleaned row of the files.

    Attributes:
        qid (`str`): The row's id in the files.
        image_name (`str`): File name in `images/`.
        organ (`str`): `"head"`, `"chest"` or `"abdomen"`.
        question (`str`), answer (`str`): Texts.
        subset (`str`): `"open"` or `"closed"`.
        question_type (`str`): Such as `"MODALITY"`, or several: `"ATTRIB, PRES"`.
        phrase_type (`str`): `"freeform"`, `"para"` (the same rephrased) or `"frame"` (the same in a fixed form).
        given_split (`str`): `"train"` or `"test"`, the file it stands in.
    """

    qid: str
    image_name: str
    organ: str
    question: str
    answer: str
    subset: str
    question_type: str
    phrase_type: str
    given_split: str


def read(raw: str | PathLike) -> list[Question]:
    """Reads and cleans both files.

    Dirty values are repaired by rule: surrounding and repeated spaces go; a tab, which stands where a comma was lost
    (sometimes beside a letter that slipped, as in `"splee n\\t"`), becomes a comma again, and the character lost in
    re-encoding an apostrophe; numbers become text; `"Yes"` and `"yes"` become one answer; question types are upper
    case, free of typing errors and in alphabetical order.

    Args:
        raw (`str` or `PathLike`):
            The folder with `trainset.json`, `testset.json` and `images/`.

    Returns:
        `list[Question]`: the training file's rows, then the test file's.

    Raises:
        `ValueError`: if a file is missing or not a JSON list, or a row lacks a field or has an unknown organ or answer
            type.
    """
    questions = []
    for file_name, split in _FILES.items():
        path = Path(raw) / file_name
        for index, row in enumerate(_load(path)):
            try:
                questions.append(_clean(row, split))
            except ValueError as error:
                raise ValueError(f"{path}, row {index}: {error} The row is {row}.") from error
    return questions


def build(
    raw: str | PathLike, split: str = "given", image_size: int = 512, wording: str | None = None, seed: int = 0
) -> DatasetDict:
    """Builds the federated dataset in memory: `client_00` head, `client_01` chest, `client_02` abdomen, and `test`.

    Besides the columns of the row format, rows carry `client_id`, `subset` (`open` or `closed`), `organ`,
    `question_type`, `phrase_type` and `image_name`. Images are padded to a black square and stored as JPEG; nothing is
    written to disk.

    Args:
        raw (`str` or `PathLike`):
            The folder with `trainset.json`, `testset.json` and `images/`.
        split (`str`, *optional*, defaults to `"given"`):
            `"given"`: the files' own 3,064 training and 451 test rows, and no `validation`, so that the clients hold
            all rows that the literature trains on. `"clean"`: no test or validation image is in a client, see `NOTES`.
        image_size (`int`, *optional*, defaults to `512`):
            Long side in pixels that larger images are reduced to.
        wording (`str`, *optional*):
            How the questions are put, see `fedvlm_hf.data.templates`.
        seed (`int`, *optional*, defaults to `0`):
            Chooses the held-out images of `"clean"`.

    Returns:
        `DatasetDict`: the client splits, `validation` for `"clean"`, and `test`.

    Raises:
        `ValueError`: if the split is unknown, or a file, row or image is missing or broken.

    Example:

    ```python
    >>> from fedvlm_hf.data.builders import vqa_rad

    >>> dataset = vqa_rad.build("data_RAD", split="clean")  # doctest: +SKIP
    ```
    """
    if split not in _SPLITS:
        raise ValueError(f"`split={split!r}` is unknown; choose one of {sorted(_SPLITS)}.")
    questions = read(raw)
    folder = Path(raw) / "images"
    images = {name: square_jpeg(folder / name, image_size) for name in sorted({q.image_name for q in questions})}
    rows = defaultdict(list)
    for question, part in zip(questions, _SPLITS[split](questions, seed), strict=True):
        name = CLIENTS[question.organ] if part == "train" else part
        rows[name].append(_to_row(question, images[question.image_name], wording))
    info = DatasetInfo(description=NOTES[split], homepage=_HOMEPAGE, features=_ROW_FEATURES)
    return DatasetDict({name: Dataset.from_list(rows[name], info=info) for name in sorted(rows)})


def commonest_answers(train: Iterable[Dataset], test: Dataset) -> list[str]:
    """A blind yardstick: to each test row the commonest training answer to its kind of question.

    The kind is the question type together with open or closed: the strongest guess that sees neither image nor
    question. A kind that training lacks gets the commonest answer of all; of equally common answers the first in the
    alphabet is taken.

    Args:
        train (`Iterable[Dataset]`):
            The clients' rows.
        test (`Dataset`):
            The rows to answer.

    Returns:
        `list[str]`: one answer a test row, to be scored as a model's answers are.
    """
    counts: dict[Kind | None, Counter[str]] = defaultdict(Counter)
    for dataset in train:
        for kind, references in zip(_kinds(dataset), dataset["references"], strict=True):
            for key in (kind, None):
                counts[key][references[0].lower()] += 1
    guesses = {kind: min(answers, key=lambda a: (-answers[a], a)) for kind, answers in counts.items()}
    return [guesses.get(kind, guesses[None]) for kind in _kinds(test)]


def _kinds(dataset: Dataset) -> Iterable[Kind]:
    return zip(dataset["question_type"], dataset["subset"], strict=True)


def _load(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"`raw`: there is no {path}. VQA-RAD is expected as in {SOURCE}.") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not whole JSON ({error}). Get it again: {SOURCE}.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is not a list of rows. VQA-RAD is expected as in {SOURCE}.")
    return rows


def _clean(row: dict[str, Any], split: str) -> Question:
    values = {field: _repair(str(row[field])) for field in _FIELDS if row.get(field) is not None}
    missing = [field for field in _FIELDS if not values.get(field)]
    if missing:
        raise ValueError(f"no value for {missing}.")
    organ, subset = values["image_organ"].upper(), values["answer_type"].upper()
    if organ not in _ORGANS:
        raise ValueError(f"`image_organ` is {organ!r}, none of {sorted(_ORGANS)}.")
    if subset not in _SUBSETS:
        raise ValueError(f"`answer_type` is {subset!r}, none of {sorted(_SUBSETS)}.")
    answer = values["answer"]
    return Question(
        qid=values["qid"],
        image_name=values["image_name"],
        organ=_ORGANS[organ],
        question=values["question"],
        answer=answer.lower() if answer.lower() in ("yes", "no") else answer,
        subset=_SUBSETS[subset],
        question_type=_question_type(values["question_type"]),
        phrase_type=values["phrase_type"].lower(),
        given_split=split,
    )


def _repair(text: str) -> str:
    text = text.replace("\N{REPLACEMENT CHARACTER}", "'")
    text = re.sub(r" (\w)\t", r"\1, ", text)
    text = re.sub(r"\s*\t", ", ", text)
    return " ".join(text.split())


def _question_type(text: str) -> str:
    parts = {part.strip().upper() for part in text.split(",")}
    return ", ".join(sorted(_TYPE_SPELLINGS.get(part, part) for part in parts))


def _to_row(question: Question, image: bytes, wording: str | None) -> dict[str, Any]:
    return {
        "id": f"vqa_rad-{question.qid}",
        "images": [{"bytes": image, "path": None}],
        **chat("vqa", question.answer, wording, question=question.question),
        "task": "vqa",
        "references": [question.answer],
        "client_id": CLIENTS[question.organ],
        "subset": question.subset,
        "organ": question.organ,
        "question_type": question.question_type,
        "phrase_type": question.phrase_type,
        "image_name": question.image_name,
    }


def _given(questions: Sequence[Question], seed: int) -> list[str]:
    return [question.given_split for question in questions]


def _clean_split(questions: Sequence[Question], seed: int) -> list[str]:
    images, organs = [q.image_name for q in questions], [q.organ for q in questions]
    parts = hold_out_groups(images, organs, _HELD_OUT_SHARES, seed)
    return [name for _, name in sorted((row, name) for name, rows in parts.items() for row in rows)]


_SPLITS: dict[str, Callable[[Sequence[Question], int], list[str]]] = {"given": _given, "clean": _clean_split}
