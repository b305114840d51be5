"""Volumes in NIfTI files, a slab at a time: axial slices the way radiologists look at them, however the file lies.

A NIfTI file stores its axes in any order and direction; its affine says which. Here slices are counted from the feet,
and a slice is a picture with the patient's front above and the patient's right on the left, as
`nibabel.as_closest_canonical` would give them, without a whole volume in memory.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np


AXES = ("LR", "AP", "IS")
"""What a voxel axis can run along: between left and right, front (anterior) and back (posterior), feet and head."""


class Volume:
    """A volume whose slices are read as they are asked for; slices in ascending order are one pass over the file.

    Args:
        path (`Path`):
            A `.nii.gz` or `.nii` file of three axes.
        axes (`str`, *optional*):
            Where the three voxel axes point to, such as `"LPS"`: left, back (posterior), head (superior). By default
            what the affine says; of an oblique affine the nearest.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: if it is not a NIfTI volume of three axes, `axes` are not three different ones, or nibabel is
            not installed.
    """

    def __init__(self, path: Path, axes: str | None = None):
        self.path = Path(path)
        with _reading(self.path):
            self._image = _nibabel().load(self.path, keep_file_open=True)
        if len(self._image.shape) != 3:
            raise ValueError(f"{self.path} has the shape {self._image.shape}; a volume has three axes.")
        self.axes = check_axes(axes) if axes else self._axes_of_affine()
        self._axial, self._rows, self._columns = (self._axis(line) for line in ("IS", "AP", "LR"))

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        return tuple(self._image.shape[axis] for axis in (self._axial, self._rows, self._columns))

    def picture(self, index: int) -> np.ndarray:
        """One axial slice.

        Args:
            index (`int`):
                Counted from the feet.

        Returns:
            `np.ndarray` of shape `(rows, columns)`: values with the header's slope and intercept applied. Row 0 is
            the patient's front, column 0 the patient's right.

        Raises:
            `ValueError`: if the volume has no such slice, or the file is truncated.
        """
        if not 0 <= index < self.shape[0]:
            raise ValueError(f"{self.path} has {self.shape[0]} slices, and no slice {index}.")
        place: list[Any] = [slice(None)] * 3
        place[self._axial] = index if self.axes[self._axial] == "S" else self.shape[0] - 1 - index
        picture = self._read(tuple(place))
        if self._rows > self._columns:
            picture = picture.T
        if self.axes[self._rows] == "A":
            picture = picture[::-1]
        return picture[:, ::-1] if self.axes[self._columns] == "R" else picture

    def slabs(self) -> Iterator[np.ndarray]:
        """The file from its first byte to its last: for each place on the last stored axis the array of the others."""
        for place in range(self._image.shape[2]):
            yield self._read((slice(None), slice(None), place))

    def _read(self, place: tuple[Any, ...]) -> np.ndarray:
        with _reading(self.path):
            return np.asanyarray(self._image.dataobj[place])

    def _axis(self, line: str) -> int:
        return next(axis for axis, code in enumerate(self.axes) if code in line)

    def _axes_of_affine(self) -> str:
        codes = _nibabel().aff2axcodes(self._image.affine)
        if None in codes:
            raise ValueError(f"{self.path}: its affine {self._image.affine.tolist()} has an axis without direction.")
        return "".join(codes)


def check_axes(axes: str) -> str:
    """Three letters, one of each of `AXES`.

    Raises:
        `ValueError`: if they are not.
    """
    if len(axes) != 3 or any(sum(code in line for code in axes) != 1 for line in AXES):
        raise ValueError(
            f"`axes={axes!r}` must be three letters, one of L and R, one of A and P, one of I and S, in the order of "
            'the stored axes, such as "LPS".'
        )
    return axes


def check_same_grid(volume: Volume, mask: Volume) -> None:
    """A mask marks the volume's voxels: it has to have their number and their directions.

    Raises:
        `ValueError`: if it has not.
    """
    if mask.shape != volume.shape:
        raise ValueError(
            f"{mask.path} has {mask.shape} slices, rows and columns, {volume.path} has {volume.shape}: the mask is of "
            "another volume, or of another processing of it."
        )
    if mask.axes != volume.axes:
        raise ValueError(
            f"The axes of {mask.path} point to {mask.axes}, those of {volume.path} to {volume.axes}: one of the "
            "affines is wrong. Look at both, and give the right axes as `axes`."
        )


def areas(masks: Sequence[Volume]) -> np.ndarray:
    """How much of each slice is marked, in one pass over each file.

    Args:
        masks (`Sequence[Volume]`):
            Parts of one thing, on one grid; zero outside.

    Returns:
        `np.ndarray` of shape `(slices,)`: numbers of pixels that lie in any part, counted from the feet.

    Raises:
        `ValueError`: if a file is truncated.
    """
    first = masks[0]
    axial = first.axes.index("S" if "S" in first.axes else "I")
    counts = np.zeros(first.shape[0], dtype=np.int64)
    for place, slabs in enumerate(zip(*(mask.slabs() for mask in masks), strict=True)):
        marked = np.any([slab > 0 for slab in slabs], axis=0)
        if axial == 2:
            counts[place] = np.count_nonzero(marked)
        else:
            counts += np.count_nonzero(marked, axis=1 - axial)
    return counts if first.axes[axial] == "S" else counts[::-1]


def union(masks: Sequence[Volume], index: int) -> np.ndarray:
    """Where a slice is marked by any of the masks: a boolean array of shape `(rows, columns)`."""
    return np.any([mask.picture(index) > 0 for mask in masks], axis=0)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ValueError("NIfTI volumes are read with nibabel: pip install fedvlm_hf[radgenome]") from error
    return nibabel


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a missing, truncated or wrong file raises, as one error with the path."""
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
