"""Fed-Med: four downloads, three tasks, one client per task; no client has an image of a held-out row."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest

import raw_mimic_cxr
import raw_radgenome
import raw_slake
import raw_vqa_rad
from fedvlm_hf.building.builders.base import BUILDERS, column
from fedvlm_hf.building.builders.fed_med import FedMed, report_text
from fedvlm_hf.building.builders.fed_radgenome import FedRadGenome
from fedvlm_hf.building.work import Work


def slake_rows():
    """Six English questions about the chest (the last has no answer), one about the abdomen, one in Chinese."""
    places = ("Lung", "Chest_lung", "Chest_heart", "Chest_mediastinal", "Lung", "Lung")
    rows = [
        raw_slake.row(qid, qid, "en", "Organ", "Which organ?", "Lung" if qid < 5 else "", location=place)
        for qid, place in enumerate(places)
    ]
    return {
        "train": [*rows[:3], rows[5], raw_slake.row(6, 6, "en", "Organ", "Which organ?", "Liver")],
        "validate": [rows[3], raw_slake.row(7, 7, "zh", "Organ", "哪个器官?", "肺", location="Lung")],
        "test": [rows[4]],
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw")
    raw_slake.write_raw(raw / "slake", slake_rows())
    raw_vqa_rad.write_raw(raw / "vqa_rad")
    raw_radgenome.write_raw(raw / "radgenome", num_train=4)
    raw_mimic_cxr.write_raw(raw / "mimic_cxr", raw_mimic_cxr.default_studies(20, 4, 6))
    return raw


def read(raw, **options):
    work = Work()
    examples = FedMed(num_reports=20, **options).read(raw, work)
    assert work.counts.kept == len(examples)
    return examples, work


@pytest.fixture(scope="module")
def examples(raw):
    return read(raw)[0]


def test_it_is_registered():
    assert BUILDERS.get("fed_med") is FedMed


def test_every_source_gives_its_rows(examples):
    """SLAKE 5 of 8; VQA-RAD's chest 9 + 2; 7 volumes of 4 rows; 20 reports."""
    assert Counter(column(examples, "source")) == {"slake": 5, "vqa_rad": 11, "radgenome": 28, "mimic_cxr": 20}
    assert Counter(column(examples, "task")) == {"vqa": 16, "detection": 28, "report": 20}
    assert len({example.id for example in examples}) == len(examples)
    assert {tuple(example.columns) for example in examples} == {("source", "subset", "region", "study_id")}


def test_slake_keeps_its_splits(examples):
    rows = [e for e in examples if e.columns["source"] == "slake"]
    assert [(e.id, e.split, e.columns["region"]) for e in rows] == [
        ("slake-0", "train", "Lung"),
        ("slake-1", "train", "Chest_lung"),
        ("slake-2", "train", "Chest_heart"),
        ("slake-3", "validation", "Chest_mediastinal"),
        ("slake-4", "test", "Lung"),
    ]


def test_vqa_rad_is_held_out_by_image(examples):
    """Four chest images: max(1, round(0.2 * 4)) = 1 test, max(1, round(0.1 * 4)) = 1 validation, 2 train."""
    splits = {}
    for example in examples:
        if example.columns["source"] == "vqa_rad":
            splits.setdefault(example.image.key, set()).add(example.split)
    assert sorted(split for (split,) in splits.values()) == ["test", "train", "train", "validation"]
    assert {key[:17] for key in splits} == {"images/synpicCHES"}


def test_boxes_are_those_of_fed_radgenome(raw, examples):
    """The same rows except for the additional columns."""
    own = [replace(e, columns={}) for e in examples if e.task == "detection"]
    assert own == [replace(e, columns={}) for e in FedRadGenome().read(raw / "radgenome", Work())]
    assert next(e.columns for e in examples if e.id == "radgenome-train_1_a_1-005-heart") == {
        "source": "radgenome",
        "subset": None,
        "region": "heart",
        "study_id": "train_1_a_1",
    }


def test_a_report_row_is_complete(raw):
    examples, _ = read(raw, tasks="report")
    row = next(e for e in examples if e.split == "test")
    number = int(row.columns["study_id"][1:]) - 50000000
    assert row.id == f"mimic_cxr-s{50000000 + number}"
    assert row.prompt[0]["content"] == "Write the radiology report of this chest radiograph: findings and impression."
    assert row.references == (
        f"Findings: The lungs of case {number} are clear without focal consolidation. The heart is not enlarged. "
        "Impression: No change since ___.",
    )
    assert row.completion[0]["content"] == row.references[0]
    assert row.image.key.endswith(f"/s{50000000 + number}/c{number:04d}-dicom.jpg")


def test_reports_are_drawn_from_the_official_splits(raw):
    """Of 20: 20 % = 4 test of 6, 10 % = 2 validation of 4, 14 train of 20; another seed, another draw."""
    first, work = read(raw, tasks="report")
    assert Counter(column(first, "split")) == {"train": 14, "validation": 2, "test": 4}
    assert len(work.sources["texts of 20 reports"]) == 64
    assert [e.id for e in first] == [e.id for e in read(raw, tasks="report")[0]]
    assert [e.id for e in first] != [e.id for e in read(raw, tasks="report", seed=1)[0]]


