"""Broken downloads: every reader names the file and the place in it, or reads the same rows as from the intact one."""

import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import raw_coco
import raw_coco_qa
import raw_fgvc
import raw_mimic_cxr
import raw_radgenome
import raw_refcoco
import raw_scienceqa
import raw_slake
import raw_vqa_rad
from fedvlm_hf.building.readers import (
    coco,
    coco_qa,
    fgvc,
    mimic_cxr,
    nifti,
    refcoco,
    scienceqa,
    slake,
    vqa_rad,
)


@dataclass(frozen=True)
class Download:
    """A file of a miniature download, its format, and the reader of the download."""

    write: Callable[[Path], Path]
    file: str
    format: str
    read: Callable[[Path], Any]


def read_captions(raw: Path) -> dict[str, str]:
    return scienceqa.read_captions(scienceqa.captions_file(raw))


def read_first_report(raw: Path) -> dict[str, str]:
    return mimic_cxr.read_report(raw, mimic_cxr.read(raw)[0])


def read_volume(raw: Path) -> bytes:
    return b"".join(slab.tobytes() for slab in nifti.Volume(raw / VOLUME).slabs())


VOLUME = "dataset/train_preprocessed/train_1/train_1a/train_1_a_1.nii.gz"
REPORT = "files/p10/p10000000/s50000000.txt"
DOWNLOADS = {
    "slake": Download(raw_slake.write_raw, "test.json", "json", slake.read),
    "fgvc names": Download(raw_fgvc.write_raw, "data/manufacturers.txt", "names", fgvc.read),
    "fgvc": Download(raw_fgvc.write_raw, "data/images_manufacturer_val.txt", "lines", fgvc.read),
    "scienceqa": Download(raw_scienceqa.write_raw, "data/scienceqa/problems.json", "object", scienceqa.read),
    "scienceqa splits": Download(raw_scienceqa.write_raw, "data/scienceqa/pid_splits.json", "object", scienceqa.read),
    "scienceqa captions": Download(raw_scienceqa.write_raw, "data/captions.json", "object", read_captions),
    "scienceqa parquet": Download(
        raw_scienceqa.write_hub, "data/test-00000-of-00001-f0e719df791966ff.parquet", "parquet", scienceqa.read
    ),
    "vqa_rad": Download(raw_vqa_rad.write_raw, "trainset.json", "json", vqa_rad.read),
    "vqa_rad official": Download(raw_vqa_rad.write_official, "VQA_RAD Dataset Public.json", "json", vqa_rad.read),
    "vqa_rad parquet": Download(raw_vqa_rad.write_hub, "data/test-00000-of-00001.parquet", "parquet", vqa_rad.read),
    "mimic_cxr": Download(raw_mimic_cxr.write_raw, "mimic-cxr-2.0.0-split.csv.gz", "csv", mimic_cxr.read),
    "mimic_cxr unpacked": Download(
        lambda folder: raw_mimic_cxr.write_raw(folder, packed=False),
        "mimic-cxr-2.0.0-metadata.csv",
        "csv",
        mimic_cxr.read,
    ),
    "mimic_cxr report": Download(raw_mimic_cxr.write_raw, REPORT, "text", read_first_report),
    "coco": Download(
        raw_coco.write_raw,
        "annotations/instances_train2014.json",
        "object",
        lambda raw: coco.read(coco.annotation_file(raw)),
    ),
    "coco_qa": Download(raw_coco_qa.write_raw, "cocoqa/train/img_ids.txt", "columns", coco_qa.read),
    "refcoco": Download(raw_refcoco.write_raw, "refcoco/refs(unc).p", "pickle", refcoco.read),
    "refcoco json": Download(
        lambda folder: raw_refcoco.write_raw(folder, as_json=True), "refcoco/refs.json", "json", refcoco.read
    ),
    "radgenome": Download(raw_radgenome.write_raw, VOLUME, "nifti", read_volume),
}

UNREADABLE = Path("/proc/self/mem")

