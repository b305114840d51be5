"""Show-o in plain torch on weights with their published names, written from a description of its code.

It shares no code with the model: convolutions and products by their names, attention with a matrix that says who sees
whom, rotary positions by hand.
"""

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F


Weights = Mapping[str, torch.Tensor]


def conv(weights: Weights, name: str, hidden: torch.Tensor, **options: int) -> torch.Tensor:
    return F.conv2d(hidden, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)


def swish_norm(weights: Weights, name: str, hidden: torch.Tensor) -> torch.Tensor:
    normed = F.group_norm(hidden, 32, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)
    return normed * torch.sigmoid(normed)


def resnet(weights: Weights, path: str, hidden: torch.Tensor) -> torch.Tensor:
    inner = conv(weights, f"{path}.conv1", swish_norm(weights, f"{path}.norm1", hidden), padding=1)
    inner = conv(weights, f"{path}.conv2", swish_norm(weights, f"{path}.norm2", inner), padding=1)
    if f"{path}.nin_shortcut.weight" in weights:
        hidden = conv(weights, f"{path}.nin_shortcut", hidden)
    return hidden + inner


def attention(weights: Weights, path: str, hidden: torch.Tensor) -> torch.Tensor:
    """One head over all positions, scaled by the root of the number of channels."""
    normed = F.group_norm(hidden, 32, weights[f"{path}.norm.weight"], weights[f"{path}.norm.bias"], eps=1e-6)
    query, key, value = (conv(weights, f"{path}.{name}", normed).flatten(2) for name in "qkv")
    scores = torch.einsum("bcq,bck->bqk", query, key) / query.shape[1] ** 0.5
    mixed = torch.einsum("bqk,bck->bcq", scores.softmax(-1), value).reshape(hidden.shape)
    return hidden + conv(weights, f"{path}.proj_out", mixed)


def latents(weights: Weights, pixels: torch.Tensor, num_blocks: Sequence[int]) -> torch.Tensor:
    hidden = conv(weights, "encoder.conv_in", pixels, padding=1)
    for level, count in enumerate(num_blocks):
        for block in range(count):
            hidden = resnet(weights, f"encoder.down.{level}.block.{block}", hidden)
        if level < len(num_blocks) - 1:  # a row below and a column at the right, of zeros
            padded = torch.zeros(*hidden.shape[:2], hidden.shape[2] + 1, hidden.shape[3] + 1)
            padded[:, :, :-1, :-1] = hidden
            hidden = conv(weights, f"encoder.down.{level}.downsample.conv", padded, stride=2)
    hidden = resnet(weights, "encoder.mid.block_1", hidden)
    hidden = attention(weights, "encoder.mid.attn_1", hidden)
    hidden = resnet(weights, "encoder.mid.block_2", hidden)
    hidden = conv(weights, "encoder.conv_out", swish_norm(weights, "encoder.norm_out", hidden), padding=1)
    return conv(weights, "encoder.quant_conv", hidden)


def codes(weights: Weights, pixels: torch.Tensor, num_blocks: Sequence[int]) -> list[list[int]]:
    """One list for each image, row by row: the signs of the channels as a binary number, the first one in front."""
    found = latents(weights, pixels, num_blocks)
    images = []
    for image in found:
        positions = image.flatten(1).T.tolist()
        images.append([int("".join("1" if value > 0 else "0" for value in position), 2) for position in positions])
    return images


def prefix_mask(ids: Sequence[int], eoi: int) -> torch.Tensor:
    """Show-o's mask for understanding: a token sees what is before it, and all that is up to the end of the image."""
    end = list(ids).index(eoi)
    return torch.tensor([[key <= query or key <= end for key in range(len(ids))] for query in range(len(ids))])


def linear(weights: Weights, name: str, hidden: torch.Tensor) -> torch.Tensor:
    return hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(weights: Weights, name: str, hidden: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-5)


def rotated(heads: torch.Tensor) -> torch.Tensor:
    """Turn the first half of each head: pairs (i, i + quarter) by position * 10000^(-2 i / half)."""
    half = heads.shape[-1] // 2
    quarter = half // 2
    turned = heads.clone()
    for position in range(heads.shape[1]):
        for i in range(quarter):
            angle = torch.tensor(position * 10000.0 ** (-2 * i / half))
            first, second = heads[:, position, i], heads[:, position, i + quarter]
            turned[:, position, i] = first * angle.cos() - second * angle.sin()
            turned[:, position, i + quarter] = second * angle.cos() + first * angle.sin()
    return turned


def logits(weights: Weights, ids: Sequence[int], mask: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The logits of one row, (length, vocabulary)."""
    hidden = weights["showo.model.embed_tokens.weight"][list(ids)]
    num_layers = len({name.split(".")[3] for name in weights if name.startswith("showo.model.layers.")})
    for layer in range(num_layers):
        path = f"showo.model.layers.{layer}"
        normed = layer_norm(weights, f"{path}.input_layernorm", hidden)
        heads = {}
        for name in ("q", "k", "v"):
            projected = linear(weights, f"{path}.self_attn.{name}_proj", normed)
            heads[name] = projected.reshape(len(ids), num_heads, -1).transpose(0, 1)
        query, key = (rotated(layer_norm(weights, f"{path}.self_attn.{n}_layernorm", heads[n])) for n in ("q", "k"))
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        mixed = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ heads["v"]
        attended = linear(weights, f"{path}.self_attn.dense", mixed.transpose(0, 1).reshape(len(ids), -1))
        inner = F.gelu(linear(weights, f"{path}.mlp.fc1", normed), approximate="tanh")
        hidden = hidden + attended + linear(weights, f"{path}.mlp.fc2", inner)
    return linear(weights, "showo.lm_head", layer_norm(weights, "showo.model.final_layernorm", hidden))


def generated(weights: Weights, ids: Sequence[int], eoi: int, num_heads: int, num_tokens: int) -> list[int]:
    """Show-o's own loop: the whole row again for each token, the most likely one each time."""
    ids = list(ids)
    for _ in range(num_tokens):
        ids.append(int(logits(weights, ids, prefix_mask(ids, eoi), num_heads)[-1].argmax()))
    return ids[-num_tokens:]
