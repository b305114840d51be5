"""Stage 1 of pretraining: train the CLIP tower alone, with labels for each of its 36 patches.

A contrastive loss or a caption loss would need far more images than 45 CPU minutes allow, because only patch labels
say where each fact is. The heads are discarded afterwards.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPVisionConfig, CLIPVisionModel

from .pretrain_loop import LoopConfig, fit
from .scenes import COLORS, GROUNDS, SIZES, Scene, make_scene


TOWER_LOOP = LoopConfig(num_steps=3000, batch_size=128, learning_rate=1e-3)
PATCH = 8
NO_DIGIT = 10
_HEADS = (11, len(COLORS), len(SIZES), 4)
_COLOR_INDEX = {name: index for index, name in enumerate(COLORS)}


def vision_config() -> CLIPVisionConfig:
    """Return the configuration of the tower: 0.69 M parameters, 48x48 pixels in patches of 8x8, so 36 image tokens."""
    return CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=48,
        patch_size=PATCH,
        projection_dim=128,
    )


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 `(B, 48, 48, 3)` to float `(B, 3, 48, 48)` in [-1, 1], like the image processor (mean = std = 0.5)."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


class TowerWithHeads(nn.Module):
    """The tower with a linear head for each patch and another one for the mean of the patches."""

    def __init__(self) -> None:
        super().__init__()
        config = vision_config()
        self.tower = CLIPVisionModel(config)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.patch_head = nn.Linear(config.hidden_size, sum(_HEADS))
        self.ground_head = nn.Linear(config.hidden_size, len(GROUNDS))

    def forward(self, pixels: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Map uint8 pixels to digit, color, size and box of each patch, `(B, 36, n)`, and the ground, `(B, 6)`."""
        patches = self.norm(self.tower(normalize(pixels)).last_hidden_state[:, 1:])
        return self.patch_head(patches).float().split(_HEADS, dim=-1), self.ground_head(patches.mean(1)).float()


def patch_labels(scene: Scene) -> dict[str, torch.Tensor]:
    """Return the labels of one scene.

    Returns:
        `dict[str, torch.Tensor]`: `pixels`, uint8 `(48, 48, 3)`; `facts`, int64 `(36, 3)`: digit (10 = none), color
        and size of the digit with most ink in each patch; `boxes`, float32 `(36, 4)`: the edges of that digit relative
        to the center of the patch, in patches; `ground`, int64.
    """
    # The last row is for patches without a digit, which have owner -1
    facts = torch.tensor(
        [[i.digit, _COLOR_INDEX[i.color], SIZES.index(i.size)] for i in scene.items] + [[NO_DIGIT, 0, 0]]
    )
    edges = torch.tensor([i.ink for i in scene.items] + [(0, 0, 0, 0)], dtype=torch.float32) / PATCH
    owner = torch.from_numpy(scene.owner.astype("int64")).flatten()
    side = scene.owner.shape[0]
    center_y, center_x = (torch.cartesian_prod(torch.arange(side), torch.arange(side)) + 0.5).unbind(1)
    centers = torch.stack((center_x, center_y, center_x, center_y), dim=1)
    return {
        "pixels": torch.from_numpy(scene.pixels),
        "facts": facts[owner],
        "boxes": edges[owner] - centers,
        "ground": torch.tensor(GROUNDS.index(scene.ground)),
    }


def tower_loss(model: TowerWithHeads, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum cross entropies and the smooth L1 loss of boxes; patches without a digit count only for the digit head."""
    (digit, color, size, box), ground = model(batch["pixels"])
    held = batch["facts"][..., 0] != NO_DIGIT
    facts = batch["facts"][held]
    return (
        F.cross_entropy(digit.flatten(0, 1), batch["facts"][..., 0].flatten())
        + F.cross_entropy(digit[held], facts[:, 0])
        + F.cross_entropy(color[held], facts[:, 1])
        + 0.5 * F.cross_entropy(size[held], facts[:, 2])
        + 4.0 * F.smooth_l1_loss(box[held], batch["boxes"][held], beta=0.1)
        + 0.3 * F.cross_entropy(ground, batch["ground"])
    )


class _LabelledScenes(Dataset):
    def __init__(self, seed: int, first: int, end: int) -> None:
        self.seed, self.first, self.end = seed, first, end

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return patch_labels(make_scene("public", self.seed, self.first + index))


def pretrain_tower(work_dir: Path, seed: int, loop: LoopConfig = TOWER_LOOP) -> CLIPVisionModel:
    """Train the tower on public scenes, or load it if `work_dir` already contains it.

    Args:
        work_dir (`Path`): Folder of `tower.pt`, from which a stopped run continues.
        seed (`int`): Seed of the initial weights and of the scenes.
        loop ([`LoopConfig`], *optional*): Steps, batch size and learning rate.

    Returns:
        `CLIPVisionModel`: The tower in eval mode, in fp32.
    """
    torch.manual_seed(seed)
    model = TowerWithHeads()

    def batches_from(step: int) -> Iterator[dict[str, torch.Tensor]]:
        scenes = _LabelledScenes(seed, step * loop.batch_size, loop.num_steps * loop.batch_size)
        # One worker draws the scenes while this process trains: at 0.4 ms each, they would take a fifth of the time
        return iter(DataLoader(scenes, loop.batch_size, num_workers=1, prefetch_factor=4))

    fit(model, batches_from, lambda batch: tower_loss(model, batch), loop, work_dir / "tower.pt", {"seed": seed})
    return model.tower.eval()
