"""The training loop of both pretraining stages: AdamW, cosine, bf16 autocast, and a checkpoint to continue from."""

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm


@dataclass(frozen=True)
class LoopConfig:
    """Settings of one stage.

    Args:
        num_steps (`int`): Number of optimizer steps.
        batch_size (`int`): Scenes per step.
        learning_rate (`float`): Peak learning rate, with a linear warm-up and then a cosine to zero.
        warmup_steps (`int`, *optional*, defaults to `100`): Steps of the warm-up.
        weight_decay (`float`, *optional*, defaults to `0.02`): Weight decay of AdamW, for matrices only.
        save_steps (`int`, *optional*, defaults to `200`): Steps between checkpoints.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.02
    save_steps: int = 200


def fit(
    model: nn.Module,
    batches_from: Callable[[int], Iterable[Any]],
    compute_loss: Callable[[Any], torch.Tensor],
    config: LoopConfig,
    checkpoint: Path,
    recipe: dict[str, Any],
) -> list[float]:
    """Train `model` in place, continuing from `checkpoint` if it exists.

    Args:
        model (`nn.Module`): The model. Its parameters that require gradients are trained.
        batches_from (`Callable`): Function that returns the batches from a given step on. Each batch must depend only
            on its step.
        compute_loss (`Callable`): Function that returns the scalar loss of a batch.
        config ([`LoopConfig`]): The settings.
        checkpoint (`Path`): File with weights, optimizer and step, written every `save_steps` steps and at the end.
        recipe (`dict`): Other settings that the result depends on, such as seeds, to recognize checkpoints of other
            runs.

    Returns:
        `list[float]`: The loss of every step, including those before a restart.

    Raises:
        `ValueError`: If `checkpoint` belongs to a run with other settings.
    """
    recipe = recipe | asdict(config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    losses = _load(checkpoint, recipe, model, optimizer, scheduler)
    model.train()
    name = checkpoint.stem
    with tqdm(total=config.num_steps, initial=len(losses), desc=f"pretraining {name}", unit="step") as bar:
        # zip reads its first argument first, so with the batches second none is drawn after the last step
        for _, batch in zip(range(len(losses), config.num_steps), batches_from(len(losses)), strict=False):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = compute_loss(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            losses.append(loss.item())
            bar.update()
            if len(losses) % 20 == 0:
                bar.set_postfix(loss=f"{sum(losses[-20:]) / 20:.3f}")
            if len(losses) % config.save_steps == 0 or len(losses) == config.num_steps:
                _save(checkpoint, recipe, model, optimizer, scheduler, losses)
    return losses


def _rate(step: int, config: LoopConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.num_steps - config.warmup_steps, 1)
    return 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item())


def _save(path: Path, recipe: dict, model: nn.Module, optimizer: Any, scheduler: Any, losses: list[float]) -> None:
    state = {
        "recipe": recipe,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "losses": losses,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def _load(path: Path, recipe: dict, model: nn.Module, optimizer: Any, scheduler: Any) -> list[float]:
    if not path.exists():
        return []
    state = torch.load(path, weights_only=True)
    made_with = state["recipe"]
    other = {key: (made_with.get(key), value) for key, value in recipe.items() if made_with.get(key) != value}
    if other:
        raise ValueError(
            f"`checkpoint` {path} was made with other settings (there, here): {other}. Continuing from it would give "
            "a model that no settings describe. Use another work folder, or delete this file."
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return state["losses"]
