"""Tiny models of families whose processors need torchvision, most of them for videos alone."""

from functools import partial
from typing import Any

import transformers

from tiny import IMAGE
from tiny_families import SIGLIP, SQUARE, VISION, assembled, tokenizer_with


PIXELS = {"shortest_edge": 256, "longest_edge": 1024}
GRID = {"size": PIXELS, "patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}


def qwen_like(
    model_type: str,
    processor: str,
    videos: str,
    vision: dict[str, Any],
    text: dict[str, Any],
    images: str = "Qwen2VL",
    extra: tuple[str, ...] = (),
):
    """Patches in a row and a grid of each image; the connector merges four patches inside the tower."""
    named = {"image_token": IMAGE, "video_token": "<video>", "vision_start_token": "<vs>", "vision_end_token": "<ve>"}
    tokenizer = tokenizer_with(list(extra), **named)
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    ids |= {"image_start_token_id": ids["vision_start_token_id"], "image_end_token_id": ids["vision_end_token_id"]}
    sizes = {"patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3, "in_chans": 3}
    return assembled(
        model_type, processor, getattr(transformers, f"{images}ImageProcessor")(**GRID), tokenizer,
        {"vision_config": {**sizes, **vision}, **ids}, image=f"<vs>{IMAGE}<ve>", text=text,
        video_processor=getattr(transformers, f"{videos}VideoProcessor")(**GRID),
    )  # fmt: skip


QWEN3_VISION = {
    "hidden_size": 16, "depth": 2, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 32,
    "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
}  # fmt: skip
QWEN25_VISION = {
    "hidden_size": 16, "depth": 2, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 32, "window_size": 32,
    "fullatt_block_indexes": [1],
}  # fmt: skip
GLM_VISION = {
    "hidden_size": 16, "depth": 2, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 32, "image_size": 32,
}  # fmt: skip
MOE = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1}
VIDEO_MARKS = ("<|begin_of_video|>", "<|end_of_video|>")


def internvl():
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    tokenizer = tokenizer_with([], **named)
    return assembled(
        "internvl", "InternVLProcessor",
        transformers.GotOcr2ImageProcessor(**SQUARE, crop_to_patches=True, max_patches=2), tokenizer,
        {"vision_config": {**VISION, "image_size": [16, 16], "patch_size": [4, 4]}, "downsample_ratio": 0.5,
         "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")},
        image="<IMG_CONTEXT>", text={"model_type": "qwen2"}, image_seq_length=4,
        video_processor=transformers.InternVLVideoProcessor(**SQUARE),
    )  # fmt: skip


def llava_onevision():
    grid = [[16, 16], [16, 32], [32, 16], [32, 32]]
    tokenizer = tokenizer_with(["<video>"])
    return assembled(
        "llava_onevision", "LlavaOnevisionProcessor",
        transformers.LlavaOnevisionImageProcessor(**SQUARE, image_grid_pinpoints=grid), tokenizer,
        {"vision_config": SIGLIP, "image_token_index": 3, "image_token_id": 3, "image_grid_pinpoints": grid,
         "video_token_index": 4, "vision_feature_select_strategy": "full", "vision_feature_layer": -1},
        text={"model_type": "qwen2"}, num_image_tokens=4, vision_feature_select_strategy="full",
        video_processor=transformers.LlavaOnevisionVideoProcessor(**SQUARE),
    )  # fmt: skip


