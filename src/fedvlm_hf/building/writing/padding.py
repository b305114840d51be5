"""Boxes of images that were padded: they keep to what they show."""

import re
from typing import Any

from ...data.boxes import BOX_TEXT, box_text, parse_box
from ..builders.base import Example
from .staging import StagedImage


def padded(example: Example, image: StagedImage) -> dict[str, Any]:
    """A row's texts, with boxes in 0-1 of the image as it is stored.

    Args:
        example ([`Example`]):
            Its boxes, in prompt, completion and references, are in 0-1 of the picture before padding.
        image ([`StagedImage`]):
            Its size with padding, and the picture's own in it.

    Returns:
        `dict[str, Any]`: `prompt`, `completion` and `references`.
    """
    references = list(example.references)
    if image.frame == (image.width, image.height):
        return {"prompt": example.prompt, "completion": example.completion, "references": references}
    return {
        "prompt": _moved_chat(example.prompt, image),
        "completion": _moved_chat(example.completion, image),
        "references": [_moved(reference, image) for reference in references],
    }


def _moved_chat(messages: list[dict[str, str]], image: StagedImage) -> list[dict[str, str]]:
    return [{**message, "content": _moved(message["content"], image)} for message in messages]


def _moved(text: str, image: StagedImage) -> str:
    width, height = image.frame
    # Where `building.images.pad_square` puts the picture
    left, top = (image.width - width) // 2, (image.height - height) // 2

    def move(match: re.Match[str]) -> str:
        box = parse_box(match.group())
        if box is None:  # four numbers that are no box
            return match.group()
        xs = [(left + x * width) / image.width for x in (box.x1, box.x2)]
        ys = [(top + y * height) / image.height for y in (box.y1, box.y2)]
        return box_text((xs[0], ys[0], xs[1], ys[1]))

    return BOX_TEXT.sub(move, text)
