"""The tasks of the four clients: questions about a scene, and the answers of the client's annotators.

Each function draws one `(question, answers)` pair. The first answer is the training target, and all answers are
references for scoring.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from ..data.boxes import box_text
from .scenes import COLORS, PLACES, Item, Scene


NUMBER_WORDS = ("zero", "one", "two", "three", "four")
Exchange = tuple[str, list[str]]


def describe(item: Item) -> str:
    """Return words that identify one digit of a scene, such as `"red 3"`."""
    return f"{item.color} {item.digit}"


def vqa(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Draw one of six kinds of questions, with equal probabilities for those that this scene can answer."""
    exchange = None
    while exchange is None:
        exchange = _VQA_KINDS[rng.integers(len(_VQA_KINDS))](scene, rng)
    return exchange


def grounding(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Ask for the tight box around the ink of a digit: `"Where is the red 3?"`."""
    item = pick(rng, scene.items)
    asked = pick(rng, ("Where is the {}?", "Give the box of the {}."))
    return asked.format(describe(item)), [box_text(item.box)]


def caption(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Ask for a caption. The answers have the styles of five annotators, and the first one is the training target."""
    items = [describe(item) for item in scene.items]
    listed = ", ".join(items[:-1]) + " and " + items[-1]
    number = NUMBER_WORDS[len(items)]
    asked = pick(rng, ("Describe the image.", "Write a caption."))
    return asked, [
        f"{listed} on a {scene.ground} background",
        f"a {scene.ground} background with {listed}",
        f"{number} digits, {listed}, on a {scene.ground} background",
        f"there are {listed} in front of a {scene.ground} background",
        f"the image shows {listed} on {scene.ground} ground",
    ]


def classification(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Ask for the arrangement of the digits, which is one word."""
    return pick(rng, ("How are the digits arranged?", "Name the arrangement.")), [scene.arrangement]


# The tasks in the order of the clients: one task per client, as in Fed-Nature
TASKS: dict[str, Callable[[Scene, np.random.Generator], Exchange]] = {
    "vqa": vqa,
    "grounding": grounding,
    "caption": caption,
    "classification": classification,
}


def pick(rng: np.random.Generator, options):
    """Draw one element of a sequence, with equal probabilities."""
    return options[rng.integers(len(options))]


def _digit_of_color(scene: Scene, rng: np.random.Generator) -> Exchange | None:
    item = _pick_unique(scene, rng, lambda item: item.color)
    if item is None:
        return None
    return pick(rng, ("What digit is {}?", "Which number is shown in {}?")).format(item.color), [str(item.digit)]


def _color_of_digit(scene: Scene, rng: np.random.Generator) -> Exchange | None:
    item = _pick_unique(scene, rng, lambda item: item.digit)
    if item is None:
        return None
    return pick(rng, ("What color is the {}?", "In which color is the {}?")).format(item.digit), [item.color]


def _count(scene: Scene, rng: np.random.Generator) -> Exchange:
    return pick(rng, ("How many digits are there?", "How many digits do you see?")), [NUMBER_WORDS[len(scene.items)]]


def _exists(scene: Scene, rng: np.random.Generator) -> Exchange:
    present = sorted({item.color for item in scene.items})
    absent = [color for color in COLORS if color not in present]
    answer = pick(rng, ("present", "absent"))
    color = pick(rng, present if answer == "present" else absent)
    return pick(rng, ("Is there a {} digit?", "Is any digit {}?")).format(color), [answer]


def _place(scene: Scene, rng: np.random.Generator) -> Exchange:
    item = pick(rng, scene.items)
    return pick(rng, ("What digit is at the {}?", "Which digit is placed {}?")).format(PLACES[item.cell]), [
        str(item.digit)
    ]


def _size(scene: Scene, rng: np.random.Generator) -> Exchange:
    item = pick(rng, scene.items)
    return pick(rng, ("Is the {} small or large?", "What size is the {}?")).format(describe(item)), [item.size]


_VQA_KINDS = (_digit_of_color, _color_of_digit, _count, _exists, _place, _size)


def _pick_unique(scene: Scene, rng: np.random.Generator, key: Callable[[Item], object]) -> Item | None:
    """Draw an item with a `key` that no other item has, or return `None` if there is none."""
    counts = Counter(key(item) for item in scene.items)
    unique = [item for item in scene.items if counts[key(item)] == 1]
    return pick(rng, unique) if unique else None
