"""Fed-SLAKE: questions about CT, MRI and X-ray images, with one client per modality."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..leaks import without_shared_images
from ..partitions.natural import natural_and_even
from ..readers import slake
from ..readers.files import count_of
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source, column


@BUILDERS.register("fed_slake")
@dataclass(frozen=True)
class FedSlake(Builder):
    """Fed-SLAKE.

    Args:
        languages (`str`, *optional*, defaults to `"en"`):
            Languages to keep, `"en"`, `"zh"` or `"en,zh"`.
        min_question_type_rows (`int`, *optional*, defaults to `20`):
            Question types (`content_type`) with fewer rows are left out.
    """

    languages: str = field(
        default="en",
        metadata={
            "help": "Languages to keep: en, zh, or en,zh. With en,zh training rows of held-out images are dropped."
        },
    )
    min_question_type_rows: int = field(
        default=20, metadata={"help": "Question types (content_type) with fewer rows over all splits are left out."}
    )

    title: ClassVar[str] = "Fed-SLAKE"
    summary: ClassVar[str] = (
        "Visual question answering on CT, MRI and X-ray images of SLAKE, three clients by imaging modality."
    )
    layout: ClassVar[str] = """\
Slake1.0/                          --raw is this folder, or its parent
  train.json
  validate.json                    validation.json in the copy on the Hub
  test.json
  imgs/xmlab<N>/source.jpg"""
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="SLAKE 1.0",
            url="https://huggingface.co/datasets/BoKelvin/SLAKE",
            licence="CC BY 4.0 according to the card of the authors' Hub repository BoKelvin/SLAKE",
            terms="Nothing to sign; give credit to the authors. Unpack imgs.zip. The images come from other public "
            "collections with their own terms (from memory, not verified: MSD, CHAOS, ChestX-ray8).",
            citation="Liu et al., SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical Visual "
            "Question Answering, ISBI 2021, https://huggingface.co/papers/2102.09542",
        ),
    )
    licence: ClassVar[str] = "cc-by-4.0"
    rules: ClassVar[tuple[str, ...]] = (
        "Languages: English by default [ours]; the paper does not say which. `--languages en,zh` keeps both.",
        "Question types (`content_type` [ours]; the paper does not say which field) with fewer than 20 rows are left "
        "out [paper], counted over the kept rows of all splits [ours]. In SLAKE there is none.",
        "The official train, validate and test files become the rows of the clients, `validation` and `test` [ours].",
        "Rows without an answer are left out [ours]; repeated spaces in texts become one [ours].",
        "If an image is in two splits, its rows in the earlier split are left out, in the order training, validation, "
        "test [ours]. By file name this does not happen within one language of SLAKE, but across languages it does: "
        "142 of the 180 test images of both languages are training images of the other language.",
        "`noniid`: one client per modality: CT, MRI, X-Ray [paper]. `iid`: three clients; the rows of every modality "
        "are spread evenly [paper: evenly], drawn with the seed [ours].",
        "The `client_id` of a validation or test row is a client whose training rows have the same modality, in "
        "proportion to the clients' shares of these rows [ours].",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Table 2 of the paper has 8,061 rows, more than the 7,033 English rows and fewer than all 14,028. We counted "
        "336 readings of the paper's text: languages, splits, with or without knowledge questions, seven meanings of "
        "question type, repeated rows once or each (hub_datasets/fed_slake/readings.py of fedvlm_hf). None gives this "
        "number, the nearest gives 7,990, and no rule was tuned to match it.",
        "Slices of the same patient may be in training and test, because the files do not identify patients.",
        "A few rows repeat the image, question and answer of another row with another id. They are kept and counted.",
        "For Chinese rows the instruction after the question is still in English.",
    )
    configs: ClassVar[dict[str, int]] = {"noniid": 3, "iid": 3}
    templates: ClassVar[tuple[str, ...]] = ("vqa",)
    paper_counts: ClassVar[dict[str, int]] = {"vqa": 8061}
    partition_column: ClassVar[str] = "modality"

    def __post_init__(self) -> None:
        wrong = [name for name in self.languages.split(",") if name not in slake.LANGUAGES]
        if wrong:
            raise ValueError(
                f"`languages={self.languages!r}`: {wrong} is not one of SLAKE's {list(slake.LANGUAGES)}. Use one, or "
                "both separated by a comma: en,zh."
            )

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the kept rows in the order of the files: training, validation, test."""
        questions = self._chosen(slake.read(raw), work)
        work.looked_up(raw, slake.LOOKED_UP)
        for path in slake.annotation_files(raw):
            work.source(path)
        examples = without_shared_images([self._example(question) for question in questions], work)
        counts = Counter(column(examples, "content_type"))
        for name in sorted(name for name, count in counts.items() if count < self.min_question_type_rows):
            why = f"fewer than {self.min_question_type_rows} rows"
            work.counts.exclude(f"rows of question type {name}", counts[name], why)
        kept = [e for e in examples if counts[e.columns["content_type"]] >= self.min_question_type_rows]
        if not kept:
            most = max(counts.values(), default=0)
            advice = f"Use at most {most}" if most else "No other value helps"
            raise ValueError(
                f"`min_question_type_rows={self.min_question_type_rows}` leaves no row: the most frequent question "
                f"type has {count_of(most, 'row')}. {advice}, or check that the download is complete."
            )
        work.counts.note("images of the kept rows", len({example.image.key for example in kept}))
        return kept

    def _chosen(self, questions: Sequence[slake.Question], work: Work) -> list[slake.Question]:
        """Return the rows in the requested languages that have an answer."""
        for split in slake.FILES:
            work.counts.read(f"{split} rows", sum(question.given_split == split for question in questions))
        spoken = [question for question in questions if question.language in self.languages.split(",")]
        why = f"`languages` is {self.languages}"
        work.counts.exclude("rows in another language", len(questions) - len(spoken), why)
        answered = [question for question in spoken if question.answer]
        work.counts.exclude("rows without an answer", len(spoken) - len(answered), "nothing to train on or to score")
        work.counts.note("rows with repeated spaces, repaired", sum(question.is_repaired for question in answered))
        distinct = {(q.image.key, q.language, q.question, q.answer) for q in answered}
        repeats = len(answered) - len(distinct)
        work.counts.note("rows that repeat another's image, question and answer", repeats, "kept")
        return answered

    def _example(self, question: slake.Question) -> Example:
        return Example(
            id=f"slake-{question.language}-{question.qid}",
            image=question.image,
            split=question.given_split,
            **chat("vqa", question.answer, self.wording, question=question.question),
            task="vqa",
            references=(question.answer,),
            columns={
                "modality": question.modality,
                "location": question.location,
                "content_type": question.content_type,
                "base_type": question.base_type,
                "subset": question.subset,
                "language": question.language,
            },
        )

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return `noniid` and `iid`."""
        return natural_and_even(examples, "modality", self.seed)
