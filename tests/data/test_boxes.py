import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvlm_hf.data.boxes import (
    BOX_TEXT,
    Box,
    box_problem,
    box_text,
    format_box,
    from_corners,
    from_mask,
    from_xywh,
    parse_box,
)


def test_text_has_three_decimals_and_one_space():
    assert box_text((0.125, 0.02083, 0.35417, 1 / 3)) == "[0.125, 0.021, 0.354, 0.333]"
    assert box_text(Box(0, 0.25, 0.5, 1)) == "[0.000, 0.250, 0.500, 1.000]"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5001, 0.5003, "0.500 0.501"),  # both are 0.500; the middle is in the thousandth from there
        (0.4997, 0.5001, "0.499 0.500"),  # the middle, 0.4999, is in the one before
        (0.0, 0.0004, "0.000 0.001"),
        (0.9996, 1.0, "0.999 1.000"),  # both are 1.000, where the image ends
        (0.99999, 1.0, "0.999 1.000"),
        (0.4994, 0.5006, "0.499 0.501"),  # wide enough to be left alone
    ],
)
def test_a_thin_box_keeps_a_thousandth(low, high, expected):
    first, second = expected.split()
    assert box_text((low, 0, high, 1)) == f"[{first}, 0.000, {second}, 1.000]"
    assert box_text((0, low, 1, high)) == f"[0.000, {first}, 1.000, {second}]"


@pytest.mark.parametrize(
    "box", [(-0.001, 0, 1, 1), (0, 0, 1, 1.001), (0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (float("nan"), 0, 1, 1)]
)
def test_text_is_of_boxes_in_the_image_only(box):
    with pytest.raises(ValueError, match=r"`box` must have 0 <= x1 < x2 <= 1 .* fractions of the image"):
        box_text(box)


def test_an_answer_may_reach_beyond_the_image():
    assert format_box((-0.25, -0.0001, 1.5, 0.5)) == "[-0.250, 0.000, 1.500, 0.500]"
    assert format_box((1.2001, -0.3003, 1.2003, -0.3001)) == "[1.200, -0.301, 1.201, -0.300]"


edges = st.floats(0, 1)


@given(edges, edges, edges, edges)
def test_any_box_has_a_text_of_the_strict_form_that_is_near_it(a, b, c, d):
    box = Box(min(a, b), min(c, d), max(a, b), max(c, d))
    if box.x1 == box.x2 or box.y1 == box.y2:
        return
    text = box_text(box)
    assert BOX_TEXT.fullmatch(text)
    assert parse_box(text) == pytest.approx(box, abs=0.001)
    assert box_text(parse_box(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "[0.1, 0.2, 0.3, 0.4]",
        "[0.100,0.200,0.300,0.400]",
        "[0.100, 0.200, 0.300]",
        "[1.001, 0.200, 0.300, 0.400]",
        "[-0.100, 0.200, 0.300, 0.400]",
        "[x1, y1, x2, y2]",
        "(0.100, 0.200, 0.300, 0.400)",
    ],
)
def test_the_strict_form_is_strict(text):
    assert not BOX_TEXT.search(text)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)),
        ("red at [.1,0.2 , 3e-1,0.40] and [0, 0, 1, 1]", (0.1, 0.2, 0.3, 0.4)),
        ("[[0.1, 0.2, 0.3, 0.4]]", (0.1, 0.2, 0.3, 0.4)),
        ("[0.1, 0.2] [0.1, 0.2, 0.3, 0.4, 0.5] [-1, 0.2, +0.3, 1.]", (-1, 0.2, 0.3, 1)),
        ("", None),
        ("no box", None),
        ("0.1, 0.2, 0.3, 0.4", None),
        ("(0.1, 0.2, 0.3, 0.4)", None),
        ("[0.1 0.2 0.3 0.4]", None),
        ("[0.1, 0.2, 0.3, 0.4", None),
        ("[0.1, 0.2, 0.3]", None),
        ("[0.1.2, 0.2, 0.3, 0.4]", None),
        ("[a, 0.2, 0.3, 0.4]", None),
        ("[nan, 0.2, 0.3, 0.4]", None),
        ("[0.1, 0.2, inf, 0.4]", None),
        ("[0.1, 0.2, 1e999, 0.4]", None),
        ("[0.3, 0.2, 0.1, 0.4]", None),  # right of its right edge
        ("[0.1, 0.2, 0.1, 0.4]", None),  # no width
        ("[0.1, 0.4, 0.3, 0.4]", None),  # no height
    ],
)
def test_parse_box(text, box):
    assert parse_box(text) == (None if box is None else Box(*box))


