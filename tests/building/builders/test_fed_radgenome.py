"""Fed-RadGenome: two slices per volume, boxes from masks, each patient in one split, one client per organ."""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fedvlm_hf.building.builders import fed_radgenome
from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.builders.fed_radgenome import FedRadGenome, choose_slices, find_slices
from fedvlm_hf.building.readers import radgenome
from fedvlm_hf.building.work import Work
from fedvlm_hf.data.boxes import parse_box
from raw_radgenome import organ_masks, volume_names, write_masks, write_raw, write_volume


BOXES = {
    ("005", "heart"): "[0.450, 0.375, 0.650, 0.625]",
    ("005", "lung"): "[0.100, 0.125, 0.900, 0.750]",
    ("001", "abdomen"): "[0.150, 0.250, 0.900, 0.875]",
    ("001", "lung"): "[0.100, 0.125, 0.900, 0.750]",
}
"""Of the fixture's slices of 40 x 32 pixels: the heart is in columns 18-25 and rows 12-19 of slice 5, so its box is
[18/40, 12/32, 26/40, 20/32]; the lungs from column 4 to 35 and row 4 to 23; the abdomen in columns 6-35, rows 8-27."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def examples(raw):
    return FedRadGenome().read(raw, Work())


def scan_of(raw, name="train_1_a_1"):
    return next(scan for scan in radgenome.read(raw) if scan.name == name)


def test_it_is_registered():
    assert BUILDERS.get("fed_radgenome") is FedRadGenome


def test_a_volume_has_a_chest_and_an_abdomen_slice(examples):
    """Slice 5 has the largest heart (64 pixels of 64) and 360 of 400 pixels of lung: 1 + 0.9. Slice 6 has all of the
    lung and 36 of 64: 1.5625. The abdomen is widest in slice 1, where there is a bit of lung and no heart."""
    found = {
        (e.columns["slice_index"].zfill(3), e.columns["organ"]): e.references
        for e in examples
        if e.columns["volume"] == "train_1_a_1"
    }
    assert found == {key: (box,) for key, box in BOXES.items()}


def test_a_row_is_complete(examples):
    row = next(e for e in examples if e.id == "radgenome-valid_1_a_1-005-heart")
    assert row.task == "detection"
    assert row.prompt[0]["content"] == "Give the bounding box [x1, y1, x2, y2] of the heart in this chest CT slice."
    assert row.completion[0]["content"] == row.references[0] == BOXES["005", "heart"]
    assert row.columns == {"organ": "heart", "volume": "valid_1_a_1", "slice_index": "5", "patient": "valid_1"}
    assert row.image.key == "valid_1_a_1/005"
    assert row.split == "test"


def test_the_box_surrounds_the_organ_in_the_stored_picture(examples):
    """The darkest pixels of the chest slice inside the body are the lungs: -800 HU is 42 of 255."""
    row = next(e for e in examples if e.id == "radgenome-train_2_a_1-005-lung")
    picture = np.asarray(Image.open(io.BytesIO(row.image.load())))
    rows, columns = np.nonzero(picture == 42)
    box = parse_box(row.references[0])
    assert box == (columns.min() / 40, rows.min() / 32, (columns.max() + 1) / 40, (rows.max() + 1) / 32)


def test_the_axes_of_the_files_do_not_matter(raw, tmp_path):
    masks = {organ: organ_masks()[organ] for organ in ("heart", "lung", "abdomen")}
    write_volume(tmp_path, "train_1_a_1", 0, "RAS")
    write_masks(tmp_path, "train_1_a_1", masks, axes="RAS")
    write_volume(tmp_path, "train_2_a_1", 0, "SPL")
    write_masks(tmp_path, "train_2_a_1", masks, axes="SPL")
    expected = find_slices((scan_of(raw), None))["slices"]
    assert [find_slices((scan, None))["slices"] for scan in radgenome.read(tmp_path)] == [expected, expected]


def test_choosing_slices():
    """Heart and lung are weighed as shares: 2/4 + 30/30 = 1.5 and 4/4 + 20/30 = 1.67, so the second of them."""
    areas = {"heart": np.array([0, 2, 4, 0]), "lung": np.array([0, 30, 20, 9]), "abdomen": np.array([5, 8, 8, 0])}
    assert choose_slices(areas) == [1, 2]  # of the abdomen's equal slices the one nearest the feet
    assert choose_slices({"lung": areas["lung"], "abdomen": areas["abdomen"]}) == [1]
    assert choose_slices({"heart": areas["heart"]}) == [2]
    assert choose_slices({}) == []


def test_patients_stay_together_and_valid_is_test(examples):
    """10 train patients, of whom round(0.1 * 10) = 1 is validation; 2 valid patients."""
    splits = {}
    for example in examples:
        splits.setdefault(example.columns["patient"], set()).add(example.split)
    assert all(len(found) == 1 for found in splits.values())
    assert Counter(found.pop() for found in splits.values()) == {"train": 9, "validation": 1, "test": 2}
    assert {e.columns["patient"] for e in examples if e.split == "test"} == {"valid_1", "valid_2"}


@pytest.mark.parametrize("part", ["train", "valid"])
def test_patients_are_held_out_if_there_is_only_one_split(part, tmp_path):
    """10 patients: 2 test, 1 validation, 7 train."""
    raw = write_raw(tmp_path, names=[f"{part}_{k}_a_1" for k in range(1, 11)])
    examples = FedRadGenome().read(raw, Work())
    patients = {(e.columns["patient"], e.split) for e in examples}
    assert Counter(split for _, split in patients) == {"train": 7, "validation": 1, "test": 2}


def test_counts_add_up(raw):
    """13 volumes with two slices of three organs each: 78, less the heart in the abdomen slice and the abdomen in
    the chest slice of each: 52."""
    work = Work()
    examples = FedRadGenome().read(raw, work)
    assert work.counts.kept == len(examples) == 52
    counts = {line["what"]: line["count"] for line in work.counts.lines}
    assert counts["volumes found"] == counts["volumes with two slices"] == 13
    assert counts["organs in slices"] == 78
    assert counts["organs too small in the slice"] == 26
    assert len(work.sources["masks of 13 volumes"]) == 64


def test_what_is_missing_empty_or_small_is_counted(tmp_path):
    """Of four volumes: one whole; one whose heart's mask is empty: chest slice 6 by the lung alone, abdomen slice 1,
    so 2 rows of lung and 1 of abdomen; one without an abdomen mask: chest slice 5, heart and lung; one without any.

    Rows 4 + 3 + 2 = 9 of 3 organs in 2 + 2 + 1 slices = 15; empty: the heart in 2 slices; missing: the abdomen in 1;
    small: heart and abdomen of the first, the abdomen of the second in its chest slice: 3.
    """
    masks = {organ: organ_masks()[organ] for organ in ("heart", "lung", "abdomen")}
    for number, name in enumerate(("train_1_a_1", "train_2_a_1", "train_3_a_1", "train_4_a_1")):
        write_volume(tmp_path, name, number)
    write_masks(tmp_path, "train_1_a_1", masks)
    write_masks(tmp_path, "train_2_a_1", {**masks, "heart": np.zeros_like(masks["heart"])})
    write_masks(tmp_path, "train_3_a_1", {organ: masks[organ] for organ in ("heart", "lung")})
    work = Work()
    examples = FedRadGenome().read(tmp_path, work)
    assert work.counts.kept == len(examples) == 9
    counts = {line["what"]: line["count"] for line in work.counts.lines}
    assert counts["volumes without a mask of the three organs"] == 1
    assert (counts["volumes with two slices"], counts["volumes with one slice"]) == (2, 1)
    assert counts["organs whose mask is empty"] == 2
    assert counts["organs whose mask is missing"] == 1
    assert counts["organs too small in the slice"] == 3


def test_an_organ_of_one_percent_has_a_box_and_less_has_none(tmp_path):
    """1 % of 40 x 32 = 12.8 pixels: 13 are enough, 12 are not."""
    for number, area in enumerate((13, 12), start=1):
        heart = np.zeros((10, 32, 40), np.uint8)
        heart[4, 10, :area] = 1
        write_volume(tmp_path, f"train_{number}_a_1", number)
        write_masks(tmp_path, f"train_{number}_a_1", {"heart": heart})
    found = [find_slices((scan, None)) for scan in radgenome.read(tmp_path)]
    assert [[list(one["boxes"]) for one in result["slices"]] for result in found] == [[["heart"]], [[]]]
    assert [result["small"] for result in found] == [0, 1]


def test_the_union_of_parts_is_the_mask_of_an_organ(tmp_path):
    """Both lungs of the anatomy masks give the box of the region's mask of the lungs."""
    masks = organ_masks()
    write_volume(tmp_path, "train_1_a_1", 0)
    parts = {"heart": masks["heart"], "left lung": masks["left lung"], "right lung": masks["right lung"]}
    write_masks(tmp_path, "train_1_a_1", {**parts, "liver": masks["abdomen"]}, "anatomy")
    (scan,) = radgenome.read(tmp_path)
    chest = find_slices((scan, None))["slices"][1]
    assert chest == {"index": 5, "boxes": {"heart": [0.45, 0.375, 0.65, 0.625], "lung": [0.1, 0.125, 0.9, 0.75]}}


