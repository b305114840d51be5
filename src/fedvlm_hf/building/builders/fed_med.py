"""Fed-Med: questions, boxes and reports for images of the chest, with one client per task."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ..leaks import without_shared_images
from ..partitions.drawing import shuffled
from ..partitions.holdout import hold_out_groups
from ..partitions.natural import natural_and_even
from ..readers import mimic_cxr, slake, vqa_rad
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source
from .fed_radgenome import VOLUME_LIMITS, FedRadGenome
from .fed_slake import FedSlake
from .fed_vqa_rad import FedVqaRad


FOLDERS = {"vqa": ("slake", "vqa_rad"), "detection": ("radgenome",), "report": ("mimic_cxr",)}
"""The tasks in the order of their clients, and the folders below `--raw` from which each task is built."""

CHEST_LOCATIONS = ("Lung", "Chest_lung", "Chest_heart", "Chest_mediastinal")
"""SLAKE's locations that belong to the chest."""

_STUDY = "chest radiograph"
_SHARES = {"test": 0.2, "validation": 0.1}


@BUILDERS.register("fed_med")
@dataclass(frozen=True)
class FedMed(Builder):
    """Fed-Med.

    Args:
        tasks (`str`, *optional*, defaults to `"vqa,detection,report"`):
            The tasks to build; each is one client of `noniid`.
        num_reports (`int`, *optional*, defaults to `8000`):
            Number of reports to draw from MIMIC-CXR; at least 10.
        num_volumes (`int`, *optional*), axes (`str`, *optional*):
            Options for the CT volumes, see [`FedRadGenome`].
    """

    tasks: str = field(
        default=",".join(FOLDERS),
        metadata={"help": "Tasks to build, separated by commas. Leave out tasks whose sources you cannot access."},
    )
    num_reports: int = field(
        default=8000, metadata={"help": "Number of reports to draw from MIMIC-CXR for all splits together."}
    )
    num_volumes: int | None = field(
        default=None, metadata={"help": "Number of CT volumes to draw from those with masks; all by default."}
    )
    axes: str | None = field(
        default=None, metadata={"help": "Directions of the voxel axes of the CT volumes, if their affines are wrong."}
    )

    title: ClassVar[str] = "Fed-Med"
    summary: ClassVar[str] = (
        "Three tasks on images of the chest, with one client per task: questions of SLAKE and VQA-RAD, boxes of "
        "heart, lungs and abdomen in RadGenome-Chest CT, reports of MIMIC-CXR."
    )
    layout: ClassVar[str] = """\
slake/       as for fed-slake: train.json, validate.json, test.json, imgs/
vqa_rad/     as for fed-vqa-rad: the official download or the re-export; the Hub copy has no organs
radgenome/   as for fed-radgenome: dataset/ with volumes and masks
mimic_cxr/   """ + mimic_cxr.LAYOUT.replace("\n", "\n             ")
    sources: ClassVar[tuple[Source, ...]] = (
        *FedSlake.sources,
        *FedVqaRad.sources,
        *FedRadGenome.sources,
        Source(
            name="MIMIC-CXR 2.1.0 and MIMIC-CXR-JPG 2.1.0",
            url="https://physionet.org/content/mimic-cxr-jpg/2.1.0/",
            licence="PhysioNet Credentialed Health Data License 1.5.0 (from memory, not verified)",
            terms="The reports are at https://physionet.org/content/mimic-cxr/2.1.0/. Access needs a credentialed "
            "PhysioNet account, training in human subjects research, and a signed data use agreement (from memory, "
            "not verified). Data may not be sent to services of third parties either.",
            citation=(
                "Johnson et al., MIMIC-CXR, a de-identified publicly available database of chest radiographs with "
                "free-text reports, Scientific Data, 2019, https://doi.org/10.1038/s41597-019-0322-0; Johnson et "
                "al., MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs, 2019, "
                "https://huggingface.co/papers/1901.07042"
            ),
            is_restricted=True,
        ),
    )
    licence: ClassVar[str] = "other"
    rules: ClassVar[tuple[str, ...]] = (
        f"Questions: the English rows of SLAKE with the locations {', '.join(CHEST_LOCATIONS)} and an answer, and the "
        "rows of VQA-RAD with the chest [paper: chest-related; locations: ours]. SLAKE keeps its splits, which share "
        "no image in English. All given test images of VQA-RAD are also training images, so its images are split "
        "again: 20 % test, 10 % validation, with all questions of an image in the same split [ours].",
        "Boxes: all rows of Fed-RadGenome, with two slices per volume, by the rules in its own card [paper].",
        "Reports: 8,000 studies [paper], drawn in a seeded order from those with a frontal image and a report with "
        "findings or impression: 70 % from the official train split, 10 % from validate, 20 % from test [ours]. A "
        "split with fewer studies is used completely.",
        "One image per study: frontal, PA preferred over AP, then the first by id [ours].",
        "The text is 'Findings: ... Impression: ...', with those sections that the report has [ours]. Sections are "
        "found by the headings and special cases of the database's own parser (MIT-LCP/mimic-cxr), spaces become "
        "single, and the underscores in place of removed names are kept.",
        "Studies of a patient who is also in a later split are left out, in the order train, validate, test [ours]. "
        "The official splits are by patient, so there should be none.",
        "If an image is in two splits, in any sources, its rows in the earlier split are left out, in the order "
        "training, validation, test [ours].",
        "`noniid`: one client per task of `--tasks`: client_00 questions, client_01 boxes, client_02 reports [paper]. "
        "`iid`: as many clients, over which the rows of every task are spread evenly [ours].",
        "The `client_id` of a validation or test row is a client that has its task, in proportion to the clients' "
        "shares of the rows of this task [ours].",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Table 2 of the paper has 3,846 questions. None of the selections that we tried gives this number without "
        "arbitrary filters; our count is given next to it.",
        "All volumes of RadGenome-Chest CT give far more boxes than the paper's 8,744, so most rows are boxes. "
        "`--num_volumes` draws a part of the volumes.",
        "Rows of MIMIC-CXR and of RadGenome-Chest CT may not be redistributed: a push uploads only their ids and the "
        "partition.",
        "The paper does not say which reports were drawn, or how sections are treated. Reports with neither findings "
        "nor impression are not drawn here; MIMIC-CXR's own scripts use their last paragraph or their comparison.",
        "Reports compare with earlier images ('no change since ___') that the model does not see.",
        "In `iid`, clients have CT slices in common; no image is also in validation or test.",
        *VOLUME_LIMITS,
    )
    configs: ClassVar[dict[str, int]] = {"noniid": 3, "iid": 3}
    templates: ClassVar[tuple[str, ...]] = ("vqa", "detection", "report")
    paper_counts: ClassVar[dict[str, int]] = {"vqa": 3846, "detection": 8744, "report": 8000}
    partition_column: ClassVar[str] = "task"
    version: ClassVar[str] = "2"
    public_columns: ClassVar[tuple[str, ...]] = ("source", "study_id")

    @property
    def used_sources(self) -> tuple[Source, ...]:
        """The sources of the tasks that are built."""
        readers = {"vqa": (FedSlake, FedVqaRad), "detection": (FedRadGenome,), "report": ()}
        chosen = self.tasks.split(",")
        used = [source for task in chosen for reader in readers[task] for source in reader.sources]
        return (*used, *(self.sources[-1:] if "report" in chosen else ()))

    def __post_init__(self) -> None:
        chosen = self.tasks.split(",")
        unknown = [task for task in chosen if task not in FOLDERS]
        if unknown or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"`tasks={self.tasks!r}` must be one or several of {list(FOLDERS)}, each once, separated by commas."
            )
        if self.num_reports < 10:
            raise ValueError(f"`num_reports={self.num_reports}` cannot be split 70 : 10 : 20; use 10 or more.")
        self._fed_radgenome()

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the questions of SLAKE and of VQA-RAD, then the boxes, then the reports."""
        chosen = [task for task in FOLDERS if task in self.tasks.split(",")]
        folders = [folder for task in chosen for folder in FOLDERS[task]]
        missing = [folder for folder in folders if not (Path(raw) / folder).is_dir()]
        if missing:
            raise ValueError(
                f"`raw`: there is no folder {', '.join(str(Path(raw) / folder) for folder in missing)}. "
                f"`tasks={self.tasks!r}` needs {folders}; leave out tasks whose sources you do not have. Expected "
                f"layout:\n{self.layout}"
            )
        readers: dict[str, Callable[[Path, Work], list[Example]]] = {
            "slake": self._slake,
            "vqa_rad": self._vqa_rad,
            "radgenome": self._radgenome,
            "mimic_cxr": self._mimic_cxr,
        }
        examples = [example for folder in folders for example in readers[folder](Path(raw) / folder, work)]
        return without_shared_images(examples, work)

    def _slake(self, raw: Path, work: Work) -> list[Example]:
        questions = slake.read(raw)
        work.looked_up(raw, slake.LOOKED_UP)
        for path in slake.annotation_files(raw):
            work.source(path)
        work.counts.read("questions of SLAKE", len(questions))
        english = [q for q in questions if q.language == "en"]
        work.counts.exclude("questions of SLAKE in Chinese", len(questions) - len(english), "English only")
        chest = [q for q in english if q.location in CHEST_LOCATIONS]
        work.counts.exclude("English questions of SLAKE elsewhere", len(english) - len(chest), "not about the chest")
        answered = [q for q in chest if q.answer]
        why = "nothing to train on or to score"
        work.counts.exclude("chest questions of SLAKE without an answer", len(chest) - len(answered), why)
        return [self._question("slake", q, q.given_split, q.location) for q in answered]

    def _vqa_rad(self, raw: Path, work: Work) -> list[Example]:
        questions = vqa_rad.read(raw)
        work.looked_up(raw, vqa_rad.LOOKED_UP)
        for path in vqa_rad.annotation_files(raw):
            work.source(path)
        if any(question.organ is None for question in questions):
            raise ValueError(
                f"{raw} is the Hub copy of VQA-RAD, which has no organs, so images of the chest cannot be selected. "
                f"Use the official download or the re-export:\n{vqa_rad.LAYOUT}"
            )
        work.counts.read("questions of VQA-RAD", len(questions))
        chest = [question for question in questions if question.organ == "chest"]
        work.counts.exclude("questions of VQA-RAD elsewhere", len(questions) - len(chest), "not about the chest")
        parts = hold_out_groups([q.image.key for q in chest], ["chest"] * len(chest), _SHARES, self.seed)
        split_of = {row: split for split, rows in parts.items() for row in rows}
        return [self._question("vqa_rad", q, split_of[row], "chest") for row, q in enumerate(chest)]

    def _question(self, source: str, question: slake.Question | vqa_rad.Question, split: str, region: str) -> Example:
        return Example(
            id=f"{source}-{question.qid}",
            image=question.image,
            split=split,
            **chat("vqa", question.answer, self.wording, question=question.question),
            task="vqa",
            references=(question.answer,),
            columns={"source": source, "subset": question.subset, "region": region, "study_id": None},
        )

    def _fed_radgenome(self) -> FedRadGenome:
        return FedRadGenome(seed=self.seed, wording=self.wording, num_volumes=self.num_volumes, axes=self.axes)

    def _radgenome(self, raw: Path, work: Work) -> list[Example]:
        return [
            replace(
                example,
                columns={
                    "source": "radgenome",
                    "subset": None,
                    "region": example.columns["organ"],
                    "study_id": example.columns["volume"],
                },
            )
            for example in self._fed_radgenome().read_all(raw, work)
        ]

    def _mimic_cxr(self, raw: Path, work: Work) -> list[Example]:
        found = mimic_cxr.read(raw)
        work.looked_up(raw, mimic_cxr.LOOKED_UP)
        for path in mimic_cxr.annotation_files(raw):
            work.source(path)
        work.counts.note("studies of MIMIC-CXR with a frontal image", len(found))
        studies = _without_later_patients(found)
        work.counts.note("studies whose patient is also in a later split", len(found) - len(studies), "left out")
        drawn = _draw(studies, self.num_reports, self.seed, raw, work)
        return [self._report(raw, study, text) for study, text in drawn]

    def _report(self, raw: Path, study: mimic_cxr.Study, text: str) -> Example:
        return Example(
            id=f"mimic_cxr-s{study.study_id}",
            image=mimic_cxr.image(raw, study),
            split=study.split,
            **chat("report", text, self.wording, study=_STUDY),
            task="report",
            references=(text,),
            columns={"source": "mimic_cxr", "subset": None, "region": "chest", "study_id": f"s{study.study_id}"},
        )

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return `noniid`, with one client per task, and `iid`."""
        present = [task for task in FOLDERS if any(example.task == task for example in examples)]
        return natural_and_even(examples, "task", self.seed, present)


