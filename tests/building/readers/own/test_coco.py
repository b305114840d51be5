"""Own data in the format of COCO."""

import copy
import json

import pytest

from fedvlm_hf.building.readers.own.sources import open_source
from fedvlm_hf.building.work import Work
from raw_custom import write_image


IMAGES = [
    {"id": 1, "file_name": "a/1.png", "width": 12, "height": 8},
    {"id": "two", "file_name": "2.png", "width": 12, "height": 8},
]
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
CAPTIONS = {
    "info": {"version": "1"},
    "images": IMAGES,
    "licenses": [],
    "annotations": [
        {"id": 5, "image_id": 1, "caption": " a cat"},
        {"id": 6, "image_id": "two", "caption": "a dog"},
        {"id": 7, "image_id": 1, "caption": "the cat"},
    ],
}
DETECTION = {
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 90, "bbox": [3, 2, 6, 4], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]},
        {"id": 3, "image_id": 1, "category_id": 3, "bbox": [1, 1, 1, 1]},
        {"id": 4, "image_id": "two", "category_id": 3, "bbox": [-0.4, 0, 12.9, 8.5], "iscrowd": 0},
        {"id": 5, "image_id": "two", "category_id": 3, "bbox": [0, 0, 2, 2], "iscrowd": 1},
        {"id": 6, "image_id": "two", "category_id": 90, "bbox": [4, 4, 0, 3]},
    ],
    "images": IMAGES,
    "categories": CATEGORIES,
}


def read(path, content, work=None):
    path.write_text(json.dumps(content))
    (source,) = open_source(path, work or Work(raw=path.parent)).sources
    return source, list(source.rows())


def test_captions(tmp_path):
    source, rows = read(tmp_path / "a.json", CAPTIONS)
    assert source.form == "COCO captions"
    assert [row.values for row in rows] == [
        {"answer": text, "task": "caption"} for text in (" a cat", "a dog", "the cat")
    ]
    assert [row.image.key for row in rows] == ["a/1.png", "2.png", "a/1.png"]
    assert [row.name for row in rows] == ["0", "1", "2"]
    assert rows[1].where == f"{tmp_path / 'a.json'}, annotations[1]"


def test_detection_has_one_row_per_image_and_category_with_one_object(tmp_path):
    """[3, 2, 6, 4] of 12 x 8 is [3/12, 2/8, 9/12, 6/8]; the box that exceeds the image by half a pixel is clipped."""
    work = Work(raw=tmp_path)
    source, rows = read(tmp_path / "a.json", DETECTION, work)
    assert source.form == "COCO detection"
    assert [row.values for row in rows] == [
        {"target": "dog", "answer": "[0.250, 0.250, 0.750, 0.750]", "task": "detection"},
        {"target": "cat", "answer": "[0.000, 0.000, 1.000, 1.000]", "task": "detection"},
    ]
    assert [row.name for row in rows] == ["1-90", "two-3"]
    lines = [(line["what"], line["count"]) for line in work.counts.lines if line["step"] == "excluded"]
    assert lines == [
        ("groups of objects (iscrowd) in a.json", 1),
        ("images with several objects of a category in a.json", 1),
        ("boxes without area in a.json", 1),
    ]
    assert work.counts.kept == 0


def test_boxes_need_an_image_of_the_size_that_the_file_says(tmp_path):
    write_image(tmp_path / "images" / "a" / "1.png", 7)
    _, rows = read(tmp_path / "a.json", DETECTION)
    assert rows[0].image.load() == (tmp_path / "images" / "a" / "1.png").read_bytes()
    larger = copy.deepcopy(DETECTION)
    larger["images"][0]["width"] = 24
    _, rows = read(tmp_path / "a.json", larger)
    with pytest.raises(ValueError, match="has 12 x 8 pixels, but its annotations expect 24 x 8"):
        rows[0].image.load()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["annotations"][0].update(image_id=9), r"annotations\[0\]: `image_id` 9 is not one of the 2 ids"),
        (
            lambda c: c["annotations"][0].update(image_id=None),
            r"annotations\[0\]: `image_id` must be of type int",
        ),
        (
            lambda c: c["annotations"][0].update(category_id=9),
            r"annotations\[0\]: `category_id` 9 is not one of the 2 ids",
        ),
        (
            lambda c: c["annotations"][0].pop("category_id"),
            r"annotations\[0\]: `category_id` must be of type int",
        ),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"annotations\[0\]: `bbox` must be four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, "4"]), r"annotations\[0\]: `bbox` must be four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 30, 4]), r"annotations\[0\]: .*more than one pixel outside"),
        (lambda c: c["annotations"].append(7), r"annotations\[6\]: expected is an object, got a int"),
        (lambda c: c["images"].append(c["images"][0]), r"images\[2\]: the id 1 already occurred"),
        (lambda c: c["images"][0].pop("width"), r"images\[0\]: `width` must be of type int"),
        (lambda c: c["images"][0].update(width=0), r"images\[0\]: the size must be positive"),
        (lambda c: c["images"][0].pop("file_name"), r"images\[0\]: `file_name` must be of type str"),
        (lambda c: c["images"][0].update(file_name="../1.png"), r"images\[0\]: `file_name`: '\.\./1\.png' must be"),
        (lambda c: c["categories"].append(c["categories"][0]), r"categories\[2\]: the id 3 already occurred"),
        (lambda c: c.pop("categories"), r"annotations\[0\]: `category_id` 90 is not one of the 0 ids"),
        (lambda c: c["categories"][0].pop("name"), r"categories\[0\]: `name` must be of type str"),
    ],
)
def test_wrong_entries_are_named(tmp_path, change, problem):
    content = copy.deepcopy(DETECTION)
    change(content)
    with pytest.raises(ValueError, match=rf"a\.json, {problem}") as error:
        read(tmp_path / "a.json", content)
    assert "ownload" not in str(error.value)


def test_captions_need_texts(tmp_path):
    content = copy.deepcopy(CAPTIONS)
    content["annotations"][1]["caption"] = 7
    with pytest.raises(ValueError, match=r"a\.json, annotations\[1\]: `caption` must be of type str, got int"):
        read(tmp_path / "a.json", content)


def test_other_annotations_are_refused_with_the_keys(tmp_path):
    content = {"images": IMAGES, "annotations": [{"image_id": 1, "question": "?"}]}
    with pytest.raises(ValueError, match=r"several keys have a list of rows; lists are \['images', 'annotations'\]"):
        read(tmp_path / "a.json", content)
