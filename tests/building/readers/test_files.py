"""Finding the folder of a download, and reading its files."""

import pytest

from fedvlm_hf.building.readers.files import RootFolder, find_folder, read_json


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


# Links and names from data ----------------------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path):
    """A folder `raw` with an image, and a secret image beside it."""
    (tmp_path / "raw" / "images").mkdir(parents=True)
    (tmp_path / "raw" / "images" / "1.png").write_text("one")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "2.png").write_text("two")
    return tmp_path


@pytest.mark.parametrize("name", ["../secret/2.png", "images/../../secret/2.png", "/etc/passwd"])
def test_names_from_data_stay_in_the_folder(linked, name):
    with pytest.raises(ValueError, match=r"must be a relative path without `\.\.`, inside of .*raw"):
        RootFolder(linked / "raw").file(name)


@pytest.mark.parametrize(
    ("link", "target", "name"),
    [
        ("images/2.png", "secret/2.png", "images/2.png"),
        ("more", "secret", "more/2.png"),
        ("images/deep", "secret", "images/deep/2.png"),
    ],
)
def test_a_link_out_of_the_folder_is_refused(linked, link, target, name):
    """Whether the file itself is a link, or a folder on the way to it; by name and in a listing of the folder."""
    raw = linked / "raw"
    (raw / link).symlink_to(linked / target)
    expected = rf"{raw / link} is a link to {linked / target}, which is outside of {raw}"
    with pytest.raises(ValueError, match=expected):
        RootFolder(raw).file(name)
    with pytest.raises(ValueError, match=expected):
        RootFolder(raw).names(raw, "**/*")


def test_links_inside_the_folder_and_the_folder_itself_are_followed(linked):
    (linked / "link").symlink_to(linked / "raw")
    root = RootFolder(linked / "link")
    (linked / "raw" / "again.png").symlink_to("images/1.png")
    (linked / "raw" / "same").symlink_to(linked / "raw" / "images")
    assert root.file("again.png").read_text() == root.file("same/1.png").read_text() == "one"
    assert root.names(root.path, "**/*.png") == ["again.png", "images/1.png", "same/1.png"]
    assert root.names(root.path) == ["again.png", "images/", "same/"]


@pytest.mark.parametrize("target", [".", "raw", "raw/images"])
def test_a_loop_is_refused(linked, target):
    """A folder that contains itself is neither listed without end nor a client."""
    raw = linked / "raw"
    loop = raw / "images" / "loop"
    loop.symlink_to(linked / target if target != "." else ".")
    for read in (lambda: RootFolder(raw).names(raw, "**/*"), lambda: RootFolder(raw).file("images/loop/1.png")):
        with pytest.raises(ValueError, match=rf"{loop} is a link to .*(contains the link itself|outside)"):
            read()


def test_a_snapshot_of_the_hubs_cache_has_links_to_its_files(tmp_path):
    snapshot, blobs = tmp_path / "datasets--a--b" / "snapshots" / "0a1b", tmp_path / "datasets--a--b" / "blobs"
    snapshot.mkdir(parents=True), blobs.mkdir()
    (blobs / "cafe").write_text("rows")
    (snapshot / "rows.csv").symlink_to("../../blobs/cafe")
    assert RootFolder(snapshot).names(snapshot) == ["rows.csv"]
    assert RootFolder(snapshot).file("rows.csv").read_text() == "rows"
    (tmp_path / "secret.csv").touch()
    (snapshot / "other.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(ValueError, match="outside"):
        RootFolder(snapshot).names(snapshot)


def test_patterns(tmp_path):
    for name in ("a/x.png", "a/b/y.PNG", "a/b/z.txt", ".hidden/x.png", "x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = RootFolder(tmp_path)
    assert root.names(tmp_path) == ["a/", "x.png"]
    assert root.names(tmp_path, "*/*") == ["a/b/", "a/x.png"]
    assert root.names(tmp_path, "a/*.png") == ["a/x.png"]
    assert root.names(tmp_path, "**/*") == ["a/b/y.PNG", "a/b/z.txt", "a/x.png", "x.png"]
    assert root.names(tmp_path / "a", "x.png") == ["x.png"]
    assert root.names(tmp_path / "nothing") == root.names(tmp_path / "x.png") == []
