"""Fed-Nature mini: four clients with one task each, made from scenes of handwritten digits.

The layout is that of Fed-Nature in FedVLMBench (https://huggingface.co/papers/2506.09638). `scenes.py` names the
source of the digits and its license.
"""

import io
import re
from collections import Counter

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, List, Value

from ..data.boxes import Box, parse_box
from .scenes import COLORS, PLACES, Scene, make_scene
from .tasks import TASKS


_MESSAGES = List({"role": Value("string"), "content": Value("string")})
_FEATURES = {
    "images": List(Image()),
    "prompt": _MESSAGES,
    "completion": _MESSAGES,
    "task": Value("string"),
    "references": List(Value("string")),
    "id": Value("string"),
    # Read only in evaluation, but present in all splits: the splits of a Hub configuration have the same columns
    "client_id": Value("string"),
}
_DETAIL = re.compile("|".join((r"\d", *COLORS, *sorted(PLACES, key=len, reverse=True))))
CLIENT_TASKS = {f"client_{number:02d}": task for number, task in enumerate(TASKS)}


def fed_nature(
    seed: int = 0, num_train_rows: int = 1600, num_validation_rows: int = 100, num_test_rows: int = 500
) -> DatasetDict:
    """Make the dataset in memory, which takes a few seconds.

    No digit appears in two splits, and none of them was used in pretraining.

    Args:
        seed (`int`, *optional*, defaults to `0`): Seed of the data. The same seed gives the same bytes.
        num_train_rows (`int`, *optional*, defaults to `1600`): Number of rows of each client.
        num_validation_rows (`int`, *optional*, defaults to `100`): Number of validation rows of each task.
        num_test_rows (`int`, *optional*, defaults to `500`): Number of test rows of each task.

    Returns:
        `DatasetDict`: The splits `client_00` (VQA), `client_01` (grounding), `client_02` (captions), `client_03`
        (classification), `validation` and `test`. Rows have TRL's prompt-completion format, and `images`, `task`,
        `references`, `id` and `client_id`, which is the client with the task of a row of `validation` or `test`.

    Example:

    ```python
    >>> from fedvlm_hf.mini import fed_nature

    >>> fed_nature()["client_00"][0]["prompt"]
    [{'role': 'user', 'content': 'What digit is at the bottom left?'}]
    ```
    """
    splits = {
        client_id: _to_dataset([_row(client_id, client_id, seed, index) for index in range(num_train_rows)])
        for client_id in CLIENT_TASKS
    }
    for split, num_rows in (("validation", num_validation_rows), ("test", num_test_rows)):
        rows = [
            _row(split, client_id, seed, number * num_rows + index)
            for number, client_id in enumerate(CLIENT_TASKS)
            for index in range(num_rows)
        ]
        splits[split] = _to_dataset(rows)
    for rows in splits.values():
        rows.info.dataset_name = "Fed-Nature mini"
    return DatasetDict(splits)


def blind_floors(dataset: DatasetDict) -> dict[str, float]:
    """Score the best answers that need no image on the test split, as a lower bound for a model that sees.

    The answers are chosen on the clients' rows.

    Args:
        dataset (`DatasetDict`): A dataset from [`fed_nature`].

    Returns:
        `dict[str, float]`: For `vqa`, the accuracy of the most frequent answer to each wording without its colors,
        digits and places; for `classification`, that of the most frequent class; for `grounding`, the mean IoU of the
        mean box.
    """
    from ..metrics.box_iou.box_iou import iou  # imports evaluate, which takes seconds

    train = {split[0]["task"]: split for name, split in dataset.items() if name.startswith("client_")}
    tasks = dataset["test"]["task"]
    test = {task: dataset["test"].select([i for i, other in enumerate(tasks) if other == task]) for task in train}
    boxes = [parse_box(text) for text in _answers(train["grounding"])]
    mean_box = Box(*(sum(edges) / len(boxes) for edges in zip(*boxes, strict=True)))
    ious = [iou(mean_box, parse_box(text)) for text in _answers(test["grounding"])]
    return {
        "vqa": _majority_accuracy(train["vqa"], test["vqa"]),
        "classification": _majority_accuracy(train["classification"], test["classification"]),
        "grounding": sum(ious) / len(ious),
    }


def _row(block: str, client_id: str, seed: int, index: int) -> dict:
    task = CLIENT_TASKS[client_id]
    scene = make_scene(block, seed, index)
    # Not the stream of the scene, so that a change of the questions does not change the images
    rng = np.random.default_rng([seed, index, *block.encode()])
    question, answers = TASKS[task](scene, rng)
    return {
        "images": [{"bytes": _png(scene), "path": None}],
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answers[0]}],
        "task": task,
        "references": answers,
        "id": f"{block}-{task}-{index:05d}",
        "client_id": client_id,
    }


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    # Noise hardly compresses: level 0 needs 20% more bytes and saves half of the build time
    scene.image().save(buffer, format="png", compress_level=0)
    return buffer.getvalue()


def _to_dataset(rows: list[dict]) -> Dataset:
    return Dataset.from_dict({name: [row[name] for row in rows] for name in _FEATURES}, features=Features(_FEATURES))


def _answers(split: Dataset) -> list[str]:
    return [references[0] for references in split["references"]]


def _wordings(split: Dataset) -> list[str]:
    return [_DETAIL.sub("*", prompt[0]["content"]) for prompt in split["prompt"]]


def _majority_accuracy(train: Dataset, test: Dataset) -> float:
    seen: dict[str, Counter] = {}
    for wording, answer in zip(_wordings(train), _answers(train), strict=True):
        seen.setdefault(wording, Counter())[answer] += 1
    guesses = {wording: counts.most_common(1)[0][0] for wording, counts in seen.items()}
    hits = [guesses.get(wording) == answer for wording, answer in zip(_wordings(test), _answers(test), strict=True)]
    return sum(hits) / len(hits)
