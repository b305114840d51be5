"""Finding a download's folder, and reading its files whole."""

import pytest

from fedvlm_hf.building.readers.files import locate, read_json


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "archive" / "data" / "images").mkdir(parents=True)
    (tmp_path / "archive" / "data" / "names.txt").write_text("a\n")
    return tmp_path / "archive"


def find(raw):
    return locate(raw, "names.txt", ("data", ""), "the archive's folder, or its data/")


def test_each_level_that_the_layout_allows_is_found(archive):
    assert find(archive) == find(archive / "data") == archive / "data"


def test_a_pattern_is_a_name(archive):
    assert locate(archive, "nam*.txt", ("", "data"), "the archive") == archive / "data"


@pytest.mark.parametrize(("given", "right"), [("", "archive"), ("archive/data/images", "archive/data")])
def test_a_level_too_high_or_too_low_is_named(archive, given, right):
    root = archive.parent
    with pytest.raises(
        ValueError, match=f"`raw=.*Expected is the archive's folder.*one level off: give {root / right}"
    ):
        find(root / given)


def test_another_folder_is_shown(tmp_path):
    (tmp_path / "elsewhere" / "photos").mkdir(parents=True)
    (tmp_path / "elsewhere" / "readme.md").write_text("")
    with pytest.raises(ValueError, match=r"there is no .*elsewhere/data/names.txt.*It holds photos/, readme.md\."):
        find(tmp_path / "elsewhere")


def test_no_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        find(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"a": 1}', "rows.json is not whole JSON .*line 1"),
        (b'{"a": 1}', "rows.json holds a dict, not a list"),
        (b"\xff\xfe[", "rows.json is not text in UTF-8"),
        (None, "there is no file .*rows.json"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, expected):
    path = tmp_path / "rows.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        read_json(path, list, "the archive")
