"""Families of VLMs: which parts a model has, the linears that LoRA trains, and what cannot be trained.

The parts are found by the rule of `fedvlm_hf.models.parts`, unless a row here or [`register_vlm`] names them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..registry import load_plugins
from .parts import VLMParts, check_connector, find_parts, head_path, inside, modules_near_root


# Families whose parts are not those that the rule finds. A path that ends in `.*` stands for each child of that
# module: PEFT's modules_to_save calls the modules that it wraps, and a ModuleList cannot be called.
_FAMILIES: dict[str, VLMParts] = {
    # The rule adds the neck and the projection of its second tower
    "deepseek_vl_hybrid": VLMParts("model.language_model", "model.vision_model", ("model.aligner",)),
}
# Families that messages name. The rule finds their parts, and almost all of them were trained at a tiny size.
_TRIED = (
    "aya_vision chameleon cohere2_vision deepseek_vl deepseek_vl_hybrid emu3 exaone4_5 fed_llava gemma3 gemma4 "
    "gemma4_unified glm46v glm4v granite4_vision idefics2 idefics3 internvl janus kimi_k25 lfm2_vl lighton_ocr llava "
    "llava_next llava_next_video llava_onevision minicpmv4_6 mistral3 ovis2 paddleocr_vl qianfan_ocr qwen2_5_vl "
    "qwen2_vl qwen3_5 qwen3_vl qwen3_vl_moe showo smolvlm video_llama_3 video_llava vipllava"
)

_NO_BASE_MODEL = "has no model below its head (its `base_model` is itself)"
# Each of these was tried with TRL 1.16 and transformers 5.23
_UNTRAINABLE = {
    "paligemma": "has a processor that needs images with every text, and TRL processes completions without images",
    "mllama": "needs a `cross_attention_mask` for all tokens, and TRL computes it for those of the prompt only",
    "got_ocr2": "has a processor that takes lists of images only as the pages of one document, and TRL passes a list "
    "for each row",
    "fuyu": "has an image processor that fails on every image in transformers 5.23",
    "llama4": f"{_NO_BASE_MODEL}, from which TRL takes the hidden states",
    "blip-2": f"{_NO_BASE_MODEL}, from which TRL takes the hidden states",
    "instructblip": f"{_NO_BASE_MODEL}, from which TRL takes the hidden states",
    "florence2": "is an encoder-decoder, and TRL computes the loss of decoder-only models",
}


def known_model_types() -> list[str]:
    """Return every `config.model_type` that was tried or registered. Other families may work, too."""
    _load_plugins()
    return sorted({*_TRIED.split(), *_FAMILIES})


def register_vlm(
    model_type: str,
    *,
    tower: str | None,
    connector: str | Sequence[str] | None,
    decoder: str,
    image_tokenizer: str | None = None,
) -> None:
    """Name the parts of a VLM family, if they are not found by themselves or found wrongly.

    To register a family for every command and every host, call it in a module of an installed package that has an
    entry point in the group `fedvlm_hf.models`.

    Args:
        model_type (`str`):
            The `config.model_type` of the family.
        tower (`str` or `None`):
            Path of the vision encoder, relative to the model with its head, such as `"model.vision_tower"`.
        connector (`str`, `Sequence[str]` or `None`):
            Path or paths of the connector, such as `"model.multi_modal_projector"`. `"path.*"` means each child of a
            `ModuleList`.
        decoder (`str`):
            Path of the language model, such as `"model.language_model"`.
        image_tokenizer (`str`, *optional*):
            Path of a frozen module that turns pixels into discrete tokens.

    Example:

    ```python
    >>> from fedvlm_hf.models import register_vlm

    >>> register_vlm("my_vlm", tower="model.vit", connector="model.bridge", decoder="model.llm")
    ```
    """
    paths = (connector,) if isinstance(connector, str) else tuple(connector or ())
    _FAMILIES[model_type] = VLMParts(decoder, tower, paths, image_tokenizer)


def register_vlm_option(model_type: str, parts: str | Mapping[str, Any]) -> None:
    """Register a family with the value of `--vlm_parts`.

    Args:
        model_type (`str`):
            The `config.model_type` of the family.
        parts (`str` or `Mapping[str, Any]`):
            Arguments of [`register_vlm`] without the model type, or JSON of them. Without `tower` or `connector` the
            model has none.

    Raises:
        `ValueError`: If that is not what it is.
    """
    example = '\'{"decoder": "model.language_model", "tower": "model.vit", "connector": ["model.bridge"]}\''
    try:
        paths = json.loads(parts) if isinstance(parts, str) else dict(parts)
    except ValueError as error:
        raise ValueError(f"`--vlm_parts` must be JSON such as {example}, got {parts!r} ({error}).") from error
    known = ("decoder", "tower", "connector", "image_tokenizer")
    if not isinstance(paths, dict) or "decoder" not in paths or not set(paths) <= set(known):
        raise ValueError(
            f"`--vlm_parts` must be a JSON dictionary such as {example}, with `decoder` and no other keys than "
            f"{', '.join(known)}, got {parts!r}."
        )
    connector = paths.get("connector")
    texts = [paths.get("tower"), paths.get("image_tokenizer")]
    texts += connector if isinstance(connector, list) else [connector]
    if not isinstance(paths["decoder"], str) or not all(isinstance(text, str | None) for text in texts):
        raise ValueError(f"`--vlm_parts` must have paths as texts, such as {example}, got {parts!r}.")
    register_vlm(model_type, **{"tower": None, "connector": None, **paths})


@cache
def _load_plugins() -> None:
    load_plugins(__package__)


def vlm_parts(model: PreTrainedModel | PeftModel) -> VLMParts:
    """Return the paths of the parts of a model.

    Raises:
        `ValueError`: If the family cannot be trained, if the parts cannot be found, or if the model does not have one
            of the paths that were registered.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    check_trainable(base.config)  # loads plugins
    family = _FAMILIES.get(base.config.model_type)
    if family is None:
        parts = find_parts(base)
        if base.config.model_type not in known_model_types():
            check_connector(base, parts)
        return parts
    return VLMParts(
        decoder=_existing(base, "decoder", family.decoder),
        tower=_existing(base, "tower", family.tower) if family.tower else None,
        connector=tuple(path for pattern in family.connector for path in _expanded(base, pattern)),
        image_tokenizer=_existing(base, "image_tokenizer", family.image_tokenizer) if family.image_tokenizer else None,
        head=head_path(base),
    )


