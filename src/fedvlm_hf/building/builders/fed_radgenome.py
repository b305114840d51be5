"""Fed-RadGenome: boxes of heart, lungs and abdomen in slices of chest CT, a client an organ."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...data.boxes import box_text, from_mask
from ..leaks import without_shared_images
from ..partitions.drawing import shuffled
from ..partitions.holdout import hold_out_groups
from ..partitions.natural import natural_and_even
from ..readers import nifti, radgenome
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source


TARGETS = {"abdomen": "abdomen", "heart": "heart", "lung": "lungs"}
"""What a prompt calls an organ."""

MIN_SHARE = 0.01
"""Of a slice's pixels, that an organ's mask has to have for a box."""

VOLUME_LIMITS = (
    "The masks are a segmentation model's, not drawn by hand. A stray voxel stretches a box.",
    "The release was not at hand. Public code says that its volumes are resampled and stored with an identity "
    "affine; if that is so pictures may be mirrored or upside down, boxes with them. Look at some, and give `--axes`.",
    "The regions' reports and questions are not used.",
)
"""What is not known, or not good, about volumes and masks."""

_CHEST = ("heart", "lung")
_STUDY = "chest CT slice"
_SHARES = {"test": 0.2, "validation": 0.1}


@BUILDERS.register("fed_radgenome")
@dataclass(frozen=True)
class FedRadGenome(Builder):
    """Fed-RadGenome.

    Args:
        num_volumes (`int`, *optional*):
            Draws so many volumes; all by default.
        axes (`str`, *optional*):
            Where the voxel axes point to, such as `"LPS"`, for files whose affine is wrong.
    """

    num_volumes: int | None = field(
        default=None, metadata={"help": "Draw so many of the volumes that have masks; all by default."}
    )
    axes: str | None = field(
        default=None,
        metadata={
            "help": "Where the voxel axes point to, such as LPS, if the files' affines are wrong: see the card."
        },
    )

    title: ClassVar[str] = "Fed-RadGenome"
    summary: ClassVar[str] = (
        "Detection of heart, lungs and abdomen in axial slices of chest CT, two slices a volume of RadGenome-Chest "
        "CT, three clients by organ."
    )
    layout: ClassVar[str] = radgenome.LAYOUT
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="RadGenome-Chest CT",
            url="https://huggingface.co/datasets/RadGenome/RadGenome-ChestCT",
            licence="CC BY 4.0, with the terms of CT-RATE, as public code quotes the card (the card was not read)",
            terms="CT-RATE's terms hold, as quoted: no commercial use, no passing on, no attempt to identify "
            "patients; the Hub may ask for a request. The mask archives have to be unpacked; those in pieces, such "
            "as train_anatomy_mask_aa to _ae, with: cat train_anatomy_mask_a? | tar xz.",
            citation=(
                "Zhang et al., RadGenome-Chest CT: A Grounded Vision-Language Dataset for Chest CT Analysis, 2024, "
                "https://huggingface.co/papers/2404.16754"
            ),
            is_restricted=True,
        ),
        Source(
            name="CT-RATE, the volumes",
            url="https://huggingface.co/datasets/ibrahimhamamci/CT-RATE",
            licence="CC BY-NC-SA 4.0 (recalled, not verified)",
            terms="As above. Its own Hub repository, which is gated, is not needed: RadGenome-Chest CT has the "
            "volumes.",
            citation=(
                "Hamamci et al., Developing Generalist Foundation Models from a Multimodal Dataset for 3D Computed "
                "Tomography, 2024, https://huggingface.co/papers/2403.17834"
            ),
            is_restricted=True,
        ),
    )
    licence: ClassVar[str] = "other"
    rules: ClassVar[tuple[str, ...]] = (
        "Two axial slices a volume [paper]. Which ones [ours]: the chest slice, where heart and lungs are large at "
        "once (the sum of both areas, each as a share of its largest in the volume, is greatest), and the abdomen "
        "slice, where the abdomen's area is greatest; of equal slices the one nearest the feet.",
        "A row is an organ in a slice: all of heart, lungs and abdomen [paper] whose mask has at least 1 % of the "
        "slice's pixels [ours]. Smaller ones are slivers whose box nothing in the picture explains.",
        "The box is the tight box of the organ's mask in the slice [ours], both lungs in one box.",
        "Masks are those of the region that has the organ's name; where there is none, of the structure with its "
        "name, and else of its parts together [ours]: "
        + "; ".join(f"{organ} = {', '.join(parts)}" for organ, parts in radgenome.PARTS.items() if parts),
        "Grey values are -1000 to 200 HU [RadGenome-Chest CT's code clips to them], one pixel a voxel, PNG of 8 bits "
        "[ours]. The patient's front is above and the right on the left, by the affine [ours].",
        "CT-RATE's valid volumes are `test`, and 10 % of the train patients `validation` [ours]. Of a download with "
        "only one of both 20 % of the patients are `test` and 10 % `validation`. No patient is in two splits.",
        "`noniid`: a client an organ, abdomen, heart, lung [paper]. `iid`: three clients, each with its even share "
        "of every organ's rows [paper: evenly], drawn with the seed [ours].",
        "Where slices of two splits are equal in every pixel the rows of the earlier one are left out, training "
        "before validation before test [ours]: the same scan under two names.",
        "A validation or test row carries the `client_id` of a client that has its organ, in proportion to the "
        "clients' shares of that organ's rows [ours].",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Table 2 of the paper has 8,744 rows = 2 x 4,372: two slices each of 4,372 volumes with one row a slice is "
        "one reading, and not ours, since a slice here has up to three rows. The release has about 25,700 volumes; "
        "which were used is not said. All are by default, `--num_volumes` draws some, and no rule is bent to meet "
        "the number.",
        "A slice shows up to three organs, so clients share images with one another; none is shared with validation "
        "or test.",
        *VOLUME_LIMITS,
    )
    configs: ClassVar[dict[str, int]] = {"noniid": 3, "iid": 3}
    templates: ClassVar[tuple[str, ...]] = ("detection",)
    paper_counts: ClassVar[dict[str, int]] = {"detection": 8744}
    partition_column: ClassVar[str] = "organ"
    public_columns: ClassVar[tuple[str, ...]] = ("organ", "volume", "slice_index")

    def __post_init__(self) -> None:
        if self.axes:
            nifti.check_axes(self.axes)
        if self.num_volumes is not None and self.num_volumes < 1:
            raise ValueError(
                f"`num_volumes={self.num_volumes}` volumes cannot be drawn; give 1 or more, or leave it out."
            )

    def read(self, raw: Path, work: Work) -> list[Example]:
        """A row an organ in a slice, by volume, slice and organ."""
        return without_shared_images(self.found(raw, work), work)

    def found(self, raw: Path, work: Work) -> list[Example]:
        """What [`read`] gives before rows whose slice is held out too are left out."""
        scans = self._drawn(radgenome.read(raw), work)
        items = {f"{scan.name} {self.axes or 'by affine'}": (scan, self.axes) for scan in scans}
        found = list(work.map("radgenome", find_slices, items, "Looking for slices", is_long=True).values())
        _count(work, found)
        split_of = _splits(scans, self.seed)
        return [
            self._example(scan, one["index"], organ, one["boxes"][organ], split_of[scan.patient])
            for scan, result in zip(scans, found, strict=True)
            for one in result["slices"]
            for organ in sorted(one["boxes"])
        ]

    def _drawn(self, scans: Sequence[radgenome.Scan], work: Work) -> list[radgenome.Scan]:
        with_masks = [scan for scan in scans if scan.masks]
        work.tally.note("volumes found", len(scans))
        work.tally.note("volumes without a mask of the three organs", len(scans) - len(with_masks), "left out")
        if not with_masks:
            raise ValueError(
                f"`raw`: none of the {len(scans)} volumes has a mask of {sorted(radgenome.PARTS)}. Expected are:\n"
                f"{radgenome.LAYOUT}"
            )
        if self.num_volumes is None:
            return with_masks
        if self.num_volumes > len(with_masks):
            raise ValueError(
                f"`num_volumes={self.num_volumes}` is more than the {len(with_masks)} volumes with masks."
            )
        drawn = set(shuffled([scan.name for scan in with_masks], self.seed)[: self.num_volumes])
        work.tally.note("volumes not drawn", len(with_masks) - len(drawn), f"`num_volumes` is {self.num_volumes}")
        return [scan for scan in with_masks if scan.name in drawn]

    def _example(self, scan: radgenome.Scan, index: int, organ: str, box: list[float], split: str) -> Example:
        key = f"{scan.name}/{index:03d}"
        text = box_text(tuple(box))
        return Example(
            id=f"radgenome-{scan.name}-{index:03d}-{organ}",
            image=radgenome.VolumeSlice(key, scan.path, index, self.axes),
            split=split,
            **chat("detection", text, self.wording, target=TARGETS[organ], study=_STUDY),
            task="detection",
            references=(text,),
            columns={
                "organ": organ,
                "volume": scan.name,
                "slice_index": str(index),
                "patient": scan.patient,
            },
        )

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """`noniid` and `iid`."""
        return natural_and_even(examples, "organ", self.seed)


def find_slices(item: tuple[radgenome.Scan, str | None]) -> dict[str, Any]:
    """A volume's two slices, and the boxes of the organs in them.

    Args:
        item (`tuple[radgenome.Scan, str | None]`):
            The volume's files, and where the voxel axes point to if not as the affine says.

    Returns:
        `dict[str, Any]`: under `slices` each slice's `index` from the feet and `boxes` by organ, 0-1 of the slice;
        under `missing` and `empty` the organs without a mask and with an empty one; under `small` how many organs are
        too small for a box in these slices, or not in them; under `sha256` that of the masks' files.

    Raises:
        `ValueError`: if a file is missing or truncated, or a mask is not of the volume's grid.
    """
    scan, axes = item
    volume = nifti.Volume(scan.path, axes)
    masks = {organ: [nifti.Volume(path, axes) for path in paths] for organ, paths in sorted(scan.masks.items())}
    for mask in (mask for parts in masks.values() for mask in parts):
        nifti.check_same_grid(volume, mask)
    areas = {organ: nifti.areas(parts) for organ, parts in masks.items()}
    there = {organ: area for organ, area in areas.items() if area.any()}
    least = MIN_SHARE * volume.shape[1] * volume.shape[2]
    slices = []
    for index in choose_slices(there):
        seen = [organ for organ in there if there[organ][index] >= least]
        boxes = {organ: list(from_mask(nifti.union(masks[organ], index))) for organ in seen}
        slices.append({"index": index, "boxes": boxes})
    return {
        "slices": slices,
        "missing": sorted(set(radgenome.PARTS) - set(masks)),
        "empty": sorted(set(masks) - set(there)),
        "small": sum(len(there) - len(one["boxes"]) for one in slices),
        "sha256": _checksum([path for organ in sorted(scan.masks) for path in scan.masks[organ]]),
    }


def choose_slices(areas: dict[str, np.ndarray]) -> list[int]:
    """The chest slice and the abdomen slice.

    Args:
        areas (`dict[str, np.ndarray]`):
            By organ, each slice's area, not zero everywhere. Organs may be missing.

    Returns:
        `list[int]`: the slices that there are, ascending; one where both are the same.
    """
    found = set()
    chest = [areas[organ] / areas[organ].max() for organ in _CHEST if organ in areas]
    if chest:
        found.add(int(np.argmax(np.sum(chest, axis=0))))
    if "abdomen" in areas:
        found.add(int(np.argmax(areas["abdomen"])))
    return sorted(found)


def _count(work: Work, found: Sequence[dict[str, Any]]) -> None:
    """What a build prints and writes of volumes, slices and rows, and the checksum of all masks."""
    num_slices = [len(result["slices"]) for result in found]
    work.tally.note("volumes with two slices", num_slices.count(2))
    work.tally.note("volumes with one slice", num_slices.count(1), "no abdomen, no chest, or one slice is both")
    work.tally.note("volumes without a slice", num_slices.count(0), "their masks are empty")
    work.tally.read("organs in slices", len(TARGETS) * sum(num_slices))
    for lack, why in {"missing": "there is no mask of it", "empty": "its mask is empty"}.items():
        rows = sum(len(result[lack]) * num for result, num in zip(found, num_slices, strict=True))
        work.tally.exclude(f"organs whose mask is {lack}", rows, why)
    why = f"fewer than {MIN_SHARE:.0%} of the slice's pixels, or not in it"
    work.tally.exclude("organs too small in the slice", sum(result["small"] for result in found), why)
    checksums = "".join(result["sha256"] for result in found)
    work.sources[f"masks of {len(found)} volumes"] = hashlib.sha256(checksums.encode()).hexdigest()


def _checksum(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _splits(scans: Sequence[radgenome.Scan], seed: int) -> dict[str, str]:
    """Each patient's split."""
    parts = {scan.patient: scan.part for scan in scans}
    has_both = len(set(parts.values())) == 2
    split_of = {patient: "test" for patient, part in parts.items() if has_both and part == "valid"}
    rest = [patient for patient in parts if patient not in split_of]
    shares = {"validation": _SHARES["validation"]} if has_both else _SHARES
    for split, rows in hold_out_groups(rest, ["patients"] * len(rest), shares, seed).items():
        split_of.update((rest[row], split) for row in rows)
    return split_of
