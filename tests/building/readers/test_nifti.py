"""NIfTI volumes: slices do not depend on the stored axes, areas need one pass, errors have the path."""

import builtins
import gzip

import nibabel as nib
import numpy as np
import pytest

import raw_radgenome
from fedvlm_hf.building.readers import nifti


ALL_AXES = ["LPS", "RAS", "RPI", "SPL", "PIR", "ASR", "LSA"]


@pytest.fixture
def values():
    """(slices, rows, columns), every voxel its own value."""
    return np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@pytest.mark.parametrize("axes", ALL_AXES)
def test_a_slice_is_the_same_picture_however_the_file_stores_it(values, axes, tmp_path):
    volume = nifti.Volume(raw_radgenome.save(tmp_path / "v.nii.gz", values, axes))
    assert volume.axes == axes
    assert volume.shape == (3, 4, 5)
    for index in range(3):
        np.testing.assert_array_equal(volume.picture(index), values[index])


def test_the_position_of_a_landmark_by_hand(tmp_path):
    """NIfTI's x grows to the patient's right, y to the front, z to the head. Voxels are 10 x 10 x 6 mm, 3 x 5 x 2 of
    them, the first at (-20, -10, 0): the voxel (0, 4, 1) is at (-20, 30, 6), leftmost, foremost and uppermost.

    In the picture the patient's left is on the right: column 2 of 0..2. The front is above: row 0. It is in the upper
    of the two slices: slice 1.
    """
    stored = np.zeros((3, 5, 2), np.int16)
    stored[0, 4, 1] = 7
    affine = np.array([[10, 0, 0, -20], [0, 10, 0, -10], [0, 0, 6, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "v.nii.gz")
    volume = nifti.Volume(tmp_path / "v.nii.gz")
    assert np.argwhere(volume.picture(1) == 7).tolist() == [[0, 2]]
    assert not volume.picture(0).any()


def test_an_oblique_affine_counts_as_the_nearest_axes(values, tmp_path):
    """15 degrees about the long axis: x goes mostly to the left still."""
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.26), -np.sin(0.26)], [np.sin(0.26), np.cos(0.26)]]
    affine = turn @ np.diag([-1.0, -1.0, 3.0, 1.0])
    volume = nifti.Volume(raw_radgenome.save(tmp_path / "v.nii.gz", values, "LPS", affine))
    assert volume.axes == "LPS"
    np.testing.assert_array_equal(volume.picture(2), values[2])


def test_given_axes_replace_a_wrong_affine(values, tmp_path):
    """Stored LPS under an identity affine, which says RAS: mirrored and upside down, unless told."""
    path = raw_radgenome.save(tmp_path / "v.nii.gz", values, "LPS", np.eye(4))
    np.testing.assert_array_equal(nifti.Volume(path).picture(1), values[1, ::-1, ::-1])
    np.testing.assert_array_equal(nifti.Volume(path, "LPS").picture(1), values[1])


def test_slope_and_intercept_of_the_header_are_applied(values, tmp_path):
    """Stored v with slope 2 and intercept -1024 means 2 v - 1024."""
    image = nib.Nifti1Image(values.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "v.nii.gz")
    stored = nib.load(tmp_path / "v.nii.gz").dataobj
    assert (stored.slope, stored.inter) == (2, -1024)
    np.testing.assert_array_equal(
        nifti.Volume(tmp_path / "v.nii.gz").picture(0), 2.0 * stored.get_unscaled().T[0] - 1024
    )


@pytest.mark.parametrize("axes", ALL_AXES)
def test_areas_are_counted_from_the_feet(axes, tmp_path):
    """Slice 0 has 1 pixel in one part and 2 in the other, one of them the same: 2. Slice 2 has 1; slice 1 none."""
    first, second = np.zeros((2, 3, 4, 5), np.uint8)
    first[0, 1, 1] = second[0, 1, 1] = second[0, 3, 4] = first[2, 0, 0] = 1
    parts = [
        nifti.Volume(raw_radgenome.save(tmp_path / f"{number}.nii.gz", mask, axes))
        for number, mask in enumerate((first, second))
    ]
    assert nifti.areas(parts).tolist() == [2, 0, 1]
    np.testing.assert_array_equal(nifti.union(parts, 0), (first | second)[0] > 0)