def test_some_volumes_are_drawn_by_the_seed(raw):
    def drawn(seed):
        work = Work()
        rows = FedRadGenome(num_volumes=6, seed=seed).read(raw, work)
        counts = {line["what"]: line["count"] for line in work.counts.lines}
        assert counts["volumes not drawn"] == 7
        return {e.columns["volume"] for e in rows}

    assert len(drawn(0)) == 6
    assert drawn(0) == drawn(0) != drawn(1)


def test_noniid_has_one_client_per_organ(examples):
    noniid, iid = FedRadGenome().partitions(examples)
    organs = ("abdomen", "heart", "lung")
    assert noniid.client_names == {f"client_{k:02d}": organ for k, organ in enumerate(organs)}
    for example, split in zip(examples, noniid.splits, strict=True):
        expected = f"client_{organs.index(example.columns['organ']):02d}"
        assert split == (expected if example.split == "train" else example.split)
    held_out = [row for row, split in enumerate(noniid.splits) if split in ("validation", "test")]
    assert all(noniid.client_ids[row] == noniid.splits[0][:-1] + "012"[organs.index(examples[row].columns["organ"])]
               for row in held_out)  # fmt: skip
    assert (noniid.name, iid.name) == ("noniid", "iid")


def test_iid_spreads_organs_evenly(examples):
    """The counts of any organ in two clients differ by at most one."""
    iid = FedRadGenome().partitions(examples)[1]
    counts = Counter(
        (split, example.columns["organ"]) for example, split in zip(examples, iid.splits, strict=True)
        if example.split == "train"
    )  # fmt: skip
    for organ in ("abdomen", "heart", "lung"):
        sizes = [counts[f"client_{k:02d}", organ] for k in range(3)]
        assert sum(sizes) and max(sizes) - min(sizes) <= 1


