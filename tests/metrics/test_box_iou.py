import pytest

from fedvlm_hf.data.boxes import Box
from fedvlm_hf.metrics.box_iou.box_iou import iou, score_examples


WHOLE = "[0, 0, 1, 1]"


def test_iou_by_hand():
    """Boxes of 0.5 x 0.5 shifted by 0.25 in x: intersection 0.125, union 0.5 - 0.125 = 0.375, IoU 1/3.

    A quarter in a whole: 0.25. Boxes that share an edge, or nothing: 0. A box with itself: 1.
    """
    box = Box(0, 0, 0.5, 0.5)
    assert iou(box, Box(0.25, 0, 0.75, 0.5)) == pytest.approx(1 / 3)
    assert iou(box, Box(0, 0, 1, 1)) == iou(Box(0, 0, 1, 1), box) == 0.25
    assert iou(box, Box(0.5, 0, 1, 0.5)) == iou(box, Box(0.6, 0.6, 1, 1)) == 0
    assert iou(box, box) == 1


def test_scores_of_each_row():
    """Rows: equal; half of it, so 0.5, which is at 0.5; a quarter; the better of two references; outside 0-1, where
    the area counts in full: 1 / 4; unparsable, degenerate and missing: 0."""
    predictions = [
        WHOLE,
        "[0, 0, 0.5, 1]",
        "[0, 0, 0.5, 0.5]",
        "[0, 0, 0.5, 0.5]",
        "[-1, 0, 1, 2]",
        "?",
        "[1,1,0,0]",
        "",
    ]
    references = [[WHOLE]] * 3 + [[WHOLE, "[0, 0, 0.5, 0.6]"]] + [[WHOLE]] * 4
    scores = score_examples(predictions, references)
    assert scores["mean_iou"] == pytest.approx([1, 0.5, 0.25, 0.25 / 0.3, 0.25, 0, 0, 0])
    assert scores["accuracy_at_50"] == [1, 1, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("reference", ["red", "[0.5, 0.5, 0.1, 0.9]", "[0, 0, 1e999, 1]"])
def test_a_reference_that_is_not_a_box_is_an_error(reference):
    with pytest.raises(ValueError, match=r"`references` must be boxes .* in row 1"):
        score_examples(["", ""], [[WHOLE], [WHOLE, reference]])