def test_reports_without_text_are_counted_and_others_drawn(raw, tmp_path):
    """Every second study has no findings and no impression: 10 of 20 train ones are left for 14."""
    studies = raw_mimic_cxr.default_studies(20, 4, 6)
    studies[::2] = [replace(study, report=" FINAL REPORT\n HISTORY: Cough.\n") for study in studies[::2]]
    raw_mimic_cxr.write_raw(tmp_path / "mimic_cxr", studies)
    examples, work = read(tmp_path, tasks="report")
    assert Counter(column(examples, "split")) == {"train": 10, "validation": 2, "test": 3}
    counts = {line["what"]: line["count"] for line in work.counts.lines}
    assert counts["reports fewer than requested in train"] == 4
    assert counts["reports fewer than requested in test"] == 1
    assert counts["reports of MIMIC-CXR without text"] >= 13  # all such of train and test


def test_a_patient_stays_in_one_split(tmp_path):
    """The last train study is of the first test patient: it is left out, though all 20 train studies are asked for."""
    studies = raw_mimic_cxr.default_studies(20, 4, 6)
    studies[19] = replace(studies[19], subject=studies[24].subject)
    raw_mimic_cxr.write_raw(tmp_path / "mimic_cxr", studies)
    work = Work()
    examples = FedMed(num_reports=29, tasks="report").read(tmp_path, work)  # 20 train, 3 validation, 6 test
    assert "s50000019" not in column(examples, "study_id")
    assert Counter(column(examples, "split")) == {"train": 19, "validation": 3, "test": 6}
    counts = {line["what"]: line["count"] for line in work.counts.lines}
    assert counts["studies whose patient is also in a later split"] == 1


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"findings": "Clear.", "impression": "Normal."}, "Findings: Clear. Impression: Normal."),
        ({"impression": "Normal."}, "Impression: Normal."),
        ({}, ""),
    ],
)
def test_report_text(sections, text):
    assert report_text(sections) == text


def test_noniid_has_one_client_per_task(examples):
    noniid, iid = FedMed().partitions(examples)
    tasks = ("vqa", "detection", "report")
    assert noniid.client_names == {f"client_{k:02d}": task for k, task in enumerate(tasks)}
    for example, split, client_id in zip(examples, noniid.splits, noniid.client_ids, strict=True):
        client = f"client_{tasks.index(example.task):02d}"
        assert (split, client_id) == ((client, None) if example.split == "train" else (example.split, client))
    counts = Counter((s, e.task) for e, s in zip(examples, iid.splits, strict=True) if e.split == "train")
    for task in tasks:
        sizes = [counts[f"client_{k:02d}", task] for k in range(3)]
        assert min(sizes) > 0 and max(sizes) - min(sizes) <= 1


def test_no_client_has_an_image_of_a_held_out_row(examples):
    held_out = {e.image.load() for e in examples if e.split != "train"}
    assert not held_out & {e.image.load() for e in examples if e.split == "train"}


def test_an_image_in_two_sources_leaves_the_training_row(raw, tmp_path):
    """The image of SLAKE's test row is put under that of a VQA-RAD training image: its 2 rows or more go."""
    shutil.copytree(raw / "slake", tmp_path / "slake")
    shutil.copytree(raw / "vqa_rad", tmp_path / "vqa_rad")
    before = read(tmp_path, tasks="vqa")[0]
    key = next(e.image.key for e in before if e.columns["source"] == "vqa_rad" and e.split == "train")
    shutil.copy(tmp_path / "slake" / "imgs" / "xmlab4" / "source.jpg", tmp_path / "vqa_rad" / key)
    after, work = read(tmp_path, tasks="vqa")
    assert [e.id for e in after] == [e.id for e in before if e.image.key != key]
    counts = {line["what"]: line["count"] for line in work.counts.lines}
    assert counts["train rows whose image is also in validation or test"] == len(before) - len(after) >= 2


def test_two_tasks_are_two_clients(raw, tmp_path):
    for folder in ("slake", "vqa_rad", "radgenome"):
        (tmp_path / folder).symlink_to(raw / folder)
    examples, _ = read(tmp_path, tasks="detection,vqa")
    noniid, iid = FedMed(tasks="detection,vqa").partitions(examples)
    assert noniid.client_names == {"client_00": "vqa", "client_01": "detection"}
    assert set(iid.splits) == {"client_00", "client_01", "validation", "test"}


def test_an_absent_source_is_named(raw, tmp_path):
    (tmp_path / "slake").symlink_to(raw / "slake")
    (tmp_path / "radgenome").symlink_to(raw / "radgenome")
    with pytest.raises(ValueError, match=r"no folder .*/vqa_rad, .*/mimic_cxr\. `tasks='vqa,detection,report'` needs"):
        FedMed().read(tmp_path, Work())


def test_the_hub_copy_of_vqa_rad_is_refused(raw, tmp_path):
    (tmp_path / "slake").symlink_to(raw / "slake")
    raw_vqa_rad.write_hub(tmp_path / "vqa_rad")
    with pytest.raises(ValueError, match="which has no organs"):
        FedMed(tasks="vqa").read(tmp_path, Work())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "vqa,boxes"}, r"`tasks='vqa,boxes'` must be one or several of \['vqa', 'detection', 'report'\]"),
        ({"tasks": "vqa,vqa"}, r"`tasks='vqa,vqa'` must be one or several of"),
        ({"num_reports": 9}, r"`num_reports=9` cannot be split"),
        ({"num_volumes": 0}, r"`num_volumes=0` must be 1 or more"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FedMed(**options)
