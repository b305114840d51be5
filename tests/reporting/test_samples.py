import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fedvlm_hf.reporting.samples import mark, pick, sample_sheet
from fedvlm_hf.types import Generation
from records import HISTORY, ROWS


ORANGE, GREEN = (213, 94, 0), (0, 158, 115)


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_rows_are_spread_evenly_over_each_task():
    """Two tasks get one line of four each: of 8 rows those at 0, 2, 4, 6; of 3 rows all."""
    generations = [Generation(i, "vqa", "", [""]) for i in range(8)]
    generations += [Generation(8 + i, "caption", "", [""]) for i in range(3)]
    assert [[generation.row for generation in line] for line in pick(generations)] == [[0, 2, 4, 6], [8, 9, 10]]


def test_a_single_task_gets_three_lines():
    generations = [Generation(i, "vqa", "", [""]) for i in range(24)]
    assert [generation.row for line in pick(generations) for generation in line] == list(range(0, 24, 2))


def test_boxes_lie_where_they_should(tmp_path):
    """The image of a sheet of one task starts 0.3 inches from the left and 0.3 + 0.38 + 0.38 from the top and is 2.3
    inches wide: pixels 45, 159 and 345 at 150 dots an inch. The reference's box starts at 0.2 and the answer's ends at
    0.9, so their edges are at 45 + 69 = 114 and 45 + 310.5 = 355.5, and nothing is drawn at 0.1."""
    sample_sheet(
        {"test": HISTORY[0].evaluations["test"].generations[1:]}, {"test": ROWS}, tmp_path / "sheet.png", "title"
    )
    sheet = pixels(tmp_path / "sheet.png")
    rows = slice(159 + int(0.35 * 345), 159 + int(0.55 * 345))
    assert (sheet[rows, 114] == GREEN).all(axis=-1).all()  # a solid line
    assert (sheet[rows, 355] == ORANGE).all(axis=-1).any()  # a dashed one
    assert (sheet[rows, 45 + 34] == 255).all()


def test_an_answer_without_a_box_draws_none(tmp_path):
    generations = [Generation(1, "grounding", "there", ["[0.2, 0.2, 0.6, 0.6]"])]
    sample_sheet({"test": generations}, {"test": ROWS}, tmp_path / "sheet.png", "title")
    image = pixels(tmp_path / "sheet.png")[160:503, 46:389]
    assert (image == GREEN).all(axis=-1).any()
    assert not (image == ORANGE).all(axis=-1).any()


def test_any_text_can_be_drawn(tmp_path):
    """Untrained models write formulas, control characters, scripts that the font lacks, and endless words."""
    texts = ["$\\frac{1}{0$", "a\x00b\n\n\tc", "左肺 🫁", "x" * 5000, "", "word " * 500]
    generations = [Generation(0, "vqa", text, [text]) for text in texts]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample_sheet({"test": generations}, {"test": ROWS}, tmp_path / "sheet.png", "100 % $x_1")
    height = pixels(tmp_path / "sheet.png").shape[0]
    # heads, and two lines of an image with at most 3 + 6 + 6 lines of text and 3 lines of space below
    assert height <= 150 * (0.3 + 0.38 + 0.38 + 2 * (2.3 + 18 * 0.14))


def test_large_and_narrow_images(tmp_path):
    rows = [
        {"images": [Image.new(mode, size)], "prompt": ROWS[0]["prompt"]}
        for mode, size in [("L", (3000, 40)), ("RGBA", (9, 900))]
    ]
    generations = [Generation(i, "vqa", "yes", ["no"]) for i in range(2)]
    sample_sheet({"test": generations}, {"test": rows}, tmp_path / "sheet.png", "title")
    assert pixels(tmp_path / "sheet.png").shape[1] == 1605


def test_deep_images_are_shown_with_their_content(tmp_path):
    """A ramp from 1,000 to 4,000: black on the left and white on the right, as in training."""
    ramp = np.tile(np.linspace(1000, 4000, 64).astype(np.uint16), (64, 1))
    rows = [{"images": [Image.fromarray(ramp)], "prompt": ROWS[0]["prompt"]}]
    sample_sheet({"test": [Generation(0, "vqa", "yes", ["no"])]}, {"test": rows}, tmp_path / "sheet.png", "title")
    line = pixels(tmp_path / "sheet.png")[330, 50:385, 0]  # see `test_boxes_lie_where_they_should`
    assert line[0] < 20
    assert line[-1] > 235
    assert 110 < line[len(line) // 2] < 145


def test_no_sheet_without_answers(tmp_path):
    sample_sheet({"test": []}, {"test": ROWS}, tmp_path / "sheet.png", "title")
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("task", "score", "text"),
    [
        ("vqa", 1.0, "\u2713 right"),
        ("vqa", 0.0, "\u2717 wrong"),
        ("vqa", 0.3, "\u2717 wrong, accuracy 0.30"),
        ("classification", 1.0, "\u2713 right"),
        ("grounding", 0.5, "\u2713 right, IoU 0.50"),
        ("grounding", 0.49, "\u2717 wrong, IoU 0.49"),
        ("detection", 0.0, "\u2717 wrong, IoU 0.00"),
        ("caption", 4.536, "CIDEr 4.54"),
        ("report", 0.25, "ROUGE-L 0.25"),
    ],
)
def test_answers_are_marked_right_or_wrong(task, score, text):
    assert mark(Generation(0, task, "a", ["b"], score=score))[0] == text


def test_an_answer_of_an_older_version_has_no_mark():
    assert mark(Generation(0, "vqa", "a", ["b"])) is None


def test_samples_come_from_each_evaluation_set(tmp_path, monkeypatch):
    written, text = [], Figure.text
    monkeypatch.setattr(
        Figure, "text", lambda *args, **kw: written.append(kw.get("s") or args[3]) or text(*args, **kw)
    )
    answers = {
        "test": [Generation(0, "vqa", "red", ["red"], score=1.0)],
        "other": [
            Generation(0, "vqa", "blue", ["red"], score=0.0),
            Generation(1, "grounding", "there", ["[0, 0, 1, 1]"]),
        ],
    }
    sample_sheet(answers, {"test": ROWS, "other": ROWS}, tmp_path / "sheet.png", "title")
    heads = [line for line in written if line.startswith(("test:", "other:"))]
    assert heads == ["test: vqa", "other: vqa", "other: grounding"]
    assert [line for line in written if line[0] in "\u2713\u2717"] == ["\u2713 right", "\u2717 wrong"]


def test_a_sheet_of_many_evaluation_sets_can_be_drawn(tmp_path):
    """A figure of more than 65,536 pixels cannot. Each of 30 sets has two tasks."""
    generations = HISTORY[0].evaluations["test"].generations
    names = [f"set {number}" for number in range(30)]
    sample_sheet(dict.fromkeys(names, generations), dict.fromkeys(names, ROWS), tmp_path / "sheet.png", "title")
    assert pixels(tmp_path / "sheet.png").shape[0] < 65_536
