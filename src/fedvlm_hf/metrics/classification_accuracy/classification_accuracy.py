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
    check_references(references)
    correct = []
    for prediction, texts in zip(predictions, references, strict=True):
        label = normalize_label(prediction)
        correct.append(float(bool(label) and label in {normalize_label(text) for text in texts}))
    return {"accuracy": correct}


class ClassificationAccuracy(evaluate.Metric):
    """`{"accuracy": float}`, the share of rows labelled rightly."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info(__doc__)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return base.means(score_examples(predictions, references))
