import io

import pytest
from PIL import Image

import raw_coco
from fedvlm_hf.building.images import open_image
from fedvlm_hf.building.readers.photographs import Photograph


@pytest.fixture
def raw(tmp_path):
    return raw_coco.write_raw(tmp_path / "raw")


def photograph(raw, image_id, **size):
    path = raw / "train2014" / raw_coco.file_name(image_id)
    return Photograph(f"train2014/{path.name}", path, **{"width": 64, "height": 48, **size})


def test_a_photographs_bytes_are_untouched(raw):
    image = photograph(raw, 9)
    assert image.load() == image.path.read_bytes()


def test_a_photograph_of_another_size_than_its_annotations_is_refused(raw):
    with pytest.raises(ValueError, match=r"000009\.jpg has 64 x 48 pixels, its annotations are of 48 x 64"):
        photograph(raw, 9, width=48, height=64).load()


def test_a_photograph_that_asks_to_be_turned_stays_as_its_boxes_have_it(raw):
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


def test_an_image_that_is_missing_or_none(raw):
    image = photograph(raw, 9)
    image.path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"000009\.jpg cannot be read as an image \(UnidentifiedImageError"):
        image.load()
    image.path.unlink()
    with pytest.raises(FileNotFoundError):
        image.load()


def test_a_cut_photograph_that_asks_to_be_turned_is_named(raw):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photograph(raw, 9)
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(buffer, "JPEG", quality=95, exif=exif)
    image.path.write_bytes(buffer.getvalue()[:-1500])
    with pytest.raises(ValueError, match=r"000009\.jpg cannot be read as an image"):
        image.load()
