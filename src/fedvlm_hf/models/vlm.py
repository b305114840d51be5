"""Find the vision tower, the connector and the language model of a VLM, and the linears that LoRA trains.

transformers has `get_decoder()` and `get_encoder()` but no accessor for the connector, and `get_encoder()` returns the
model itself if it has no tower. One table therefore lists the three paths, with one row per layout.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class VLMParts:
    """Module paths of a VLM, relative to the model with its head and without PEFT, as in `named_modules()`.

    Args:
        decoder (`str`):
            The language model. Other parts may be inside it, such as Chameleon's image tokenizer, and do not belong to
            it.
        tower (`str`, *optional*):
            The vision encoder, or `None` if the model has none.
        connector (`tuple[str, ...]`, *optional*):
            The modules between tower and language model, in the form that PEFT's `modules_to_save` takes. Bare
            parameters beside them, such as LLaVA-NeXT's `image_newline`, are not modules and stay frozen.
        image_tokenizer (`str`, *optional*):
            The module that turns pixels into discrete tokens. It is always frozen, because no gradient passes through
            it. If it contains a BatchNorm (Emu3), it must stay in `eval()` mode, or its statistics change while a
            client trains.
        head (`str`, *optional*):
            The output embeddings. Taken from the model, not from the table.
    """

    decoder: str
    tower: str | None = None
    connector: tuple[str, ...] = ()
    image_tokenizer: str | None = None
    head: str | None = None


# One row per layout. A path that ends in `.*` stands for each child of that module: PEFT's modules_to_save calls the
# modules that it wraps, and a ModuleList cannot be called.
_LAYOUTS: tuple[tuple[str, VLMParts], ...] = (
    (
        "llava fed_llava llava_next llava_onevision vipllava lfm2_vl mistral3 cohere2_vision aya_vision gemma3 "
        "internvl",
        VLMParts("model.language_model", "model.vision_tower", ("model.multi_modal_projector",)),
    ),
    ("gemma4", VLMParts("model.language_model", "model.vision_tower", ("model.embed_vision",))),
    ("gemma4_unified", VLMParts("model.language_model", None, ("model.embed_vision",))),
    ("qwen2_vl qwen2_5_vl qwen3_5 glm4v", VLMParts("model.language_model", "model.visual", ("model.visual.merger",))),
    (
        "qwen3_vl",
        VLMParts(
            "model.language_model", "model.visual", ("model.visual.merger", "model.visual.deepstack_merger_list.*")
        ),
    ),
    ("smolvlm idefics3 idefics2", VLMParts("model.text_model", "model.vision_model", ("model.connector",))),
    ("deepseek_vl", VLMParts("model.language_model", "model.vision_model", ("model.aligner",))),
    ("janus", VLMParts("model.language_model", "model.vision_model", ("model.aligner",), "model.vqmodel")),
    ("ovis2", VLMParts("model.language_model", "model.vision_tower", ("model.visual_embeddings_table",))),
    ("minicpmv4_6", VLMParts("model.language_model", "model.vision_tower", ("model.merger",))),
    ("kimi_k25", VLMParts("model.language_model", "model.vision_tower", ("model.mm_projector",))),
    ("chameleon", VLMParts("model", image_tokenizer="model.vqmodel")),
    ("emu3", VLMParts("model.text_model", image_tokenizer="model.vqmodel")),
    ("showo", VLMParts("model.language_model", image_tokenizer="model.vqmodel")),
)
_FAMILIES = {model_type: parts for model_types, parts in _LAYOUTS for model_type in model_types.split()}

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
    """Return every `config.model_type` that [`vlm_parts`] knows."""
    return sorted(_FAMILIES)


def register_vlm(
    model_type: str,
    *,
    tower: str | None,
    connector: str | Sequence[str] | None,
    decoder: str,
    image_tokenizer: str | None = None,
) -> None:
    """Add a VLM family, or replace the paths of a known one.

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


