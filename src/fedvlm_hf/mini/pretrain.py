"""Pretrain the embedded base model from random weights, score it and write its folder with a model card."""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..data.boxes import parse_box
from ..metrics.box_iou.box_iou import iou
from .architecture import build_processor
from .curriculum import one_of_each
from .pretrain_lm import LM_STAGES, LmStage, pretrain_lm
from .pretrain_loop import LoopConfig
from .pretrain_tower import TOWER_LOOP, pretrain_tower
from .scenes import make_scene


_BATCH = 256
_SEED = 7

_CARD = """\
---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
language: en
tags:
- llava
- federated-learning
---

# Fed-Nature mini: a tiny pretrained LLaVA

A stock `LlavaForConditionalGeneration` with 2.5 million parameters that reads 48x48 scenes of colored handwritten
digits. It has a CLIP tower of width 128, a connector, and a Llama of width 192; tower and Llama have 4 layers each. It
is the base model of fedvlm_hf's embedded default, small enough for a federated run on two CPU cores. Images of any
size are resized to 48x48 (36 image tokens), and the byte-level tokenizer of 512 tokens accepts any text.

## How it was made

With `python recipes/pretrain_mini.py`, seed {seed}, in {minutes:.0f} minutes on a shared 2-core CPU.
Nothing was downloaded.

1. The tower alone was trained on {tower_scenes:,} scenes with labels for each patch (digit, color, size, box, ground),
   in {tower_steps:,} steps.
2. The connector and the language model were trained on other scenes with a frozen tower and {turns} questions per
   scene. Most questions were short commands (`list`, `find red`, `at top left`, `box red 3`, ...), and some had the
   wording of the federated clients' questions:
   {lm_stages}.

The answers follow the conventions of "public annotators": boxes with a margin of two pixels, numerals, yes and no
(clients say present and absent), other words for sizes and for half of the arrangements, and captions as lists. Each
client of `fed_nature()` has its own conventions and one task.

## Data and license

The scenes show digits 0 to 899 of the UCI "Optical Recognition of Handwritten Digits" test set (E. Alpaydin, C.
Kaynak, 1998, https://doi.org/10.24432/C50P49; 13 writers, CC BY 4.0), as packaged in scikit-learn. The digits of the
federated clients (900 to 1459) and of validation and test (1460 to 1796) were not used for training. The weights have
the Apache-2.0 license, like the code.

## Scores

On {num_scenes} scenes of the validation digits, in the public conventions: the share of exact matches, or the mean IoU
for `box`, `tight` and grounding.

| question | score |
|---|---|
{rows}

## Limits

The model knows only scenes of 2 to 4 digits, with ten digits, six colors, six arrangements and six grounds. On other
images its answers are meaningless before fine-tuning, and not much better afterwards. It is meant for demonstrating
and testing federated fine-tuning, not for use.
"""


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that the result depends on.

    Args:
        seed (`int`, *optional*, defaults to `0`): Seed of weights, scenes and questions.
        tower ([`LoopConfig`], *optional*): Training of the tower.
        lm_stages (`tuple[LmStage, ...]`, *optional*): Training of connector and language model, after the tower.
    """

    seed: int = 0
    tower: LoopConfig = TOWER_LOOP
    lm_stages: tuple[LmStage, ...] = LM_STAGES


def pretrain_mini(
    output_dir: str | Path, work_dir: str | Path, config: PretrainConfig, num_score_scenes: int = 300
) -> dict:
    """Make the folder of the base model, continuing from the checkpoints in `work_dir` if there are any.

    Args:
        output_dir (`str` or `Path`): The folder. It never contains a partial model, and an older model is replaced.
        work_dir (`str` or `Path`): Folder for the checkpoints of the stages.
        config ([`PretrainConfig`]): The settings.
        num_score_scenes (`int`, *optional*, defaults to `300`): Number of validation scenes for the scores.

    Returns:
        `dict`: The scores in the model card.

    Raises:
        `ValueError`: If `output_dir` contains something else, or if `work_dir` belongs to a run with other settings.
    """
    output_dir, work_dir = Path(output_dir), Path(work_dir)
    if output_dir.exists() and not (output_dir / "config.json").exists() and any(output_dir.iterdir()):
        raise ValueError(
            f"`output_dir` {output_dir} contains something other than a model, which would be lost. Choose a new or "
            "empty folder."
        )
    tower = _timed("tower", work_dir, lambda: pretrain_tower(work_dir, config.seed, config.tower))
    model, tokenizer = _timed("lm", work_dir, lambda: pretrain_lm(tower, work_dir, config.seed, config.lm_stages))
    processor = build_processor(tokenizer)
    with _replacing(output_dir) as folder:
        # In bf16, which halves the size. Before scoring, because padding a batch changes settings of the tokenizer.
        model.to(torch.bfloat16).save_pretrained(folder)
        processor.save_pretrained(folder)
        scores = score_base(model.float(), processor, num_score_scenes)
        write_card(folder / "README.md", scores, num_score_scenes, _minutes(work_dir), config)
    return scores


def score_base(model: LlavaForConditionalGeneration, processor: LlavaProcessor, num_scenes: int) -> dict[str, float]:
    """Score the answers to all kinds of questions on new scenes of the validation digits.

    Args:
        model (`LlavaForConditionalGeneration`): The model in eval mode.
        processor (`LlavaProcessor`): The processor of the model.
        num_scenes (`int`): Number of scenes. Each gets one question of every kind.

    Returns:
        `dict[str, float]`: For each kind of question, the share of answers that match the public convention exactly,
        or the mean IoU of boxes.
    """
    scenes = [make_scene("validation", _SEED, index) for index in range(num_scenes)]
    asked = [
        (kind, scene, question, answer)
        for index, scene in enumerate(scenes)
        for kind, (question, answer) in one_of_each(scene, np.random.default_rng([_SEED, index])).items()
    ]
    # Sorted by kind, because a batch is as slow as its longest answer
    asked.sort(key=lambda turn: turn[0])
    scores = defaultdict(list)
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        answers = answer_batch(
            model, processor, [scene.image() for _, scene, _, _ in batch], [turn[2] for turn in batch]
        )
        for (kind, _, _, answer), text in zip(batch, answers, strict=True):
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
    """Answer one question on each image greedily."""
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


def write_card(path: Path, scores: dict[str, float], num_scenes: int, minutes: float, config: PretrainConfig) -> None:
    """Write the model card.

    Args:
        path (`Path`): The file.
        scores (`dict[str, float]`): Scores from [`score_base`].
        num_scenes (`int`): Number of scenes for the scores.
        minutes (`float`): Duration of the two stages.
        config ([`PretrainConfig`]): The settings that the model was made with.
    """
    card = _CARD.format(
        seed=config.seed,
        minutes=minutes,
        tower_scenes=config.tower.num_steps * config.tower.batch_size,
        tower_steps=config.tower.num_steps,
        turns=config.lm_stages[0].curriculum.turns_per_scene,
        lm_stages=", then ".join(map(_describe, config.lm_stages)),
        num_scenes=num_scenes,
        rows="\n".join(f"| {kind} | {score:.2f} |" for kind, score in scores.items()),
    )
    path.write_text(card, encoding="utf-8")


def _timed(stage: str, work_dir: Path, run):
    """Run a stage and add its duration to that of earlier runs of it which were stopped."""
    start, path = time.perf_counter(), work_dir / "seconds.json"
    result = run()
    seconds = json.loads(path.read_text()) if path.exists() else {}
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
    path.write_text(json.dumps(seconds))
    return result


def _minutes(work_dir: Path) -> float:
    return sum(json.loads((work_dir / "seconds.json").read_text()).values()) / 60


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` if the block ends without an error."""
    partial, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    yield partial
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _score(text: str, answer: str) -> float:
    if not answer.startswith("[0."):
        return float(text == answer)
    box = parse_box(text)
    return 0.0 if box is None else iou(box, parse_box(answer))


def _describe(stage: LmStage) -> str:
    loop, share = stage.loop, stage.curriculum.client_dose
    return f"{loop.num_steps:,} steps of {loop.batch_size} scenes with {share:.0%} of the latter"