def test_areas_need_one_pass_over_a_compressed_file(tmp_path, monkeypatch):
    """Going back in a gzip file means unpacking it from its start again: no read may start before the last one."""
    path = raw_radgenome.save(tmp_path / "m.nii.gz", raw_radgenome.organ_masks()["lung"])
    mask = nifti.Volume(path)
    places, seek = [], gzip.GzipFile.seek

    def noted(self, offset, whence=0):
        places.append(offset)
        return seek(self, offset, whence)

    monkeypatch.setattr(gzip.GzipFile, "seek", noted)
    nifti.areas([mask])
    assert len(places) >= raw_radgenome.SLICES
    assert places == sorted(places)


def test_a_truncated_file_is_an_error_with_its_path(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (10, 32, 40)).astype(np.uint8)
    path = raw_radgenome.save(tmp_path / "m.nii.gz", noise)
    path.write_bytes(path.read_bytes()[:-200])
    mask = nifti.Volume(path)
    with pytest.raises(ValueError, match=r"m\.nii\.gz cannot be read as a NIfTI volume .*Download or unpack it again"):
        nifti.areas([mask])


@pytest.mark.parametrize(
    "content",
    [b"", b"not a volume", gzip.compress(b"not a volume"), gzip.compress(bytes(400))],
    ids=["empty", "text", "packed-text", "packed-zeros"],  # packed bytes hold the time; ids do not
)
def test_a_file_that_is_not_a_volume_is_an_error_with_its_path(content, tmp_path):
    (tmp_path / "v.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.nii\.gz cannot be read as a NIfTI volume"):
        nifti.Volume(tmp_path / "v.nii.gz")


def test_a_missing_file_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"v\.nii\.gz"):
        nifti.Volume(tmp_path / "v.nii.gz")


def test_four_axes_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4)), tmp_path / "v.nii.gz")
    with pytest.raises(ValueError, match=r"v\.nii\.gz has the shape \(2, 2, 2, 3\)"):
        nifti.Volume(tmp_path / "v.nii.gz")


@pytest.mark.parametrize("index", [-1, 3])
def test_a_slice_outside_the_volume_is_refused(values, index, tmp_path):
    volume = nifti.Volume(raw_radgenome.save(tmp_path / "v.nii.gz", values))
    with pytest.raises(ValueError, match=f"has 3 slices, so there is no slice {index}"):
        volume.picture(index)


@pytest.mark.parametrize("axes", ["LP", "LPL", "LRS", "lps", "LPSA", "XYZ"])
def test_wrong_axes_are_refused(axes):
    with pytest.raises(ValueError, match=f"`axes='{axes}'` must be three letters"):
        nifti.check_axes(axes)


def test_a_mask_of_another_grid_is_refused(values, tmp_path):
    volume = nifti.Volume(raw_radgenome.save(tmp_path / "v.nii.gz", values))
    other = nifti.Volume(raw_radgenome.save(tmp_path / "m.nii.gz", values[:2]))
    with pytest.raises(ValueError, match=r"m\.nii\.gz has \(2, 4, 5\) slices, rows and columns, .*v\.nii\.gz has \(3"):
        nifti.check_same_grid(volume, other)
    turned = nifti.Volume(raw_radgenome.save(tmp_path / "t.nii.gz", values, "RAS"))
    with pytest.raises(ValueError, match=r"t\.nii\.gz point to RAS, those of .*v\.nii\.gz to LPS"):
        nifti.check_same_grid(volume, turned)


def test_without_nibabel_the_error_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "nibabel":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install fedvlm_hf\[radgenome\]"):
        nifti.Volume(tmp_path / "v.nii.gz")
