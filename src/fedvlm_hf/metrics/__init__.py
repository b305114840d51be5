"""How answers are scored: `evaluate` modules, one folder each, and the table of which task uses which.

Every value is a mean over examples, so the score of a client or a subset is the mean over its rows of one scoring of
the whole evaluation set.
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
"""Task to the folders of its metrics. `evaluate.load` takes the path of any of them."""

PRIMARY: dict[str, str] = {
    "vqa": "accuracy",
    "classification": "accuracy",
    "caption": "cider",
    "report": "rouge_l",
    "grounding": "mean_iou",
    "detection": "mean_iou",
}
"""Task to the one number that a plot or a table shows."""


def score(task: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Score the answers of one task.

    Args:
        task (`str`):
            A key of `TASK_METRICS`.
        predictions (`Sequence[str]`):
            One answer a row.
        references (`Sequence[Sequence[str]]`):
            The right answers of each row, at least one.

    Returns:
        `dict[str, float]`: metric to mean over the rows, such as `{"cider": 5.2, "rouge_l": 0.6}`.

    Raises:
        `ValueError`: as `score_examples`.

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
    """Score each answer of one task; the arguments are those of `score`.

    Returns:
        `dict[str, list[float]]`: metric to one value a row, in the order of the rows.

    Raises:
        `ValueError`: if the task is unknown, the lengths differ, or the references cannot be scored against.
    """
    if len(predictions) != len(references):
        raise ValueError(
            f"`predictions` and `references` must have the same rows, got {len(predictions)} and {len(references)}."
        )
    values: dict[str, list[float]] = {}
    for module in _modules(task):
        values.update(module.score_examples(predictions, references))
    return values


def check_references(task: str, references: Sequence[Sequence[str]]) -> None:
    """Find what `score` would refuse, before anything is generated.

    Raises:
        `ValueError`: if the task is unknown or its metrics cannot score against these references.
    """
    for module in _modules(task):
        module.check_references(references)


def _modules(task: str) -> list[ModuleType]:
    # Imported from the package and not through `evaluate.load`: that copies each script into the user's cache first.
    if task not in TASK_METRICS:
        raise ValueError(f"`task` must be one of {', '.join(TASK_METRICS)}, got {task!r}: it decides how to score.")
    return [importlib.import_module(f".{name}.{name}", __name__) for name in TASK_METRICS[task]]
