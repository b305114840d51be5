"""The four clients' tasks: what is asked about a scene, and what the client's annotators answer.

Each function draws one `(question, answers)` pair; the first answer is the training target, all of them are references
in scoring.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from ..data.boxes import box_text
from .scenes import COLORS, PLACES, Item, Scene


NUMBER_WORDS = ("zero", "one", "two", "three", "four")
Exchange = tuple[str, list[str]]


def describe(item: Item) -> str:
    """`"red 3"`: the words that name one digit of a scene, and no other one."""
    return f"{item.color} {item.digit}"


def vqa(scene: Scene, rng: np.random.Generator) -> Exchange:
    """One of six kinds of question, drawn evenly from those that this scene can answer."""
    exchange = None
    while exchange is None:
        exchange = _VQA_KINDS[rng.integers(len(_VQA_KINDS))](scene, rng)
    return exchange


def grounding(scene: Scene, rng: np.random.Generator) -> Exchange:
    """`"Where is the red 3?"` -> the tight box of its ink."""
    item = pick(rng, scene.items)
    asked = pick(rng, ("Where is the {}?", "Give the box of the {}."))
    return asked.format(describe(item)), [box_text(item.box)]


def caption(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Five captions of one scene in the styles of five annotators; the first is the one that is trained on."""
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
    """The arrangement of the digits, in one word."""
    return pick(rng, ("How are the digits arranged?", "Name the arrangement.")), [scene.arrangement]


# Client number -> its task: one task a client, as in Fed-Nature.
TASKS: dict[str, Callable[[Scene, np.random.Generator], Exchange]] = {
    "vqa": vqa,
    "grounding": grounding,
    "caption": caption,
    "classification": classification,
}


def pick(rng: np.random.Generator, options):
    """One element of a sequence, evenly."""
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
    """An item whose `key` no other item shares, or None."""
    counts = Counter(key(item) for item in scene.items)
    unique = [item for item in scene.items if counts[key(item)] == 1]
    return pick(rng, unique) if unique else None
