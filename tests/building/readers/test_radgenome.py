"""Volumes and masks of RadGenome-Chest CT are found by name, and slices become pictures."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

import raw_radgenome
from fedvlm_hf.building.readers import radgenome


def names(scan, organ):
    return [path.relative_to(path.parents[1]).as_posix() for path in scan.masks.get(organ, ())]


def test_volumes_come_with_patient_part_and_masks(tmp_path):
    raw = raw_radgenome.write_raw(tmp_path, num_train=2, num_valid=1)
    scans = radgenome.read(raw)
    assert [(scan.name, scan.patient, scan.part) for scan in scans] == [
        ("train_1_a_1", "train_1", "train"),
        ("train_1_b_1", "train_1", "train"),
        ("train_2_a_1", "train_2", "train"),
        ("valid_1_a_1", "valid_1", "valid"),
    ]
    assert scans[0].path == tmp_path / "dataset/train_preprocessed/train_1/train_1a/train_1_a_1.nii.gz"
    assert list(scans[0].masks) == ["abdomen", "heart", "lung"]
    assert names(scans[3], "lung") == ["seg_valid_1_a_1/lung.nii.gz"]
    assert radgenome.read(raw / "dataset") == scans  # a level down does too


def test_a_region_comes_before_a_structure_and_a_structure_before_parts(tmp_path):
    mask = raw_radgenome.organ_masks()["lung"]
    raw_radgenome.write_volume(tmp_path, "train_1_a_1", 0)
    raw_radgenome.write_masks(tmp_path, "train_1_a_1", {"heart": mask}, "region")
    structures = ("heart", "left lung", "right lung", "lung", "liver", "spleen", "left kidney")
    raw_radgenome.write_masks(tmp_path, "train_1_a_1", dict.fromkeys(structures, mask), "anatomy")
    (scan,) = radgenome.read(tmp_path)
    assert [path.parent.parent.name for path in scan.masks["heart"]] == ["train_region_mask"]
    assert names(scan, "lung") == ["seg_train_1_a_1/lung.nii.gz"]
    assert names(scan, "abdomen") == ["seg_train_1_a_1/liver.nii.gz", "seg_train_1_a_1/spleen.nii.gz"]


def test_organs_without_masks_are_left_out_of_a_scan(tmp_path):
    raw_radgenome.write_volume(tmp_path, "train_1_a_1", 0)
    raw_radgenome.write_volume(tmp_path, "train_2_a_1", 0)
    raw_radgenome.write_masks(tmp_path, "train_2_a_1", {"left lung": raw_radgenome.organ_masks()["left lung"]})
    first, second = radgenome.read(tmp_path)
    assert first.masks == {}
    assert {organ: names(second, organ) for organ in second.masks} == {"lung": ["seg_train_2_a_1/left lung.nii.gz"]}


def test_errors_say_what_is_expected(tmp_path):
    with pytest.raises(
        ValueError, match=r"nowhere'` is not a folder. Expected layout of RadGenome-Chest CT:\ndataset/"
    ):
        radgenome.read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"there is no volume such as train_1_a_1.nii.gz"):
        radgenome.read(tmp_path)
    raw_radgenome.write_volume(tmp_path, "train_1_a_1", 0)
    with pytest.raises(ValueError, match=r"there is no folder of masks such as seg_train_1_a_1"):
        radgenome.read(tmp_path)
    raw_radgenome.write_volume(tmp_path / "again", "train_1_a_1", 0)
    with pytest.raises(ValueError, match=r"The volume train_1_a_1 exists twice"):
        radgenome.read(tmp_path)


def test_a_slice_is_a_grey_png_of_the_window(tmp_path):
    """-1000 HU is black, 200 HU white: 40 HU is (40 + 1000) / 1200 * 255 = 221, -800 HU 42.5, to even: 42."""
    path = raw_radgenome.write_volume(tmp_path, "train_1_a_1", 40)
    image = radgenome.VolumeSlice("train_1_a_1/005", path, 5)
    picture = Image.open(io.BytesIO(image.load()))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (40, 32))
    pixels = np.asarray(picture)
    assert (pixels[0, 0], pixels[15, 20], pixels[15, 5]) == (0, 221, 42)
    assert pickle.loads(pickle.dumps(image)) == image


def test_what_is_outside_the_window_is_black_and_white(tmp_path):
    values = np.full((1, 2, 2), [[-3024, -1000], [200, 3071]], np.int16)
    path = raw_radgenome.save(tmp_path / "v.nii.gz", values)
    picture = Image.open(io.BytesIO(radgenome.VolumeSlice("v/000", path, 0).load()))
    assert np.asarray(picture).tolist() == [[0, 0], [255, 255]]


def test_a_slice_has_the_same_bytes_however_the_file_stores_it(tmp_path):
    slices = [
        radgenome.VolumeSlice("v/003", raw_radgenome.write_volume(tmp_path / axes, "train_1_a_1", 40, axes), 3).load()
        for axes in ("LPS", "RAS", "SRP")
    ]
    assert slices[0] == slices[1] == slices[2]


def test_a_link_to_nowhere_is_named(tmp_path):
    raw = raw_radgenome.write_raw(tmp_path / "raw")
    volume = next(raw.rglob("train_1_a_1.nii.gz"))
    volume.unlink()
    volume.symlink_to(tmp_path / "not_here.nii.gz")
    with pytest.raises(ValueError, match=r"train_1_a_1\.nii\.gz is a link to a file that does not exist"):
        radgenome.read(raw)


def test_a_folder_that_contains_itself_is_named(tmp_path):
    """It is not walked without end. Folders on other disks are followed."""
    raw_radgenome.write_raw(tmp_path / "elsewhere", num_train=1, num_valid=1)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dataset").symlink_to(tmp_path / "elsewhere")
    assert radgenome.read(tmp_path / "raw")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"again is a link to .*elsewhere, a folder that contains the link itself"):
        radgenome.read(tmp_path / "raw")
