"""Functions that the metrics share."""

from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import evaluate


def info(description: str, inputs: str = "") -> "evaluate.MetricInfo":
    """Describe a metric of `predictions` (strings) against `references` (one list of strings per row)."""
    # Not at the top: `evaluate` imports torch and transformers, and tables of scores only need the names of metrics
    import datasets
    import evaluate

    features = {
        "predictions": datasets.Value("string"),
        "references": datasets.List(datasets.Value("string")),
    }
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description=inputs, features=datasets.Features(features)
    )


def means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of each list, which does not depend on the order of the rows in any bit."""
    return {name: fsum(column) / len(column) for name, column in values.items()}


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Refuse references that no metric can use.

    Raises:
        `ValueError`: If there are no rows, or if a row has no reference.
    """
    if not references:
        raise ValueError("`references` has no rows, so there is no mean score.")
    for row, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise ValueError(
                f"`references` must have a list of one or more strings for each row, got {texts!r} in row {row}: an "
                "answer is correct if it agrees with one of them."
            )


def exact_matches(
    predictions: Sequence[str], references: Sequence[Sequence[str]], normalize: Callable[[str], str]
) -> dict[str, list[float]]:
    """Return the `accuracy` of each row: 1 if the normalized answer is not empty and equals a normalized reference.

    Raises:
        `ValueError`: If there are no rows, or if a row has no reference.
    """
    check_references(references)
    correct = []
    for prediction, texts in zip(predictions, references, strict=True):
        answer = normalize(prediction)
        correct.append(float(bool(answer) and answer in {normalize(text) for text in texts}))
    return {"accuracy": correct}
