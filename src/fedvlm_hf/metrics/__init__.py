"""Scores of answers: one folder per metric, each an `evaluate` module, and a table of the metrics of each task.

Every score is a mean over examples. The whole evaluation set is scored once, and the score of a client or a subset is
the mean over its rows.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType

from .base import means


TASK_METRICS: dict[str, tuple[str, ...]] = {
    "vqa": ("vqa_accuracy",),
    "classification": ("classification_accuracy",),
    "caption": ("caption_score",),
    "report": ("caption_score",),
    "grounding": ("box_iou",),
    "detection": ("box_iou",),
}
"""Folders of the metrics of each task. `evaluate.load` accepts the path of each of them."""

PRIMARY: dict[str, str] = {
    "vqa": "accuracy",
    "classification": "accuracy",
    "caption": "cider",
    "report": "rouge_l",
    "grounding": "mean_iou",
    "detection": "mean_iou",
}
"""The metric of each task that plots and tables show."""


def score(task: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Score the answers of one task.

    Args:
        task (`str`):
            A key of `TASK_METRICS`.
        predictions (`Sequence[str]`):
            One answer per row.
        references (`Sequence[Sequence[str]]`):
            The correct answers of each row, at least one.

    Returns:
        `dict[str, float]`: The mean of each metric over the rows, such as `{"cider": 5.2, "rouge_l": 0.6}`.

    Raises:
        `ValueError`: As `score_examples`.

    Example:

    ```python
    >>> from fedvlm_hf.metrics import score

    >>> score("vqa", ["A Dog."], [["dog", "puppy"]])
    {'accuracy': 1.0}
    ```
    """
    return means(score_examples(task, predictions, references))


def score_examples(
    task: str, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, list[float]]:
    """Score each answer of one task. The arguments are those of `score`.

    Returns:
        `dict[str, list[float]]`: For each metric, one value per row, in the order of the rows.

    Raises:
        `ValueError`: If the task is unknown, the lengths differ, or the references cannot be used for scoring.
    """
    if len(predictions) != len(references):
        raise ValueError(
            f"`predictions` and `references` must have one entry per row each, got {len(predictions)} and "
            f"{len(references)}."
        )
    values: dict[str, list[float]] = {}
    for module in _modules(task):
        values.update(module.score_examples(predictions, references))
    return values


def check_references(task: str, references: Sequence[Sequence[str]]) -> None:
    """Check the references before answers are generated.

    Raises:
        `ValueError`: If the task is unknown, or if its metrics cannot use these references.
    """
    for module in _modules(task):
        module.check_references(references)


def _modules(task: str) -> list[ModuleType]:
    # Imported from the package, not with `evaluate.load`, which would first copy each script to the user's cache
    if task not in TASK_METRICS:
        raise ValueError(f"`task` must be one of {', '.join(TASK_METRICS)}, got {task!r}: it decides how to score.")
    return [importlib.import_module(f".{name}.{name}", __name__) for name in TASK_METRICS[task]]
