"""Fed-Nature: four tasks on COCO's photographs, linked by image id, with one client per task."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...data.boxes import box_text
from ..images import StoredImage
from ..leaks import without_shared_images
from ..partitions.drawing import draw_rows
from ..partitions.holdout import hold_out_groups
from ..partitions.natural import natural_and_even
from ..readers import coco, coco_qa, refcoco
from ..readers.coco import Photograph
from ..readers.files import RootFolder
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source


TASKS = ("vqa", "grounding", "caption", "classification")
"""The tasks in the order of their clients in `noniid`."""

_PART = "train2014"
_SHARES = {"test": 0.2, "validation": 0.1}


@dataclass(frozen=True)
class _Row:
    """A row before the draw: its id, its image, and the record that the reader returned."""

    id: str
    image_id: int
    record: Any


@BUILDERS.register("fed_nature")
@dataclass(frozen=True)
class FedNature(Builder):
    """Fed-Nature.

    Args:
        rows_per_task (`int`, *optional*, defaults to `6000`):
            Number of rows to draw for each task, for all splits together; at least 10.
    """

    rows_per_task: int = field(
        default=6000, metadata={"help": "Number of rows to draw for each task, for all splits together."}
    )

    title: ClassVar[str] = "Fed-Nature"
    summary: ClassVar[str] = (
        "Four tasks on COCO photographs, with one client per task: questions of COCO-QA, boxes and phrases of "
        "RefCOCO, and the class of the largest object of COCO, on images that have all of these."
    )
    layout: ClassVar[str] = """\
