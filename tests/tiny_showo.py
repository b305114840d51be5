"""A tiny Show-o: an image tokenizer with three levels, 256 codes and 16 tokens for each image, and a Phi."""

from os import PathLike
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PhiConfig, PreTrainedTokenizerFast

from fedvlm_hf.models import ShowoConfig, ShowoForConditionalGeneration, ShowoProcessor, ShowoVQConfig
from fedvlm_hf.models.showo import build_processor


END = "<|endoftext|>"
IMAGE_SIZE = 16
VQ = {"base_channels": 32, "channel_multiplier": (1, 1, 2), "num_res_blocks": (1, 2, 1), "latent_channels": 8}
PHI = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def phi_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each byte, and like Phi-1.5's with one token as beginning and end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate([*alphabet, END])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def showo_processor() -> ShowoProcessor:
    return build_processor(phi_tokenizer(), IMAGE_SIZE, patch_size=4)


def showo_config(processor: ShowoProcessor, **phi: Any) -> ShowoConfig:
    vq_config, tokenizer = ShowoVQConfig(**VQ), processor.tokenizer
    text_config = PhiConfig(
        vocab_size=len(tokenizer) + vq_config.codebook_size + 1,
        max_position_embeddings=256,
        qk_layernorm=True,
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{**PHI, **phi},
    )
    return ShowoConfig(
        vq_config=vq_config,
        text_config=text_config,
        image_token_id=processor.image_token_id,
        soi_token_id=tokenizer.convert_tokens_to_ids("<|soi|>"),
        eoi_token_id=tokenizer.convert_tokens_to_ids("<|eoi|>"),
        first_code_id=len(tokenizer),
    )


def tiny_showo(seed: int = 0, **phi: Any) -> tuple[ShowoForConditionalGeneration, ShowoProcessor]:
    """A random Show-o in fp32 and its processor. The same seed gives the same weights."""
    processor = showo_processor()
    config = showo_config(processor, **phi)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ShowoForConditionalGeneration(config)
        with torch.no_grad():  # as far from transformers' start as trained weights are: biases, norms and wide filters
            for name, parameter in model.named_parameters():
                if "vqmodel" in name or name.endswith("bias") or "norm" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
    model.generation_config = GenerationConfig(
        pad_token_id=processor.tokenizer.pad_token_id,
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
    )
    return model.eval(), processor


def save_showo(folder: str | PathLike, seed: int = 0, **phi: Any) -> str:
    model, processor = tiny_showo(seed, **phi)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
