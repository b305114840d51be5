"""Fed-ScienceCap: captions of images in school science problems, a client a category."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..leaks import without_shared_images
from ..partitions.natural import natural_and_even
from ..readers import scienceqa
from ..readers.scienceqa import Problem
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source, column


@BUILDERS.register("fed_sciencecap")
@dataclass(frozen=True)
class FedScienceCap(Builder):
    """Fed-ScienceCap.

    Args:
        caption_from (`str`, *optional*, defaults to `"captions"`):
            The target text: `"captions"`, `"hint"` or `"solution"`.
        min_rows (`int`, *optional*, defaults to `100`):
            Categories with fewer rows are left out.
    """

    caption_from: str = field(
        default="captions",
        metadata={
            "help": "The target text: captions (captions.json, written by a model), hint, or solution. The Hub's "
            "Parquet has no problem ids, so from it only hint and solution can be had."
        },
    )
    min_rows: int = field(
        default=100,
        metadata={"help": "Categories with fewer rows over all splits are left out. The paper: 100."},
    )

    title: ClassVar[str] = "Fed-ScienceCap"
    summary: ClassVar[str] = (
        "Captions of the images in ScienceQA's school problems, a client a category (the paper has 27)."
    )
    layout: ClassVar[str] = """\
ScienceQA/                         --raw is this folder, a copy of the repository, or its data/
  data/captions.json               needed by --caption_from captions, the default
  data/scienceqa/problems.json
  data/scienceqa/pid_splits.json
  data/scienceqa/images/{train,val,test}/<pid>/image.png     as tools/download.sh puts them
