"""Fake checkpoints with the published names: of Show-o, of MAGVIT-v2, and of Phi-1.5 with its tokenizer.

The names and shapes are listed from the code of Show-o (github.com/showlab/Show-o), not from the model that they are
converted to.
"""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PhiConfig

from tiny_showo import PHI, VQ, phi_tokenizer


Shapes = dict[str, tuple[int, ...]]
NUM_ADDED = 10  # [PAD] and nine special tokens


def affine(name: str, *shape: int) -> Shapes:
    """A weight and its bias, which has the first of the weight's sizes."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def showo_shapes(
    vocab_size: int = 58498, hidden: int = 2048, ffn: int = 8192, num_layers: int = 24, num_heads: int = 32
) -> Shapes:
    shapes = {"showo.model.embed_tokens.weight": (vocab_size, hidden)}
    for layer in range(num_layers):
        path = f"showo.model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "dense"):
            shapes |= affine(f"{path}.self_attn.{name}", hidden, hidden)
        for name in ("q_layernorm", "k_layernorm"):
            shapes |= affine(f"{path}.self_attn.{name}", hidden // num_heads)
        shapes |= affine(f"{path}.mlp.fc1", ffn, hidden) | affine(f"{path}.mlp.fc2", hidden, ffn)
        shapes |= affine(f"{path}.input_layernorm", hidden)
    return shapes | affine("showo.model.final_layernorm", hidden) | affine("showo.lm_head", vocab_size, hidden)


def resnet(path: str, size_in: int, size_out: int) -> Shapes:
    shapes = affine(f"{path}.norm1", size_in) | affine(f"{path}.conv1", size_out, size_in, 3, 3)
    shapes |= affine(f"{path}.norm2", size_out) | affine(f"{path}.conv2", size_out, size_out, 3, 3)
    return shapes if size_in == size_out else shapes | affine(f"{path}.nin_shortcut", size_out, size_in, 1, 1)


def middle(path: str, size: int) -> Shapes:
    shapes = resnet(f"{path}.mid.block_1", size, size) | resnet(f"{path}.mid.block_2", size, size)
    shapes |= affine(f"{path}.mid.attn_1.norm", size)
    for name in ("q", "k", "v", "proj_out"):
        shapes |= affine(f"{path}.mid.attn_1.{name}", size, size, 1, 1)
    return shapes


def encoder_shapes(ch: int, mult: Sequence[int], blocks: Sequence[int], bits: int) -> Shapes:
    shapes, size = affine("encoder.conv_in", ch, 3, 3, 3), ch
    for level, (multiple, num_blocks) in enumerate(zip(mult, blocks, strict=True)):
        for block in range(num_blocks):
            shapes |= resnet(f"encoder.down.{level}.block.{block}", size, ch * multiple)
            size = ch * multiple
        if level < len(mult) - 1:
            shapes |= affine(f"encoder.down.{level}.downsample.conv", size, size, 3, 3)
    shapes |= middle("encoder", size) | affine("encoder.norm_out", size)
    return shapes | affine("encoder.conv_out", bits, size, 3, 3) | affine("encoder.quant_conv", bits, bits, 1, 1)


def decoder_shapes(ch: int, mult: Sequence[int], blocks: Sequence[int], bits: int) -> Shapes:
    size = ch * mult[-1]
    shapes = affine("decoder.post_quant_conv", bits, bits, 1, 1) | affine("decoder.conv_in", size, bits, 3, 3)
    shapes |= middle("decoder", size)
    for level in reversed(range(len(mult))):
        for block in range(blocks[level]):
            shapes |= resnet(f"decoder.up.{level}.block.{block}", size, ch * mult[level])
            size = ch * mult[level]
        if level > 0:
            shapes |= affine(f"decoder.up.{level}.upsample.conv", size, size, 3, 3)
    return shapes | affine("decoder.norm_out", size) | affine("decoder.conv_out", 3, size, 3, 3)


def magvit_shapes(
    ch: int = 128,
    mult: Sequence[int] = (1, 2, 2, 4, 4),
    blocks: Sequence[int] = (4, 3, 4, 3, 4),
    bits: int = 13,
    decoder_mult: Sequence[int] = (1, 1, 2, 2, 4),
    decoder_blocks: Sequence[int] = (4, 4, 3, 4, 3),
) -> Shapes:
    shapes = encoder_shapes(ch, mult, blocks, bits) | decoder_shapes(ch, decoder_mult, decoder_blocks, bits)
    return shapes | {"quantize.embedding": (2**bits, bits), "quantize.power_vals": (bits,)}


def random_tensors(shapes: Shapes, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Weights that make the outputs differ: filters as wide as their inputs ask for, norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            noise = 1 + noise / 5
        elif len(shape) > 1:
            noise = noise / prod(shape[1:]) ** 0.5
        else:
            noise = noise / 5
        tensors[name] = noise.to(dtype)
    return tensors


def small_showo_shapes() -> Shapes:
    vocab_size = len(phi_tokenizer()) + NUM_ADDED + 2 ** VQ["latent_channels"] + 1
    return showo_shapes(
        vocab_size,
        PHI["hidden_size"],
        PHI["intermediate_size"],
        PHI["num_hidden_layers"],
        PHI["num_attention_heads"],
    )


def small_magvit_shapes() -> Shapes:
    sizes = (VQ["base_channels"], VQ["channel_multiplier"], VQ["num_res_blocks"], VQ["latent_channels"])
    return magvit_shapes(*sizes, decoder_mult=(1, 2, 2), decoder_blocks=(1, 1, 2))


def write_weights(folder: Path, tensors: dict[str, torch.Tensor], name: str) -> None:
    if name.endswith(".safetensors"):
        save_file(tensors, folder / name)
    else:
        torch.save(tensors, folder / name)


def write_checkpoints(root: Path, weights: str = "pytorch_model.bin", **config: object) -> dict[str, Path]:
    """Write small checkpoints, and return the folders `showo`, `magvit` and `phi`. `config` changes Show-o's."""
    folders = {name: root / name for name in ("showo", "magvit", "phi")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    shapes, tokenizer = small_showo_shapes(), phi_tokenizer()
    write_weights(folders["showo"], random_tensors(shapes, seed=1), weights)
    write_weights(folders["magvit"], random_tensors(small_magvit_shapes(), seed=2), weights)
    published = {
        "_class_name": "Showo",
        "w_clip_vit": False,
        "vocab_size": shapes["showo.lm_head.bias"][0],
        "llm_vocab_size": len(tokenizer),
        "llm_model_path": "microsoft/phi-1_5",
        "codebook_size": 2 ** VQ["latent_channels"],
        "num_vq_tokens": 16,
        "mask_token_id": shapes["showo.lm_head.bias"][0] - 1,
    }
    (folders["showo"] / "config.json").write_text(json.dumps(published | config))
    # the published one has no sizes; those here differ from the published ones
    (folders["magvit"] / "config.json").write_text(json.dumps({"_class_name": "MAGViTv2", **VQ}))
    PhiConfig(vocab_size=300, max_position_embeddings=256, **PHI).save_pretrained(folders["phi"])
    tokenizer.save_pretrained(folders["phi"])
    return folders
