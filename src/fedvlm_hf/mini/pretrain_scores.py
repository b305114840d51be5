"""Scores for the base model's card: how well it answers what it was taught, on digits that it never saw."""

import json
from collections import defaultdict

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from .curriculum import one_of_each
from .floors import box_iou
from .scenes import make_scene


_BATCH = 256
_SEED = 7


def score_base(model: LlavaForConditionalGeneration, processor: LlavaProcessor, num_scenes: int) -> dict[str, float]:
    """Ask every kind of question on fresh scenes of the validation digits.

    Args:
        model (`LlavaForConditionalGeneration`): In eval mode.
        processor (`LlavaProcessor`): Its processor.
        num_scenes (`int`): Scenes, with one question of every kind on each.

    Returns:
        `dict[str, float]`: kind of question -> share of answers that match the public convention to the letter, or
        mean IoU for boxes.
    """
    scenes = [make_scene("validation", _SEED, index) for index in range(num_scenes)]
    asked = [
        (kind, scene, question, answer)
        for index, scene in enumerate(scenes)
        for kind, (question, answer) in one_of_each(scene, np.random.default_rng([_SEED, index])).items()
    ]
    # Like with like: a batch is as slow as its longest answer.
    asked.sort(key=lambda turn: turn[0])
    scores = defaultdict(list)
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        said = answer_batch(model, processor, [scene.image() for _, scene, _, _ in batch], [turn[2] for turn in batch])
        for (kind, _, _, answer), text in zip(batch, said, strict=True):
            scores[kind].append(_score(text, answer))
    return {kind: sum(values) / len(values) for kind, values in scores.items()}


@torch.no_grad()
def answer_batch(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    images: list,
    questions: list[str],
    max_new_tokens: int = 48,
) -> list[str]:
    """Greedy answers to one question on each image."""
    prompts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            add_generation_prompt=True,
        )
        for question in questions
    ]
    inputs = processor(images=images, text=prompts, padding=True, return_tensors="pt", add_special_tokens=False)
    generated = model.generate(**inputs, max_new_tokens=max_new_tokens)
    return processor.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _score(text: str, answer: str) -> float:
    if not answer.startswith("[0."):
        return float(text == answer)
    try:
        return box_iou(json.loads(text), json.loads(answer))
    except (ValueError, TypeError, IndexError, ZeroDivisionError):
        # Not a box: what the model writes may be anything.
        return 0.0
