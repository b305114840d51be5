"""RadGenome-Chest CT's volumes and masks: chest CT, with a mask an organ.

Zhang et al., "RadGenome-Chest CT: A Grounded Vision-Language Dataset for Chest CT Analysis", 2024
(https://huggingface.co/papers/2404.16754), on the volumes of CT-RATE (https://huggingface.co/papers/2403.17834).

The release itself was not at hand. Its layout is what public code reads: the authors' repository
(github.com/xiaoman-zhang/RadGenome-ChestCT, src/dataset/dataset_grounded_attn.py and train_image_path.csv) and that of
Reg2RG (github.com/zhi-xuan-chen/Reg2RG, src/Dataset/radgenome_dataset_train.py), which agree. The names of structures
are those that a public loader (github.com/constantinpape/torch-em) lists of the validation masks.
"""

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..images import StoredImage
from . import nifti


LAYOUT = """\
dataset/, or the folder that holds it, with the mask archives unpacked:
  train_preprocessed/train_1/train_1a/train_1_a_1.nii.gz, valid_preprocessed/...   the volumes
  train_region_mask/seg_train_1_a_1/{heart,lung,abdomen}.nii.gz, valid_region_mask/...   masks of regions
  train_anatomy_mask/seg_train_1_a_1/<structure>.nii.gz, valid_anatomy_mask/...   where a region's mask is not there
One of train and valid is enough, and any part of them."""

PARTS = {
    "abdomen": (
        "liver", "spleen", "stomach", "pancreas", "gallbladder", "kidney", "adrenal gland", "duodenum", "small bowel",
        "intestine", "colon",
    ),
    "heart": (),
    "lung": ("left lung", "right lung"),
}  # fmt: skip
"""The organs, and the structures that make one up where there is no mask of its name."""

WINDOW = (-1000.0, 200.0)
"""Hounsfield units shown as black and as white: the range that the authors' code clips to. Air is black, lung dark,
soft tissue at 40 HU light grey, bone white; a window for soft tissue alone would leave the lungs black."""

_NAME = re.compile(r"((train|valid)_\d+)_[a-z]+_\d+")
_SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Scan:
    """One volume and what there is of its organs' masks.

    Attributes:
        name (`str`): Such as `"train_1_a_1"`: patient, scan, reconstruction.
        patient (`str`): Such as `"train_1"`.
        part (`str`): `"train"` or `"valid"`, CT-RATE's own division, by patient.
        path (`Path`): The volume.
        masks (`Mapping[str, tuple[Path, ...]]`): Each organ's mask, or the masks of its parts; an organ without any is
            missing.
    """

    name: str
    patient: str
    part: str
    path: Path
    masks: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True)
class VolumeSlice(StoredImage):
    """An axial slice of a CT volume, stored as a greyscale PNG.

    Attributes:
        key (`str`): Such as `"train_1_a_1/057"`.
        path (`Path`): The volume.
        index (`int`): The slice, counted from the feet.
        axes (`str`, *optional*): See [`nifti.Volume`].
    """

    key: str
    path: Path
    index: int
    axes: str | None = None

    def load(self) -> bytes:
        """The slice as PNG: one pixel a voxel, 8 bits, the patient's front above and right on the left."""
        black, white = WINDOW
        values = nifti.Volume(self.path, self.axes).picture(self.index).astype(np.float64)
        grey = np.round((np.clip(values, black, white) - black) * (255 / (white - black))).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, format="PNG")
        return buffer.getvalue()


def read(raw: str | Path) -> list[Scan]:
    """Finds the volumes and their masks by their names.

    Args:
        raw (`str` or `Path`):
            The folder, laid out as `LAYOUT` says.

    Returns:
        `list[Scan]`: in the order of their names; those without any mask too.

    Raises:
        `ValueError`: if there is no volume, no mask, or a volume stands in two places.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` is not a folder. RadGenome-Chest CT is expected as:\n{LAYOUT}")
    volumes, mask_folders = _walk(raw)
    required = {"volume such as train_1_a_1.nii.gz": volumes, "folder of masks such as seg_train_1_a_1": mask_folders}
    for what, found in required.items():
        if not found:
            raise ValueError(f"`raw`: there is no {what} in {raw}. RadGenome-Chest CT is expected as:\n{LAYOUT}")
    return [_scan(name, volumes[name], mask_folders.get(name, [])) for name in sorted(volumes)]


def _walk(raw: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Volumes, and folders of masks with the regions' first, by volume name."""
    volumes: dict[str, Path] = {}
    mask_folders: dict[str, list[Path]] = {}
    for place, folders, files in os.walk(raw, followlinks=True):
        # 210 files in each of them, in the release: not looked at one by one
        for name in [folder for folder in folders if folder.startswith("seg_")]:
            folders.remove(name)
            mask_folders.setdefault(name.removeprefix("seg_"), []).append(Path(place, name))
        for file in files:
            name = file.removesuffix(_SUFFIX)
            if name == file or not _NAME.fullmatch(name):
                continue
            if name in volumes:
                raise ValueError(f"The volume {name} stands in two places: {volumes[name]} and {Path(place, file)}.")
            volumes[name] = Path(place, file)
    for found in mask_folders.values():
        found.sort(key=lambda folder: (not folder.parent.name.endswith("region_mask"), str(folder)))
    return volumes, mask_folders


def _scan(name: str, path: Path, mask_folders: list[Path]) -> Scan:
    patient, part = _NAME.fullmatch(name).groups()
    masks = {organ: _masks(organ, mask_folders) for organ in PARTS}
    return Scan(name, patient, part, path, {organ: found for organ, found in masks.items() if found})


def _masks(organ: str, mask_folders: list[Path]) -> tuple[Path, ...]:
    for folder in mask_folders:
        if (folder / f"{organ}{_SUFFIX}").is_file():
            return (folder / f"{organ}{_SUFFIX}",)
    for folder in mask_folders:
        found = tuple(path for part in PARTS[organ] if (path := folder / f"{part}{_SUFFIX}").is_file())
        if found:
            return found
    return ()
