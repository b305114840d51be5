"""Classification accuracy: an answer is right when it is a reference label, case and spaces aside."""

from collections.abc import Sequence

import evaluate

# Absolute: `evaluate.load` runs a copy of this file outside the package.
from fedvlm_hf.metrics import base


def normalize_label(text: str) -> str:
    """Bring a label to the form in which labels are compared."""
    return " ".join(text.casefold().split())


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Raise `ValueError` where a row has no reference."""
    base.check_references(references)


def score_examples(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """`accuracy` of each row, 0 or 1. An empty answer is never right."""
    return base.exact_matches(predictions, references, normalize_label)


class ClassificationAccuracy(evaluate.Metric):
    """`{"accuracy": float}`, the share of rows labelled rightly."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info(__doc__)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return base.means(score_examples(predictions, references))
