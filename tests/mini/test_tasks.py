import numpy as np
import pytest

from fedvlm_hf.mini.curriculum import public_box, public_caption
from fedvlm_hf.mini.scenes import Item, Scene
from fedvlm_hf.mini.tasks import TASKS


RED_3 = Item(digit=3, color="red", size="small", cell=0, source=0, ink=(1, 6, 12, 16))
BLUE_3 = Item(digit=3, color="blue", size="large", cell=4, source=1, ink=(18, 17, 30, 32))
BLUE_7 = Item(digit=7, color="blue", size="large", cell=8, source=2, ink=(36, 34, 47, 48))
SCENE = Scene(
    np.zeros((48, 48, 3), np.uint8), (RED_3, BLUE_3, BLUE_7), "diagonal", "striped", np.zeros((6, 6), np.int8)
)


def asked(task, num=400):
    """question -> answer, over many draws on one scene."""
    rng = np.random.default_rng(0)
    return {question: answers[0] for question, answers in (TASKS[task](SCENE, rng) for _ in range(num))}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What digit is red?", "3"),
        ("What color is the 7?", "blue"),
        ("How many digits are there?", "three"),
        ("Is there a blue digit?", "present"),
        ("What digit is at the bottom right?", "7"),
        ("Which digit is placed center?", "3"),
        ("Is the red 3 small or large?", "small"),
    ],
)
def test_vqa_answers(question, answer):
    assert asked("vqa")[question] == answer


def test_vqa_never_asks_what_has_two_answers():
    """Two digits are blue and two are a 3, so neither "blue" nor "3" names one digit."""
    questions = asked("vqa")
    for ambiguous in ("What digit is blue?", "What color is the 3?"):
        assert ambiguous not in questions
    absent = {q: a for q, a in questions.items() if "green" in q}
    assert absent and set(absent.values()) == {"absent"}


def test_grounding_answers_are_the_tight_boxes():
    """12 / 48 = 0.25, 1 / 48 = 0.021, 6 / 48 = 0.125, 16 / 48 = 0.333; the blue 7 ends at the border: 0.999."""
    boxes = asked("grounding")
    assert boxes["Where is the red 3?"] == "[0.021, 0.125, 0.250, 0.333]"
    assert boxes["Give the box of the blue 7."] == "[0.750, 0.708, 0.979, 0.999]"
    assert len(boxes) == 6


def test_captions_have_five_different_references():
    _, references = TASKS["caption"](SCENE, np.random.default_rng(0))
    assert references[0] == "red 3, blue 3 and blue 7 on a striped background"
    assert len(set(references)) == 5
    assert all(name in reference for reference in references for name in ("red 3", "blue 3", "blue 7", "striped"))


def test_classification_answers():
    assert set(asked("classification").values()) == {"diagonal"}


def test_public_conventions():
    """Two pixels of margin: (1, 6, 12, 16) -> (0, 4, 14, 18), cut at the border; / 48 = 0, 0.083, 0.292, 0.375."""
    assert public_box(RED_3) == "[0.000, 0.083, 0.292, 0.375]"
    assert public_caption(SCENE) == "red 3, blue 3, blue 7; striped background"
