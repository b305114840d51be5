"""A miniature of RadGenome-Chest CT's release: NIfTI volumes and masks of the same grid, in its folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np


SLICES, ROWS, COLUMNS = 10, 32, 40

# By slice from the feet: the width of each lung, the side of the heart, the width of the abdomen, in pixels
LUNG_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 9, 6: 10, 7: 6, 8: 3}
HEART_SIDES = {4: 4, 5: 8, 6: 6, 7: 3}
ABDOMEN_WIDTHS = {0: 10, 1: 30, 2: 24, 3: 12}


def organ_masks() -> dict[str, np.ndarray]:
    """Return masks of shape (slices, rows, columns).

    They are seen from the feet, with the front at the top and the patient's right on the left.
    """
    masks = {
        name: np.zeros((SLICES, ROWS, COLUMNS), np.uint8) for name in ("right lung", "left lung", "heart", "abdomen")
    }
    for k, width in LUNG_WIDTHS.items():
        masks["right lung"][k, 4:24, 4 : 4 + width] = 1
        masks["left lung"][k, 4:24, 36 - width : 36] = 1
    for k, side in HEART_SIDES.items():
        masks["heart"][k, 12 : 12 + side, 18 : 18 + side] = 1
    for k, width in ABDOMEN_WIDTHS.items():
        masks["abdomen"][k, 8:28, 6 : 6 + width] = 1
    return {**masks, "lung": masks["right lung"] | masks["left lung"]}


def density(number: int) -> np.ndarray:
    """Return Hounsfield units, int16, of shape (slices, rows, columns): air, soft tissue of `number` HU, lungs."""
    values = np.full((SLICES, ROWS, COLUMNS), -1000, np.int16)
    values[:, 2:30, 2:38] = number
    values[organ_masks()["lung"] > 0] = -800
    return values


def save(path: Path, values: np.ndarray, axes: str = "LPS", affine: np.ndarray | None = None) -> Path:
    """Write an array (slices, rows, columns) with the requested axes; nibabel reorders them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Columns go to the patient's left, rows to the back, slices to the head; NIfTI's axes are positive to R, A, S
    image = nib.Nifti1Image(values.transpose(2, 1, 0), np.diag([-1.0, -1.0, 3.0, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    image = image.as_reoriented(turn)
    nib.save(image if affine is None else nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)
    return path


def write_volume(folder: Path, name: str, number: int, axes: str = "LPS") -> Path:
    """Write `<part>_preprocessed/train_1/train_1a/train_1_a_1.nii.gz`."""
    part, patient, scan, _ = name.split("_")
    place = folder / "dataset" / f"{part}_preprocessed" / f"{part}_{patient}" / f"{part}_{patient}{scan}"
    return save(place / f"{name}.nii.gz", density(number), axes)


def write_masks(
    folder: Path, name: str, masks: Mapping[str, np.ndarray], kind: str = "region", axes: str = "LPS"
) -> Path:
    """Write `<part>_<kind>_mask/seg_<volume>/<name>.nii.gz` and return the folder."""
    place = folder / "dataset" / f"{name.split('_')[0]}_{kind}_mask" / f"seg_{name}"
    for mask_name, mask in masks.items():
        save(place / f"{mask_name}.nii.gz", mask, axes)
    return place


def volume_names(num_train: int, num_valid: int) -> list[str]:
    """Return one scan per patient, and two of the first train patient."""
    second = ["train_1_b_1"] if num_train else []
    return [f"train_{k}_a_1" for k in range(1, num_train + 1)] + second + [
        f"valid_{k}_a_1" for k in range(1, num_valid + 1)
    ]  # fmt: skip


def write_raw(folder: Path, num_train: int = 10, num_valid: int = 2, names: Sequence[str] = ()) -> Path:
    """Write volumes and region masks. Each volume has four rows: heart and lung, abdomen and lung.

    Volumes differ in their soft tissue, so that no two slices are equal. Besides the three organs' there is a mask of
    the bones, as in the release, and a table.
    """
    masks = organ_masks()
    regions = {organ: masks[organ] for organ in ("heart", "lung", "abdomen")} | {"bone": masks["heart"]}
    for number, name in enumerate(names or volume_names(num_train, num_valid)):
        write_volume(folder, name, 5 * number)  # 5 HU are a grey value
        write_masks(folder, name, regions)
    table = folder / "dataset" / "radgenome_files" / "train_case_disorders.csv"
    table.parent.mkdir()
    table.write_text("Volumename,Disorders\ntrain_1_a_1.nii.gz,\n")
    return folder
