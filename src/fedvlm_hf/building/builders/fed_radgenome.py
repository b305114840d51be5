"""Fed-RadGenome: boxes of heart, lungs and abdomen in slices of chest CT, with one client per organ."""

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
from ..readers.files import count_of
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source


TARGETS = {"abdomen": "abdomen", "heart": "heart", "lung": "lungs"}
"""The name of each organ in prompts."""

MIN_SHARE = 0.01
"""Smallest area of an organ's mask, as a share of the slice, for which a row is made."""

VOLUME_LIMITS = (
    "The masks come from a segmentation model and were not drawn by hand. A stray voxel enlarges a box.",
    "We did not have the release. According to public code its volumes are resampled and stored with an identity "
    "affine; in this case pictures and boxes may be mirrored or upside down. Look at some of them, and set `--axes` "
    "if necessary.",
    "Reports and questions about regions are not used.",
)
"""Known problems and open questions of the volumes and masks."""

_CHEST = ("heart", "lung")
_STUDY = "chest CT slice"
_SHARES = {"test": 0.2, "validation": 0.1}


@BUILDERS.register("fed_radgenome")
@dataclass(frozen=True)
class FedRadGenome(Builder):
    """Fed-RadGenome.

    Args:
        num_volumes (`int`, *optional*):
            Number of volumes to draw; all by default.
        axes (`str`, *optional*):
            Directions of the voxel axes, such as `"LPS"`, for files with a wrong affine.
    """

    num_volumes: int | None = field(
        default=None, metadata={"help": "Number of volumes to draw from those with masks; all by default."}
    )
    axes: str | None = field(
        default=None,
        metadata={"help": "Directions of the voxel axes, such as LPS, if the affines are wrong: see the card."},
    )

    title: ClassVar[str] = "Fed-RadGenome"
    summary: ClassVar[str] = (
        "Detection of heart, lungs and abdomen in axial slices of chest CT, two slices per volume of RadGenome-Chest "
        "CT, with three clients by organ."
    )
    layout: ClassVar[str] = radgenome.LAYOUT
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="RadGenome-Chest CT",
            url="https://huggingface.co/datasets/RadGenome/RadGenome-ChestCT",
            licence="CC BY 4.0, with the terms of CT-RATE, as public code quotes the card (the card was not read)",
            terms="CT-RATE's terms apply, as quoted: no commercial use, no redistribution, no attempt to identify "
            "patients; the Hub may require an access request. Unpack the mask archives; archives in several parts, "
            "such as train_anatomy_mask_aa to _ae, with: cat train_anatomy_mask_a? | tar xz.",
            citation=(
                "Zhang et al., RadGenome-Chest CT: A Grounded Vision-Language Dataset for Chest CT Analysis, 2024, "
                "https://huggingface.co/papers/2404.16754"
            ),
            is_restricted=True,
        ),
        Source(
            name="CT-RATE, the volumes",
            url="https://huggingface.co/datasets/ibrahimhamamci/CT-RATE",
            licence="CC BY-NC-SA 4.0 (from memory, not verified)",
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
        "Two axial slices per volume [paper], chosen as follows [ours]: the chest slice, in which heart and lungs are "
        "both large (the sum of both areas, each divided by its maximum in the volume, is largest), and the abdomen "
        "slice, in which the area of the abdomen is largest. Ties go to the slice nearest to the feet.",
        "One row per organ in a slice: each of heart, lungs and abdomen [paper] whose mask has at least 1 % of the "
        "slice's pixels [ours]. Smaller areas are slivers that are hardly visible.",
        "The box is the smallest box around the organ's mask in the slice [ours], with both lungs in one box.",
        "The mask is that of the region with the organ's name; if there is none, that of the structure with its name; "
        "otherwise the union of its parts [ours]: "
        + "; ".join(f"{organ} = {', '.join(parts)}" for organ, parts in radgenome.PARTS.items() if parts),
        "Grey values show -1000 to 200 HU [RadGenome-Chest CT's code clips to this range], one pixel per voxel, as "
        "8-bit PNG [ours]. The patient's front is at the top and the right on the left, according to the affine "
        "[ours].",
        "CT-RATE's valid volumes are `test`, and 10 % of the train patients are `validation` [ours]. If a download "
        "has only one of the two, 20 % of the patients are `test` and 10 % `validation`. No patient is in two splits.",
        "`noniid`: one client per organ: abdomen, heart, lung [paper]. `iid`: three clients; the rows of every organ "
        "are spread evenly [paper: evenly], drawn with the seed [ours].",
        "If slices of two splits have equal pixels (the same scan with two names), the rows in the earlier split are "
        "left out, in the order training, validation, test [ours].",
        "The `client_id` of a validation or test row is a client that has its organ, in proportion to the clients' "
        "shares of the rows of this organ [ours].",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Table 2 of the paper has 8,744 rows = 2 x 4,372, which may be two slices of 4,372 volumes with one row per "
        "slice. Here a slice has up to three rows. The release has about 25,700 volumes, and the paper does not say "
        "which were used. By default all are used; `--num_volumes` draws a part of them. No rule was tuned to match "
        "the number.",
        "A slice shows up to three organs, so clients have images in common; no image is also in validation or test.",
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
            raise ValueError(f"`num_volumes={self.num_volumes}` must be 1 or more; leave it out to use all volumes.")

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return one row per organ in a slice, by volume, slice and organ."""
        return without_shared_images(self.read_all(raw, work), work)

    def read_all(self, raw: Path, work: Work) -> list[Example]:
        """Return the rows of [`read`] including training rows whose slice is also held out."""
        scans = self._drawn(radgenome.read(raw), work)
        items = {f"{scan.name} {self.axes or 'by affine'}": (scan, self.axes) for scan in scans}
        found = list(
            work.map("radgenome", find_slices, items, "Finding slices", is_long=True, is_current=is_current).values()
        )
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
        work.counts.note("volumes found", len(scans))
        work.counts.note("volumes without a mask of the three organs", len(scans) - len(with_masks), "left out")
        if not with_masks:
            raise ValueError(
                f"`raw`: {count_of(len(scans), 'volume')} found, but no mask of {sorted(radgenome.PARTS)}. Expected "
                f"layout:\n{radgenome.LAYOUT}"
            )
        if self.num_volumes is None:
            return with_masks
        if self.num_volumes > len(with_masks):
            found = count_of(len(with_masks), "volume")
            raise ValueError(f"`num_volumes={self.num_volumes}` is too large: {found} with masks found.")
        drawn = set(shuffled([scan.name for scan in with_masks], self.seed)[: self.num_volumes])
        work.counts.note("volumes not drawn", len(with_masks) - len(drawn), f"`num_volumes` is {self.num_volumes}")
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
        """Return `noniid` and `iid`."""
        return natural_and_even(examples, "organ", self.seed)


def find_slices(item: tuple[radgenome.Scan, str | None]) -> dict[str, Any]:
    """Find the two slices of a volume, and the boxes of the organs in them.

    Args:
        item (`tuple[radgenome.Scan, str | None]`):
            The files of the volume, and the directions of the voxel axes if the affine is wrong.

    Returns:
        `dict[str, Any]`: under `slices` the `index` of each slice from the feet and its `boxes` by organ, as fractions
            of the slice; under `missing` and `empty` the organs without a mask and those with an empty mask; under
            `small` the number of organs that are too small for a box in these slices or not in them; under `sha256`
            the hash of all mask files.

    Raises:
        `ValueError`: if a file is missing or truncated, or a mask has another grid than the volume.
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
        "sha256": _masks_checksum(scan),
    }


