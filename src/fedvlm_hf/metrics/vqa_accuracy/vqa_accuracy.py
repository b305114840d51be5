"""VQA accuracy: an answer is correct if it equals a reference after both are normalized.

Normalization follows the official VQA evaluation (https://huggingface.co/papers/1505.00468): lower case, punctuation,
number words, articles, contractions. Its score min(humans / 3, 1) needs ten human answers per question. Most datasets
have one or a few references, and an answer that equals any of them scores 1.
"""

import re
from collections.abc import Sequence

import evaluate

# Absolute: `evaluate.load` runs a copy of this file outside the package.
from fedvlm_hf.metrics import base


_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
_FULL_STOP = re.compile(r"\.(?!\d)")
_PUNCTUATION = re.compile(r"[;/\[\]\"{}()=+\\_\-><@`,?!]")
_ARTICLES = {"a", "an", "the"}
_NUMBERS = "zero one two three four five six seven eight nine ten"
# Without those that are another word without the apostrophe, such as "its", "were" and "ill"
_CONTRACTIONS = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how's i'm i've
    isn't it'd it'll let's ma'am might've mightn't must've mustn't needn't o'clock oughtn't shan't she's should've
    shouldn't somebody's someone's something's that's there'd there're there's they'd they'll they're they've
    wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's who've
    why's won't would've wouldn't y'all you'd you'll you're you've
"""
_WORDS = {
    **{word.replace("'", ""): word for word in _CONTRACTIONS.split()},
    **{word: str(number) for number, word in enumerate(_NUMBERS.split())},
    "none": "0",
}


def normalize_answer(text: str) -> str:
    """Normalize an answer for comparison.

    Articles are removed unless they are the whole answer, so that the option "A" does not equal an empty answer.
    """
    text = _THOUSANDS.sub("", text.lower().replace("\u2019", "'"))
    text = _PUNCTUATION.sub(" ", _FULL_STOP.sub("", text))
    words = [_WORDS.get(word, word) for word in text.split()]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Raise `ValueError` if a row has no reference."""
    base.check_references(references)


def score_examples(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return the `accuracy` of each row, 0 or 1. An answer without words is never correct."""
    return base.exact_matches(predictions, references, normalize_answer)


class VqaAccuracy(evaluate.Metric):
    """`{"accuracy": float}`, the share of rows with a correct answer."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info(__doc__)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return base.means(score_examples(predictions, references))
