"""Pretraining of the embedded base model, end to end: tower, connector and language model, scores, card, folder."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from .architecture import build_processor
from .card import write_card
from .pretrain_lm import LM_STAGES, LmStage, pretrain_lm
from .pretrain_loop import LoopConfig
from .pretrain_scores import score_base
from .pretrain_tower import TOWER_LOOP, pretrain_tower


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that the result depends on.

    Args:
        seed (`int`, *optional*, defaults to `0`): Of weights, scenes and questions.
        tower ([`LoopConfig`], *optional*): How the tower is trained.
        lm_stages (`tuple[LmStage, ...]`, *optional*): How connector and language model are trained after it.
    """

    seed: int = 0
    tower: LoopConfig = TOWER_LOOP
    lm_stages: tuple[LmStage, ...] = LM_STAGES


def pretrain_mini(
    output_dir: str | Path, work_dir: str | Path, config: PretrainConfig, num_score_scenes: int = 300
) -> dict:
    """Make the base model's folder from nothing, or go on where `work_dir` stands.

    Args:
        output_dir (`str` or `Path`): Written whole or not at all; an older model folder there is replaced.
        work_dir (`str` or `Path`): Checkpoints of the stages.
        config ([`PretrainConfig`]): The knobs.
        num_score_scenes (`int`, *optional*, defaults to `300`): Scenes of the validation digits that the card's scores
            rest on.

    Returns:
        `dict`: the card's scores.

    Raises:
        `ValueError`: `output_dir` is a folder with something else in it, or `work_dir` belongs to a run with other
        knobs.
    """
    output_dir, work_dir = Path(output_dir), Path(work_dir)
    if output_dir.exists() and not (output_dir / "config.json").exists() and any(output_dir.iterdir()):
        raise ValueError(
            f"`output_dir` {output_dir} holds something other than a model, which would be lost: name a new or empty "
            "folder."
        )
    tower = _timed("tower", work_dir, lambda: pretrain_tower(work_dir, config.seed, config.tower))
    model, tokenizer = _timed("lm", work_dir, lambda: pretrain_lm(tower, work_dir, config.seed, config.lm_stages))
    processor = build_processor(tokenizer)
    with _replacing(output_dir) as folder:
        # In bf16, which halves the folder. Before the scores, as padding a batch leaves its mark on the tokenizer.
        model.to(torch.bfloat16).save_pretrained(folder)
        processor.save_pretrained(folder)
        scores = score_base(model.float(), processor, num_score_scenes)
        write_card(folder / "README.md", scores, num_score_scenes, _minutes(work_dir), config)
    return scores


def _timed(stage: str, work_dir: Path, run):
    """Run a stage and add its seconds to those that earlier, stopped runs of it took."""
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
    """A folder to write into, which takes the place of `folder` when the block ends well: none sees half of it."""
    partial, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    yield partial
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