def is_current(item: tuple[tuple[radgenome.Scan, str | None], dict[str, Any]]) -> bool:
    """Return whether the masks of a scan are still those for which an interrupted build found slices."""
    (scan, _), result = item
    return _masks_checksum(scan) == result["sha256"]


def choose_slices(areas: dict[str, np.ndarray]) -> list[int]:
    """Choose the chest slice and the abdomen slice.

    Args:
        areas (`dict[str, np.ndarray]`):
            The area in each slice by organ, not zero everywhere. Organs may be missing.

    Returns:
        `list[int]`: the existing slices, ascending; only one if both are the same.
    """
    found = set()
    chest = [areas[organ] / areas[organ].max() for organ in _CHEST if organ in areas]
    if chest:
        found.add(int(np.argmax(np.sum(chest, axis=0))))
    if "abdomen" in areas:
        found.add(int(np.argmax(areas["abdomen"])))
    return sorted(found)


def _count(work: Work, found: Sequence[dict[str, Any]]) -> None:
    """Count volumes, slices and rows, and record the checksum of all masks."""
    num_slices = [len(result["slices"]) for result in found]
    work.counts.note("volumes with two slices", num_slices.count(2))
    work.counts.note("volumes with one slice", num_slices.count(1), "no abdomen, no chest, or the same slice for both")
    work.counts.note("volumes without a slice", num_slices.count(0), "their masks are empty")
    work.counts.read("organs in slices", len(TARGETS) * sum(num_slices))
    for lack, why in {"missing": "there is no mask of it", "empty": "its mask is empty"}.items():
        rows = sum(len(result[lack]) * num for result, num in zip(found, num_slices, strict=True))
        work.counts.exclude(f"organs whose mask is {lack}", rows, why)
    why = f"fewer than {MIN_SHARE:.0%} of the slice's pixels, or not in the slice"
    work.counts.exclude("organs too small in the slice", sum(result["small"] for result in found), why)
    checksums = "".join(result["sha256"] for result in found)
    work.sources[f"masks of {len(found)} volumes"] = hashlib.sha256(checksums.encode()).hexdigest()


def _masks_checksum(scan: radgenome.Scan) -> str:
    digest = hashlib.sha256()
    for organ in sorted(scan.masks):
        for path in scan.masks[organ]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _splits(scans: Sequence[radgenome.Scan], seed: int) -> dict[str, str]:
    """Return the split of each patient."""
    parts = {scan.patient: scan.part for scan in scans}
    has_both = len(set(parts.values())) == 2
    split_of = {patient: "test" for patient, part in parts.items() if has_both and part == "valid"}
    rest = [patient for patient in parts if patient not in split_of]
    shares = {"validation": _SHARES["validation"]} if has_both else _SHARES
    for split, rows in hold_out_groups(rest, ["patients"] * len(rest), shares, seed).items():
        split_of.update((rest[row], split) for row in rows)
    return split_of