def model_skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """Build a model on the meta device: every module has its place and its shapes, and no weight takes memory."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def lora_target_regex(model: PreTrainedModel) -> str:
    """Return a `target_modules` for `LoraConfig` that matches exactly the linears of the language model.

    The head, the tower and the connector are not matched, although their linears have the same names: a list such as
    `["q_proj", "v_proj"]` also matches layers of CLIP, and `"all-linear"` those of tower and connector. PEFT applies
    `re.fullmatch` to a string and full names, so the pattern spells whole paths, with `\\d+` for the layer. Experts
    that are bare parameters (kimi_k25) are not linears: pass your own `LoraConfig` with their paths as
    `target_parameters`.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model with its head, before PEFT. The 4-bit and 8-bit linears of bitsandbytes count as linears.

    Raises:
        `ValueError`: If the parts are unknown, the model has an adapter already, or its language model has no linear.
    """
    prefix = f"{vlm_parts(model).decoder}."
    names = [re.escape(name.removeprefix(prefix)) for name in decoder_linears(model)]
    patterns = {re.sub(r"(?<=\.)\d+(?=\\?\.)", r"\\d+", name) for name in names}
    return f"{re.escape(prefix)}(?:{'|'.join(sorted(patterns))})"


def decoder_linears(model: PreTrainedModel) -> list[str]:
    """Return the full paths of the linears of the language model.

    Raises:
        `ValueError`: As [`lora_target_regex`].
    """
    if isinstance(model, PeftModel):
        raise ValueError(
            "`model` is a PeftModel already, so its linears are wrapped. Build the `LoraConfig` from the plain model "
            "(`model.get_base_model()` before PEFT), or keep the adapter that it has and pass no `peft_config`."
        )
    parts = vlm_parts(model)
    names = [
        name
        for name, module in model.named_modules()
        if _is_linear(module)
        and inside(name, [parts.decoder])
        and name != parts.head
        and parts.part_of(name) == "language model"
    ]
    if not names:
        raise ValueError(
            f"`model` has no linear below {parts.decoder!r}, so LoRA has nothing to adapt. Name the path of the "
            f"language model with `register_vlm({model.config.model_type!r}, ..., decoder=...)`."
        )
    return names


def check_trainable(config: PreTrainedConfig) -> None:
    """Refuse a family that is known not to work, from its configuration alone, before weights are loaded.

    A family that was added with [`register_vlm`] is not refused.

    Raises:
        `ValueError`: With the reason.
    """
    known = known_model_types()
    reason = _UNTRAINABLE.get(config.model_type)
    if reason is not None and config.model_type not in _FAMILIES:
        raise ValueError(
            f"`model` cannot be trained: the family {config.model_type!r} {reason}. Use a model of another family: "
            f"{', '.join(known)}."
        )
    if config.model_type not in known and _is_text_only(config):
        raise ValueError(
            f"`model` cannot be trained: {config.model_type!r} is a language model that takes no images. Use a "
            f"vision-language model, of one of these families: {', '.join(known)}. If this one takes "
            f"images, register its parts: `fedvlm_hf.models.register_vlm({config.model_type!r}, tower=..., "
            "connector=..., decoder=...)`."
        )


def _is_text_only(config: PreTrainedConfig) -> bool:
    is_language_model = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return (
        is_language_model
        and type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        and not hasattr(config, "vision_config")
    )


def sft_obstacle(model: PreTrainedModel | PeftModel) -> str | None:
    """Return why TRL's SFTTrainer cannot train this model, or `None` if it can.

    TRL computes the loss from `model.base_model(**inputs).last_hidden_state` and the output embeddings, never with the
    forward of the model itself. This needs a model below the head, and one that is a decoder only.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if base.base_model is base:
        reason = _NO_BASE_MODEL
    elif base.config.is_encoder_decoder:
        reason = "is an encoder-decoder"
    else:
        return None
    return (
        f"{type(base).__name__} {reason}, and TRL's SFTTrainer computes the loss from the hidden states of a "
        "decoder-only model below the head."
    )


def _is_linear(module: nn.Module) -> bool:
    # A subclass in a model with another forward is not a linear map: llama4's router returns a tuple, to which LoRA
    # cannot add. The subclasses of bitsandbytes have another forward too, and PEFT has a LoRA layer for each of them.
    kind = type(module)
    return isinstance(module, nn.Linear) and (
        kind.forward is nn.Linear.forward or kind.__module__.startswith("bitsandbytes.")
    )


def _expanded(model: PreTrainedModel, pattern: str) -> list[str]:
    if not pattern.endswith(".*"):
        return [_existing(model, "connector", pattern)]
    parent = _existing(model, "connector", pattern.removesuffix(".*"))
    return [f"{parent}.{name}" for name, _ in model.get_submodule(parent).named_children()]


def _existing(model: PreTrainedModel, part: str, path: str) -> str:
    try:
        model.get_submodule(path)
    except AttributeError as error:  # a missing attribute, or one that is None because the config omits that part
        raise ValueError(
            f"`{part}`: {type(model).__name__} (model type {model.config.model_type!r}) has no module {path!r}. "
            "Either its config leaves that part out, or the path is wrong and `register_vlm` can replace it. "
            f"Modules near the root: {modules_near_root(model)}."
        ) from error
    return path
