import json

import pytest

from fedvlm_hf.building.readers.files import RootFolder
from fedvlm_hf.building.readers.own_data import image_path, read_image_folder, read_sources
from fedvlm_hf.building.readers.tables import read_table
from fedvlm_hf.building.work import Work
from raw_custom import write_csv, write_image, write_raw


def test_images_by_class(tmp_path):
    for name in ("dog/1.JPG", "cat/2.png", "cat/1.png"):
        write_image(tmp_path / name, 1)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    work = Work(raw=tmp_path)
    rows = read_image_folder(tmp_path, work)
    assert [row.name for row in rows] == ["cat/1.png", "cat/2.png", "dog/1.JPG"]
    assert rows[0].values == {"image": "cat/1.png", "answer": "cat", "task": "classification"}
    assert image_path(rows[2], RootFolder(tmp_path), work) == tmp_path / "dog" / "1.JPG"


def test_metadata_names_the_images(tmp_path):
    write_image(tmp_path / "site" / "deep" / "1.png", 1)
    write_csv(tmp_path / "site" / "metadata.csv", [{"file_name": "deep/1.png", "answer": "a"}])
    work = Work(raw=tmp_path)
    (row,) = read_image_folder(tmp_path / "site", work)
    assert row.values == {"image": "deep/1.png", "answer": "a"}
    assert image_path(row, RootFolder(tmp_path), work) == tmp_path / "site" / "deep" / "1.png"


def test_sources_are_tables_and_folders_that_no_table_uses(tmp_path):
    raw = write_raw(tmp_path / "raw")
    (raw / "notes.txt").write_text("not read")
    (raw / ".hidden").mkdir()
    sources = read_sources(raw, "layout", Work(raw=raw))
    assert {name: len(rows) for name, rows in sources.rows.items()} == dict.fromkeys(
        ["site-c", "site_a", "site_b", "site_d", "site_e"], 10
    )
    assert sorted(path.name for path in sources.tables) == [
        "metadata.csv", "site-c.json", "site_a.csv", "site_b.jsonl"
    ]  # fmt: skip
    assert sources.ignored == ["notes.txt"]


def test_a_folder_without_images_or_names_is_refused(tmp_path):
    raw = write_raw(tmp_path / "raw")
    write_image(raw / "more" / "1.png", 1)
    with pytest.raises(ValueError, match=r"raw/more is not a client: no table uses its images"):
        read_sources(raw, "layout", Work(raw=raw))


def test_two_sources_with_the_same_name_are_refused(tmp_path):
    raw = write_raw(tmp_path / "raw")
    write_image(raw / "site_a" / "cat" / "1.png", 1)
    with pytest.raises(ValueError, match=r"another file or folder is also called 'site_a'"):
        read_sources(raw, "layout", Work(raw=raw))


def test_nothing_to_read_names_the_layout(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)has no table and no folder.*the layout"):
        read_sources(tmp_path, "the layout", Work(raw=tmp_path))
    with pytest.raises(ValueError, match=r"(?s)is not a folder.*the layout"):
        read_sources(tmp_path / "missing", "the layout", Work(raw=tmp_path / "missing"))


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("../secret.png", r"'\.\./secret\.png' must be a relative path without `\.\.`"),
        ("a/../../secret.png", r"must be a relative path"),
        ("/secret.png", r"'/secret\.png' must be a relative path"),
        ("missing.png", r"there is no image 'missing\.png'"),
        ("images", r"there is no image 'images'"),
        (7, "`image` must be the path of an image"),
    ],
)
def test_images_must_exist_inside_the_folder(tmp_path, image, problem):
    write_image(tmp_path / "secret.png", 1)
    write_image(tmp_path / "raw" / "images" / "1.png", 1)
    path = tmp_path / "raw" / "a.json"
    path.write_text(json.dumps([{"image": "images/1.png"}, {"image": image}]))
    _, row = read_table(path)
    with pytest.raises(ValueError, match=rf"a\.json, row 1: .*{problem}"):
        image_path(row, RootFolder(tmp_path / "raw"), Work(raw=tmp_path / "raw"))
