"""JSON files that are read value by value."""

import json

import psutil
import pytest

from fedvlm_hf.building.readers import json_stream
from fedvlm_hf.building.readers.json_stream import JsonStream, array_elements


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
        monkeypatch.setattr(json_stream, "_BLOCK_CHARACTERS", block)
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
        with pytest.raises(ValueError, match=r"instances\.json, line 1, column \d+: not complete JSON "):
            elements(text[:end], block=block)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a JSON object. Expected is COCO"),
        ("12", "is not a JSON object. Expected is COCO"),
        ('{"images": {}}', "`images` is not an array. Expected is COCO"),
        ('{"images": [1 2]}', r"line 1, column 15: not complete JSON \(a comma or \] is missing, near '2\]}'\)"),
        ('{\n"images": [1,]}', r"line 2, column 14: .*expecting value"),
        ('{"images" [1]}', "a colon after the key 'images' is missing"),
        ('{"images": [1], "images": [2]}', "line 1, column 25: .*the key 'images' occurs twice"),
        ('{"images": [{"id": 1, "id": 2}]}', "line 1, column 13: .*the key 'id' occurs twice in one object"),
        ('{"images": [1]} x', "line 1, column 17: .*something follows after the end"),
        ('{"images": [1]} {}', "something follows after the end"),
        ('{"images": [1]}', "has no `annotations`, `categories`. Expected is COCO"),
        ('{"info": ' + "[" * 100_000 + "}", "lists and objects are nested too deep"),
        ('{"images": [' + "[" * 100_000, "lists and objects are nested too deep"),
        ('{"images": [' + "1" * 5000 + "]}", r"column 13: .*4300 digits"),
    ],
)
def test_broken_files(elements, text, message):
    with pytest.raises(ValueError, match=message):
        elements(text)


@pytest.mark.parametrize("value", ['"' + "x" * 100_000, "[" + "1," * 50_000, '{"a": ' * 20_000])
@pytest.mark.parametrize("key", ["images", "other"])
def test_a_value_that_does_not_end_is_not_read_to_the_end(elements, monkeypatch, key, value):
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARACTERS", 1000)
    with pytest.raises(ValueError, match=r"line 1, column 1\d: a value of more than 1,000 characters\."):
        elements(f'{{"{key}": [{value}', block=100)


def test_many_values_may_be_longer_than_the_limit_of_one(elements, monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARACTERS", 1000)
    assert len(elements(json.dumps({"images": ["x" * 100] * 50}), ["images"], block=100)) == 50


def test_files_that_are_missing_or_not_text(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.json\. Expected is COCO"):
        list(array_elements(tmp_path / "none.json", ARRAYS, "COCO"))
    (tmp_path / "latin.json").write_bytes(b'{"images": ["\xe9"]}')
    with pytest.raises(ValueError, match=r"latin\.json, line 1: not text in UTF-8 \(byte 0xe9"):
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


NUMBERS = [0, -1, 12.5, -1e-3, 1.5e300, 123456789012345, float("inf"), True, None, "\U0001f600", "\\", '"', [], {}]


@pytest.mark.parametrize("block", [1, 2, 3, 5, 17, 2**20])
def test_values_at_the_end_of_a_block_are_not_cut(tmp_path, monkeypatch, block):
    monkeypatch.setattr(json_stream, "_BLOCK_CHARACTERS", block)
    path = tmp_path / "list.json"
    path.write_text(json.dumps([*NUMBERS, *({"value": value} for value in NUMBERS)], indent=1))
    with JsonStream(path) as stream:
        assert list(stream.elements()) == [*NUMBERS, *({"value": value} for value in NUMBERS)]
        stream.end()


def test_a_single_number_may_be_the_whole_text(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_BLOCK_CHARACTERS", 1)
    (tmp_path / "a.json").write_text(" 1234.5e-1 ")
    with JsonStream(tmp_path / "a.json") as stream:
        assert stream.value() == 123.45
        stream.end()
