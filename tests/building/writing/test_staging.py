"""Staging of images: unchanged, changed by options, or missing."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from deep_images import MODES, png_16, radiograph
from fedvlm_hf.building import inspection
from fedvlm_hf.building.builders.base import Example
from fedvlm_hf.building.images import ImageBytes, ImageFile, StoredImage, image_digest, open_image
from fedvlm_hf.building.templates import chat
from fedvlm_hf.building.work import RowCounts, Work
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.building.writing.staging import (
    MissingImage,
    StagedImage,
    move_boxes,
    note_unusual_images,
    read_unchanged,
    stage_images,
)
from fedvlm_hf.data.pixels import Window, in_8_bits
from toy_builder import draw


def rows(*images: StoredImage) -> list[Example]:
    return [Example(f"row-{number}", image, "train", [], [], "vqa", ("x",), {}) for number, image in enumerate(images)]


def file(folder: Path, name: str, picture: Image.Image, **kwargs) -> ImageFile:
    picture.save(folder / name, **kwargs)
    return ImageFile(name, folder / name)


def stage(folder: Path, *images: StoredImage, **options):
    staged = folder / "staged"
    staged.mkdir(exist_ok=True)
    options = WriteOptions(num_workers=1, **options)
    return stage_images(rows(*images), staged, options, Work(folder, window=options.shown_values))


def encoded(picture: Image.Image, kind: str = "PNG", **kwargs) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **kwargs)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "1"])
def test_bytes_are_unchanged_in_any_mode(tmp_path, mode):
    picture = Image.new("L", (6, 5), 90).convert(mode)
    name = "x.tif" if mode == "CMYK" else "x.png"
    image = file(tmp_path, name, picture)
    staged, missing = stage(tmp_path, image, max_side=100)
    assert missing == []
    assert staged[name].image == image
    assert staged[name].num_bytes == (tmp_path / name).stat().st_size
    assert (staged[name].width, staged[name].height, staged[name].frame) == (6, 5, (6, 5))
    assert staged[name].digest == image_digest(picture)


@pytest.mark.parametrize("mode", MODES)
def test_deep_images_are_stored_in_8_bits_without_a_loss(tmp_path, mode):
    """As a greyscale PNG with the pixels on which FederatedTrainer trains, so that every trainer sees the same."""
    content = encoded(radiograph(mode=mode), "TIFF")
    staged, _ = stage(tmp_path, file(tmp_path, "x.tif", radiograph(mode=mode)), ImageBytes("y", content))
    for found in staged.values():
        stored = Image.open(found.image.path)
        assert (stored.format, stored.mode, stored.size) == ("PNG", "L", (16, 16))
        assert stored.tobytes() == in_8_bits(radiograph(mode=mode)).tobytes()
        assert (found.width, found.height, found.frame, found.was_deep) == (16, 16, (16, 16), True)
        assert found.num_bytes == found.image.path.stat().st_size
        assert found.digest == image_digest(stored) == image_digest(radiograph(mode=mode))


def test_8_bit_arrays_that_datasets_stores_with_32_bits_are_unchanged(tmp_path):
    picture = Image.fromarray(np.asarray(draw(1).convert("L")).astype(np.int32))
    image = file(tmp_path, "x.tif", picture)
    staged, _ = stage(tmp_path, image, window="40,400")
    assert staged["x.tif"].image == image
    assert staged["x.tif"].digest == image_digest(draw(1).convert("L"))
    assert notes(staged) == []


def test_deep_images_are_clipped_to_a_window(tmp_path):
    """2,001 to 3,000 become 0 to 255 by DICOM's function with center 2,501 and width 1,000; others are not touched."""
    plain = file(tmp_path, "plain.png", draw(1))
    staged, _ = stage(tmp_path, file(tmp_path, "x.png", radiograph()), plain, window="2501,1000")
    stored = Image.open(staged["x.png"].image.path)
    assert stored.tobytes() == in_8_bits(radiograph(), Window(2501, 1000)).tobytes()
    values = np.asarray(radiograph())
    assert (np.asarray(stored)[values <= 2001] == 0).all()
    assert (np.asarray(stored)[values >= 3000] == 255).all()
    assert staged["x.png"].digest == image_digest(stored) != image_digest(radiograph())
    assert staged["plain.png"].image == plain
    assert not staged["plain.png"].was_deep


