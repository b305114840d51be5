"""The pretraining questions about public scenes: short commands, and a small share of the clients' questions.

Public annotators have their own conventions, as in any real pretraining set: loose boxes, "yes" and "no" where clients
say "present" and "absent", other words for sizes and arrangements, and captions as lists. A base model that sees well
therefore still has to learn the conventions of each client, which is the purpose of federated fine-tuning.

Some questions have the wording of the clients, with answers in the public conventions. Without them, federated
averaging failed in a trial: each client learned to always answer in its own format without reading the question, and
the mean of four such clients had lost the longer formats (captions and boxes).
"""

import string
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data.boxes import box_text
from .scenes import COLORS, IMAGE_SIZE, PLACES, Item, Scene
from .tasks import NUMBER_WORDS, TASKS, describe, pick


Turn = tuple[str, str]
PUBLIC_SIZES = {"small": "little", "large": "big"}
_PUBLIC_WORDS = {**PUBLIC_SIZES, "present": "yes", "absent": "no"}
PUBLIC_ARRANGEMENTS = {
    "pair": "couple",
    "row": "row",
    "column": "column",
    "diagonal": "diagonal",
    "corners": "square",
    "scattered": "loose",
}
# Words that only clients use. "repeat" turns practise them, because the tied head is frozen when clients train.
_CLIENT_WORDS = (
    *("a", "and", "on", "background", "with", "digits", "there", "is", "in", "front", "of", "the", "image", "shows"),
    *("ground", "pair", "corners", "scattered", "small", "large", "two", "three", "four"),
)
_WORDS = (
    *_CLIENT_WORDS,
    *NUMBER_WORDS,
    *COLORS,
    *PUBLIC_ARRANGEMENTS.values(),
    *PUBLIC_SIZES.values(),
    "yes",
    "no",
    "none",
)
_LOOSE = 2


@dataclass(frozen=True)
class CurriculumConfig:
    """The mix of questions.

    Args:
        client_dose (`float`): Share of turns with a client's question instead of a command.
        turns_per_scene (`int`, *optional*, defaults to `8`): Number of questions per image.
    """

    client_dose: float
    turns_per_scene: int = 8


def public_turns(scene: Scene, rng: np.random.Generator, config: CurriculumConfig) -> list[Turn]:
    """Draw the questions and answers for one public scene.

    Returns:
        `list[tuple[str, str]]`: `config.turns_per_scene` pairs of prompt and answer.
    """
    commands = rng.choice(len(_COMMANDS), config.turns_per_scene, p=_COMMAND_SHARES)
    dosed = rng.random(config.turns_per_scene) < config.client_dose
    return [
        client_question(scene, rng) if is_dose else _COMMANDS[command](scene, rng)
        for command, is_dose in zip(commands, dosed, strict=True)
    ]


def one_of_each(scene: Scene, rng: np.random.Generator) -> dict[str, Turn]:
    """Return one turn of every kind, by command, and for each task a client's question as `"vqa question"` etc."""
    turns = {}
    for command in _COMMANDS:
        question, answer = command(scene, rng)
        turns[question.split()[0]] = question, answer
    return turns | {f"{task} question": client_question(scene, rng, task) for task in TASKS}


def client_question(scene: Scene, rng: np.random.Generator, task: str | None = None) -> Turn:
    """Draw a question in the wording of a client, with the answer in the public conventions."""
    task = task or pick(rng, list(TASKS))
    question, answers = TASKS[task](scene, rng)
    return question, _PUBLIC_ANSWERS[task](scene, question, answers[0])


def public_box(item: Item) -> str:
    """Return the loose box of public annotators: two pixels of margin on each side, clipped at the image border."""
    x1, y1, x2, y2 = item.ink
    edges = (max(x1 - _LOOSE, 0), max(y1 - _LOOSE, 0), min(x2 + _LOOSE, IMAGE_SIZE), min(y2 + _LOOSE, IMAGE_SIZE))
    return box_text(tuple(min(edge / IMAGE_SIZE, 0.999) for edge in edges))