def pixtral_like(model_type: str, **config: Any):
    named = {"image_token": IMAGE, "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    merge = config.get("spatial_merge_size", 1)
    patch = {"height": 8 * merge, "width": 8 * merge}
    return assembled(
        model_type, "PixtralProcessor",
        transformers.PixtralImageProcessor(size={"longest_edge": 64}, patch_size=patch),
        tokenizer_with([], **named),
        {"vision_config": {"model_type": "pixtral", **VISION, "head_dim": 8, "image_size": 64, "patch_size": 8},
         "image_token_index": 3, "image_token_id": 3, "vision_feature_layer": -1, **config},
        text={"model_type": "mistral"}, patch_size=8, spatial_merge_size=merge, image_token=IMAGE,
    )  # fmt: skip


def lfm2_vl():
    tokens = ["<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    options = {"encoder_patch_size": 8, "downsample_factor": 2, "tile_size": 32, "max_image_tokens": 4,
               "min_image_tokens": 1, "max_num_patches": 64, "do_image_splitting": False}  # fmt: skip
    vision = {"model_type": "siglip2_vision_model", **VISION, "patch_size": 8, "num_patches": 16}
    return assembled(
        "lfm2_vl", "Lfm2VlProcessor", transformers.Lfm2VlImageProcessor(**options),
        tokenizer_with(tokens, image_token=IMAGE),
        {"vision_config": vision, "image_token_id": 3, "downsample_factor": 2, "projector_hidden_size": 32},
        text={"model_type": "lfm2", "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False,
              "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    )  # fmt: skip


def cohere2_vision():
    named = {"image_token": IMAGE, "boi_token": "<boi>", "eoi_token": "<eoi>", "img_line_break_token": "<line>"}
    return assembled(
        "cohere2_vision", "Cohere2VisionProcessor",
        transformers.Cohere2VisionImageProcessor(**SQUARE, patch_size=1, downsample_factor=2, max_patches=2),
        tokenizer_with([], **named),
        {"vision_config": SIGLIP, "downsample_factor": 2, "image_token_id": 3, "alignment_intermediate_size": 32},
        text={"model_type": "cohere2", "sliding_window": 64},
    )  # fmt: skip


def video_llama_3():
    tokenizer = tokenizer_with([], image_token=IMAGE, video_token="<video>")
    vision = {**VISION, "patch_size": 8, "model_type": "video_llama_3_vision"}
    sizes = {"size": PIXELS, "patch_size": 8, "merge_size": 1}
    return assembled(
        "video_llama_3", "VideoLlama3Processor", transformers.VideoLlama3ImageProcessor(**sizes), tokenizer,
        {"vision_config": vision, "image_token_id": 3, "video_token_id": 4}, text={"model_type": "qwen2"},
        video_processor=transformers.VideoLlama3VideoProcessor(**sizes),
    )  # fmt: skip


TORCHVISION_FAMILIES = {
    "cohere2_vision": cohere2_vision,
    "lfm2_vl": lfm2_vl,
    "video_llama_3": video_llama_3,
    "exaone4_5": partial(
        qwen_like, "exaone4_5", "Exaone4_5_Processor", "Qwen2VL", {**QWEN25_VISION, "num_key_value_heads": 2},
        {"model_type": "exaone4", "sliding_window": 64, "layer_types": ["full_attention"] * 2},
    ),
    "glm4v": partial(
        qwen_like, "glm4v", "Glm4vProcessor", "Glm4v", GLM_VISION,
        {"model_type": "glm4v_text", "rope_parameters": MROPE}, "Glm4v", VIDEO_MARKS,
    ),
    "glm46v": partial(
        qwen_like, "glm46v", "Glm46VProcessor", "Glm46V", GLM_VISION | {"model_type": "glm4v_vision"},
        {"model_type": "glm4v_text", "rope_parameters": MROPE}, "Glm46V", VIDEO_MARKS,
    ),
    "internvl": internvl,
    "llava_onevision": llava_onevision,
    "llava with a Pixtral tower": partial(pixtral_like, "llava", vision_feature_select_strategy="full"),
    "mistral3": partial(pixtral_like, "mistral3", spatial_merge_size=2),
    "qwen2_vl": partial(
        qwen_like, "qwen2_vl", "Qwen2VLProcessor", "Qwen2VL",
        {"embed_dim": 16, "hidden_size": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2},
        {"model_type": "qwen2_vl_text", "rope_parameters": MROPE},
    ),
    "qwen2_5_vl": partial(
        qwen_like, "qwen2_5_vl", "Qwen2_5_VLProcessor", "Qwen2VL", QWEN25_VISION,
        {"model_type": "qwen2_5_vl_text", "rope_parameters": MROPE},
    ),
    "qwen3_vl": partial(
        qwen_like, "qwen3_vl", "Qwen3VLProcessor", "Qwen3VL", QWEN3_VISION,
        {"model_type": "qwen3_vl_text", "rope_parameters": MROPE},
    ),
    "qwen3_vl_moe": partial(
        qwen_like, "qwen3_vl_moe", "Qwen3VLProcessor", "Qwen3VL", QWEN3_VISION,
        {"model_type": "qwen3_vl_moe_text", "rope_parameters": MROPE, **MOE},
    ),
}  # fmt: skip