annotations/instances_train2014.json             from COCO's annotations_trainval2014.zip
train2014/COCO_train2014_*.jpg                   from train2014.zip; or in images/, or in images/mscoco/images/
refcoco/instances.json
refcoco/refs(unc).p                              or the same list as JSON: refs(unc).json, refs.json
cocoqa/train/{questions,answers,img_ids,types}.txt
cocoqa/test/{questions,answers,img_ids,types}.txt
COCO's val2014 is not needed, because RefCOCO has no images of it."""
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="COCO 2014",
            url="https://cocodataset.org/#download",
            licence="Annotations CC BY 4.0, images under the terms of their Flickr owners (from memory, not verified)",
            terms="Nothing to sign; the annotation files give the licence of each image. Check whether you may "
            "redistribute them.",
            citation="Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014, "
            "https://huggingface.co/papers/1405.0312",
        ),
        Source(
            name="RefCOCO, UNC's split",
            url="https://github.com/lichengunc/refer (its README says that the server is down: look for a mirror)",
            licence="Not stated for the annotations",
            terms="None known.",
            citation="Kazemzadeh et al., ReferItGame: Referring to Objects in Photographs of Natural Scenes, EMNLP "
            "2014; Yu et al., Modeling Context in Referring Expressions, ECCV 2016, "
            "https://huggingface.co/papers/1608.00272",
        ),
        Source(
            name="COCO-QA",
            url="https://www.cs.toronto.edu/~mren/research/imageqa/data/cocoqa/ (from memory, not verified)",
            licence="Not stated where we looked",
            terms="None known.",
            citation="Ren, Kiros and Zemel, Exploring Models and Data for Image Question Answering, NeurIPS 2015, "
            "https://huggingface.co/papers/1505.02074",
        ),
    )
    licence: ClassVar[str] = "other"
    rules: ClassVar[tuple[str, ...]] = (
        "Four tasks: COCO-QA (VQA), RefCOCO (grounding, captions), COCO (classification), linked by COCO image id "
        "[paper]: only images that have a question, a ref with a phrase, and an object [ours].",
        "6,000 rows per task [paper] for all splits together [ours]: 4,200 for training, 600 for validation, 1,200 "
        "for test, drawn in a seeded order. If a split has fewer rows, all of them are used.",
        "20 % of the linked images are test and 10 % validation, in a seeded order and for all tasks together, so "
        "that no client of any task has a test image [ours]. The given splits of RefCOCO and COCO-QA are not used, "
        "because all linked images are training images of COCO-QA.",
        "Rows whose image has the same pixels as an image with another id in a later split are left out [ours].",
        "Grounding: one row per ref; the prompt has its first phrase [ours].",
        "Caption: one row per ref. The prompt gives the box, since the phrases describe an object and not the image. "
        "All phrases are references, and the first one is the answer to learn [ours].",
        "Phrases are RefCOCO's `sent`, in lower case and without punctuation [ours]; empty phrases are not used.",
        "Classification: the class of the object with the largest segmented area that is not a crowd; ties go to the "
        "smallest annotation id. One of COCO's 80 names [ours: the paper does not say which object].",
        "Questions are unchanged.",
        "`noniid`: client_00 VQA, client_01 grounding, client_02 caption, client_03 classification [paper: one task "
        "per client; the order is ours]. `iid` [ours]: four clients; the rows of each task are spread evenly.",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Many pretrained vision-language models, such as LLaVA-1.5, were trained on COCO's training images and on "
        "RefCOCO (from memory, not verified), so they may have seen images that are held out here.",
        "COCO-QA's questions were generated from captions by rules. Some are ungrammatical or have a wrong answer.",
        "Some of RefCOCO's phrases do not fit their object: the authors of Ref-L4 count 14 % of the 21,586 phrases in "
        "its validation and test splits.",
        "A ref is in the grounding and in the caption task, possibly in the rows of two clients.",
        "An image with two large objects of different classes has only one accepted class.",
    )
    configs: ClassVar[dict[str, int]] = {"noniid": 4, "iid": 4}
    templates: ClassVar[tuple[str, ...]] = ("vqa", "grounding", "referring", "classification")
    paper_counts: ClassVar[Mapping[str, int]] = dict.fromkeys(TASKS, 6000)
    partition_column: ClassVar[str] = "task"

    def __post_init__(self) -> None:
        if self.rows_per_task < 10:
            raise ValueError(
                f"`rows_per_task={self.rows_per_task}` leaves a split without rows, because one tenth is for "
                "validation. Use 10 or more."
            )

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the drawn rows by task, and within a task in the order of the source."""
        work.looked_up(raw, (*refcoco.LOOKED_UP, *coco.image_folders(_PART)))
        instances_path = coco.annotation_file(raw, _PART)
        instances = coco.read(instances_path)
        rows = {
            "vqa": _questions(raw, work),
            **_refs(raw, work),
            "classification": _largest(instances, work),
        }
        for path in (instances_path, *refcoco.annotation_files(raw), *coco_qa.annotation_files(raw)):
            work.source(path)
        split_of = self._split_of(rows, work)
        images = _images(instances, coco.image_folder(raw, _PART), split_of)
        examples = [
            self._example(task, row, split_of[row.image_id], images[row.image_id])
            for task in TASKS
            for row in self._drawn(task, rows[task], split_of, work)
        ]
        return without_shared_images(examples, work)

    def _split_of(self, rows: Mapping[str, Sequence[_Row]], work: Work) -> dict[int, str]:
        """Return the split of each image that all tasks have."""
        linked = sorted(set.intersection(*({row.image_id for row in found} for found in rows.values())))
        if not linked:
            counts = {task: len({row.image_id for row in found}) for task, found in rows.items()}
            raise ValueError(
                f"`raw`: no COCO image has rows of all four tasks; images by task: {counts}. Check that the downloads "
                "belong together."
            )
        work.counts.note("linked images", len(linked), "each has a question, a ref and an object")
        groups = [str(image_id) for image_id in linked]
        parts = hold_out_groups(groups, ["all"] * len(groups), _SHARES, self.seed)
        return {linked[index]: split for split, indices in parts.items() for index in indices}

    def _drawn(self, task: str, rows: Sequence[_Row], split_of: Mapping[int, str], work: Work) -> list[_Row]:
        linked = [row for row in rows if row.image_id in split_of]
        work.counts.exclude(f"{task}: image without rows of the other tasks", len(rows) - len(linked), "not linked")
        quotas = {split: round(share * self.rows_per_task) for split, share in _SHARES.items()}
        quotas = {"train": self.rows_per_task - sum(quotas.values()), **quotas}
        splits = [split_of[row.image_id] for row in linked]
        drawn = [linked[index] for index in draw_rows([row.id for row in linked], splits, quotas, self.seed)]
        why = f"{self.rows_per_task:,} are drawn: {', '.join(f'{split} {n:,}' for split, n in quotas.items())}"
        work.counts.exclude(f"{task}: not drawn", len(linked) - len(drawn), why)
        found = Counter(splits)
        for split, quota in quotas.items():
            if found[split] < quota:
                what = f"{task}: {split} rows fewer than requested"
                work.counts.note(what, quota - found[split], f"of {quota:,}; all were used")
        return drawn

    def _example(self, task: str, row: _Row, split: str, image: StoredImage) -> Example:
        texts = _TEXTS[task](row.record, self.wording)
        own = {
            "image_id": str(row.image_id),
            "subset": texts.pop("subset", None),
            "category": texts.pop("category", None),
        }
        return Example(id=row.id, image=image, split=split, task=task, columns=own, **texts)

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return `noniid`, with one client per task, and `iid`."""
        return natural_and_even(examples, "task", self.seed, TASKS)


