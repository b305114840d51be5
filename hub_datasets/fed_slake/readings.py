"""Count SLAKE's rows by plain readings of FedVLMBench's text, next to the 8,061 rows of its Table 2.

    python hub_datasets/fed_slake/readings.py PATH_OF_Slake1.0

The paper says: "We first excluded question types with fewer than 20 samples and then used uniform and complete
partitioning by 'modality'". It does not say which languages and splits it uses, what a question type is, or whether
rows that repeat an image, question and answer count once. This counts all combinations of the answers below. Nothing
is built from them: no rule of Fed-SLAKE is chosen by its count.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from fedvlm_hf.building.builders.fed_slake import FedSlake
from fedvlm_hf.building.readers import slake
from fedvlm_hf.building.readers.slake import Question


MIN_ROWS = 20

LANGUAGES = {"en": ("en",), "zh": ("zh",), "en+zh": ("en", "zh")}
SPLITS = {
    "all": ("train", "validation", "test"),
    "train+validation": ("train", "validation"),
    "train+test": ("train", "test"),
    "train": ("train",),
}
BASE_TYPES = {"any": ("vqa", "kvqa"), "vqa": ("vqa",)}
QUESTION_TYPES: dict[str, Callable[[Question], object]] = {
    "content_type": lambda q: q.content_type,
    "content_type and answer_type": lambda q: (q.content_type, q.subset),
    "content_type and modality": lambda q: (q.content_type, q.modality),
    "content_type and location": lambda q: (q.content_type, q.location),
    "location": lambda q: q.location,
    "question": lambda q: q.question,
    "answer": lambda q: q.answer,
}
REPEATS = {"each": lambda q: q.qid, "once": lambda q: (q.image.key, q.language, q.question, q.answer)}


def readings(questions: Sequence[Question]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield languages, splits, base type, question type and repeated rows of each reading, and its number of rows."""
    for language, split, base_type, repeats in product(LANGUAGES, SPLITS, BASE_TYPES, REPEATS):
        chosen = [
            question
            for question in questions
            if question.language in LANGUAGES[language]
            and question.given_split in SPLITS[split]
            and question.base_type in BASE_TYPES[base_type]
        ]
        distinct = {REPEATS[repeats](question): question for question in chosen}.values()
        for name, type_of in QUESTION_TYPES.items():
            counts = Counter(map(type_of, distinct)).values()
            rows = sum(count for count in counts if count >= MIN_ROWS)
            yield (language, split, base_type, name, repeats), rows


def main(raw: str) -> None:
    """Print a line for each reading, and how many of them give the paper's number."""
    expected = FedSlake.paper_counts["vqa"]
    found = list(readings(slake.read(raw)))
    for reading, rows in found:
        print(f"{rows:7,} {rows - expected:+7,}  {', '.join(reading)}")
    exact = [reading for reading, rows in found if rows == expected]
    nearest, rows = min(found, key=lambda item: abs(item[1] - expected))
    print(
        f"{len(exact)} of {len(found)} readings give {expected:,} rows. The nearest, {rows:,}: {', '.join(nearest)}."
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
