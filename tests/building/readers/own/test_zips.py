"""Zip files of own data."""

import shutil
import stat
import zipfile

import pytest

from fedvlm_hf.building.readers.own import zips
from fedvlm_hf.building.readers.own.sources import find_sources, open_source
from fedvlm_hf.building.work import Work
from own_archives import png, write_zip


TABLE = "image;answer\nscans/1.png;normal\nscans/2.png;effusion\n"
SCANS = {"labels.csv": TABLE, "scans/1.png": png(1), "scans/2.png": png(2)}


def read(path, work=None):
    (source,) = open_source(path, work or Work(raw=path.parent)).sources
    return source, list(source.rows())


@pytest.mark.parametrize("top", ["", "export/"])
def test_images_with_a_table(tmp_path, top):
    extra = {"__MACOSX/._labels.csv": "", ".DS_Store": "", "empty/": ""}
    write_zip(tmp_path / "a.zip", {**extra, **{f"{top}{name}": content for name, content in SCANS.items()}})
    source, rows = read(tmp_path / "a.zip")
    assert source.form == "CSV table in a zip"
    assert [row.values["answer"] for row in rows] == ["normal", "effusion"]
    assert [row.image.key for row in rows] == ["a.zip/scans/1.png", "a.zip/scans/2.png"]
    assert [row.image.load() for row in rows] == [png(1), png(2)]
    assert rows[0].where == f"{tmp_path / 'a.zip' / 'labels.csv'}, line 2"


def test_a_zip_of_images_by_class_is_a_client(tmp_path):
    write_zip(
        tmp_path / "raw" / "north.zip", {"cat/1.png": png(1), "dog/2.png": png(2), "more.zip": b"", "notes.md": b""}
    )
    write_zip(tmp_path / "raw" / "south.zip", SCANS)
    work = Work(raw=tmp_path / "raw")
    found = find_sources(tmp_path / "raw", work)
    assert [(source.client, source.form) for source in found.sources] == [
        ("north", "images by class in a zip"),
        ("south", "CSV table in a zip"),
    ]
    assert [row.image.key for row in found.sources[0].rows()] == ["north.zip/cat/1.png", "north.zip/dog/2.png"]
    assert found.ignored == ["north.zip/more.zip", "north.zip/notes.md"]
    assert set(work.sources) == {"north.zip", "south.zip"}


def test_a_zip_is_unpacked_once_into_the_folder_of_the_build(tmp_path):
    write_zip(tmp_path / "a.zip", SCANS)
    work = Work(tmp_path / "build", raw=tmp_path)
    _, rows = read(tmp_path / "a.zip", work)
    assert rows[0].image.path.is_relative_to(tmp_path / "build")
    first = rows[0].image.path.stat().st_mtime_ns
    assert read(tmp_path / "a.zip", work)[1][0].image.path.stat().st_mtime_ns == first
    write_zip(tmp_path / "a.zip", {**SCANS, "scans/1.png": png(9)})
    assert read(tmp_path / "a.zip", work)[1][0].image.load() == png(9)


def test_an_unpacking_that_was_killed_is_repeated(tmp_path):
    write_zip(tmp_path / "a.zip", SCANS)
    work = Work(tmp_path / "build", raw=tmp_path)
    folder = read(tmp_path / "a.zip", work)[1][0].image.path.parents[1]
    (folder / "labels.csv").unlink()
    folder.rename(folder.with_name(f".{folder.name}.tmp"))
    assert len(read(tmp_path / "a.zip", work)[1]) == 2


@pytest.mark.parametrize(
    "name",
    ["../a.csv", "a/../../b.csv", "/etc/a.csv", "..\\a.csv", "C:\\a.csv", "C:/a.csv", "a/..", "\\\\host\\a.csv"],
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    write_zip(tmp_path / "in" / "a.zip", {**SCANS, name: "image,answer\n"})
    with pytest.raises(ValueError, match=r"a\.zip: the member .* would be written outside of the folder"):
        read(tmp_path / "in" / "a.zip", Work(tmp_path / "build", raw=tmp_path / "in"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "in"]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"A.csv": "x", "a.csv": "y"}, r"'a\.csv' has the same name as 'A\.csv'"),
        ({"a/b.csv": "x", "A": "y"}, r"'A' is a file and a folder"),
        ({".hidden": "x"}, r"a\.zip has no files"),
        ({"notes.md": "x"}, r"a\.zip has no table .* and no subfolders of images by class"),
    ],
)
def test_other_members_that_are_refused(tmp_path, members, problem):
    write_zip(tmp_path / "a.zip", members)
    with pytest.raises(ValueError, match=problem):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("scans")
        member.create_system, member.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(member, "/etc")
    with pytest.raises(ValueError, match="'scans' is a link or a device"):
        read(tmp_path / "a.zip")


def test_encrypted_members_are_refused(tmp_path):
    write_zip(tmp_path / "a.zip", {"labels.csv": TABLE})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for start in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[start] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"'labels\.csv' is encrypted"):
        read(tmp_path / "a.zip")


def test_every_cut_is_found(tmp_path):
    write_zip(tmp_path / "whole.zip", SCANS)
    content = (tmp_path / "whole.zip").read_bytes()
    for end in range(0, len(content), 37):
        (tmp_path / "a.zip").write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"a\.zip is not a complete zip file"):
            read(tmp_path / "a.zip", Work(tmp_path / "build", raw=tmp_path))


def test_changed_bytes_are_found(tmp_path):
    write_zip(tmp_path / "a.zip", {"labels.csv": TABLE * 10})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[50] ^= 255
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip is not a complete zip file"):
        read(tmp_path / "a.zip")


def test_a_zip_needs_its_space_on_the_disk(tmp_path, monkeypatch):
    write_zip(tmp_path / "a.zip", SCANS)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(zips.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"a\.zip needs 0\.0 GB when it is unpacked, .* only 0\.0 GB"):
        read(tmp_path / "a.zip")
