"""What the metrics share."""

from collections.abc import Mapping, Sequence
from math import fsum

import datasets
import evaluate


def info(description: str, inputs: str = "") -> evaluate.MetricInfo:
    """Describe a metric of `predictions` (strings) against `references` (a list of strings a row)."""
    features = {
        "predictions": datasets.Value("string"),
        "references": datasets.List(datasets.Value("string")),
    }
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description=inputs, features=datasets.Features(features)
    )


def means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean of each list; the order of the rows does not change a bit of it."""
    return {name: fsum(column) / len(column) for name, column in values.items()}


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Refuse references that no metric can score against.

    Raises:
        `ValueError`: if there are no rows, or a row has no reference.
    """
    if not references:
        raise ValueError("`references` has no rows: the mean of no scores does not exist.")
    for row, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise ValueError(
                f"`references` must be a list of one or more strings a row, got {texts!r} in row {row}: an answer is "
                "right when it agrees with one of them."
            )
