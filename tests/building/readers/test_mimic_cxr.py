"""MIMIC-CXR's tables, images and reports."""

from dataclasses import replace

import pytest

import raw_mimic_cxr
from fedvlm_hf.building.readers import mimic_cxr
from raw_mimic_cxr import RawStudy, default_studies, write_raw, write_table


@pytest.mark.parametrize("packed", [True, False])
def test_a_study_has_its_frontal_image_split_and_paths(packed, tmp_path):
    raw = write_raw(tmp_path, packed=packed)
    studies = mimic_cxr.read(raw)
    assert len(studies) == 15
    assert studies[0] == mimic_cxr.Study("10000000", "50000000", "c0000-dicom", "PA", "train")
    assert [study.split for study in studies] == ["train"] * 8 + ["validation"] * 3 + ["test"] * 4
    image = mimic_cxr.image(raw, studies[3])
    assert image.key == "files/p10/p10000001/s50000003/c0003-dicom.jpg"
    assert image.load()[:2] == b"\xff\xd8"


def test_a_pa_image_comes_before_an_ap_and_then_the_first_id(tmp_path):
    views = [
        {"z": "PA", "a": "AP", "b": "LATERAL"},
        {"c": "AP", "b": "AP", "a": "LL"},
        {"b": "PA", "a": "PA"},
        {"a": "LATERAL", "b": ""},
    ]
    studies = [RawStudy("10000000", f"5000000{number}", "train", found, "") for number, found in enumerate(views)]
    # The same dicom id in two studies would be another error
    studies = [replace(s, views={f"{s.study}-{k}": v for k, v in s.views.items()}) for s in studies]
    found = mimic_cxr.read(write_raw(tmp_path, studies))
    assert [(study.study_id[-1], study.dicom_id[-1], study.view) for study in found] == [
        ("0", "z", "PA"),
        ("1", "b", "AP"),
        ("2", "a", "PA"),
    ]


def test_a_report_gives_findings_and_impression(tmp_path):
    raw = write_raw(tmp_path)
    assert mimic_cxr.read_report(raw, mimic_cxr.read(raw)[4]) == {
        "findings": "The lungs of case 4 are clear without focal consolidation. The heart is not enlarged.",
        "impression": "No change since ___.",
    }


def test_reports_may_be_in_the_folder_of_their_archive(tmp_path):
    raw = write_raw(tmp_path, default_studies()[:1])
    (study,) = mimic_cxr.read(raw)
    place = raw / "mimic-cxr-reports" / "files" / f"{study.folder}.txt"
    place.parent.mkdir(parents=True)
    (raw / "files" / f"{study.folder}.txt").rename(place)
    assert set(mimic_cxr.read_report(raw, study)) == {"findings", "impression"}


def test_a_report_without_headings_of_a_special_study_has_its_known_impression(tmp_path):
    """The first 59 characters are the title; study 50196495's impression ends at character 399."""
    report = "x" * 59 + "The lungs are clear." + " " * 320 + "Signed by ___."
    (study,) = mimic_cxr.read(write_raw(tmp_path, [replace(default_studies()[0], study="50196495", report=report)]))
    assert mimic_cxr.read_report(tmp_path, study) == {"impression": "The lungs are clear."}


def test_a_missing_report_is_an_error_with_its_path(tmp_path):
    raw = write_raw(tmp_path, [replace(default_studies()[0], report=None)])
    with pytest.raises(ValueError, match=r"there is no file .*files/p10/p10000000/s50000000\.txt"):
        mimic_cxr.read_report(raw, mimic_cxr.read(raw)[0])


@pytest.mark.parametrize("name", ["split", "metadata"])
def test_a_missing_table_is_an_error_with_its_path(name, tmp_path):
    raw = write_raw(tmp_path)
    (raw / f"mimic-cxr-2.0.0-{name}.csv.gz").unlink()
    with pytest.raises(ValueError, match=rf"there is no .*mimic-cxr-2\.0\.0-{name}\.csv"):
        mimic_cxr.read(raw)


def test_the_wrong_folder_level_is_named(tmp_path):
    write_raw(tmp_path / "mimic")
    with pytest.raises(ValueError, match=r"one level off: use .*mimic"):
        mimic_cxr.read(tmp_path)


@pytest.mark.parametrize("name", ["split", "metadata"])
def test_a_truncated_table_is_an_error_with_its_path(name, tmp_path):
    raw = write_raw(tmp_path)
    path = raw / f"mimic-cxr-2.0.0-{name}.csv.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"mimic-cxr-2\.0\.0-{name}\.csv\.gz is incomplete or damaged"):
        mimic_cxr.read(raw)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["dicom_id,study_id,split"], r"split\.csv\.gz lacks the columns \['subject_id'\]; it has \['dicom_id', "),
        ([raw_mimic_cxr.SPLIT_COLUMNS, "a,1,2,train", "b,1,2,val"], r"line 3: `split` is 'val', not one of"),
        ([raw_mimic_cxr.SPLIT_COLUMNS, "a,,2,train"], r"line 2: no value for \['study_id'\]"),
        ([raw_mimic_cxr.SPLIT_COLUMNS, "a,1"], r"line 2: no value for \['subject_id', 'split'\]"),
        (
            [raw_mimic_cxr.SPLIT_COLUMNS, "other,1,2,train"],
            r"line 2: the image c0000-dicom is not in .*from the same release",
        ),
    ],
)
def test_wrong_rows_are_errors_with_their_line(lines, message, tmp_path):
    studies = [replace(default_studies()[0], views={"c0000-dicom": "PA"})]
    raw = write_raw(tmp_path, studies)
    write_table(raw / "mimic-cxr-2.0.0-split.csv", lines)
    with pytest.raises(ValueError, match=message):
        mimic_cxr.read(raw)
