"""Where any VLM keeps its vision tower, its connector and its language model, and which linears LoRA reaches.

transformers has `get_decoder()` and `get_encoder()`, but no accessor for the connector, and `get_encoder()` returns
the model itself where there is no tower. So the three paths stand in one table, one row per layout.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class VLMParts:
    """Module paths of a VLM, as `named_modules()` of the model with the head (below PEFT) spells them.

    Args:
        decoder (`str`):
            The language model. Other parts may lie inside (Chameleon's image tokenizer, BLIP-2's head); they are not
            of it.
        tower (`str`, *optional*):
            The vision encoder, or `None` in an encoder-free model.
        connector (`tuple[str, ...]`, *optional*):
            The modules between tower and language model, fit for PEFT's `modules_to_save`; empty where there are none.
            Bare parameters beside them (LLaVA-NeXT's `image_newline`, BLIP-2's `query_tokens`) are no modules and stay
            frozen.
        image_tokenizer (`str`, *optional*):
            The module that turns pixels into discrete tokens. Frozen by nature: nothing trains through it, and where
            it holds a BatchNorm (Emu3) it has to stay in `eval()`, or its statistics drift while a client trains.
        head (`str`, *optional*):
            The output embeddings. Filled in from the model.
    """

    decoder: str
    tower: str | None = None
    connector: tuple[str, ...] = ()
    image_tokenizer: str | None = None
    head: str | None = None

    @property
    def has_connector(self) -> bool:
        """Whether `tuning="connector"` has something to train."""
        return bool(self.connector)


# One row per layout. A path that ends in `.*` stands for each child of that module: PEFT's modules_to_save calls what
# it wraps, and a ModuleList cannot be called.
_LAYOUTS: tuple[tuple[str, VLMParts], ...] = (
    (
        "llava fed_llava llava_next llava_onevision vipllava got_ocr2 lfm2_vl mistral3 cohere2_vision aya_vision "
        "paligemma gemma3 internvl florence2",
        VLMParts("model.language_model", "model.vision_tower", ("model.multi_modal_projector",)),
    ),
    ("mllama", VLMParts("model.language_model", "model.vision_model", ("model.multi_modal_projector",))),
    ("llama4", VLMParts("language_model", "vision_model", ("multi_modal_projector",))),
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
    ("blip-2 instructblip", VLMParts("language_model", "vision_model", ("qformer", "language_projection"))),
    ("fuyu", VLMParts("model.language_model", None, ("model.vision_embed_tokens",))),
    ("chameleon", VLMParts("model", image_tokenizer="model.vqmodel")),
    ("emu3", VLMParts("model.text_model", image_tokenizer="model.vqmodel")),
    ("showo", VLMParts("model.language_model", image_tokenizer="model.vqmodel")),
)
_FAMILIES = {model_type: parts for model_types, parts in _LAYOUTS for model_type in model_types.split()}


def known_model_types() -> list[str]:
    """Every `config.model_type` that [`vlm_parts`] knows."""
    return sorted(_FAMILIES)


def register_vlm(
    model_type: str,
    *,
    tower: str | None,
    connector: str | Sequence[str] | None,
    decoder: str,
    image_tokenizer: str | None = None,
) -> None:
    """Adds a VLM family, or replaces what is known of it.

    Args:
        model_type (`str`):
            The family's `config.model_type`.
        tower (`str` or `None`):
            Path of the vision encoder from the model with the head, such as `"model.vision_tower"`.
        connector (`str`, `Sequence[str]` or `None`):
            Path or paths of the connector, such as `"model.multi_modal_projector"`; `"path.*"` means each child of a
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
    """The paths of a model's parts, each checked to exist.

    Raises:
        `ValueError`: The family is unknown, or a path is not in this model.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
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


def lora_target_regex(model: PreTrainedModel) -> str:
    """A `target_modules` for `LoraConfig` that hits every linear of the language model and nothing else.

    Not the head, not the tower, not the connector, although their linears bear the same names: a list such as
    `["q_proj", "v_proj"]` reaches into CLIP, and `"all-linear"` into tower and connector. PEFT matches a string with
    `re.fullmatch` against names from the root, so the pattern spells whole paths, with `\\d+` for the layer.
    Experts that are bare parameters (llama4, kimi_k25) are no linears: give their paths as `target_parameters` of a
    `LoraConfig` of your own.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model with its head, before PEFT. 4-bit and 8-bit linears of bitsandbytes count as linears.

    Raises:
        `ValueError`: The family is unknown, the model has an adapter already, or its language model has no linear.
    """
    if isinstance(model, PeftModel):
        raise ValueError(
            "`model` is a PeftModel already, so its linears are wrapped. Build the `LoraConfig` from the plain model "
            "(`model.get_base_model()` before PEFT), or keep the adapter it has and pass no `peft_config`."
        )
    parts = vlm_parts(model)
    names = _decoder_linears(model, parts)
    if not names:
        raise ValueError(
            f"`model` has no linear below {parts.decoder!r}, so LoRA has nothing to adapt. Name the language model's "
            f"path with `register_vlm({model.config.model_type!r}, ..., decoder=...)`."
        )
    prefix = f"{parts.decoder}."
    patterns = {re.sub(r"(?<=\.)\d+(?=\\?\.)", r"\\d+", re.escape(name.removeprefix(prefix))) for name in names}
    return f"{re.escape(prefix)}(?:{'|'.join(sorted(patterns))})"


def sft_obstacle(model: PreTrainedModel | PeftModel) -> str | None:
    """Why TRL's SFTTrainer cannot train this model, or `None` where it can.

    TRL computes the loss from `model.base_model(**inputs).last_hidden_state` and the output embeddings, never from the
    model's own forward. That needs a model below the head (llama4, blip-2 and instructblip are their own `base_model`)
    that is a decoder only (florence2 is not).
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    reason = None
    if base.base_model is base:
        reason = "has no model below its head (its `base_model` is itself)"
    elif base.config.is_encoder_decoder:
        reason = "is an encoder-decoder"
    if reason is None:
        return None
    return (
        f"{type(base).__name__} {reason}, and TRL's SFTTrainer takes the loss from the hidden states of a "
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
    # A model's own subclass with another forward is no linear map: llama4's router returns a tuple, and LoRA's sum
    # with it fails. bitsandbytes' subclasses have another forward too, and PEFT has a layer for each.
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
    except AttributeError as error:  # a missing attribute, or one that is None: a part the config leaves out
        raise ValueError(
            f"`{part}`: {type(model).__name__} (model type {model.config.model_type!r}) has no module {path!r}. "
            "Either its config leaves that part out, or the path is wrong; `register_vlm` replaces it. "
            f"Modules near the root: {_modules_near_root(model)}."
        ) from error
    return path


def _unknown_family(model: PreTrainedModel) -> str:
    model_type = model.config.model_type
    return (
        f"`model`: the model type {model_type!r} is not in the table of VLM families, so its language model cannot be "
        "told from its vision tower and connector. Pass the three paths before building the trainer: "
        f"`fedvlm_hf.models.register_vlm({model_type!r}, tower=..., connector=..., decoder=...)`, each as "
        "`model.named_modules()` spells it (`tower=None` or `connector=None` where there is none). "
        f"Modules near the root: {_modules_near_root(model)}. Known model types: {', '.join(known_model_types())}."
    )


def _modules_near_root(model: nn.Module) -> str:
    return ", ".join(name for name, _ in model.named_modules() if name and name.count(".") <= 1)
