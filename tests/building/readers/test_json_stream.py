import json
import tracemalloc

import pytest

from fedvlm_hf.building.readers import json_stream
from fedvlm_hf.building.readers.json_stream import array_elements


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
def elements(tmp_path):
    def read(text: str, arrays=ARRAYS, block: int = 2**20):
        path = tmp_path / "instances.json"
        path.write_text(text, encoding="utf-8")
        return list(array_elements(path, arrays, "COCO", block))

    return read


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"separators": (",", ":"), "ensure_ascii": False}])
def test_elements_are_those_that_json_loads_gives(elements, options, block):
    assert elements(json.dumps(CONTENT, **options) + "\n", block=block) == EXPECTED


@pytest.mark.parametrize("block", [1, 5, 2**20])
def test_every_cut_is_found(elements, block):
    text = json.dumps(CONTENT)
    for end in range(0, len(text), 3):
        with pytest.raises(ValueError, match=r"instances\.json (is not whole JSON|does not hold a JSON object)"):
            elements(text[:end], block=block)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "does not hold a JSON object"),
        ('{"images": {}}', "`images` is not an array"),
        ('{"images": [1 2]}', "'2' where one of ',]' belongs, after character 14"),
        ('{"images": [1,]}', "Expecting value"),
        ('{"images" [1]}', r"'\[' where one of ':' belongs"),
        ('{"images": [1]} x', "something follows its end"),
        ('{"images": [1]}', "has no `annotations`, `categories`"),
        ('{"info": ' + "[" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_broken_files(elements, text, message):
    with pytest.raises(ValueError, match=message):
        elements(text)


def test_a_value_that_does_not_end_is_not_read_to_the_end(elements, monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_CHARACTERS", 1000)
    text = '{"images": ["' + "x" * 100_000
    with pytest.raises(ValueError, match=r"Unterminated string .*\(character 12\)"):
        elements(text, block=100)


def test_files_that_are_missing_or_no_text(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.json\. Expected is COCO"):
        list(array_elements(tmp_path / "none.json", ARRAYS, "COCO"))
    (tmp_path / "latin.json").write_bytes(b'{"images": ["\xe9"]}')
    with pytest.raises(ValueError, match=r"latin\.json is not text in UTF-8"):
        list(array_elements(tmp_path / "latin.json", ARRAYS, "COCO"))


def test_memory_does_not_grow_with_the_file(tmp_path):
    """1,000 elements of 20,000 characters: 20 MB in a file, a few blocks of 1 MB in memory at a time."""
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"images": [{"id": k, "text": "x" * 20_000} for k in range(1000)]}))
    tracemalloc.start()
    try:
        assert sum(row["id"] for _, row in array_elements(path, ("images",), "COCO")) == 499_500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 20e6
    assert peak < 8e6
