"""A miniature of MIMIC-CXR-JPG with MIMIC-CXR's reports: tables, images and report files in their places."""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


SPLIT_COLUMNS = "dicom_id,study_id,subject_id,split"
METADATA_COLUMNS = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)

REPORT = """\
                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)
 
 INDICATION:  ___ year old woman with cough  // ? pneumonia
 
 COMPARISON:  ___
 
 FINDINGS: 
 
 The lungs of case {number} are clear without focal
 consolidation.  The heart is not enlarged.
 
 IMPRESSION: 
 
 No change since ___.
"""  # noqa: W291, W293  (lines of reports start with a space)


@dataclass(frozen=True)
class RawStudy:
    """A study: its ids, split, views by image, and report; with `None` there is no report file."""

    subject: str
    study: str
    split: str
    views: Mapping[str, str]
    report: str | None


def default_studies(num_train: int = 8, num_validate: int = 3, num_test: int = 4) -> list[RawStudy]:
    """Return two studies per patient, each with a PA, an AP and a lateral image, whose ids begin with c, a and b."""
    found = []
    for part, count in (("train", num_train), ("validate", num_validate), ("test", num_test)):
        for index in range(count):
            number = len(found)
            subject = {"train": 10000000, "validate": 11000000, "test": 12000000}[part] + index // 2
            views = {
                f"{letter}{number:04d}-dicom": view for letter, view in (("a", "AP"), ("b", "LATERAL"), ("c", "PA"))
            }
            found.append(RawStudy(str(subject), str(50000000 + number), part, views, REPORT.format(number=number)))
    return found


def write_raw(folder: Path, studies: Sequence[RawStudy] | None = None, packed: bool = True) -> Path:
    """Write tables, images of 12 x 10 pixels that differ from study to study, and reports; return the folder."""
    studies = default_studies() if studies is None else studies
    split_lines, metadata_lines = [SPLIT_COLUMNS], [METADATA_COLUMNS]
    for number, study in enumerate(studies):
        place = folder / "files" / f"p{study.subject[:2]}" / f"p{study.subject}" / f"s{study.study}"
        place.mkdir(parents=True)
        if study.report is not None:
            place.with_name(f"{place.name}.txt").write_text(study.report, encoding="utf-8")
        for dicom_id, view in study.views.items():
            grey = 10 + 3 * number + {"AP": 0, "LATERAL": 1, "PA": 2}.get(view, 0)
            Image.new("L", (12, 10), grey).save(place / f"{dicom_id}.jpg")
            split_lines.append(f"{dicom_id},{study.study},{study.subject},{study.split}")
            metadata_lines.append(
                f'{dicom_id},{study.subject},{study.study},"CHEST (PA AND LAT)",{view},10,12,21800506,213014.531,'
                '"CHEST (PA AND LAT)",postero-anterior,Erect'
            )
    for name, lines in (("split", split_lines), ("metadata", metadata_lines)):
        write_table(folder / f"mimic-cxr-2.0.0-{name}.csv", lines, packed)
    return folder


def write_table(path: Path, lines: Sequence[str], packed: bool = True) -> Path:
    """Write a table as `.csv.gz`, or uncompressed."""
    content = "".join(f"{line}\n" for line in lines).encode()
    path = path.with_name(f"{path.name}.gz") if packed else path
    path.write_bytes(gzip.compress(content) if packed else content)
    return path
