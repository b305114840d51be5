"""CIDEr (https://huggingface.co/papers/1411.5726) and ROUGE_L of captions and reports, as computed by pycocoevalcap.

CIDEr has the scale of pycocoevalcap, ten times that of the paper, so that 10 is the maximum. It gives more weight to
n-grams in the references of fewer images. It therefore needs at least two images, and the value of a row depends on
the references of all rows. ROUGE_L is between 0 and 1.
"""

from collections.abc import Sequence

import evaluate
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

# Absolute: `evaluate.load` runs a copy of this file outside the package.
from fedvlm_hf.metrics import base
from fedvlm_hf.metrics.ptb import tokenize


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Raise `ValueError` if a row has no reference, or if there are fewer than two rows."""
    base.check_references(references)
    if len(references) < 2:
        raise ValueError(
            "`references` must have two rows or more, got one: CIDEr gives more weight to n-grams of fewer images, "
            "and with one image every weight is 0. Score more captions together."
        )


def score_examples(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return `cider` (0 to 10) and `rouge_l` (0 to 1) of each row."""
    check_references(references)
    # One Java process for everything: starting it takes longer than tokenizing thousands of sentences
    tokenized = iter(tokenize([*predictions, *(text for texts in references for text in texts)]))
    candidates = {row: [next(tokenized)] for row in range(len(predictions))}
    targets = {row: [next(tokenized) for _ in texts] for row, texts in enumerate(references)}
    if not any(text for texts in targets.values() for text in texts):
        raise ValueError("`references` contain only punctuation, so there are no words to compare with.")
    _, ciders = Cider().compute_score(targets, candidates)
    _, rouges = Rouge().compute_score(targets, candidates)
    return {"cider": ciders.tolist(), "rouge_l": rouges.tolist()}


class CaptionScore(evaluate.Metric):
    """`{"cider": float, "rouge_l": float}`."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info(__doc__)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return base.means(score_examples(predictions, references))
