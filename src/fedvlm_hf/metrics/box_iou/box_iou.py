"""Intersection over union of boxes in text: `[x1, y1, x2, y2]`, as fractions of the width and height of the image.

The first well-formed list of four numbers in an answer is its box. An answer without such a list scores 0, and so does
a box with a non-finite number or without an area. If there are several references, the one with most overlap counts.
"""

from collections.abc import Sequence

import evaluate

# Absolute: `evaluate.load` runs a copy of this file outside the package.
from fedvlm_hf.data.boxes import Box, parse_box
from fedvlm_hf.metrics import base


def iou(box: Box, other: Box) -> float:
    """Return the area of the intersection divided by that of the union, from 0 to 1."""
    width = min(box.x2, other.x2) - max(box.x1, other.x1)
    height = min(box.y2, other.y2) - max(box.y1, other.y1)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(edges.x2 - edges.x1) * (edges.y2 - edges.y1) for edges in (box, other)]
    return width * height / (sum(areas) - width * height)


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Raise `ValueError` if a row has no reference, or one that is not a box."""
    base.check_references(references)
    for row, texts in enumerate(references):
        for text in texts:
            if parse_box(text) is None:
                raise ValueError(
                    f'`references` must be boxes "[x1, y1, x2, y2]" with x1 < x2 and y1 < y2, got {text!r} in row '
                    f"{row}, for which every answer would score 0."
                )


def score_examples(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return `mean_iou` (the IoU) and `accuracy_at_50` (whether the IoU is at least 0.5) of each row."""
    check_references(references)
    ious = []
    for prediction, texts in zip(predictions, references, strict=True):
        box = parse_box(prediction)
        targets = filter(None, map(parse_box, texts))
        ious.append(0.0 if box is None else max(iou(box, target) for target in targets))
    return {"mean_iou": ious, "accuracy_at_50": [float(value >= 0.5) for value in ious]}


class BoxIou(evaluate.Metric):
    """`{"mean_iou": float, "accuracy_at_50": float}`."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info(__doc__)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return base.means(score_examples(predictions, references))
