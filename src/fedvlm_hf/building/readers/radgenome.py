"""RadGenome-Chest CT: chest CT volumes, with one mask per organ.

Zhang et al., "RadGenome-Chest CT: A Grounded Vision-Language Dataset for Chest CT Analysis", 2024
(https://huggingface.co/papers/2404.16754), on the volumes of CT-RATE (https://huggingface.co/papers/2403.17834).

We did not have the release itself. Its layout is taken from public code: the authors' repository
(github.com/xiaoman-zhang/RadGenome-ChestCT, src/dataset/dataset_grounded_attn.py and train_image_path.csv) and that of
Reg2RG (github.com/zhi-xuan-chen/Reg2RG, src/Dataset/radgenome_dataset_train.py), which agree. The names of structures
are those that a public loader (github.com/constantinpape/torch-em) lists for the validation masks.
"""

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from ...data.pixels import scaled
from ..images import StoredImage
from . import nifti
from .files import RootFolder


LAYOUT = """\
dataset/, or its parent folder, with the mask archives unpacked:
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
"""The organs, and the structures that form an organ if there is no mask with its name."""

WINDOW = (-1000.0, 200.0)
"""Hounsfield units that become black and white: the range to which the authors' code clips. Air is black, lungs are
dark, soft tissue at 40 HU is light grey, and bone is white. A soft-tissue window would make the lungs black."""

_NAME = re.compile(r"((train|valid)_\d+)_[a-z]+_\d+")
_SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Scan:
    """One volume and the existing masks of its organs.

    Attributes:
        name (`str`): Such as `"train_1_a_1"`: patient, scan, reconstruction.
        patient (`str`): Such as `"train_1"`.
        part (`str`): `"train"` or `"valid"`, CT-RATE's own split by patient.
        path (`Path`): The volume.
        masks (`Mapping[str, tuple[Path, ...]]`): The mask of each organ, or the masks of its parts. Organs without a
            mask are left out.
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
        index (`int`): Index of the slice, counted from the feet.
        axes (`str`, *optional*): See [`nifti.Volume`].
    """

    key: str
    path: Path
    index: int
    axes: str | None = None

    is_made: ClassVar[bool] = True

    @property
    def file(self) -> Path:
        """The file that the image is made from."""
        return self.path

    def load(self) -> bytes:
        """Return an 8-bit PNG with one pixel per voxel, the patient's front at the top and the right on the left."""
        grey = scaled(nifti.Volume(self.path, self.axes).picture(self.index), *WINDOW)
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, format="PNG")
        return buffer.getvalue()


def read(raw: str | Path) -> list[Scan]:
    """Find the volumes and their masks by their names.

    Args:
        raw (`str` or `Path`):
            The folder, in the layout of `LAYOUT`.

    Returns:
        `list[Scan]`: in the order of their names, including volumes without masks.

    Raises:
        `ValueError`: if there is no volume or no mask, or a volume exists twice.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise ValueError(f"`raw={str(raw)!r}` is not a folder. Expected layout of RadGenome-Chest CT:\n{LAYOUT}")
    volumes, mask_folders = _walk(raw)
    required = {"volume such as train_1_a_1.nii.gz": volumes, "folder of masks such as seg_train_1_a_1": mask_folders}
    for what, found in required.items():
        if not found:
            raise ValueError(f"`raw`: there is no {what} in {raw}. Expected layout of RadGenome-Chest CT:\n{LAYOUT}")
    return [_scan(name, volumes[name], mask_folders.get(name, [])) for name in sorted(volumes)]


def _walk(raw: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Return the volumes and the folders of masks by volume name, with the masks of regions first."""
    volumes: dict[str, Path] = {}
    mask_folders: dict[str, list[Path]] = {}
    root = RootFolder(raw, allow_links=True)
    for parent, folders, files in os.walk(raw, followlinks=True):
        for folder in folders:
            root.check(Path(parent, folder))  # a link to a folder around itself would be walked without end
        # Each of these has 210 files in the release, so they are not walked
        for name in [folder for folder in folders if folder.startswith("seg_")]:
            folders.remove(name)
            mask_folders.setdefault(name.removeprefix("seg_"), []).append(Path(parent, name))
        for file in files:
            name = file.removesuffix(_SUFFIX)
            if name == file or not _NAME.fullmatch(name):
                continue
            if not Path(parent, file).is_file():
                raise ValueError(f"{Path(parent, file)} is a link to a file that does not exist. Copy the file here.")
            if name in volumes:
                raise ValueError(f"The volume {name} exists twice: {volumes[name]} and {Path(parent, file)}.")
            volumes[name] = Path(parent, file)
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
