"""Boxes follow their picture into the square."""

from pathlib import Path

from fedvlm_hf.building.builders.base import Example
from fedvlm_hf.building.images import ImageFile
from fedvlm_hf.building.templates import chat
from fedvlm_hf.building.writing.padding import padded
from fedvlm_hf.building.writing.staging import StagedImage


def row(box: str, **fields: str) -> Example:
    texts = chat("grounding", box, **fields)
    return Example("a", ImageFile("x", Path("x")), "train", **texts, task="grounding", references=(box,))


def image(size: tuple[int, int], frame: tuple[int, int]) -> StagedImage:
    return StagedImage(Path("x"), "", 1, "", *size, frame)


def test_a_wide_picture_gets_borders_above_and_below():
    """40 x 20 in 40 x 40 begins at y = 10: x stays, y becomes (10 + 20 y) / 40, so 0.2 becomes 0.35 and 0.8 0.65."""
    texts = padded(row("[0.100, 0.200, 0.500, 0.800]", expression="x"), image((40, 40), (40, 20)))
    assert texts["references"] == ["[0.100, 0.350, 0.500, 0.650]"]
    assert texts["completion"] == [{"role": "assistant", "content": "[0.100, 0.350, 0.500, 0.650]"}]


def test_a_high_picture_gets_the_odd_pixel_on_the_right():
    """21 x 40 in 40 x 40 begins at x = 9: 0 becomes 9 / 40 and 1 becomes 30 / 40."""
    texts = padded(row("[0.000, 0.000, 1.000, 1.000]", expression="x"), image((40, 40), (21, 40)))
    assert texts["references"] == ["[0.225, 0.000, 0.750, 1.000]"]


def test_boxes_in_prompts_move_and_other_numbers_do_not():
    question = "[0.000, 0.000, 1.000, 1.000], [1, 2, 3, 4], [0.900, 0.000, 0.100, 1.000] and [x1, y1, x2, y2]"
    example = row("[0.000, 0.000, 1.000, 1.000]", expression=question)
    moved = padded(example, image((40, 40), (40, 20)))["prompt"][0]["content"]
    expected = example.prompt[0]["content"].replace("[0.000, 0.000, 1.000, 1.000]", "[0.000, 0.250, 1.000, 0.750]")
    assert moved == expected


def test_without_padding_nothing_moves():
    example = row("[0.100, 0.200, 0.500, 0.800]", expression="x")
    texts = padded(example, image((40, 20), (40, 20)))
    assert texts == {
        "prompt": example.prompt,
        "completion": example.completion,
        "references": list(example.references),
    }