def test_deep_images_are_reduced_and_padded_without_a_loss(tmp_path):
    """32 x 32 to 20 on the long side; 16 x 8 in a square, with the picture in rows 4 to 11."""
    narrow = Image.fromarray(np.asarray(radiograph())[:8])
    images = file(tmp_path, "x.png", radiograph(size=32)), file(tmp_path, "y.png", narrow)
    staged, _ = stage(tmp_path, *images, max_side=20, pad_to_square=True)
    reduced, padded = (Image.open(staged[name].image.path) for name in ("x.png", "y.png"))
    assert [(picture.format, picture.mode) for picture in (reduced, padded)] == [("PNG", "L")] * 2
    assert (reduced.size, padded.size, staged["y.png"].frame) == ((20, 20), (16, 16), (16, 8))
    assert padded.crop((0, 4, 16, 12)) == in_8_bits(narrow)
    expected = in_8_bits(radiograph(size=32)).resize((20, 20), Image.Resampling.LANCZOS)
    assert reduced.tobytes() == expected.tobytes()


def notes(staged, **options):
    counts = RowCounts()
    note_unusual_images(staged, WriteOptions(**options), counts)
    return [(line["step"], line["what"], line["count"], line["why"]) for line in counts.lines]


def test_deep_images_are_counted_with_what_was_done(tmp_path):
    colours = ImageBytes("z", png_16(np.full((4, 4, 3), 70)))
    deep = [file(tmp_path, f"{seed}.png", radiograph(seed)) for seed in range(2)]
    staged, _ = stage(tmp_path, *deep, file(tmp_path, "plain.png", draw(1)), colours)
    what = "images with more than 8 bits"
    colour = ("note", "images with 16 bits per colour", 1)
    own, noted = notes(staged)
    assert own == ("note", what, 2, "converted to 8 bits by the range of values of each image")
    assert noted[:3] == colour
    assert notes(staged, window="-600,1500")[0] == (
        *("note", what, 2),
        "converted to 8 bits by the window -600,1500, so that -1350 becomes 0 and 149 becomes 255",
    )
    assert notes({name: image for name, image in staged.items() if name == "plain.png"}) == []


def test_images_with_several_frames_are_counted(tmp_path):
    """A GIF of two frames and a TIFF of two pages; a GIF of one frame is an image like others."""
    one, two = draw(1), draw(2)
    one.save(tmp_path / "one.gif")
    one.save(tmp_path / "two.gif", save_all=True, append_images=[two])
    one.save(tmp_path / "two.tif", save_all=True, append_images=[two])
    images = [ImageFile(name, tmp_path / name) for name in ("one.gif", "two.gif", "two.tif")]
    staged, _ = stage(tmp_path, *images)
    assert [staged[image.key].num_frames for image in images] == [1, 2, 2]
    assert notes(staged) == [("note", "images with several frames", 2, "only the first frame is used")]
    assert staged["two.tif"].digest == image_digest(one)


def test_a_deep_image_without_a_finite_value_is_named(tmp_path):
    image = file(tmp_path, "x.tif", Image.fromarray(np.full((2, 2), np.nan, np.float32)))
    with pytest.raises(
        ValueError, match=r"x\.tif, needed by row 'row-0', cannot be converted to 8 bits: no value of the"
    ):
        stage(tmp_path, image)


def test_an_unchanged_image_is_not_copied(tmp_path):
    content = encoded(draw(1))
    staged, _ = stage(tmp_path, ImageBytes("a", content), ImageBytes("a", content), ImageBytes("b", encoded(draw(2))))
    assert staged["a"].image.load() == content
    assert sorted(staged) == ["a", "b"]
    assert list((tmp_path / "staged").rglob("*")) == []


