"""Read axial slices of volumes in NIfTI files, oriented as radiologists view them, without loading whole volumes.

A NIfTI file stores its axes in any order and direction, given by its affine. Here slices are counted from the feet,
and a slice is a picture with the patient's front at the top and the patient's right on the left, consistent with
`nibabel.as_closest_canonical`.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np


AXES = ("LR", "AP", "IS")
"""The directions of voxel axes: left and right, front (anterior) and back (posterior), feet (inferior) and head."""


class Volume:
    """A volume whose slices are read on request. Reading slices in ascending order is one pass over the file.

    Args:
        path (`Path`):
            A `.nii.gz` or `.nii` file with three axes.
        axes (`str`, *optional*):
            The directions of the three voxel axes, such as `"LPS"`: left, back (posterior), head (superior). By
            default they are taken from the affine; for an oblique affine, the nearest directions are used.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: if the file is not a NIfTI volume with three axes, `axes` is invalid, or nibabel is not
            installed.
    """

    def __init__(self, path: Path, axes: str | None = None):
        self.path = Path(path)
        with _reading(self.path):
            self._image = _nibabel().load(self.path, keep_file_open=True)
        if len(self._image.shape) != 3:
            raise ValueError(f"{self.path} has the shape {self._image.shape}; a volume must have three axes.")
        self.axes = check_axes(axes) if axes else self._axes_of_affine()
        self._axial, self._rows, self._columns = (self._axis(line) for line in ("IS", "AP", "LR"))

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of slices, rows and columns."""
        return tuple(self._image.shape[axis] for axis in (self._axial, self._rows, self._columns))

    def picture(self, index: int) -> np.ndarray:
        """Read one axial slice.

        Args:
            index (`int`):
                Index of the slice, counted from the feet.

        Returns:
            `np.ndarray` of shape `(rows, columns)`: values with the header's slope and intercept applied. Row 0 is
            the patient's front, column 0 the patient's right.

        Raises:
            `ValueError`: if the volume has no such slice, or the file is truncated.
        """
        if not 0 <= index < self.shape[0]:
            raise ValueError(f"{self.path} has {self.shape[0]} slices, so there is no slice {index}.")
        key: list[Any] = [slice(None)] * 3
        key[self._axial] = index if self.axes[self._axial] == "S" else self.shape[0] - 1 - index
        picture = self._read(tuple(key))
        if self._rows > self._columns:
            picture = picture.T
        if self.axes[self._rows] == "A":
            picture = picture[::-1]
        return picture[:, ::-1] if self.axes[self._columns] == "R" else picture

    def slabs(self) -> Iterator[np.ndarray]:
        """Read the file from start to end: yield a two-dimensional array for each index of the last stored axis."""
        for index in range(self._image.shape[2]):
            yield self._read((slice(None), slice(None), index))

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        with _reading(self.path):
            return np.asanyarray(self._image.dataobj[key])

    def _axis(self, line: str) -> int:
        return next(axis for axis, code in enumerate(self.axes) if code in line)

    def _axes_of_affine(self) -> str:
        codes = _nibabel().aff2axcodes(self._image.affine)
        if None in codes:
            raise ValueError(f"{self.path}: an axis of its affine {self._image.affine.tolist()} has no direction.")
        return "".join(codes)


def check_axes(axes: str) -> str:
    """Check that `axes` has three letters, one from each entry of `AXES`, and return it.

    Raises:
        `ValueError`: if it does not.
    """
    if len(axes) != 3 or any(sum(code in line for code in axes) != 1 for line in AXES):
        raise ValueError(
            f"`axes={axes!r}` must be three letters, one of L and R, one of A and P, one of I and S, in the order of "
            'the stored axes, such as "LPS".'
        )
    return axes


def check_same_grid(volume: Volume, mask: Volume) -> None:
    """Check that a mask has the same shape and the same directions as its volume.

    Raises:
        `ValueError`: if it does not.
    """
    if mask.shape != volume.shape:
        raise ValueError(
            f"{mask.path} has {mask.shape} slices, rows and columns, {volume.path} has {volume.shape}: the mask "
            "belongs to another volume, or to another preprocessing of it."
        )
    if mask.axes != volume.axes:
        raise ValueError(
            f"The axes of {mask.path} point to {mask.axes}, those of {volume.path} to {volume.axes}: one of the "
            "affines is wrong. Look at both files, and set the right directions with `axes`."
        )


def areas(masks: Sequence[Volume]) -> np.ndarray:
    """Return the area of an object in each slice, in one pass over each file.

    Args:
        masks (`Sequence[Volume]`):
            Masks of the parts of the object, on the same grid; zero outside.

    Returns:
        `np.ndarray` of shape `(slices,)`: the number of pixels in any of the parts, with slices counted from the feet.

    Raises:
        `ValueError`: if a file is truncated.
    """
    first = masks[0]
    axial = first.axes.index("S" if "S" in first.axes else "I")
    counts = np.zeros(first.shape[0], dtype=np.int64)
    for index, slabs in enumerate(zip(*(mask.slabs() for mask in masks), strict=True)):
        marked = np.any([slab > 0 for slab in slabs], axis=0)
        if axial == 2:
            counts[index] = np.count_nonzero(marked)
        else:
            counts += np.count_nonzero(marked, axis=1 - axial)
    return counts if first.axes[axial] == "S" else counts[::-1]


def union(masks: Sequence[Volume], index: int) -> np.ndarray:
    """Return the union of the masks in one slice, a boolean array of shape `(rows, columns)`."""
    return np.any([mask.picture(index) > 0 for mask in masks], axis=0)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ValueError("Reading NIfTI volumes needs nibabel: pip install fedvlm_hf[radgenome]") from error
    return nibabel


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of truncated and invalid files into one `ValueError` with the path."""
    nibabel = _nibabel()
    broken = (
        OSError,  # wrong header, bad gzip, an uncompressed file that ends early
        EOFError,  # a gzip that ends early
        zlib.error,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
    )
    try:
        yield
    except FileNotFoundError:
        raise
    except broken as error:
        raise ValueError(
            f"{path} cannot be read as a NIfTI volume ({type(error).__name__}: {error}). Download or unpack it again."
        ) from error
