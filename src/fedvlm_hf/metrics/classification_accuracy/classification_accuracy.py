"""Classification accuracy: an answer is correct if it equals a reference label, except for case and spaces."""

from collections.abc import Sequence

import evaluate

# Absolute: `evaluate.load` runs a copy of this file outside the package.
from fedvlm_hf.metrics import base


def normalize_label(text: str) -> str:
    """Normalize a label for comparison."""
    return " ".join(text.casefold().split())


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Raise `ValueError` if a row has no reference."""
    base.check_references(references)


def score_examples(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return the `accuracy` of each row, 0 or 1. An empty answer is never correct."""
    return base.exact_matches(predictions, references, normalize_label)


class ClassificationAccuracy(evaluate.Metric):
    """`{"accuracy": float}`, the share of rows with a correct label."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info(__doc__)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return base.means(score_examples(predictions, references))