or, with --caption_from hint or solution, a copy of the Hub's derek-thomas/ScienceQA:
  data/{train,validation,test}-*.parquet"""
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="ScienceQA",
            url="https://github.com/lupantech/ScienceQA, or https://huggingface.co/datasets/derek-thomas/ScienceQA",
            licence="CC BY-NC-SA 4.0, as LICENSE-DATA of the official repository says; the card of the Hub copy says "
            "CC BY-SA 4.0, and the stricter one is kept here",
            terms="None to sign; no commercial use, name the authors, pass on under the same licence.",
            citation="Lu et al., Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question "
            "Answering, NeurIPS 2022, https://huggingface.co/papers/2209.09513",
        ),
    )
    licence: ClassVar[str] = "cc-by-nc-sa-4.0"
    rules: ClassVar[tuple[str, ...]] = (
        "Problems with an image and a target text [paper: image-description pairs]. The target is the machine "
        "caption of captions.json by default, the problem's hint or solution as options [ours]; the paper does not "
        "say which text its descriptions are.",
        "Official train, val and test: clients' rows, `validation`, `test` [ours].",
        "Where an image, by its pixels, is in two splits the rows of the earlier one are left out, training before "
        "validation before test [ours]: problems share images, and the same image has the same caption.",
        "Categories with fewer than 100 rows are left out [paper], counted over the kept rows of all splits [ours]. "
        "One with fewer training rows than there are categories is left out too [ours]: `iid` could not give each "
        "client one.",
        "`noniid`: a client a category [paper]. `iid`: as many clients, each with its even share of every category's "
        "rows [paper: evenly], drawn with the seed [ours].",
        "A validation or test row carries the `client_id` of a client whose training rows have its category, in "
        "proportion to the clients' shares of them [ours].",
        "White space in texts, line breaks and the tab after one category's name too, becomes single spaces [ours].",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "The captions of captions.json are a model's (nlpconnect/vit-gpt2-image-captioning), not people's: many are "
        "wrong, and scores measure agreement with that model.",
        "A hint or a solution says more than the image shows: it belongs to a question that the prompt does not have.",
        "Table 2 of the paper has 5,157 rows in 27 categories. problems.json was not at hand when the rules were "
        "written, so our count is known only after a build; no rule is bent to meet the paper's.",
    )
    configs: ClassVar[dict[str, int]] = {"noniid": 27, "iid": 27}
    templates: ClassVar[tuple[str, ...]] = ("caption",)
    paper_counts: ClassVar[dict[str, int]] = {"caption": 5157}
    partition_column: ClassVar[str] = "category"

    def __post_init__(self) -> None:
        if self.caption_from not in _TARGETS:
            raise ValueError(f"`caption_from={self.caption_from!r}` is unknown; choose one of {list(_TARGETS)}.")

    def read(self, raw: Path, work: Work) -> list[Example]:
        """The kept rows in the source's order: training, validation, test.

        Raises:
            `ValueError`: as the reader does, or if no category has `min_rows` rows.
        """
        problems = scienceqa.read(raw)
        for path in scienceqa.annotation_files(raw):
            work.source(path)
        targets = _TARGETS[self.caption_from](raw, work, problems)
        for split in scienceqa.SPLITS.values():
            work.tally.read(f"{split} problems", sum(problem.given_split == split for problem in problems))
        shown = [problem for problem in problems if problem.image is not None]
        work.tally.exclude("problems without an image", len(problems) - len(shown), "there is nothing to describe")
        told = [problem for problem in shown if targets.get(problem.id)]
        why = f"`caption_from` is {self.caption_from}"
        work.tally.exclude("problems without a target text", len(shown) - len(told), why)
        examples = without_shared_images([self._example(problem, targets[problem.id]) for problem in told], work)
        return self._of_large_categories(examples, work)

    def _example(self, problem: Problem, target: str) -> Example:
        return Example(
            id=f"scienceqa-{problem.id}",
            image=problem.image,
            split=problem.given_split,
            **chat("caption", target, self.wording),
            task="caption",
            references=(target,),
            columns={
                "category": problem.category,
                "topic": problem.topic,
                "subject": problem.subject,
                "pid": problem.pid,
            },
        )

    def _of_large_categories(self, examples: Sequence[Example], work: Work) -> list[Example]:
        """Rows of categories with `min_rows` rows, of which at least as many train as there are such categories."""
        rows = Counter(column(examples, "category"))
        large = {name for name, count in rows.items() if count >= self.min_rows}
        training = Counter(example.columns["category"] for example in examples if example.split == "train")
        kept = {name for name in large if training[name] >= len(large)}
        for name in sorted(set(rows) - large):
            work.tally.exclude(f"problems of category {name}", rows[name], f"fewer than {self.min_rows} rows")
        for name in sorted(large - kept):
            why = f"{training[name]} training rows, too few for {len(large)} clients of iid"
            work.tally.exclude(f"problems of category {name}", rows[name], why)
        if not kept:
            raise ValueError(
                f"`min_rows={self.min_rows}` leaves no category: the largest has {max(rows.values(), default=0)} rows "
                "with an image and a text. Lower it, or check that the download is whole."
            )
        work.tally.note("categories kept", len(kept), "the paper has 27")
        return [example for example in examples if example.columns["category"] in kept]

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """`noniid` and `iid`."""
        return natural_and_even(examples, "category", self.seed)


def _captions(raw: Path, work: Work, problems: Sequence[Problem]) -> dict[str, str]:
    path = scienceqa.captions_file(raw)
    captions = scienceqa.read_captions(path)
    work.source(path)
    return captions


def _hints(raw: Path, work: Work, problems: Sequence[Problem]) -> dict[str, str]:
    return {problem.id: problem.hint for problem in problems}


def _solutions(raw: Path, work: Work, problems: Sequence[Problem]) -> dict[str, str]:
    return {problem.id: problem.solution for problem in problems}


_TARGETS: dict[str, Callable[[Path, Work, Sequence[Problem]], dict[str, str]]] = {
    "captions": _captions,
    "hint": _hints,
    "solution": _solutions,
}
"""Where the target texts are from, by problem id."""
