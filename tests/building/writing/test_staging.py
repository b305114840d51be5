"""Staging of images: unchanged, changed by options, or missing."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from fedvlm_hf.building import inspection
from fedvlm_hf.building.builders.base import Example
from fedvlm_hf.building.images import ImageBytes, ImageFile, StoredImage, image_digest, open_image
from fedvlm_hf.building.templates import chat
from fedvlm_hf.building.work import Work
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.building.writing.staging import MissingImage, StagedImage, move_boxes, read_unchanged, stage_images
from toy_builder import draw


def rows(*images: StoredImage) -> list[Example]:
    return [Example(f"row-{number}", image, "train", [], [], "vqa", ("x",), {}) for number, image in enumerate(images)]


def file(folder: Path, name: str, picture: Image.Image, **kwargs) -> ImageFile:
    picture.save(folder / name, **kwargs)
    return ImageFile(name, folder / name)


def stage(folder: Path, *images: StoredImage, **options):
    staged = folder / "staged"
    staged.mkdir(exist_ok=True)
    return stage_images(rows(*images), staged, WriteOptions(num_workers=1, **options), Work(folder))


def encoded(picture: Image.Image, kind: str = "PNG", **kwargs) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **kwargs)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "I;16", "RGBA", "1"])
def test_bytes_are_unchanged_in_any_mode(tmp_path, mode):
    picture = Image.new("L", (6, 5), 90).convert(mode) if mode != "I;16" else Image.new("I;16", (6, 5), 4000)
    name = "x.tif" if mode == "CMYK" else "x.png"
    image = file(tmp_path, name, picture)
    staged, missing = stage(tmp_path, image, max_side=100)
    assert missing == []
    assert staged[name].image == image
    assert staged[name].num_bytes == (tmp_path / name).stat().st_size
    assert (staged[name].width, staged[name].height, staged[name].frame) == (6, 5, (6, 5))
    assert staged[name].digest == image_digest(picture)


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
    assert Image.open(io.BytesIO(content)).mode == facts["x.png"].mode == "L"
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
