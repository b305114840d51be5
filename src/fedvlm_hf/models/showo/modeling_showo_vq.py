"""The encoder of MAGVIT-v2 (https://huggingface.co/papers/2310.05737), with the names of the published weights."""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_showo import NORM_GROUPS, ShowoVQConfig


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NORM_GROUPS, channels, eps=1e-6)


class ShowoVQResnetBlock(nn.Module):
    """Two convolutions and a residual connection."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.norm1 = _norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
        self.norm2 = _norm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1)
        is_same = channels_in == channels_out
        self.nin_shortcut = nn.Identity() if is_same else nn.Conv2d(channels_in, channels_out, kernel_size=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(images, channels_in, height, width)` to `(images, channels_out, height, width)`."""
        residual = self.nin_shortcut(hidden_states)
        hidden_states = self.conv1(F.silu(self.norm1(hidden_states)))
        return residual + self.conv2(F.silu(self.norm2(hidden_states)))


class ShowoVQAttention(nn.Module):
    """Attention with one head between all positions of an image."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, kernel_size=1)
        self.k = nn.Conv2d(channels, channels, kernel_size=1)
        self.v = nn.Conv2d(channels, channels, kernel_size=1)
        self.proj_out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Add what each position attends to; the shape stays `(images, channels, height, width)`."""
        normed = self.norm(hidden_states)
        query, key, value = (layer(normed).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return hidden_states + self.proj_out(attended.reshape(hidden_states.shape))


class ShowoVQDownsample(nn.Module):
    """A convolution that halves height and width. It pads at the right and at the bottom only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(images, channels, height, width)` to half of height and width."""
        return self.conv(F.pad(hidden_states, (0, 1, 0, 1)))


class ShowoVQLevel(nn.Module):
    """The residual blocks of one resolution, and the step to the next one."""

    def __init__(self, channels_in: int, channels_out: int, num_blocks: int, is_last: bool):
        super().__init__()
        sizes = [channels_in] + [channels_out] * num_blocks
        self.block = nn.ModuleList(map(ShowoVQResnetBlock, sizes[:-1], sizes[1:]))
        self.downsample = nn.Identity() if is_last else ShowoVQDownsample(channels_out)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(images, channels_in, height, width)` to the input of the next level."""
        for block in self.block:
            hidden_states = block(hidden_states)
        return self.downsample(hidden_states)


class ShowoVQMiddle(nn.Module):
    """The blocks at the lowest resolution, the only ones with attention."""

    def __init__(self, channels: int):
        super().__init__()
        self.block_1 = ShowoVQResnetBlock(channels, channels)
        self.attn_1 = ShowoVQAttention(channels)
        self.block_2 = ShowoVQResnetBlock(channels, channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Keep the shape `(images, channels, height, width)`."""
        return self.block_2(self.attn_1(self.block_1(hidden_states)))


class ShowoVQEncoder(nn.Module):
    """The encoder of MAGVIT-v2: images to latents, whose signs are the bits of codes.

    Args:
        config ([`ShowoVQConfig`]):
            The configuration of the image tokenizer.
    """

    def __init__(self, config: ShowoVQConfig):
        super().__init__()
        sizes = [config.base_channels * multiple for multiple in (1, *config.channel_multiplier)]
        last = len(config.num_res_blocks) - 1
        self.conv_in = nn.Conv2d(config.in_channels, config.base_channels, kernel_size=3, padding=1)
        self.down = nn.ModuleList(
            ShowoVQLevel(sizes[level], sizes[level + 1], num_blocks, is_last=level == last)
            for level, num_blocks in enumerate(config.num_res_blocks)
        )
        self.mid = ShowoVQMiddle(sizes[-1])
        self.norm_out = _norm(sizes[-1])
        self.conv_out = nn.Conv2d(sizes[-1], config.latent_channels, kernel_size=3, padding=1)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, kernel_size=1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map images to latents `(images, latent_channels, height / downsampling, width / downsampling)`."""
        hidden_states = self.conv_in(pixel_values)
        for level in self.down:
            hidden_states = level(hidden_states)
        hidden_states = self.norm_out(self.mid(hidden_states))
        return self.quant_conv(self.conv_out(F.silu(hidden_states)))


__all__ = ["ShowoVQEncoder"]
