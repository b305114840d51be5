"""FedVLMBench's encoder-based model from its parts: a CLIP tower, a connector and a Llama 3 (2506.09638, section 5.1).

No trained connector between ViT-B/32 and Llama 3.2 is published, so it starts from random weights; what to train on
top of them is `tuning`'s to say. Weights are the user's to fetch: Meta's licence wants an account's consent.
"""

import os
from dataclasses import asdict, dataclass, field

from transformers import (
    AutoConfig,
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .connectors import assemble_llava, llava_config
from .llama3 import build_processor
from .llava import num_connector_layers
from .saved import save_once, source_of


DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class LlavaRecipe:
    """What a LLaVA is assembled from.

    Args:
        vision_model (`str`, *optional*, defaults to `"openai/clip-vit-base-patch32"`):
            Hub id or folder of a CLIP, or of its vision tower alone.
        language_model (`str`, *optional*, defaults to `"meta-llama/Llama-3.2-3B-Instruct"`):
            Hub id or folder of a Llama 3. Meta's are gated: accept the licence on the model's page, then log in with
            `hf auth login` or set `HF_TOKEN`.
        connector (`str`, *optional*, defaults to `"mlp2x"`):
            `"linear"` or `"mlpNx"`, with GELU between the layers.
        dtype (`str`, *optional*, defaults to `"bfloat16"`):
            Of the saved weights: `"bfloat16"`, `"float16"` or `"float32"`.
        seed (`int`, *optional*, defaults to `42`):
            Of the connector's random weights; see [`~fedvlm_hf.models.connectors.reset_connector`].
        vision_revision (`str`, *optional*), language_revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Raises:
        `ValueError`: if `connector` or `dtype` is unknown.
    """

    vision_model: str = field(
        default="openai/clip-vit-base-patch32",
        metadata={"help": "Hub id or folder of a CLIP, or of its vision tower alone."},
    )
    language_model: str = field(
        default="meta-llama/Llama-3.2-3B-Instruct", metadata={"help": "Hub id or folder of a Llama 3."}
    )
    connector: str = field(
        default="mlp2x", metadata={"help": "linear, or mlpNx for N linear layers with GELU between them."}
    )
    dtype: str = field(default="bfloat16", metadata={"help": "Of the saved weights.", "choices": list(DTYPES)})
    seed: int = field(default=42, metadata={"help": "Of the connector's random weights."})
    vision_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the vision model on the Hub."}
    )
    language_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the language model on the Hub."}
    )

    def __post_init__(self):
        num_connector_layers(self.connector)
        if self.dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")


def save_llava(recipe: LlavaRecipe, folder: str | os.PathLike[str]) -> str:
    """Assemble a LLaVA and save it, or find it saved already.

    Args:
        recipe ([`LlavaRecipe`]):
            What from.
        folder (`str` or `os.PathLike`):
            Where model and processor go, or are if they were saved before.

    Returns:
        `str`: the absolute path of the folder, which `from_pretrained` loads.

    Raises:
        `ValueError`: if a part does not fit, or the folder holds something else.
    """
    made_from = asdict(recipe)
    made_from["vision_model"] = source_of(recipe.vision_model, made_from.pop("vision_revision"))
    made_from["language_model"] = source_of(recipe.language_model, made_from.pop("language_revision"))
    return save_once(folder, made_from, lambda: build_llava(recipe))


def build_llava(recipe: LlavaRecipe) -> tuple[PreTrainedModel, LlavaProcessor]:
    """Assemble a LLaVA and its processor in memory.

    Args:
        recipe ([`LlavaRecipe`]):
            What from.

    Returns:
        `tuple`: the model, in `recipe.dtype` and with tied embeddings where the language model's are, and the
        processor.

    Raises:
        `ValueError`: if the vision model is no CLIP, the language model no Llama 3, or weights are missing.
    """
    vision_config, text_config = part_configs(recipe)
    tokenizer = AutoTokenizer.from_pretrained(
        recipe.language_model, revision=recipe.language_revision, padding_side="left"
    )
    processor = build_processor(tokenizer, vision_config)
    if len(tokenizer) > text_config.vocab_size:
        raise ValueError(
            f"`language_model` {recipe.language_model!r} has embeddings for {text_config.vocab_size} tokens, but its "
            f"tokenizer has {len(tokenizer)}: some were added without resizing. Take matching ones."
        )
    tower, language_model = _load_tower(recipe), _load_language_model(recipe)
    special = _special_ids(tokenizer, language_model.generation_config)
    for name, value in special.items():
        setattr(language_model.config, name, value)
    config = assembled_config(recipe.connector, tower.config, language_model.config, processor.image_token_id)
    model = assemble_llava(config, tower, language_model.model, language_model.lm_head, recipe.seed)
    model.generation_config = GenerationConfig(do_sample=False, **special)
    return model, processor


