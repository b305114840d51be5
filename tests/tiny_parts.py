"""Small random parts of a LLaVA as transformers saves them: a CLIP of 49 patches, and a Llama 3 with its tokenizer."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)


BOS, EOS, START, END, EOT = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
RESERVED = tuple(f"<|reserved_special_token_{index}|>" for index in range(3))
FINETUNE_PAD = "<|finetune_right_pad_id|>"
# In the order of Llama 3.2's ids 128000 ... 128009, without those that are not needed
SPECIAL = (BOS, EOS, *RESERVED[:2], FINETUNE_PAD, RESERVED[2], START, END, EOT)


def llama3_tokenizer(special: tuple[str, ...] = SPECIAL) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per byte. Like Llama 3's, it adds BOS and has no padding token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, *special])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=list(special[2:]),
        clean_up_tokenization_spaces=False,
    )


def save_llama3(
    folder: Path, special: tuple[str, ...] = SPECIAL, tied: bool = True, seed: int = 0
) -> tuple[str, LlamaForCausalLM]:
    """Save a Llama of two layers with its tokenizer, and return the folder and the model."""
    tokenizer = llama3_tokenizer(special)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.1,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9)  # as Llama 3's do
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), model.eval()


def save_clip(folder: Path, whole: bool = True, seed: int = 1) -> tuple[str, CLIPVisionModel]:
    """Save a CLIP with 224 pixels and patches of 32, whole like openai/clip-vit-base-patch32, or its tower."""
    width = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 8}
    vision = CLIPVisionConfig(image_size=224, patch_size=32, num_hidden_layers=3, **width)
    text = CLIPTextConfig(vocab_size=40, num_hidden_layers=1, **width)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
    (model if whole else model.vision_model).save_pretrained(folder)
    return str(folder), model.vision_model.eval()


def full_size_configs() -> tuple[CLIPVisionConfig, LlamaConfig]:
    """Return configurations with the sizes of openai/clip-vit-base-patch32 (tower) and Llama-3.2-3B-Instruct."""
    vision = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=32,
    )
    text = LlamaConfig(
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=128256,
        tie_word_embeddings=True,
    )
    return vision, text