def test_no_client_has_a_test_slice(examples):
    for partition in FedRadGenome().partitions(examples):
        keys = {True: set(), False: set()}
        for example, split in zip(examples, partition.splits, strict=True):
            keys[split in ("validation", "test")].add(example.image.key)
        assert not keys[True] & keys[False]
        assert partition.known_leak is None


def test_equal_slices_of_two_splits_leave_the_held_out_one(tmp_path):
    """The abdomen and chest slices of valid_1 are those of train_1 too: the training rows go, 4 of them."""
    raw = write_raw(tmp_path, names=volume_names(8, 0))
    masks = {organ: organ_masks()[organ] for organ in ("heart", "lung", "abdomen")}
    write_volume(raw, "valid_1_a_1", 0)  # as dense as train_1_a_1
    write_masks(raw, "valid_1_a_1", masks)
    work = Work()
    examples = FedRadGenome().read(raw, work)
    assert "train_1_a_1" not in {e.columns["volume"] for e in examples}
    assert sum(e.columns["volume"] == "valid_1_a_1" for e in examples) == 4
    assert work.counts.kept == len(examples)


def test_a_killed_build_continues_where_it_stopped(tmp_path, monkeypatch):
    """The second read takes the slices of every volume from the journal: none is searched again."""
    folder = tmp_path / "work"
    folder.mkdir()
    copy = write_raw(tmp_path / "raw", num_train=4, num_valid=1)
    first = FedRadGenome().read(copy, Work(folder=folder))
    searched = []
    monkeypatch.setattr(fed_radgenome, "find_slices", lambda item: searched.append(item) or find_slices(item))
    again = FedRadGenome().read(copy, Work(folder=folder))
    assert [replace(e, image=None) for e in again] == [replace(e, image=None) for e in first]
    assert searched == []
    FedRadGenome().read(copy, Work())
    assert len(searched) == len(radgenome.read(copy))