def part_configs(recipe: LlavaRecipe) -> tuple[CLIPVisionConfig, LlamaConfig]:
    """Configurations of the vision tower and the language model, without loading a weight.

    Raises:
        `ValueError`: if they are not a CLIP's and a Llama's.
    """
    vision = AutoConfig.from_pretrained(recipe.vision_model, revision=recipe.vision_revision)
    tower = vision.vision_config if vision.model_type == CLIPConfig.model_type else vision
    if tower.model_type != CLIPVisionConfig.model_type:
        raise ValueError(
            f"`vision_model` must be a CLIP, such as openai/clip-vit-base-patch32, and {recipe.vision_model!r} is a "
            f"{vision.model_type!r}."
        )
    text = AutoConfig.from_pretrained(recipe.language_model, revision=recipe.language_revision)
    if text.model_type != LlamaConfig.model_type:
        raise ValueError(
            f"`language_model` must be a Llama 3, such as meta-llama/Llama-3.2-3B-Instruct, and "
            f"{recipe.language_model!r} is a {text.model_type!r}."
        )
    return tower, text


def recipe_config(recipe: LlavaRecipe) -> LlavaConfig:
    """Configuration of the model that a recipe makes, but for the number of its image token, for dry runs.

    Raises:
        `ValueError`: as [`part_configs`] does.
    """
    return assembled_config(recipe.connector, *part_configs(recipe), image_token_id=0)


def assembled_config(
    connector: str, vision_config: CLIPVisionConfig, text_config: LlamaConfig, image_token_id: int
) -> LlavaConfig:
    """Configuration of the whole: features of the last but one layer without the class token, as in LLaVA-1.5.

    Args:
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        vision_config ([`~transformers.CLIPVisionConfig`]), text_config ([`~transformers.LlamaConfig`]):
            Of the parts.
        image_token_id (`int`):
            Of the placeholder, of which there is one for each patch.
    """
    return llava_config(
        connector,
        vision_config=vision_config,
        text_config=text_config,
        image_token_index=image_token_id,
        image_seq_length=(vision_config.image_size // vision_config.patch_size) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        untrained_connector=True,
    )


def _special_ids(tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig) -> dict[str, int | list[int]]:
    """What begins, ends and pads a text: the template's end of turn first, then whatever ends the Llama's own."""
    own = generation.eos_token_id
    others = own if isinstance(own, list) else [] if own is None else [own]
    ends = [tokenizer.eos_token_id, *(token for token in others if token != tokenizer.eos_token_id)]
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": tokenizer.pad_token_id,
    }


def _load_tower(recipe: LlavaRecipe) -> CLIPVisionModel:
    config = AutoConfig.from_pretrained(recipe.vision_model, revision=recipe.vision_revision)
    is_whole = config.model_type == CLIPConfig.model_type  # and then loaded as a whole: the rest would be reported
    model, info = (CLIPModel if is_whole else CLIPVisionModel).from_pretrained(
        recipe.vision_model, revision=recipe.vision_revision, dtype=recipe.dtype, output_loading_info=True
    )
    _check_loaded("vision_model", recipe.vision_model, info)
    return _nameless(model.vision_model if is_whole else model)


def _load_language_model(recipe: LlavaRecipe) -> LlamaForCausalLM:
    model, info = LlamaForCausalLM.from_pretrained(
        recipe.language_model, revision=recipe.language_revision, dtype=recipe.dtype, output_loading_info=True
    )
    _check_loaded("language_model", recipe.language_model, info)
    return _nameless(model)


def _nameless(model: PreTrainedModel) -> PreTrainedModel:
    """Without the name that it was loaded by: as part of another it would name this machine's folders."""
    model.config.name_or_path = ""
    return model


def _check_loaded(argument: str, name: str, info: dict[str, set[str]]) -> None:
    if lacking := sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"])):
        raise ValueError(
            f"`{argument}` {name!r} lacks {len(lacking)} of its weights, which would start from random values: "
            f"{', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}. Take a complete checkpoint."
        )