def public_caption(scene: Scene) -> str:
    """Return the caption of public annotators, such as `"red 3, blue 5; striped background"`."""
    return ", ".join(describe(item) for item in scene.items) + f"; {scene.ground} background"


def _vqa_answer(scene: Scene, question: str, answer: str) -> str:
    if answer in NUMBER_WORDS:
        return str(NUMBER_WORDS.index(answer))
    return _PUBLIC_WORDS.get(answer, answer)


def _grounding_answer(scene: Scene, question: str, answer: str) -> str:
    return next(public_box(item) for item in scene.items if describe(item) in question)


_PUBLIC_ANSWERS = {
    "vqa": _vqa_answer,
    "grounding": _grounding_answer,
    "caption": lambda scene, question, answer: public_caption(scene),
    "classification": lambda scene, question, answer: PUBLIC_ARRANGEMENTS[answer],
}


def _list(scene: Scene, rng: np.random.Generator) -> Turn:
    return "list", ", ".join(describe(item) for item in scene.items)


def _find(scene: Scene, rng: np.random.Generator) -> Turn:
    if rng.random() < 0.5:
        color = _mostly_present(rng, [item.color for item in scene.items], list(COLORS))
        found = [str(item.digit) for item in scene.items if item.color == color]
        return f"find {color}", ", ".join(found) or "none"
    digit = _mostly_present(rng, [item.digit for item in scene.items], list(range(10)))
    return f"find {digit}", ", ".join(item.color for item in scene.items if item.digit == digit) or "none"


def _any(scene: Scene, rng: np.random.Generator) -> Turn:
    colors = {item.color for item in scene.items}
    color = pick(rng, sorted(colors) if rng.random() < 0.5 else list(COLORS))
    return f"any {color}", "yes" if color in colors else "no"


def _at(scene: Scene, rng: np.random.Generator) -> Turn:
    cell = _mostly_present(rng, [item.cell for item in scene.items], list(range(9)))
    return f"at {PLACES[cell]}", next((describe(item) for item in scene.items if item.cell == cell), "none")


def _box(scene: Scene, rng: np.random.Generator) -> Turn:
    item = pick(rng, scene.items)
    return f"box {describe(item)}", public_box(item)


def _tight(scene: Scene, rng: np.random.Generator) -> Turn:
    item = pick(rng, scene.items)
    return f"tight {describe(item)}", box_text(item.box)


def _size(scene: Scene, rng: np.random.Generator) -> Turn:
    item = pick(rng, scene.items)
    return f"size {describe(item)}", PUBLIC_SIZES[item.size]


def _repeat(scene: Scene, rng: np.random.Generator) -> Turn:
    if rng.random() < 0.6:
        words = " ".join(pick(rng, _WORDS) for _ in range(rng.integers(1, 6)))
    else:
        words = "".join(pick(rng, _PRINTABLE) for _ in range(rng.integers(3, 10))).strip() or "?"
    return f"repeat {words}", words


_PRINTABLE = string.ascii_letters + string.punctuation + "  "
_SHARES: dict[Callable[[Scene, np.random.Generator], Turn], float] = {
    _list: 0.10,
    _find: 0.24,
    _any: 0.06,
    _at: 0.08,
    _box: 0.11,
    _tight: 0.11,
    _size: 0.07,
    (lambda scene, rng: ("count", str(len(scene.items)))): 0.03,
    (lambda scene, rng: ("ground", scene.ground)): 0.03,
    (lambda scene, rng: ("layout", PUBLIC_ARRANGEMENTS[scene.arrangement])): 0.05,
    (lambda scene, rng: ("caption", public_caption(scene))): 0.04,
    _repeat: 0.06,
}
_COMMANDS = tuple(_SHARES)
_COMMAND_SHARES = np.array(list(_SHARES.values())) / sum(_SHARES.values())


def _mostly_present(rng: np.random.Generator, present: list, options: list):
    return pick(rng, present if rng.random() < 0.8 else options)
