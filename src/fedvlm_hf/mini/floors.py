"""What a guesser scores on Fed-Nature mini who reads the question and never looks at the image."""

import json
import re
from collections import Counter

from datasets import Dataset, DatasetDict

from .scenes import COLORS, PLACES


_DETAIL = re.compile("|".join((r"\d", *COLORS, *sorted(PLACES, key=len, reverse=True))))


def blind_floors(dataset: DatasetDict) -> dict[str, float]:
    """Score the best answers that need no image, chosen on the clients' rows, on the test split.

    Args:
        dataset (`DatasetDict`): What [`fed_nature`] returns.

    Returns:
        `dict[str, float]`: `vqa`, the accuracy of the commonest answer to each wording (colors, digits and places left
        out); `classification`, the accuracy of the commonest class; `grounding`, the mean IoU of the mean box.
    """
    train = {split[0]["task"]: split for name, split in dataset.items() if name.startswith("client_")}
    tasks = dataset["test"]["task"]
    test = {task: dataset["test"].select([i for i, other in enumerate(tasks) if other == task]) for task in train}
    boxes = [json.loads(box) for box in _answers(train["grounding"])]
    mean_box = [sum(edges) / len(boxes) for edges in zip(*boxes, strict=True)]
    ious = [box_iou(mean_box, json.loads(box)) for box in _answers(test["grounding"])]
    return {
        "vqa": _majority_accuracy(train["vqa"], test["vqa"]),
        "classification": _majority_accuracy(train["classification"], test["classification"]),
        "grounding": sum(ious) / len(ious),
    }


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


def box_iou(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes `[x1, y1, x2, y2]`; 0 for a box that is empty or inside out."""
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (a, b)]
    width, height = (min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]) for axis in (0, 1))
    overlap = max(width, 0.0) * max(height, 0.0)
    return overlap / (sum(areas) - overlap) if overlap else 0.0
