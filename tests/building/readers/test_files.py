"""Finding the folder of a download, and reading its files."""

import json

import psutil
import pytest

from fedvlm_hf.building.readers import files
from fedvlm_hf.building.readers.files import array_elements, find_folder, read_json


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
        ValueError, match=f"`raw=.*Expected is the archive's folder.*one level off: use {root / right}"
    ):
        find(root / given)


def test_the_contents_of_another_folder_are_listed(tmp_path):
    (tmp_path / "elsewhere" / "photos").mkdir(parents=True)
    (tmp_path / "elsewhere" / "readme.md").write_text("")
    with pytest.raises(ValueError, match=r"there is no .*elsewhere/data/names.txt.*It contains photos/, readme.md\."):
        find(tmp_path / "elsewhere")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        find(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"a": 1}', "rows.json is not complete JSON .*line 1"),
        (b'{"a": 1}', "rows.json contains a dict, not a list"),
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


CONTENT = {
    "info": {"nested": [1, {"images": ["not these"]}], "text": 'with "quotes", ] and }'},
    "images": [{"id": 1, "file_name": "é\u2028\\"}, {"id": 2}, [], [[]], "text", 12.5, -1e-3, None, True],
    "licenses": [],
    "count": 12345,
    "annotations": [],
    "categories": [{"id": 90, "name": "toothbrush"}],
}
ARRAYS = ("images", "annotations", "categories")
EXPECTED = [("images", row) for row in CONTENT["images"]] + [("categories", CONTENT["categories"][0])]


@pytest.fixture
def elements(tmp_path, monkeypatch):
    def read(text: str, arrays=ARRAYS, block: int = 2**20):
        monkeypatch.setattr(files, "_BLOCK_BYTES", block)
        path = tmp_path / "instances.json"
        path.write_text(text, encoding="utf-8")
        return list(array_elements(path, arrays, "COCO"))

    return read


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"separators": (",", ":"), "ensure_ascii": False}])
def test_elements_are_those_that_json_loads_gives(elements, options, block):
    assert elements(json.dumps(CONTENT, **options) + "\n", block=block) == EXPECTED


@pytest.mark.parametrize("block", [1, 5, 2**20])
def test_every_cut_is_found(elements, block):
    text = json.dumps(CONTENT)
    for end in range(0, len(text), 3):
        with pytest.raises(ValueError, match=r"instances\.json is not complete JSON "):
            elements(text[:end], block=block)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a JSON object. Expected is COCO"),
        ("12", "is not a JSON object. Expected is COCO"),
        ('{"images": {}}', "`images` is not an array. Expected is COCO"),
        ('{"images": [1 2]}', r"not complete JSON \(.*after array element.*, near {\"images\": \[1 2\]}\)"),
        ('{"images": [1,]}', "unallowed token"),
        ('{"images" [1]}', "must be separated by a colon"),
        ('{"images": [1]} x', "trailing garbage"),
        ('{"images": [1]} {}', "trailing garbage"),
        ('{"images": [1]}', "has no `annotations`, `categories`. Expected is COCO"),
        ('{"info": ' + "[" * 100_000 + "}", "unallowed token"),
        ('{"images": [' + "[" * 100_000, "premature EOF"),
    ],
)
def test_broken_files(elements, text, message):
    with pytest.raises(ValueError, match=message):
        elements(text)


@pytest.mark.parametrize("value", ['"' + "x" * 100_000, "[" + "1," * 50_000, '{"a": ' * 20_000])
@pytest.mark.parametrize("key", ["images", "other"])
def test_a_value_that_does_not_end_is_not_read_to_the_end(elements, monkeypatch, key, value):
    monkeypatch.setattr(files, "MAX_VALUE_BYTES", 1000)
    with pytest.raises(ValueError, match=r"a value of more than 1,000 bytes before byte 1,[01]\d\d\."):
        elements(f'{{"{key}": [{value}', block=100)


def test_many_values_may_be_longer_than_the_limit_of_one(elements, monkeypatch):
    monkeypatch.setattr(files, "MAX_VALUE_BYTES", 1000)
    assert len(elements(json.dumps({"images": ["x" * 100] * 50}), ["images"], block=100)) == 50


def test_files_that_are_missing_or_not_text(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.json\. Expected is COCO"):
        list(array_elements(tmp_path / "none.json", ARRAYS, "COCO"))
    (tmp_path / "latin.json").write_bytes(b'{"images": ["\xe9"]}')
    with pytest.raises(ValueError, match=r"latin\.json is not complete JSON .*UTF8"):
        list(array_elements(tmp_path / "latin.json", ARRAYS, "COCO"))


def test_memory_does_not_grow_with_the_file(tmp_path):
    """2,000 elements of 20,000 characters: 40 MB in a file, a few blocks of 1 MB in memory at a time."""
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"images": [{"id": k, "text": "x" * 20_000} for k in range(2000)]}))
    process = psutil.Process()
    before, largest, total = process.memory_info().rss, 0, 0
    for _, row in array_elements(path, ("images",), "COCO"):
        total += row["id"]
        largest = max(largest, process.memory_info().rss)
    assert total == 1_999_000
    assert path.stat().st_size > 40e6
    assert largest - before < 12e6
