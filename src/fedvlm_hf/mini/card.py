"""The model card of the embedded base model."""

from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .pretrain import PretrainConfig
    from .pretrain_lm import LmStage


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

A stock `LlavaForConditionalGeneration` with 2.5 million parameters (CLIP tower 128 wide, connector, Llama 192 wide, 4
layers each), which reads 48x48 scenes of colored handwritten digits. It is the base model of fedvlm_hf's embedded
default, small enough for a federated run on two CPU cores. Any image is resized to 48x48 (36 image tokens); the
byte-level tokenizer of 512 tokens takes any text.

## How it was made

`python recipes/pretrain_mini.py`, seed {seed}, {minutes:.0f} minutes on a shared 2-core CPU. Nothing was downloaded.

1. The tower alone, on {tower_scenes:,} scenes with a label on each patch (digit, color, size, box, ground):
   {tower_steps:,} steps.
2. Connector and language model on other scenes, tower frozen, {turns} questions a scene, most of them short commands
   (`list`, `find red`, `at top left`, `box red 3`, ...) and some worded as the federated clients word theirs:
   {lm_stages}.

Its answers follow the conventions of its own, public annotators: boxes with a margin of two pixels, numerals, yes and
no (a client says present and absent), other words for sizes and for half of the arrangements, captions as lists. The
clients of `fed_nature()` have conventions of their own, and one task each.

## Data and licence

The scenes show digits 0 to 899 of the UCI "Optical Recognition of Handwritten Digits" test set (E. Alpaydin, C.
Kaynak, 1998, https://doi.org/10.24432/C50P49), 13 writers, CC BY 4.0, as packaged in scikit-learn. The digits of the
federated clients (900 to 1459) and of validation and test (1460 to 1796) were not trained on. The weights are
Apache-2.0, like the code.

## Scores

On {num_scenes} scenes of the validation digits, in the public conventions. Exact matches; mean IoU for `box`, `tight`
and grounding.

| question | score |
|---|---|
{rows}

## Limits

It knows scenes of 2 to 4 digits, ten digits, six colors, six arrangements, six grounds, and nothing else: on any other
image its answers mean nothing until it is fine-tuned, and little after. It exists to show and to test federated
fine-tuning, not to be used.
"""


def write_card(
    path: Path, scores: dict[str, float], num_scenes: int, minutes: float, config: "PretrainConfig"
) -> None:
    """Write the folder's `README.md`.

    Args:
        path (`Path`): Where.
        scores (`dict[str, float]`): From [`score_base`].
        num_scenes (`int`): Scenes that the scores rest on.
        minutes (`float`): What the two stages took.
        config ([`PretrainConfig`]): How the model was made.
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


def _describe(stage: "LmStage") -> str:
    loop = stage.loop
    return f"{loop.num_steps:,} steps of {loop.batch_size} scenes with {stage.curriculum.client_dose:.0%} of those"
