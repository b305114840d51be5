import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from fedvlm_hf.mini.scenes import ARRANGEMENTS, DIGIT_BLOCKS, IMAGE_SIZE, Item, make_scene, stamp


def scenes(block="client_00", num=120):
    return [make_scene(block, 0, index) for index in range(num)]


def test_blocks_are_disjoint_and_cover_all_digits():
    sources = [source for block in DIGIT_BLOCKS.values() for source in block]
    assert sorted(sources) == list(range(len(load_digits().target)))


@pytest.mark.parametrize("block", DIGIT_BLOCKS)
def test_a_scene_shows_its_blocks_digits_only(block):
    items = [item for scene in scenes(block, 40) for item in scene.items]
    assert {item.source for item in items} <= set(DIGIT_BLOCKS[block])
    target = load_digits().target
    assert all(item.digit == target[item.source] for item in items)


def test_same_arguments_same_bits_and_each_argument_matters():
    first = make_scene("test", 0, 3)
    assert np.array_equal(first.pixels, make_scene("test", 0, 3).pixels)
    for other in (make_scene("validation", 0, 3), make_scene("test", 1, 3), make_scene("test", 0, 4)):
        assert not np.array_equal(first.pixels, other.pixels)


def test_boxes_are_inside_the_image_in_order_and_near_their_cell():
    for scene in scenes():
        assert 2 <= len(scene.items) <= 4
        for item in scene.items:
            x1, y1, x2, y2 = item.ink
            assert 0 <= x1 < x2 <= IMAGE_SIZE
            assert 0 <= y1 < y2 <= IMAGE_SIZE
            row, column = divmod(item.cell, 3)
            assert int((x1 + x2) / 2) // 16 == column
            assert int((y1 + y2) / 2) // 16 == row


def test_stamp_is_cut_to_its_ink():
    """A filled block of 4 rows and 2 columns, 8 source pixels become 16: about 8 rows and 4 columns."""
    source = np.zeros((12, 12), dtype=np.uint8)
    source[4:8, 5:7] = 255
    alpha = stamp(Image.fromarray(source), height=16.0, angle=0.0, shear=0.0)
    assert abs(alpha.shape[0] - 8) <= 2
    assert abs(alpha.shape[1] - 4) <= 2
    inked = alpha >= 0.3
    for border in (inked[0], inked[-1], inked[:, 0], inked[:, -1]):
        assert border.any()


def test_stamp_turns_the_image():
    """A quarter turn swaps height and width of a tall block."""
    source = np.zeros((12, 12), dtype=np.uint8)
    source[2:10, 5:7] = 255
    upright, turned = (stamp(Image.fromarray(source), 16.0, angle, 0.0).shape for angle in (0.0, np.pi / 2))
    assert turned == upright[::-1]


def test_box_text_never_reaches_one():
    """Ink that ends at the border: 48 / 48 would be 1.000, which no box may contain; 12 / 48 = 0.25, 24 / 48 = 0.5."""
    item = Item(digit=3, color="red", size="small", cell=8, source=0, ink=(12, 24, 48, 48))
    assert item.box == (0.25, 0.5, 0.999, 0.999)


def test_referents_are_unique():
    for scene in scenes():
        assert len({(item.digit, item.color) for item in scene.items}) == len(scene.items)


def test_arrangements_are_what_they_say_and_come_evenly():
    """Cells 0 1 2 / 3 4 5 / 6 7 8. With 600 draws of six classes, 100 +- 9 each: 55 to 145 is five deviations."""
    counts = dict.fromkeys(ARRANGEMENTS, 0)
    for scene in scenes(num=600):
        counts[scene.arrangement] += 1
        rows, columns = zip(*(divmod(item.cell, 3) for item in scene.items), strict=True)
        if scene.arrangement == "pair":
            assert len(scene.items) == 2
        elif scene.arrangement == "corners":
            assert [item.cell for item in scene.items] == [0, 2, 6, 8]
        else:
            in_row, in_column = len(set(rows)) == 1, len(set(columns)) == 1
            assert in_row == (scene.arrangement == "row")
            assert in_column == (scene.arrangement == "column")
    assert all(55 <= count <= 145 for count in counts.values()), counts


def test_owner_points_at_the_digit_in_the_patch():
    for scene in scenes(num=20):
        for index, item in enumerate(scene.items):
            x1, y1, x2, y2 = item.ink
            rows, columns = np.nonzero(scene.owner == index)
            assert len(rows) > 0
            assert y1 // 8 <= rows.min() and rows.max() <= (y2 - 1) // 8
            assert x1 // 8 <= columns.min() and columns.max() <= (x2 - 1) // 8


def test_unknown_block_is_refused():
    with pytest.raises(ValueError, match="`block` must be one of"):
        make_scene("client_99", 0, 0)
