"""Images in two splits are found by their pixels."""

import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from deep_images import encoded, radiograph
from fedvlm_hf.building.builders.base import Example
from fedvlm_hf.building.images import ImageBytes, ImageFile
from fedvlm_hf.building.leaks import without_shared_images
from fedvlm_hf.building.work import Work
from fedvlm_hf.data.pixels import Window, in_8_bits


@dataclass(frozen=True)
class Drawn(ImageBytes):
    """An image of one colour, of which the key does not tell the colour."""


def png(red, level=6):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (red, 0, 0)).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def example(name, split, image):
    return Example(name, image, split, [], [], "vqa", ("a",))


def excluded(work):
    return [line["count"] for line in work.counts.lines if line["step"] == "excluded"]


def test_the_latest_split_keeps_an_image():
    """Red 1 is in all three splits, red 2 in train and validation, red 3 in train twice, with other bytes each time.

    Left out: the train and the validation row of red 1, the train row of red 2.
    """
    where = (("train", 1), ("train", 2), ("train", 3), ("train", 3), ("validation", 1), ("validation", 2), ("test", 1))
    examples = [example(f"row-{k}", split, Drawn(f"{k}.png", png(red, k))) for k, (split, red) in enumerate(where)]
    work = Work()
    kept = without_shared_images(examples, work)
    assert [e.id for e in kept] == ["row-2", "row-3", "row-5", "row-6"]
    assert excluded(work) == [2, 1]
    shared = next(line for line in work.counts.lines if line["what"].startswith("test images"))
    assert (shared["count"], shared["why"]) == (1, "of 1 test images")


def test_rows_of_one_image_stay_or_go_together():
    shown = Drawn("a.png", png(5))
    examples = [example("0", "train", shown), example("1", "train", shown), example("2", "test", shown)]
    assert [e.id for e in without_shared_images(examples, Work())] == ["2"]


def test_missing_images_are_compared_by_name():
    """Neither file exists, but the rows of b.png in train and in test still count as the same image."""
    a, b = (ImageFile(name, Path("nowhere") / name) for name in ("a.png", "b.png"))
    examples = [example("0", "train", a), example("1", "train", b), example("2", "test", b)]
    work = Work()
    assert [e.id for e in without_shared_images(examples, work)] == ["0", "2"]
    assert excluded(work) == [1, 0]
    assert work.counts.lines[0] | {"step": "note", "count": 2} == work.counts.lines[0]


def deep(seed=0):
    return encoded(radiograph(seed), "PNG")


def test_a_deep_image_is_the_same_as_its_converted_copy():
    """Both are stored with the same pixels. The copy has another range than the window, with which it differs."""
    copy = encoded(in_8_bits(radiograph()), "PNG")
    examples = [example("0", "train", Drawn("0", deep())), example("1", "train", Drawn("1", deep(1)))]
    examples.append(example("2", "test", Drawn("2", copy)))
    assert [e.id for e in without_shared_images(examples, Work())] == ["1", "2"]
    assert without_shared_images(examples, Work(window=Window(2000, 100))) == examples


def test_images_that_a_window_makes_equal_are_the_same():
    """All values are above 299, so a window below makes them white."""
    examples = [example("0", "train", Drawn("0", deep())), example("1", "test", Drawn("1", deep(1)))]
    assert without_shared_images(examples, Work()) == examples
    assert [e.id for e in without_shared_images(examples, Work(window=Window(0, 100)))] == ["1"]


def test_without_leaks_nothing_is_left_out():
    examples = [
        example(str(k), split, Drawn(f"{k}", png(k))) for k, split in enumerate(("train", "validation", "test"))
    ]
    work = Work()
    assert without_shared_images(examples, work) == examples
    assert excluded(work) == [0, 0]


def test_an_unreadable_image_is_named_with_its_first_row():
    shown = Drawn("broken.png", b"no image")
    with pytest.raises(ValueError, match=r"The image broken\.png, needed by row 'a', cannot be read as an image"):
        without_shared_images([example("a", "train", shown), example("b", "test", shown)], Work())


def test_an_image_that_is_a_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"The image {tmp_path}, needed by row 'a', cannot be read"):
        without_shared_images([example("a", "train", ImageFile("a.png", tmp_path))], Work())
