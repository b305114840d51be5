"""Finding the folder of a download, and reading its files."""

import pytest

from fedvlm_hf.building.readers.files import find_folder, read_json


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "archive" / "data" / "images").mkdir(parents=True)
    (tmp_path / "archive" / "data" / "names.txt").write_text("a\n")
    return tmp_path / "archive"


def find(raw):
    return find_folder(raw, "names.txt", ("data", ""), "the archive's folder, or its data/")


def test_each_level_that_the_layout_allows_is_found(archive):
    assert find(archive) == find(archive / "data") == archive / "data"


def test_a_name_can_be_a_pattern(archive):
    assert find_folder(archive, "nam*.txt", ("", "data"), "the archive") == archive / "data"


@pytest.mark.parametrize(("given", "right"), [("", "archive"), ("archive/data/images", "archive/data")])
def test_a_level_too_high_or_too_low_is_named(archive, given, right):
    root = archive.parent
    with pytest.raises(
        ValueError, match=f"`raw=.*one level off: use {root / right}.* Expected is the archive's folder"
    ):
        find(root / given)


def test_the_contents_of_another_folder_are_listed(tmp_path):
    (tmp_path / "elsewhere" / "photos").mkdir(parents=True)
    (tmp_path / "elsewhere" / "readme.md").write_text("")
    with pytest.raises(ValueError, match=r"there is no .*elsewhere/data/names.txt.*It contains photos/, readme.md\."):
        find(tmp_path / "elsewhere")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing'` does not exist\. Expected is the archive's folder"):
        find(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"a": 1}', "rows.json, line 1, column 10: not complete JSON"),
        (b'{"a": 1}', "rows.json contains an object, not a list"),
        (b"\xff\xfe[", "rows.json is not text in UTF-16"),
        (b"[" * 100_000, "rows.json, line 1, column 2: .*lists and objects are nested too deep"),
        (None, "there is no file .*rows.json"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, expected):
    path = tmp_path / "rows.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        read_json(path, list, "the archive")
