"""A baseline for visual question answering that sees neither image nor question."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from datasets import Dataset


def commonest_answers(train: Iterable[Dataset], test: Dataset) -> list[str]:
    """Answer each test row with the most frequent training answer to its kind of question.

    A kind is a question type together with open or closed. This is the best guess without image and question. A kind
    that does not occur in training gets the most frequent answer of all kinds. Ties are resolved alphabetically.

    Args:
        train (`Iterable[Dataset]`):
            The training rows of each client.
        test (`Dataset`):
            The rows to answer.

    Returns:
        `list[str]`: One answer per test row, to be scored like the answers of a model.
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