def test_parse_box_takes_linear_time_on_garbage():
    """200,000 digits that never close: a pattern that backtracks would take minutes."""
    assert parse_box("[" + "1" * 200_000) is None
    assert parse_box("[" * 200_000) is None


def test_coco_pixels():
    """COCO's [x, y, width, height] in 640 x 480: 80/640, 60/480, (80 + 160)/640, (60 + 240)/480."""
    box = from_xywh(80, 60, 160, 240, image_width=640, image_height=480)
    assert box == Box(0.125, 0.125, 0.375, 0.625)
    assert from_corners(80, 60, 240, 300, 640, 480) == box


def test_a_pixel_outside_is_clipped():
    assert from_xywh(-1, 0, 101, 51, 100, 50) == Box(0, 0, 1, 1)
    assert from_corners(0, -0.5, 100.9, 50, 100, 50) == Box(0, 0, 1, 1)


@pytest.mark.parametrize(
    "corners", [(-1.1, 0, 50, 50), (0, 0, 101.5, 50), (0, 0, 50, 52), (0, 0, float("nan"), 50), (200, 0, 210, 50)]
)
def test_further_outside_is_an_error(corners):
    with pytest.raises(ValueError, match="more than one pixel outside of the image of 100 x 50 pixels"):
        from_corners(*corners, 100, 50)


@pytest.mark.parametrize("xywh", [(10, 10, 0, 5), (10, 10, 5, 0), (10, 10, -3, 5), (100, 0, 1, 50)])
def test_no_area_is_an_error(xywh):
    with pytest.raises(ValueError, match="has no area in the image of 100 x 50 pixels"):
        from_xywh(*xywh, 100, 50)


def test_box_of_a_mask_runs_along_the_outer_edges_of_its_pixels():
    """A single pixel (row 2, column 3) of 4 x 8: [3/8, 2/4, 4/8, 3/4]. With (0, 1) too: [1/8, 0, 4/8, 3/4]."""
    mask = np.zeros((4, 8), dtype=bool)
    mask[2, 3] = True
    assert from_mask(mask) == Box(0.375, 0.5, 0.5, 0.75)
    mask[0, 1] = True
    assert from_mask(mask) == Box(0.125, 0.0, 0.5, 0.75)
    assert all(type(edge) is float for edge in from_mask(mask.astype(np.uint8)))
    assert from_mask(np.ones((4, 8))) == Box(0, 0, 1, 1)


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.zeros((4, 8)), r"of shape \(4, 8\) is empty"), (np.ones((1, 4, 8)), r"must be of shape \(height, width\)")],
)
def test_a_mask_without_a_box(mask, message):
    with pytest.raises(ValueError, match=message):
        from_mask(mask)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", None),
        ("[0.1, 0.2, 0.3, 0.4] and [0.5, 0.6, 0.7, 0.8]", r"has 2 boxes, but a row has one"),
        ("[[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]", r"has 2 boxes"),
        ("on the left", "'on the left' is not a box"),
        ("[0.3, 0.2, 0.1, 0.4]", "is not a box"),
        ("[0.1, 0.2, 0.3, 1.4]", "is not inside its image"),
    ],
)
def test_the_problem_of_an_answer_with_a_box(text, problem):
    found = box_problem(text)
    assert found is problem or problem in found