def report_text(sections: dict[str, str]) -> str:
    """Join the existing sections of a report to one text: `"Findings: Clear. Impression: Normal."`"""
    return " ".join(f"{name.capitalize()}: {text}" for name, text in sections.items())


def _without_later_patients(studies: Sequence[mimic_cxr.Study]) -> list[mimic_cxr.Study]:
    """Leave out studies of patients who also have studies in a later split."""
    order = ("train", "validation", "test")
    latest: dict[str, int] = {}
    for study in studies:
        latest[study.subject_id] = max(latest.get(study.subject_id, 0), order.index(study.split))
    return [study for study in studies if order.index(study.split) == latest[study.subject_id]]


def _draw(
    studies: Sequence[mimic_cxr.Study], num_reports: int, seed: int, raw: Path, work: Work
) -> list[tuple[mimic_cxr.Study, str]]:
    """Draw `num_reports` studies with a text, ordered by study id. Reports are read until there are enough."""
    quotas = {split: round(share * num_reports) for split, share in _SHARES.items()}
    quotas["train"] = num_reports - sum(quotas.values())
    by_id = {study.study_id: study for study in studies}
    texts: dict[str, str] = {}
    num_empty = 0
    for study_id in shuffled(by_id, seed):
        study = by_id[study_id]
        if not quotas[study.split]:
            continue
        text = report_text(mimic_cxr.read_report(raw, study))
        if text:
            texts[study_id] = text
            quotas[study.split] -= 1
        else:
            num_empty += 1
    work.counts.read("reports of MIMIC-CXR that were drawn", len(texts) + num_empty)
    work.counts.exclude(
        "reports of MIMIC-CXR without text", num_empty, "neither findings nor impression; others drawn"
    )
    for split, quota in quotas.items():
        if quota:
            work.counts.note(f"reports fewer than requested in {split}", quota, "the official split has no more")
    found = [(by_id[study_id], texts[study_id]) for study_id in sorted(texts)]
    checksum = hashlib.sha256("\n".join(f"{study.study_id} {text}" for study, text in found).encode()).hexdigest()
    work.sources[f"texts of {len(found)} reports"] = checksum
    return found
