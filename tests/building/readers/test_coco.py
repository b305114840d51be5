import io
import json

import pytest
from PIL import Image

import raw_coco
from fedvlm_hf.building.images import open_image
from fedvlm_hf.building.readers import coco
from fedvlm_hf.building.readers.coco import Photograph


@pytest.fixture
def raw(tmp_path):
    return raw_coco.write_raw(tmp_path / "raw")


def broken(folder, change):
    """The training file after `change(content)`."""
    path = raw_coco.write_raw(folder) / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_both_parts_are_read_in_file_order(raw):
    path = coco.annotation_file(raw)
    instances = coco.read(path)
    assert path == instances.path == raw / "annotations" / "instances_train2014.json"
    assert list(instances.images) == list(range(1, 31))
    assert instances.images[9] == coco.CocoImage(9, "COCO_train2014_000000000009.jpg", 64, 48)
    assert instances.categories == {1: "person", 17: "cat", 18: "dog", 90: "toothbrush"}
    assert list(instances.annotations)[:3] == [101, 102, 201]
    assert instances.annotations[902] == coco.Annotation(902, 9, 17, (16.0, 12.0, 32.0, 24.0), 700.0, is_crowd=False)
    assert [a.annotation_id for a in instances.annotations.values() if a.is_crowd] == [103, 2901]
    val = coco.read(coco.annotation_file(raw, "val2014"))
    assert (list(val.images), list(val.annotations)) == ([501], [50101])


def test_an_unknown_part_is_refused(raw):
    with pytest.raises(ValueError, match=r"`part='val2017'` is unknown; .*'train2014', 'val2014'"):
        coco.annotation_file(raw, "val2017")


@pytest.mark.parametrize(("given", "wanted"), [("above", "above/raw"), ("above/raw/annotations", "above/raw")])
def test_a_folder_one_level_off_is_named(tmp_path, given, wanted):
    raw_coco.write_raw(tmp_path / "above" / "raw")
    with pytest.raises(ValueError, match=rf"one level off: use {(tmp_path / wanted).resolve()}\."):
        coco.annotation_file(tmp_path / given)


@pytest.mark.parametrize("below", ["train2014", "images/train2014", "images/mscoco/images/train2014"])
def test_images_are_found_where_coco_and_refcoco_have_them(tmp_path, below):
    (tmp_path / below).mkdir(parents=True)
    assert coco.image_folder(tmp_path) == tmp_path / below


def test_missing_images_are_expected_where_coco_has_them(tmp_path):
    assert coco.image_folder(tmp_path, "val2014") == tmp_path / "val2014"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][3].update(image_id=77), r"annotations\[3\] \(id 202\) has image 77, which"),
        (lambda c: c["annotations"][3].update(category_id=12), r"annotations\[3\] \(id 202\) has category 12"),
        (lambda c: c["annotations"][3].update(id=101), r"annotations\[3\]: the id 101 already occurred"),
        (lambda c: c["annotations"][3].pop("bbox"), r"annotations\[3\] has no `bbox`. It is {"),
        (lambda c: c["annotations"][3].update(bbox=[1, 2, 3]), r"annotations\[3\]: `bbox` must be four numbers"),
        (lambda c: c["annotations"][3].update(bbox=[1, 2, 3, "4"]), r"annotations\[3\]: `bbox` must be four numbers"),
        (
            lambda c: c["annotations"][3].update(bbox=[1, 2, 3, float("nan")]),
            r"annotations\[3\]: `bbox` must be .*nan",
        ),
        (lambda c: c["annotations"][3].update(area=True), r"annotations\[3\]: `area` must be a number, not True"),
        (lambda c: c["annotations"].insert(3, [1]), r"annotations\[3\] must be an object, not a list"),
        (lambda c: c["images"][2].update(id="3"), r"images\[2\]: `id` must be a whole number, not '3'"),
        # numbers that Python cannot compare with fractions
        (
            lambda c: c["annotations"][3].update(bbox=[1, 2, 3, 10**400]),
            r"annotations\[3\]: `bbox` must be four numbers",
        ),
        (lambda c: c["annotations"][3].update(area=10**400), r"annotations\[3\]: `area` is a number of more than 18"),
        (lambda c: c["images"][2].update(width=10**30), r"images\[2\]: `width` is a number of more than 18 digits"),
        (lambda c: c["images"][2].update(width=0), r"images\[2\]: .* 0 x 48"),
        (lambda c: c["images"][2].update(file_name="../x.jpg"), r"images\[2\]: expected a file name without folders"),
        (lambda c: c["categories"][1].update(name=None), r"categories\[1\]: `name` must be text, not None"),
        (lambda c: c.pop("annotations"), r"instances_train2014\.json has no `annotations`"),
    ],
)
def test_wrong_rows_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        coco.read(broken(tmp_path / "raw", change))
    assert "instances_train2014.json" in str(error.value)


def test_a_truncated_file_is_named(raw):
    path = coco.annotation_file(raw)
    path.write_text(path.read_text()[:-2000])
    with pytest.raises(
        ValueError, match=r"instances_train2014\.json, line 1, column \d+: not complete JSON .*at the end of the file"
    ):
        coco.read(path)


def photograph(raw, image_id, **size):
    path = raw / "train2014" / raw_coco.file_name(image_id)
    return Photograph(f"train2014/{path.name}", path, **{"width": 64, "height": 48, **size})


def test_the_bytes_of_a_photograph_are_unchanged(raw):
    image = photograph(raw, 9)
    assert image.load() == image.path.read_bytes()


def test_a_photograph_of_another_size_than_its_annotations_is_refused(raw):
    with pytest.raises(ValueError, match=r"000009\.jpg has 64 x 48 pixels, but its annotations expect 48 x 64"):
        photograph(raw, 9, width=48, height=64).load()


def test_exif_rotation_is_removed_because_boxes_ignore_it(raw):
    """Orientation 6 turns by 90 degrees on decoding: 64 x 48 pixels would be 48 x 64, and boxes elsewhere."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photograph(raw, 9)
    raw_coco.draw(image.path, 9, exif=exif)
    assert open_image(image.path.read_bytes(), "as stored").size == (48, 64)
    found = open_image(image.load(), "as loaded")
    assert found.size == (64, 48)
    expected = Image.open(image.path).convert("RGB").getpixel((5, 5))
    assert all(abs(a - b) <= 3 for a, b in zip(found.getpixel((5, 5)), expected, strict=True))


def test_an_image_that_is_missing_or_not_an_image(raw):
    image = photograph(raw, 9)
    image.path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"000009\.jpg cannot be read as an image \(Pillow does not recognize"):
        image.load()
    image.path.unlink()
    with pytest.raises(FileNotFoundError):
        image.load()


def test_a_truncated_photograph_with_exif_rotation_is_named(raw):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photograph(raw, 9)
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(buffer, "JPEG", quality=95, exif=exif)
    image.path.write_bytes(buffer.getvalue()[:-1500])
    with pytest.raises(ValueError, match=r"000009\.jpg cannot be read as an image"):
        image.load()