READ = "reads the same rows"
JSON = r"line \d+, column \d+: not complete JSON"
NOT_UTF_8 = r"line \d+: not text in UTF-8|does not decode|incomplete or damaged after line \d+"
TABLE = r"lacks the columns \[.*\]; it has |incomplete or damaged after line \d+"
PARQUET = r"cannot be read as Parquet|is not a complete Parquet file"
PICKLE = r"byte \d+: (the pickle has the opcode|damaged at)"
NIFTI = "cannot be read as a NIfTI volume"
NO_LINES = r"have the same number of lines|, line \d+ "
DAMAGED = {"json": JSON, "object": JSON, "parquet": PARQUET, "pickle": PICKLE, "nifti": NIFTI, "csv": TABLE}


def in_the_middle(inserted: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[: len(content) // 2] + inserted + content[len(content) // 2 :]


def with_first_number(number: bytes) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(rb'(?<=[ \[])"?\d+"?(?=[],}])', number, content, count=1)


@dataclass(frozen=True)
class Damage:
    """A change of a file's content, and the error in each format; a format that is left out is not damaged by it."""

    change: Callable[[bytes], bytes]
    errors: dict[str, str]


LISTS = {"names": r"line 1: the manufacturer .* is not in|is empty", "lines": r", line \d+ is not a 7-digit image id"}
DAMAGES = {
    "truncated": Damage(
        lambda content: content[: len(content) // 2 + 3],
        {**DAMAGED, "names": "is not in", "columns": NO_LINES, "lines": r"line \d+", "csv": r"line \d+"},
    ),
    "empty": Damage(lambda content: b"", {**DAMAGED, "names": "is empty", "lines": "is empty", "columns": NO_LINES}),
    "spaces": Damage(
        lambda content: b" \n \n", {**DAMAGED, "names": "is empty", "lines": "is empty", "columns": NO_LINES}
    ),
    "nothing but NUL": Damage(
        lambda content: bytes(500),
        {**DAMAGED, **dict.fromkeys(("names", "lines", "columns", "text"), "line 1: a NUL character")}
        | {"object": f"{JSON}|is not a JSON object"},
    ),
    "NUL inside": Damage(
        in_the_middle(b"\0\0\0"),
        {
            **dict.fromkeys(("json", "object"), JSON),
            **dict.fromkeys(("names", "lines", "columns", "text"), r"line \d+: a NUL character"),
            "csv": r"line \d+ has NUL characters",
        },
    ),
    "random bytes": Damage(
        lambda content: bytes((number * 197 + 205) % 256 for number in range(3000)),
        {**DAMAGED, **dict.fromkeys(("json", "object", "names", "lines", "columns", "text"), NOT_UTF_8)},
    ),
    "a page of HTML": Damage(
        lambda content: b"<!DOCTYPE html><html><body>Please sign in</body></html>\n",
        {**DAMAGED, **LISTS, "columns": NO_LINES} | {"object": f"{JSON}|is not a JSON object"},
    ),
    "a pointer of Git LFS": Damage(
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n",
        {**DAMAGED, **LISTS, "columns": NO_LINES} | {"object": f"{JSON}|is not a JSON object"},
    ),
    "Latin-1": Damage(
        in_the_middle(b"\xe9"),
        dict.fromkeys(("json", "object", "names", "lines", "columns", "text", "csv"), NOT_UTF_8),
    ),
    "a byte order mark": Damage(
        lambda content: b"\xef\xbb\xbf" + content,
        dict.fromkeys(("json", "object", "names", "lines", "columns", "text", "csv"), READ),
    ),
    "UTF-16": Damage(
        lambda content: content.decode().encode("utf-16"),
        dict.fromkeys(("json", "object", "names", "lines", "columns", "text"), READ) | {"csv": TABLE},
    ),
    "line ends of Windows": Damage(
        lambda content: content.replace(b"\n", b"\r\n"),
        dict.fromkeys(("json", "object", "names", "lines", "columns", "text", "csv"), READ),
    ),
    "open lists": Damage(
        lambda content: b"[" * 100_000,
        {"json": "nested too deep", "object": "nested too deep|is not a JSON object", **LISTS, "columns": NO_LINES},
    ),
    "nested lists": Damage(
        lambda content: b"[" * 100_000 + b"]" * 100_000,
        {"json": "nested too deep", "object": "nested too deep|is not a JSON object", "csv": TABLE},
    ),
    "nested objects": Damage(
        lambda content: b'{"a":' * 100_000,
        {"json": "nested too deep", "object": "nested too deep", "csv": TABLE},
    ),
    "nested lists in a field": Damage(
        lambda content: content.replace(b"{", b'{"zz": ' + b"[" * 100_000 + b"]" * 100_000 + b", ", 1),
        {"json": "nested too deep", "object": "nested too deep"},
    ),
    "a number of 5,000 digits": Damage(
        with_first_number(b"9" * 5000),
        {"json": r"line \d+, column \d+.*digits", "object": r"line \d+, column .*digits"},
    ),
    "an empty list": Damage(
        lambda content: b"[]", {"json": "is a list without content", "object": "not an object|is not a JSON object"}
    ),
    "an empty object": Damage(
        lambda content: b"{}", {"json": "an object, not a list", "object": "without content|has no `annotations`"}
    ),
    "null": Damage(lambda content: b"null", {"json": "null, not a list", "object": "null, not an obj|not a JSON obj"}),
    "a list of other things": Damage(
        lambda content: b"[1, null, []]", {"json": "row 0.* must be an object, not a num"}
    ),
    "twice in a row": Damage(
        lambda content: content + content,
        {
            "json": "something follows",
            "object": "something follows",
            "lines": r"line \d+: image \d+ already occurred",
            "columns": NO_LINES,
            "csv": r"line \d+",
            "pickle": "left over",
        },
    ),
    "a quotation mark that is not closed": Damage(
        lambda content: content.replace(b"\n", b'\n"', 1),
        {"csv": r"incomplete or damaged after line \d+", "lines": "line 2 is not a 7-digit", "names": "is not in"},
    ),
    "a field of 200,000 letters": Damage(
        lambda content: content.replace(b"\n", b"\n" + b"x" * 200_000, 1),
        {"csv": r"incomplete or damaged after line \d+", "lines": "line 2 is not a 7-digit", "names": "is not in"},
    ),
}
CASES = [
    pytest.param(download, damage, expected, id=f"{name}-{kind}")
    for name, download in DOWNLOADS.items()
    for kind, damage in DAMAGES.items()
    if (expected := damage.errors.get(download.format))
]


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """Return the folder and the rows of a download, which is written once."""
    found = {}

    def intact(download: Download) -> tuple[Path, Any]:
        if download.write not in found:
            found[download.write] = download.write(tmp_path_factory.mktemp("intact") / "raw")
        raw = found[download.write]
        return raw, download.read(raw)

    return intact


def copied(raw: Path, file: str, target: Path) -> tuple[Path, Path]:
    """Copy a download, and return its folder and one of its files."""
    shutil.copytree(raw.parent, target)
    return target / raw.name, target / raw.name / file


def error_of(download: Download, raw: Path) -> str:
    """Return the message of the error that the reader raises, after the checks that hold for every message."""
    with pytest.raises(ValueError) as caught:
        download.read(raw)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert not re.search(r" at 0x|NoneType|<class|object at|a int\b|a dict\b| 1 (?!is|has)[a-z]+s\b", message)
    assert len(message) < 1500
    path = Path(download.file)
    assert path.name in message or f"{path.parent}" in message
    return message


def same(rows: Any, others: Any, raw: Path, other: Path) -> bool:
    return repr(rows).replace(str(raw), "RAW") == repr(others).replace(str(other), "RAW")


@pytest.mark.parametrize(("download", "damage", "expected"), CASES)
def test_a_damaged_file(download, damage, expected, intact, tmp_path):
    source, rows = intact(download)
    raw, path = copied(source, download.file, tmp_path / "copy")
    content = path.read_bytes()
    if path.name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(damage.change(gzip.decompress(content))))
    else:
        path.write_bytes(damage.change(content))
    if expected == READ:
        assert same(rows, download.read(raw), source, raw)
    else:
        assert re.search(expected, error_of(download, raw))


@pytest.mark.parametrize("download", DOWNLOADS.values(), ids=DOWNLOADS)
@pytest.mark.parametrize("kind", ["missing", "a folder", "unreadable"])
def test_a_file_that_cannot_be_opened(download, kind, intact, tmp_path):
    """Reading the memory of this process at its start is an input/output error, also for the superuser."""
    if download.format == "nifti" and kind == "missing":
        pytest.skip("a volume that is missing is not listed")
    raw, path = copied(intact(download)[0], download.file, tmp_path / "copy")
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "unreadable":
        if not UNREADABLE.exists():
            pytest.skip("needs Linux")
        path.symlink_to(UNREADABLE)
    message = error_of(download, raw)
    assert re.search(
        "there is no |cannot be read|is a folder|has no|none of|lacks|no complete|damaged|not a ", message
    )


@pytest.mark.parametrize("download", DOWNLOADS.values(), ids=DOWNLOADS)
@pytest.mark.parametrize("kind", ["missing", "a file", "empty", "one level up", "one level down"])
def test_another_path_in_place_of_the_folder(download, kind, intact, tmp_path):
    if download.format == "nifti":
        pytest.skip("the reader of volumes gets the path of a file")
    raw, _ = copied(intact(download)[0], download.file, tmp_path / "copy")
    (tmp_path / "empty").mkdir()
    (raw / "inside").mkdir()
    (tmp_path / "file.txt").write_text("x")
    given = {
        "missing": tmp_path / "missing",
        "a file": tmp_path / "file.txt",
        "empty": tmp_path / "empty",
        "one level up": raw.parent,
        "one level down": raw / "inside",
    }[kind]
    try:
        download.read(given)
    except ValueError as error:
        message = str(error)
    else:
        assert kind == "one level up"  # some readers accept the parent folder
        return
    assert f"`raw={str(given)!r}`" in message
    assert re.search("does not exist|is a file|one level off: use|there is no|It contains nothing|no file", message)
    if kind.startswith("one level"):
        assert f"one level off: use {raw.resolve()}" in message


@pytest.mark.parametrize(
    ("name", "missing"),
    [("vqa_rad parquet", "train-00001-of-00002"), ("vqa_rad parquet", "train-00000-of-00002")],
)
def test_a_missing_shard_is_named(name, missing, intact, tmp_path):
    raw, _ = copied(intact(DOWNLOADS[name])[0], "data", tmp_path / "copy")
    (raw / "data" / f"{missing}.parquet").unlink()
    with pytest.raises(ValueError, match=rf"data lacks {missing}\. Download all files"):
        DOWNLOADS[name].read(raw)


def test_swapped_questions_and_answers_are_noticed(intact, tmp_path):
    raw, path = copied(intact(DOWNLOADS["coco_qa"])[0], "cocoqa/train/answers.txt", tmp_path / "copy")
    other = path.with_name("questions.txt")
    answers, questions = path.read_bytes(), other.read_bytes()
    path.write_bytes(questions)
    other.write_bytes(answers)
    with pytest.raises(
        ValueError, match=r"train/answers\.txt: 46 of 46 lines have several words.* Is it another file\?"
    ):
        coco_qa.read(raw)


@pytest.mark.parametrize("value", [[[]], {"a": 1}, True, None])
def test_an_id_that_is_no_id_is_named_with_its_row(value, tmp_path):
    rows = raw_slake.raw_rows()
    rows["validate"][2]["qid"] = value
    with pytest.raises(ValueError, match=r"validate\.json, row 2: `qid` must be a whole number or text"):
        slake.read(raw_slake.write_raw(tmp_path / "raw", rows))


def test_nesting_that_can_be_read_but_not_shown_has_a_message(tmp_path):
    """JSON of 900 levels is read; a representation of it would be too deep."""
    value: Any = 0
    for _ in range(900):
        value = [value]
    rows = raw_slake.raw_rows()
    rows["test"][0].update(answer=value)
    with pytest.raises(ValueError, match=r"test\.json, row 0: \['answer'\] must be text\. The row is "):
        slake.read(raw_slake.write_raw(tmp_path / "raw", rows))