def test_more_processes_find_the_same(raw, examples):
    assert FedRadGenome().read(raw, Work(num_workers=2)) == examples


def test_a_mask_of_another_shape_is_an_error_with_both_paths(tmp_path):
    raw = write_raw(tmp_path, num_train=4, num_valid=0)
    write_masks(raw, "train_2_a_1", {"heart": organ_masks()["heart"][:9]})
    with pytest.raises(
        ValueError, match=r"seg_train_2_a_1/heart\.nii\.gz has \(9, 32, 40\).*train_2_a_1\.nii\.gz has \(10"
    ):
        FedRadGenome().read(raw, Work())


def test_a_truncated_mask_is_an_error_with_its_path(tmp_path):
    raw = write_raw(tmp_path, num_train=4, num_valid=0)
    path = scan_of(raw, "train_3_a_1").masks["lung"][0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"seg_train_3_a_1/lung\.nii\.gz cannot be read as a NIfTI volume"):
        FedRadGenome().read(raw, Work())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_volumes": 0}, r"`num_volumes=0` must be 1 or more"),
        ({"axes": "LP"}, r"`axes='LP'` must be three letters"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FedRadGenome(**options)


def test_more_volumes_than_exist_are_an_error(raw):
    with pytest.raises(ValueError, match=r"`num_volumes=14` is too large: 13 volumes with masks found"):
        FedRadGenome(num_volumes=14).read(raw, Work())


def test_only_masks_of_other_organs_are_an_error(tmp_path):
    write_volume(tmp_path, "train_1_a_1", 0)
    write_masks(tmp_path, "train_1_a_1", {"bone": organ_masks()["heart"]})
    with pytest.raises(ValueError, match=r"1 volume found, but no mask of \['abdomen', 'heart', 'lung'\]"):
        FedRadGenome().read(tmp_path, Work())


def test_masks_that_change_while_a_build_is_interrupted_are_read_again(tmp_path):
    """The journal of the interrupted build has the slices of the old masks."""
    raw, folder = write_raw(tmp_path / "raw"), tmp_path / "journals"
    folder.mkdir()
    FedRadGenome().read(raw, Work(folder))
    write_masks(raw, "train_1_a_1", {"heart": organ_masks()["abdomen"]})
    again, fresh = (FedRadGenome().read(raw, work) for work in (Work(folder), Work()))
    assert [(e.id, e.references) for e in again] == [(e.id, e.references) for e in fresh]