def vlm_parts(model: PreTrainedModel | PeftModel) -> VLMParts:
    """Return the paths of the parts of a model, after checking that each exists.

    Raises:
        `ValueError`: If the family is unknown or cannot be trained, or if the model does not have one of the paths.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    check_trainable(base.config)
    family = _FAMILIES.get(base.config.model_type)
    if family is None:
        raise ValueError(_unknown_family(base))
    head = base.get_output_embeddings()
    return VLMParts(
        decoder=_existing(base, "decoder", family.decoder),
        tower=_existing(base, "tower", family.tower) if family.tower else None,
        connector=tuple(path for pattern in family.connector for path in _expanded(base, pattern)),
        image_tokenizer=_existing(base, "image_tokenizer", family.image_tokenizer) if family.image_tokenizer else None,
        head=next((name for name, module in base.named_modules() if module is head), None),
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
        `ValueError`: If the family is unknown, the model has an adapter already, or its language model has no linear.
    """
    if isinstance(model, PeftModel):
        raise ValueError(
            "`model` is a PeftModel already, so its linears are wrapped. Build the `LoraConfig` from the plain model "
            "(`model.get_base_model()` before PEFT), or keep the adapter that it has and pass no `peft_config`."
        )
    parts = vlm_parts(model)
    names = _decoder_linears(model, parts)
    if not names:
        raise ValueError(
            f"`model` has no linear below {parts.decoder!r}, so LoRA has nothing to adapt. Name the path of the "
            f"language model with `register_vlm({model.config.model_type!r}, ..., decoder=...)`."
        )
    prefix = f"{parts.decoder}."
    patterns = {re.sub(r"(?<=\.)\d+(?=\\?\.)", r"\\d+", re.escape(name.removeprefix(prefix))) for name in names}
    return f"{re.escape(prefix)}(?:{'|'.join(sorted(patterns))})"


def check_trainable(config: PreTrainedConfig) -> None:
    """Refuse a family that is known not to work, from its configuration alone, before weights are loaded.

    A family that was added with [`register_vlm`] is not refused.

    Raises:
        `ValueError`: With the reason.
    """
    reason = _UNTRAINABLE.get(config.model_type)
    if reason is not None and config.model_type not in _FAMILIES:
        raise ValueError(
            f"`model` cannot be trained: the family {config.model_type!r} {reason}. Use a model of another family: "
            f"{', '.join(known_model_types())}."
        )
    if config.model_type not in _FAMILIES and _is_text_only(config):
        raise ValueError(
            f"`model` cannot be trained: {config.model_type!r} is a language model that takes no images. Use a "
            f"vision-language model, of one of these families: {', '.join(known_model_types())}. If this one takes "
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


def _decoder_linears(model: PreTrainedModel, parts: VLMParts) -> list[str]:
    foreign = [path for path in (parts.head, parts.tower, *parts.connector, parts.image_tokenizer) if path]
    return [
        name
        for name, module in model.named_modules()
        if _is_linear(module) and _inside(name, [parts.decoder]) and not _inside(name, foreign)
    ]


def _is_linear(module: nn.Module) -> bool:
    # A subclass in a model with another forward is not a linear map: llama4's router returns a tuple, to which LoRA
    # cannot add. The subclasses of bitsandbytes have another forward too, and PEFT has a LoRA layer for each of them.
    kind = type(module)
    return isinstance(module, nn.Linear) and (
        kind.forward is nn.Linear.forward or kind.__module__.startswith("bitsandbytes.")
    )


def _inside(name: str, paths: Iterable[str]) -> bool:
    return any(name == path or name.startswith(f"{path}.") for path in paths)


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
            f"Modules near the root: {_modules_near_root(model)}."
        ) from error
    return path


def _unknown_family(model: PreTrainedModel) -> str:
    model_type = model.config.model_type
    return (
        f"`model`: the model type {model_type!r} is not in the table of VLM families, so the paths of its language "
        "model, vision tower and connector are unknown. Register them before building the trainer: "
        f"`fedvlm_hf.models.register_vlm({model_type!r}, tower=..., connector=..., decoder=...)`, with names from "
        "`model.named_modules()`, and `tower=None` or `connector=None` if the model has none. "
        f"Modules near the root: {_modules_near_root(model)}. Known model types: {', '.join(known_model_types())}."
    )


def _modules_near_root(model: nn.Module) -> str:
    return ", ".join(name for name, _ in model.named_modules() if name and name.count(".") <= 1)
