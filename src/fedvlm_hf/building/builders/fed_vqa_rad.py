"""Fed-VQA-RAD: radiology questions by organ, with the given split and with a split by image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..partitions.assemble import assemble, to_example_indices, train_rows
from ..partitions.holdout import hold_out_groups
from ..partitions.iid import iid_by_label
from ..readers.vqa_rad import LAYOUT, LOOKED_UP, Question, annotation_files, read
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source, column


ORGANS = ("head", "chest", "abdomen")
"""The organs in the order of their clients in `noniid`."""

_HELD_OUT_SHARES = {"test": 0.2, "validation": 0.1}


@BUILDERS.register("fed_vqa_rad")
@dataclass(frozen=True)
class FedVqaRad(Builder):
    """VQA-RAD, divided by the organ in the image: head, chest, abdomen."""

    title: ClassVar[str] = "Fed-VQA-RAD"
    summary: ClassVar[str] = (
        "VQA-RAD, 3,515 questions about 314 radiographs, CT and MR images, for three clients: one per organ, or with "
        "equal distributions. In the given split every test image is also in training; two configurations hold test "
        "images out."
    )
    layout: ClassVar[str] = LAYOUT
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="VQA-RAD",
            url="https://osf.io/89kps/",
            licence="CC0 1.0 according to the card of the Hub copy flaviagiammarino/vqa-rad (we did not read the page "
            "of the source)",
            terms="None known; the images are from the open database MedPix.",
            citation=(
                "Lau, Gayen, Ben Abacha, Demner-Fushman: A dataset of clinically generated visual questions and "
                "answers about radiology images. Scientific Data, 2018. https://doi.org/10.1038/sdata.2018.251"
            ),
        ),
    )
    licence: ClassVar[str] = "cc0-1.0"
    rules: ClassVar[tuple[str, ...]] = (
        "One client per organ [ours]: client_00 head, client_01 chest, client_02 abdomen. FedVLMBench uses VQA-RAD "
        "only as a part of Fed-Med.",
        "`noniid` and `iid` keep the given split, without a validation split, so that clients have all rows that the "
        "literature trains on.",
        "`noniid-clean` and `iid-clean` [ours]: within each organ 20 % of the images are test and 10 % validation, in "
        "a seeded order, with all questions of an image in the same split, independent of the given split.",
        "`iid` and `iid-clean`: three clients; the rows of each organ are spread evenly.",
        "Texts are repaired [ours]: stray spaces, a tab in place of a lost comma, a lost apostrophe, numbers as text. "
        "`Yes` becomes `yes`, `No` becomes `no`; question types get one spelling and alphabetical order.",
        "No row is left out. The re-export has 3,064 training rows, the official file 1,797 (its fixed forms of the "
        "same questions are not read), the Hub copy 1,793; each has 451 test rows.",
        "The Hub copy has no organs, so it only gives `iid` and `iid-clean`. Its `subset` is `yes or no` or `other`, "
        "according to the answer, which differs from closed and open in the source.",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Scores on `noniid` and `iid` overestimate how well a model answers questions about unseen images.",
        "Scores on the clean configurations cannot be compared with those on the given split.",
        "The files do not identify patients: two images of the same patient may be in training and in test.",
    )
    configs: ClassVar[dict[str, int]] = {"noniid": 3, "iid": 3, "noniid-clean": 3, "iid-clean": 3}
    templates: ClassVar[tuple[str, ...]] = ("vqa",)
    paper_counts: ClassVar[dict[str, int]] = {}
    partition_column: ClassVar[str] = "organ"

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return all rows in the order of the files."""
        questions = read(raw)
        work.looked_up(raw, LOOKED_UP)
        for path in annotation_files(raw):
            work.source(path)
        for split in ("train", "test"):
            work.counts.read(f"rows of the given {split} split", sum(q.given_split == split for q in questions))
        work.counts.note("rows with repaired texts", sum(q.is_repaired for q in questions))
        work.counts.note("images", len({q.image.key for q in questions}))
        unknown = sum(q.organ is None for q in questions)
        if unknown:
            work.counts.note("rows whose organ is unknown", unknown, "the Hub copy has no organs: no `noniid`")
        return [self._example(question) for question in questions]

    def _example(self, question: Question) -> Example:
        return Example(
            id=f"vqa_rad-{question.qid}",
            image=question.image,
            split=question.given_split,
            **chat("vqa", question.answer, self.wording, question=question.question),
            task="vqa",
            references=(question.answer,),
            columns={
                "subset": question.subset,
                "organ": question.organ,
                "question_type": question.question_type,
                "phrase_type": question.phrase_type,
                "image_name": question.image_name,
            },
        )

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return `noniid`, `iid` and their clean versions; only the `iid` versions if organs are unknown."""
        given, clean = list(examples), _clean(examples, self.seed)
        found = [_by_organ("noniid", given), _evenly("iid", given, self.seed)]
        found += [_by_organ("noniid-clean", clean), _evenly("iid-clean", clean, self.seed)]
        return [partition for partition in found if partition is not None]


def _labels(examples: Sequence[Example]) -> list[str]:
    """Return the organs, or the same label for all rows if organs are unknown."""
    return [organ or "unknown" for organ in column(examples, "organ")]


def _by_organ(name: str, examples: Sequence[Example]) -> Partition | None:
    organs = column(examples, "organ")
    if None in organs:
        return None
    train = train_rows(examples)
    clients = [[row for row in train if organs[row] == organ] for organ in ORGANS]
    return assemble(
        name,
        "One client per organ: head, chest, abdomen.",
        column(examples, "split"),
        clients,
        organs,
        client_names=ORGANS,
        known_leak=_known_leak(examples),
    )


def _evenly(name: str, examples: Sequence[Example], seed: int) -> Partition:
    train, labels = train_rows(examples), _labels(examples)
    clients = to_example_indices(iid_by_label([labels[row] for row in train], len(ORGANS), seed), train)
    return assemble(
        name,
        "Three clients; the rows of each organ are spread evenly.",
        column(examples, "split"),
        clients,
        labels,
        known_leak=_known_leak(examples),
    )


def _clean(examples: Sequence[Example], seed: int) -> list[Example]:
    # By file name, if it is known, so that all releases with file names hold out the same images
    images = [example.columns["image_name"] or example.image.key for example in examples]
    parts = hold_out_groups(images, _labels(examples), _HELD_OUT_SHARES, seed)
    split_of = {row: name for name, rows in parts.items() for row in rows}
    return [replace(example, split=split_of[row]) for row, example in enumerate(examples)]


def _known_leak(examples: Sequence[Example]) -> str | None:
    keys = {split: {e.image.key for e in examples if e.split == split} for split in ("train", "test")}
    shared = len(keys["test"] & keys["train"])
    if not shared:
        return None
    return (
        f"In the given split of VQA-RAD, {shared} of {len(keys['test'])} test images are also in training. It is kept "
        "for comparison with the literature; the clean configurations hold test images out."
    )
