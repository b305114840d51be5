"""Fed-VQA-RAD: radiology questions by organ, in the given split and in one whose test images no client has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..partitions.assemble import assemble, lift, train_rows
from ..partitions.holdout import hold_out_groups
from ..partitions.iid import iid_by_label
from ..readers.vqa_rad import LAYOUT, Question, annotation_files, read
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source, column


ORGANS = ("head", "chest", "abdomen")
"""The clients of `noniid`, in their order."""

_HELD_OUT_SHARES = {"test": 0.2, "validation": 0.1}


@BUILDERS.register("fed_vqa_rad")
@dataclass(frozen=True)
class FedVqaRad(Builder):
    """VQA-RAD by the organ that an image shows: head, chest, abdomen."""

    title: ClassVar[str] = "Fed-VQA-RAD"
    summary: ClassVar[str] = (
        "VQA-RAD, 3,515 questions on 314 radiographs, CT and MR images, over three clients: by the organ that is "
        "shown, or evenly. Its given split has every test image in training too; two configurations hold test images "
        "out."
    )
    layout: ClassVar[str] = LAYOUT
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="VQA-RAD",
            url="https://osf.io/89kps/",
            licence="CC0 1.0 by the card of the Hub copy flaviagiammarino/vqa-rad (the source's page was not read)",
            terms="None known; the images are from the open database MedPix.",
            citation=(
                "Lau, Gayen, Ben Abacha, Demner-Fushman: A dataset of clinically generated visual questions and "
                "answers about radiology images. Scientific Data, 2018. https://doi.org/10.1038/sdata.2018.251"
            ),
        ),
    )
    licence: ClassVar[str] = "cc0-1.0"
    rules: ClassVar[tuple[str, ...]] = (
        "A client an organ [ours]: client_00 head, client_01 chest, client_02 abdomen. FedVLMBench has VQA-RAD only "
        "as a part of Fed-Med.",
        "`noniid` and `iid` keep the given split, with no validation split, so that clients hold all rows that the "
        "literature trains on.",
        "`noniid-clean` and `iid-clean` [ours]: within each organ 20 % of the images are test and 10 % validation, in "
        "a seeded order, and every question goes where its image goes, whatever the given split says.",
        "`iid` and `iid-clean`: three clients, each organ's rows spread evenly.",
        "Dirty texts are repaired [ours]: stray spaces, a tab where a comma was lost, a lost apostrophe, numbers as "
        "text; `Yes` becomes `yes`, `No` becomes `no`; question types in one spelling and alphabetical order.",
        "Nothing is left out. The re-export has 3,064 training rows, the official file 1,797 (its fixed forms of the "
        "same questions are not read), the Hub copy 1,793; each has 451 test rows.",
        "From the Hub copy only `iid` and `iid-clean` are made: it does not say which organ an image shows. Its "
        "`subset` is `yes or no` or `other`, by the answer, which is not the source's closed and open.",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "In `noniid` and `iid` scores overstate what a model does on images that it has not seen.",
        "Scores on the clean configurations do not compare with those on the given split.",
        "Patients cannot be told apart in the files: two images of one patient may be in training and in test.",
    )
    configs: ClassVar[dict[str, int]] = {"noniid": 3, "iid": 3, "noniid-clean": 3, "iid-clean": 3}
    templates: ClassVar[tuple[str, ...]] = ("vqa",)
    paper_counts: ClassVar[dict[str, int]] = {}
    partition_column: ClassVar[str] = "organ"

    def read(self, raw: Path, work: Work) -> list[Example]:
        """The rows in the files' order, none left out."""
        for path in annotation_files(raw):
            work.source(path)
        questions = read(raw)
        for split in ("train", "test"):
            work.tally.read(f"rows of the given {split} part", sum(q.given_split == split for q in questions))
        work.tally.note("rows with a dirty text, repaired", sum(q.is_repaired for q in questions))
        work.tally.note("images", len({q.image.key for q in questions}))
        unknown = sum(q.organ is None for q in questions)
        if unknown:
            work.tally.note("rows whose organ is unknown", unknown, "the Hub copy leaves it out: no `noniid`")
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
        """`noniid`, `iid` and their clean versions; only the `iid` ones where organs are unknown."""
        given, clean = list(examples), _clean(examples, self.seed)
        found = [_by_organ("noniid", given), _evenly("iid", given, self.seed)]
        found += [_by_organ("noniid-clean", clean), _evenly("iid-clean", clean, self.seed)]
        return [partition for partition in found if partition is not None]


def _labels(examples: Sequence[Example]) -> list[str]:
    """Organs; one label for all where they are unknown."""
    return [organ or "unknown" for organ in column(examples, "organ")]


def _by_organ(name: str, examples: Sequence[Example]) -> Partition | None:
    organs = column(examples, "organ")
    if None in organs:
        return None
    train = train_rows(examples)
    clients = [[row for row in train if organs[row] == organ] for organ in ORGANS]
    return assemble(
        name,
        "A client an organ: head, chest, abdomen.",
        column(examples, "split"),
        clients,
        organs,
        client_names=ORGANS,
        known_leak=_known_leak(examples),
    )


def _evenly(name: str, examples: Sequence[Example], seed: int) -> Partition:
    train, labels = train_rows(examples), _labels(examples)
    clients = lift(iid_by_label([labels[row] for row in train], len(ORGANS), seed), train)
    return assemble(
        name,
        "Three clients, each organ's rows spread evenly.",
        column(examples, "split"),
        clients,
        labels,
        known_leak=_known_leak(examples),
    )


def _clean(examples: Sequence[Example], seed: int) -> list[Example]:
    # By the file's name where it is known, so that every release with names holds the same images out
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
        f"The given split of VQA-RAD has {shared} of its {len(keys['test'])} test images in training too. It is "
        "kept for comparison with the literature; the clean configurations hold test images out."
    )