@dataclass(frozen=True)
class Made(ImageFile):
    """An image that is made from its file, in a way that takes long."""

    is_made: ClassVar[bool] = True
    calls: ClassVar[list[str]] = []

    def load(self) -> bytes:
        """Return the file's image in grey."""
        self.calls.append(self.key)
        return encoded(Image.open(self.path).convert("L"))


def test_an_image_is_made_and_decoded_once(tmp_path, monkeypatch):
    """In the inspection by a builder, in the staging, and when its bytes are stored."""
    decoded = []
    monkeypatch.setattr(inspection, "open_image", lambda *args: decoded.append(args) or open_image(*args))
    Made.calls.clear()
    draw(1).save(tmp_path / "x.png")
    work, made = Work(tmp_path), Made("x.png", tmp_path / "x.png")
    facts = inspection.inspect_images([(made, "row")], work)
    staged, _ = stage_images(rows(made, made), tmp_path, WriteOptions(), work)
    content = read_unchanged(staged["x.png"].image, staged["x.png"].content)
    assert image_digest(Image.open(io.BytesIO(content))) == facts["x.png"].digest
    assert (Made.calls, len(decoded)) == (["x.png"], 1)


def test_images_are_reduced_and_padded(tmp_path):
    """100 x 50 to 40 on the long side is 40 x 20, in a square 40 x 40; 10 x 10 stays."""
    large, small = file(tmp_path, "large.png", draw(1, (100, 50))), file(tmp_path, "small.png", draw(2, (10, 10)))
    staged, _ = stage(tmp_path, large, small, max_side=40, pad_to_square=True)
    found = staged["large.png"]
    assert (found.width, found.height, found.frame) == (40, 40, (40, 20))
    stored = open_image(found.image.load(), "x")
    assert stored.size == (40, 40)
    assert found.digest == image_digest(stored)
    assert staged["small.png"].image == small


def test_equal_pixels_have_the_same_digest_in_every_format(tmp_path):
    one, other = file(tmp_path, "x.png", draw(1)), file(tmp_path, "x.bmp", draw(1))
    staged, _ = stage(tmp_path, one, other)
    assert staged["x.png"].digest == staged["x.bmp"].digest
    assert staged["x.png"].content != staged["x.bmp"].content


def test_missing_images_are_counted_and_the_first_named(tmp_path):
    there, gone, too = file(tmp_path, "x.png", draw(1)), *(ImageFile(name, tmp_path / name) for name in ("y", "z"))
    with pytest.raises(
        ValueError, match=rf"2 of 3 images are missing. The first is {tmp_path}/y, needed by row 'row-1'"
    ):
        stage(tmp_path, there, gone, too)
    file(tmp_path, "y.png", draw(2)), file(tmp_path, "z.png", draw(3))
    (tmp_path / "y.png").rename(tmp_path / "y"), (tmp_path / "z.png").rename(tmp_path / "z")
    staged, missing = stage(tmp_path, there, gone, too)
    assert (len(staged), missing) == (3, [])


def test_each_missing_image_has_its_own_replacement(tmp_path):
    images = [ImageFile(name, tmp_path / name) for name in ("y", "z")]
    staged, missing = stage(tmp_path, file(tmp_path, "x.png", draw(1)), *images, allow_missing_images=True)
    assert missing == ["y", "z"]
    assert len({image.digest for image in staged.values()}) == 3
    assert staged["y"].image == MissingImage("y")
    assert staged["y"].num_bytes == len(MissingImage("y").load())


def test_a_replacement_is_grey_and_crossed_out():
    picture = open_image(MissingImage("a").load(), "a")
    assert (picture.mode, picture.size) == ("L", (224, 224))
    assert {picture.getpixel((place, place)) for place in range(224)} == {255}
    assert {picture.getpixel((x, 7)) for x in range(60, 160)} <= {120, 136}


