"""What can be scored without looking: a yardstick for visual question answering."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from datasets import Dataset


def commonest_answers(train: Iterable[Dataset], test: Dataset) -> list[str]:
    """A blind yardstick: to each test row the commonest training answer to its kind of question.

    The kind is the question type together with open or closed: the strongest guess that sees neither image nor
    question. A kind that training lacks gets the commonest answer of all; of equally common answers the first in the
    alphabet is taken.

    Args:
        train (`Iterable[Dataset]`):
            The clients' rows.
        test (`Dataset`):
            The rows to answer.

    Returns:
        `list[str]`: one answer a test row, to be scored as a model's answers are.
    """
    counts: dict[tuple[str, str] | None, Counter[str]] = defaultdict(Counter)
    for dataset in train:
        for kind, references in zip(_kinds(dataset), dataset["references"], strict=True):
            for key in (kind, None):
                counts[key][references[0].lower()] += 1
    guesses = {kind: min(answers, key=lambda a: (-answers[a], a)) for kind, answers in counts.items()}
    return [guesses.get(kind, guesses[None]) for kind in _kinds(test)]


def _kinds(dataset: Dataset) -> Iterable[tuple[str, str]]:
    return zip(dataset["question_type"], dataset["subset"], strict=True)