def _questions(raw: Path, work: Work) -> list[_Row]:
    questions = coco_qa.read(raw)
    work.counts.read("questions of COCO-QA, for vqa", len(questions))
    return [_Row(f"coco_qa-{question.question_id}", question.image_id, question) for question in questions]


def _refs(raw: Path, work: Work) -> dict[str, list[_Row]]:
    refs = refcoco.read(raw)
    usable = [ref for ref in refs if _phrases(ref)]
    work.counts.note("empty phrases of RefCOCO", sum(not s.text for ref in refs for s in ref.sentences), "not used")
    for task in ("grounding", "caption"):
        work.counts.read(f"refs of RefCOCO, for {task}", len(refs))
        work.counts.exclude(f"{task}: ref without a phrase", len(refs) - len(usable), "no question or answer")
    return {
        task: [_Row(f"refcoco-{task}-{ref.ref_id}", ref.image_id, ref) for ref in usable]
        for task in ("grounding", "caption")
    }


def _largest(instances: coco.Instances, work: Work) -> list[_Row]:
    """Return a row with the class name of the largest object of each image, in the order of the images."""
    largest = largest_objects(instances.annotations.values())
    work.counts.read(f"images of COCO {_PART}, for classification", len(instances.images))
    without = len(instances.images) - len(largest)
    work.counts.exclude("classification: image without an object", without, "no objects, or only crowds")
    return [
        _Row(f"coco-class-{image_id}", image_id, instances.categories[largest[image_id].category_id])
        for image_id in instances.images
        if image_id in largest
    ]


def largest_objects(annotations: Iterable[coco.Annotation]) -> dict[int, coco.Annotation]:
    """Return the object with the largest area in each image. Ties go to the smallest id; crowds are ignored.

    Args:
        annotations (`Iterable[Annotation]`):
            Annotations of any number of images.

    Returns:
        `dict[int, Annotation]`: by image id, without images that have only crowds.
    """
    largest: dict[int, coco.Annotation] = {}
    for annotation in annotations:
        best = largest.get(annotation.image_id, annotation)
        if not annotation.is_crowd and _size(annotation) >= _size(best):
            largest[annotation.image_id] = annotation
    return largest


def _size(annotation: coco.Annotation) -> tuple[float, int]:
    return annotation.area, -annotation.annotation_id


def _images(instances: coco.Instances, folder: Path, image_ids: Iterable[int]) -> dict[int, StoredImage]:
    root = RootFolder(folder)
    images = {image_id: instances.images[image_id] for image_id in image_ids}
    return {
        image_id: Photograph(f"{_PART}/{i.file_name}", root.file(i.file_name), i.width, i.height)
        for image_id, i in images.items()
    }


def _phrases(ref: refcoco.Ref) -> tuple[str, ...]:
    return tuple(sentence.text for sentence in ref.sentences if sentence.text)


def _vqa(question: coco_qa.Question, wording: str | None) -> dict[str, Any]:
    texts = chat("vqa", question.answer, wording, question=question.question)
    return {**texts, "references": (question.answer,), "subset": question.question_type}


def _grounding(ref: refcoco.Ref, wording: str | None) -> dict[str, Any]:
    box = box_text(ref.box)
    texts = chat("grounding", box, wording, expression=_phrases(ref)[0])
    return {**texts, "references": (box,), "category": ref.category}


def _caption(ref: refcoco.Ref, wording: str | None) -> dict[str, Any]:
    phrases = _phrases(ref)
    texts = chat("referring", phrases[0], wording, box=box_text(ref.box))
    return {**texts, "references": phrases, "category": ref.category}


def _classification(category: str, wording: str | None) -> dict[str, Any]:
    texts = chat("classification", category, wording, attribute="category", subject="largest object")
    return {**texts, "references": (category,), "category": category}


_TEXTS: dict[str, Callable[[Any, str | None], dict[str, Any]]] = {
    "vqa": _vqa,
    "grounding": _grounding,
    "caption": _caption,
    "classification": _classification,
}
