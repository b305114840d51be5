"""Tiny models of many families with their own processors, built from configurations and seeds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from tiny import BOS, CHAT_TEMPLATE, EOS, IMAGE, PAD


SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {
    **SIZES, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.1, "max_position_embeddings": 1024,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION = {**SIZES, "hidden_size": 16, "num_hidden_layers": 2}
SIGLIP = {"model_type": "siglip_vision_model", **VISION, "image_size": 16, "patch_size": 8}


def tokenizer_with(tokens: list[str], **named: str) -> PreTrainedTokenizerFast:
    """One token per byte, and the special tokens of a family; `named` are attributes of the tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = dict.fromkeys([PAD, BOS, EOS, IMAGE, *tokens, *named.values()])
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=named,
        clean_up_tokenization_spaces=False,
    )


def assembled(
    model_type: str,
    processor: str,
    image_processor: Any,
    tokenizer: PreTrainedTokenizerFast,
    config: dict[str, Any],
    image: str = IMAGE,
    text: dict[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[transformers.PreTrainedModel, ProcessorMixin]:
    """A model of a family and its processor. `options` go to the processor."""
    whole = getattr(transformers, processor)(image_processor, tokenizer, **options)
    whole.chat_template = CHAT_TEMPLATE.replace(IMAGE, image)
    text_config = {"model_type": "llama", **TEXT, "vocab_size": len(tokenizer), **(text or {})}
    nested = {} if model_type == "chameleon" else {"text_config": text_config}
    settings = AutoConfig.for_model(model_type, **{"tie_word_embeddings": False, **nested, **config})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(settings)
    model.generation_config = GenerationConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return model.eval(), whole


def pil(name: str, **options: Any) -> Any:
    """The image processor of a family that needs no torchvision."""
    return getattr(transformers, f"{name}ImageProcessorPil")(**options)


SQUARE = {"size": {"height": 16, "width": 16}}
CLIP = {"model_type": "clip_vision_model", **VISION, "image_size": 16, "patch_size": 8}
CROPPED = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


def llava_like(model_type: str, **config: Any):
    return assembled(
        model_type, "LlavaProcessor", pil("CLIP", **CROPPED), tokenizer_with([]),
        {"vision_config": CLIP, "image_token_index": 3, "image_token_id": 3, **config},
        patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip


def llava_next():
    grid = [[16, 32], [32, 16], [32, 32]]
    return assembled(
        "llava_next", "LlavaNextProcessor", pil("LlavaNext", **CROPPED, image_grid_pinpoints=grid), tokenizer_with([]),
        {"vision_config": CLIP, "image_token_index": 3, "image_grid_pinpoints": grid},
        patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip


def idefics2():
    tokenizer = tokenizer_with(["<fake_token_around_image>", "<end_of_utterance>"])
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    perceiver = {"hidden_size": 32, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
                 "resampler_head_dim": 16, "num_key_value_heads": 1}  # fmt: skip
    size = {"size": {"longest_edge": 32, "shortest_edge": 16}, "do_image_splitting": False}
    return assembled(
        "idefics2", "Idefics2Processor", pil("Idefics2", **size), tokenizer,
        {"vision_config": vision, "perceiver_config": perceiver, "image_token_id": 3},
        image_seq_len=4,
    )  # fmt: skip


def idefics3():
    rows = [f"<row_{i + 1}_col_{j + 1}>" for i in range(6) for j in range(6)]
    tokenizer = tokenizer_with(["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *rows])
    size = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    return assembled(
        "idefics3", "Idefics3Processor", pil("Idefics3", **size), tokenizer,
        {"vision_config": {**VISION, "image_size": 32, "patch_size": 8}, "scale_factor": 2, "image_token_id": 3},
        image_seq_len=4,
    )  # fmt: skip


def gemma3():
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = tokenizer_with([], **named)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    return assembled(
        "gemma3", "Gemma3Processor", pil("Gemma3", **SQUARE, do_pan_and_scan=False), tokenizer,
        {"vision_config": SIGLIP, "mm_tokens_per_image": 4, "image_token_index": ids["image_token"],
         "boi_token_index": ids["boi_token"], "eoi_token_index": ids["eoi_token"]},
        image="<start_of_image>", text={"model_type": "gemma3_text", "query_pre_attn_scalar": 16},
        image_seq_length=4,
    )  # fmt: skip


def aya_vision():
    tokens = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL",
              *(f"TILE_{i}" for i in range(1, 13))]  # fmt: skip
    tokenizer = tokenizer_with(tokens)
    return assembled(
        "aya_vision", "AyaVisionProcessor", pil("GotOcr2", **SQUARE, crop_to_patches=True, max_patches=2), tokenizer,
        {"vision_config": SIGLIP, "downsample_factor": 2, "alignment_intermediate_size": 32,
         "image_token_index": tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>")},
        text={"model_type": "cohere2", "sliding_window": 64}, patch_size=8, img_size=16, downsample_factor=2,
    )  # fmt: skip


def deepseek_vl():
    return assembled(
        "deepseek_vl", "DeepseekVLProcessor", pil("DeepseekVL", **SQUARE, min_size=8),
        tokenizer_with([], image_token=IMAGE), {"vision_config": SIGLIP, "image_token_id": 3}, num_image_tokens=4,
    )  # fmt: skip


def ovis2():
    indicators = [f"<IMG_{name}>" for name in ("START", "GRID", "COL", "ROW", "END")]
    tokenizer = tokenizer_with([*indicators, "<IMG_ATOM>"])
    return assembled(
        "ovis2", "Ovis2Processor", pil("Ovis2", **SQUARE, crop_to_patches=True, max_patches=2), tokenizer,
        {"vision_config": {**VISION, "image_size": 16, "patch_size": 8, "vocab_size": 24, "hidden_stride": 2},
         "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_ATOM>"), "hidden_size": 32,
         "visual_indicator_token_ids": tokenizer.convert_tokens_to_ids(indicators), "vocab_size": len(tokenizer)},
        text={"model_type": "qwen2"}, image_seq_length=1,
    )  # fmt: skip


def paddleocr_vl():
    return assembled(
        "paddleocr_vl", "PaddleOCRVLProcessor",
        pil("PaddleOCRVL", size={"shortest_edge": 256, "longest_edge": 1024}, patch_size=8, merge_size=2),
        tokenizer_with(["<vs>", "<ve>"], image_token=IMAGE),
        {"vision_config": {**VISION, "patch_size": 8, "image_size": 32, "spatial_merge_size": 2}, "image_token_id": 3,
         "vision_start_token_id": 4, "vision_end_token_id": 5},
        text={"model_type": "paddleocr_vl_text", "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                                                  "mrope_section": [2, 3, 3]}},
    )  # fmt: skip


def lighton_ocr():
    named = {"image_token": IMAGE, "image_break_token": "<break>", "image_end_token": "<end>"}
    return assembled(
        "lighton_ocr", "LightOnOcrProcessor",
        pil("Pixtral", size={"longest_edge": 64}, patch_size={"height": 8, "width": 8}),
        tokenizer_with([], **named),
        {"vision_config": {"model_type": "pixtral", **VISION, "head_dim": 8, "image_size": 64, "patch_size": 8},
         "image_token_id": 3, "spatial_merge_size": 2},
        text={"model_type": "qwen3"}, patch_size=8, spatial_merge_size=2,
    )  # fmt: skip


def deepseek_vl_hybrid():
    high = {"model_type": "sam_vision_model", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16, "output_channels": 16, "window_size": 2, "global_attn_indexes": [1],
            "num_pos_feats": 8, "mlp_dim": 32}  # fmt: skip
    model, processor = assembled(
        "deepseek_vl_hybrid", "DeepseekVLHybridProcessor",
        pil("DeepseekVLHybrid", **SQUARE, high_res_size={"height": 64, "width": 64}, min_size=8),
        tokenizer_with([], image_token=IMAGE),
        {"vision_config": SIGLIP, "high_res_vision_config": high, "image_token_id": 3}, num_image_tokens=4,
    )  # fmt: skip
    torch.nn.init.ones_(model.model.high_res_vision_alpha)  # a new model has 0, which hides the second tower
    return model, processor


def janus():
    named = {"image_token": IMAGE, "boi_token": "<boi>", "eoi_token": "<eoi>"}
    vision = {**VISION, "mlp_ratio": 2.0, "projection_dim": 32, "image_size": 16, "patch_size": 8, "depth": 2,
              "num_image_tokens": 4}  # fmt: skip
    codes = {"embed_dim": 8, "num_embeddings": 16, "base_channels": 32, "channel_multiplier": [1, 1],
             "num_res_blocks": 1, "latent_channels": 8, "projection_dim": 32, "num_hidden_layers": 1,
             "hidden_size": 32, "image_token_embed_dim": 32}  # fmt: skip
    return assembled(
        "janus", "JanusProcessor", pil("Janus", **SQUARE, min_size=8), tokenizer_with([], **named),
        {"vision_config": vision, "vq_config": codes, "image_token_id": 3}, num_image_tokens=4,
    )  # fmt: skip


def chameleon():
    digits = str.maketrans("0123456789", "ABCDEFGHIJ")
    codes = [f"IMGIMG{str(code).translate(digits)}Z" for code in range(16)]
    tokenizer = tokenizer_with(["<racm3:break>", "<eoss>", *codes], sep_token="<sep>")
    vocabulary = {name: tokenizer.convert_tokens_to_ids(name) for name in [IMAGE, *codes]}
    quantizer = {"embed_dim": 8, "num_embeddings": 16, "base_channels": 32, "channel_multiplier": [1, 1],
                 "num_res_blocks": 1, "latent_channels": 8, "resolution": 16}  # fmt: skip
    sizes = {**TEXT, "vocab_size": len(tokenizer)}
    del sizes["head_dim"]
    return assembled(
        "chameleon", "ChameleonProcessor", pil("Chameleon", **CROPPED), tokenizer,
        {**sizes, "vq_config": quantizer, "vocabulary_map": vocabulary}, image_seq_length=64,
    )  # fmt: skip


def qianfan_ocr():
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = tokenizer_with([], **named)
    return assembled(
        "qianfan_ocr", "QianfanOCRProcessor", pil("GotOcr2", **SQUARE, crop_to_patches=True, max_patches=2), tokenizer,
        {"vision_config": {**VISION, "image_size": [16, 16], "patch_size": [4, 4]}, "downsample_ratio": 0.5,
         "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")},
        text={"model_type": "qwen3"}, image_seq_length=4,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], tuple[transformers.PreTrainedModel, ProcessorMixin]]] = {
    "aya_vision": aya_vision,
    "chameleon": chameleon,
    "deepseek_vl": deepseek_vl,
    "deepseek_vl_hybrid": deepseek_vl_hybrid,
    "gemma3": gemma3,
    "idefics2": idefics2,
    "idefics3": idefics3,
    "janus": janus,
    "lighton_ocr": lighton_ocr,
    "llava": partial(llava_like, "llava"),
    "llava_next": llava_next,
    "ovis2": ovis2,
    "paddleocr_vl": paddleocr_vl,
    "qianfan_ocr": qianfan_ocr,
    "vipllava": partial(llava_like, "vipllava", vision_feature_layers=[-1, -2]),
}