def truncated(folder: Path) -> ImageFile:
    (folder / "x.jpg").write_bytes(encoded(draw(1, (200, 200)), "JPEG")[:-400])
    return ImageFile("x.jpg", folder / "x.jpg")


def text(folder: Path) -> ImageFile:
    (folder / "x.jpg").write_text("no image")
    return ImageFile("x.jpg", folder / "x.jpg")


def directory(folder: Path) -> ImageFile:
    (folder / "x.jpg").mkdir()
    return ImageFile("x.jpg", folder / "x.jpg")


@dataclass(frozen=True)
class Wrong(StoredImage):
    key: str

    def load(self) -> bytes:
        raise ValueError("the volume has no slices")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (truncated, r"{0}/x\.jpg, needed by row 'row-0', cannot be read as an image"),
        (text, r"{0}/x\.jpg, needed by row 'row-0', cannot be read as an image"),
        (directory, r"{0}/x\.jpg, needed by row 'row-0', cannot be read"),
        (lambda folder: Wrong("volume"), r"volume, needed by row 'row-0', cannot be used: the volume has no slices"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_row(tmp_path, make, expected):
    with pytest.raises(ValueError, match=expected.format(re.escape(str(tmp_path)))):
        stage(tmp_path, make(tmp_path), allow_missing_images=True)


def test_a_key_identifies_one_image(tmp_path):
    with pytest.raises(ValueError, match=r"'row-0' and 'row-1' have different images with the same key, 'x'"):
        stage(tmp_path, ImageBytes("x", b"1"), ImageBytes("x", b"2"))


def row(box: str, **fields: str) -> Example:
    texts = chat("grounding", box, **fields)
    return Example("a", ImageFile("x", Path("x")), "train", **texts, task="grounding", references=(box,))


def image(size: tuple[int, int], frame: tuple[int, int]) -> StagedImage:
    return StagedImage(MissingImage("x"), "", 1, "", *size, frame)


def test_a_wide_picture_gets_borders_above_and_below():
    """40 x 20 in 40 x 40 begins at y = 10: x stays, y becomes (10 + 20 y) / 40, so 0.2 becomes 0.35 and 0.8 0.65."""
    texts = move_boxes(row("[0.100, 0.200, 0.500, 0.800]", expression="x"), image((40, 40), (40, 20)))
    assert texts["references"] == ["[0.100, 0.350, 0.500, 0.650]"]
    assert texts["completion"] == [{"role": "assistant", "content": "[0.100, 0.350, 0.500, 0.650]"}]


def test_a_high_picture_gets_the_odd_pixel_on_the_right():
    """21 x 40 in 40 x 40 begins at x = 9: 0 becomes 9 / 40 and 1 becomes 30 / 40."""
    texts = move_boxes(row("[0.000, 0.000, 1.000, 1.000]", expression="x"), image((40, 40), (21, 40)))
    assert texts["references"] == ["[0.225, 0.000, 0.750, 1.000]"]


def test_boxes_in_prompts_move_and_other_numbers_do_not():
    question = "[0.000, 0.000, 1.000, 1.000], [1, 2, 3, 4], [0.900, 0.000, 0.100, 1.000] and [x1, y1, x2, y2]"
    example = row("[0.000, 0.000, 1.000, 1.000]", expression=question)
    moved = move_boxes(example, image((40, 40), (40, 20)))["prompt"][0]["content"]
    expected = example.prompt[0]["content"].replace("[0.000, 0.000, 1.000, 1.000]", "[0.000, 0.250, 1.000, 0.750]")
    assert moved == expected


def test_without_padding_nothing_moves():
    example = row("[0.100, 0.200, 0.500, 0.800]", expression="x")
    texts = move_boxes(example, image((40, 20), (40, 20)))
    assert texts == {
        "prompt": example.prompt,
        "completion": example.completion,
        "references": list(example.references),
    }
