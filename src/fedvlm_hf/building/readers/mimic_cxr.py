"""MIMIC-CXR's reports and MIMIC-CXR-JPG's images: frontal chest radiographs with their findings and impression.

Johnson et al., "MIMIC-CXR, a de-identified publicly available database of chest radiographs with free-text reports",
Scientific Data 2019 (https://doi.org/10.1038/s41597-019-0322-0), and "MIMIC-CXR-JPG", 2019
(https://huggingface.co/papers/1901.07042).

We had neither of them, since both need a signed agreement with PhysioNet. File names and columns are from memory, and
agree with what public code reads.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..images import ImageFile
from .files import RootFolder, advice, excerpt, find_folder, read_text
from .mimic_cxr_sections import sections


LAYOUT = """\
the folder of MIMIC-CXR-JPG, with MIMIC-CXR's reports unpacked into it:
  mimic-cxr-2.0.0-split.csv.gz, mimic-cxr-2.0.0-metadata.csv.gz   (or unpacked, .csv)
  files/p10/p10000032/s50414267/<dicom_id>.jpg                     the images
  files/p10/p10000032/s50414267.txt                                the reports, or below mimic-cxr-reports/files/"""

SPLITS = {"train": "train", "validate": "validation", "test": "test"}
"""The official splits and our names for them."""

FRONTAL_VIEWS = ("PA", "AP")
"""`ViewPosition` of the images that are used, the preferred one first."""

_SPLIT_FILE, _METADATA_FILE = "mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.0.0-metadata.csv"
_SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
_METADATA_COLUMNS = ("dicom_id", "study_id", "subject_id", "ViewPosition")


@dataclass(frozen=True)
class Study:
    """The frontal image of a study.

    Attributes:
        subject_id (`str`): The patient, such as `"10000032"`.
        study_id (`str`): Such as `"50414267"`.
        dicom_id (`str`): The image. If a study has several frontal images, PA is preferred, then the smallest id.
        view (`str`): `"PA"` or `"AP"`.
        split (`str`): The official split: `"train"`, `"validation"` or `"test"`.
    """

    subject_id: str
    study_id: str
    dicom_id: str
    view: str
    split: str

    @property
    def folder(self) -> str:
        """The folder below `files`, and the path of the report without `.txt`: `"p10/p10000032/s50414267"`."""
        return f"p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}"


LOOKED_UP = (f"{_SPLIT_FILE}*", f"{_METADATA_FILE}*", "mimic-cxr-reports/files")
"""The names by which [`annotation_files`] and [`read_report`] find files."""


def annotation_files(raw: str | Path) -> list[Path]:
    """Return the tables of splits and of metadata, compressed or not.

    Raises:
        `ValueError`: if one is missing.
    """
    folder = find_folder(raw, f"{_SPLIT_FILE}*", ("",), LAYOUT)
    return [_packed_or_not(folder / name) for name in (_SPLIT_FILE, _METADATA_FILE)]


def read(raw: str | Path) -> list[Study]:
    """Read all studies that have a frontal image, ordered by study id.

    Args:
        raw (`str` or `Path`):
            The folder, in the layout of `LAYOUT`. Images and reports need not exist.

    Returns:
        `list[Study]`: one entry per study.

    Raises:
        `ValueError`: if a table is missing or truncated, lacks a column, or has a row without a value or with an
            unknown split.
    """
    split_file, metadata_file = annotation_files(raw)
    split_of: dict[str, str] = {}
    for where, row in _rows(split_file, _SPLIT_COLUMNS):
        if row["split"] not in SPLITS:
            raise ValueError(f"{where}: `split` is {excerpt(row['split'])}, not one of {list(SPLITS)}.")
        split_of[row["dicom_id"]] = SPLITS[row["split"]]
    studies: dict[str, Study] = {}
    for where, row in _rows(metadata_file, _METADATA_COLUMNS, may_be_empty=("ViewPosition",)):
        if row["ViewPosition"] not in FRONTAL_VIEWS:
            continue
        dicom_id, study_id = row["dicom_id"], row["study_id"]
        if dicom_id not in split_of:
            raise ValueError(
                f"{where}: the image {dicom_id} is not in {split_file}. The tables must be from the same release."
            )
        found = Study(row["subject_id"], study_id, dicom_id, row["ViewPosition"], split_of[dicom_id])
        studies[study_id] = min(studies.get(study_id, found), found, key=_preference)
    return [studies[study_id] for study_id in sorted(studies)]


def image(raw: str | Path, study: Study) -> ImageFile:
    """Return the image file of a study."""
    key = f"files/{study.folder}/{study.dicom_id}.jpg"
    return ImageFile(key, RootFolder(Path(raw) / "files").file(key.removeprefix("files/")))


def read_report(raw: str | Path, study: Study) -> dict[str, str]:
    """Read the findings and impression of a study.

    Args:
        raw (`str` or `Path`):
            The folder, in the layout of `LAYOUT`.
        study ([`Study`]):
            The study.

    Returns:
        `dict[str, str]`: see [`sections`].

    Raises:
        `ValueError`: if the report is missing or is not text.
    """
    apart = Path(raw) / "mimic-cxr-reports" / "files"
    folder = apart if apart.is_dir() else Path(raw) / "files"
    return sections(read_text(folder / f"{study.folder}.txt", LAYOUT), study.study_id)


def _preference(study: Study) -> tuple[int, str]:
    return FRONTAL_VIEWS.index(study.view), study.dicom_id


def _packed_or_not(path: Path) -> Path:
    found = next((file for file in (path.with_name(f"{path.name}.gz"), path) if file.is_file()), None)
    if found is None:
        raise ValueError(f"`raw`: there is no {path}.gz. Expected is {LAYOUT}")
    return found


def _rows(
    path: Path, columns: Sequence[str], may_be_empty: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a table, each with its location for error messages."""
    opener = gzip.open if path.suffix == ".gz" else open
    line = 1
    images: set[str] = set()
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                found = excerpt(reader.fieldnames) if reader.fieldnames else "none, because it is empty"
                raise ValueError(f"{path} lacks the columns {missing}; it has {found}. {advice(path)}")
            for row in reader:
                line = reader.line_num
                _check_row(row, columns, may_be_empty, f"{path}, line {line}")
                if row["dicom_id"] in images:
                    raise ValueError(f"{path}, line {line}: the image {row['dicom_id']} already occurred.")
                images.add(row["dicom_id"])
                yield f"{path}, line {line}", row
    except (EOFError, OSError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise ValueError(f"{path} is incomplete or damaged after line {line} ({error}). {advice(path)}") from error
    if not images:
        raise ValueError(f"{path} has no rows. Download it again.")


def _check_row(row: dict[str, str], columns: Sequence[str], may_be_empty: Sequence[str], where: str) -> None:
    if None in row:
        raise ValueError(f"{where} has more values than the header has columns: {excerpt(row)}.")
    empty = [column for column in columns if not row[column] and column not in may_be_empty]
    if empty:
        raise ValueError(f"{where}: no value for {empty}.")
    if any("\0" in value for value in row.values() if value):
        raise ValueError(f"{where} has NUL characters, so the file is damaged. Download it again.")
