"""Assemble the encoder-based model of FedVLMBench from a CLIP tower, a connector and a Llama 3.

The model is described in section 5.1 of https://huggingface.co/papers/2506.09638. No trained connector between
ViT-B/32 and Llama 3.2 is published, so the connector starts from random weights. Users download the weights with their
own account, because Meta's license has to be accepted.
"""

import os
import re
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
    LlavaImageProcessorPil,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .connectors import assemble_llava, llava_config
from .llava import num_connector_layers
from .saved import save_once, source_of


DTYPES = ("bfloat16", "float16", "float32")

BOS, START, END, EOT = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
FINETUNE_PAD = "<|finetune_right_pad_id|>"

# TRL adds no special tokens to the rendered text, so the template itself writes BOS and ends each answer. The template
# of Llama 3.2 adds a system message with the current date, which would change the prompts from day to day.
CHAT_TEMPLATE = """
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
{%- if message['content'] is string -%}{{- message['content'] | trim -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- 'IMAGE_TOKEN' -}}{%- else -%}{{- part['text'] | trim -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""


@dataclass(frozen=True)
class LlavaRecipe:
    """The parts that a LLaVA is assembled from.

    Args:
        vision_model (`str`, *optional*, defaults to `"openai/clip-vit-base-patch32"`):
            Hub id or folder of a CLIP model, or of its vision tower alone.
        language_model (`str`, *optional*, defaults to `"meta-llama/Llama-3.2-3B-Instruct"`):
            Hub id or folder of a Llama 3. Meta's models are gated: accept the license on the page of the model, then
            log in with `hf auth login` or set `HF_TOKEN`.
        connector (`str`, *optional*, defaults to `"mlp2x"`):
            `"linear"`, or `"mlpNx"` for N linear layers with GELU between them.
        dtype (`str`, *optional*, defaults to `"bfloat16"`):
            Data type of the saved weights: `"bfloat16"`, `"float16"` or `"float32"`.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the connector's random weights; see [`~fedvlm_hf.models.connectors.reset_connector`].
        vision_revision (`str`, *optional*), language_revision (`str`, *optional*):
            Branches, tags or commits of the two models on the Hub.

    Raises:
        `ValueError`: If `connector` or `dtype` is unknown.
    """

    vision_model: str = field(
        default="openai/clip-vit-base-patch32",
        metadata={"help": "Hub id or folder of a CLIP model, or of its vision tower alone."},
    )
    language_model: str = field(
        default="meta-llama/Llama-3.2-3B-Instruct", metadata={"help": "Hub id or folder of a Llama 3."}
    )
    connector: str = field(
        default="mlp2x", metadata={"help": "linear, or mlpNx for N linear layers with GELU between them."}
    )
    dtype: str = field(
        default="bfloat16", metadata={"help": "Data type of the saved weights.", "choices": list(DTYPES)}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the connector's random weights."})
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
    """Assemble a LLaVA and save it, unless the folder already contains it.

    Args:
        recipe ([`LlavaRecipe`]):
            The parts.
        folder (`str` or `os.PathLike`):
            Folder for the model and its processor.

    Returns:
        `str`: The absolute path of the folder, which `from_pretrained` loads.

    Raises:
        `ValueError`: If a part does not fit, or the folder contains something else.
    """
    made_from = asdict(recipe)
    made_from["vision_model"] = source_of(recipe.vision_model, made_from.pop("vision_revision"))
    made_from["language_model"] = source_of(recipe.language_model, made_from.pop("language_revision"))
    return save_once(folder, made_from, lambda: build_llava(recipe))


def build_llava(recipe: LlavaRecipe) -> tuple[PreTrainedModel, LlavaProcessor]:
    """Assemble a LLaVA and its processor in memory.

    Args:
        recipe ([`LlavaRecipe`]):
            The parts.

    Returns:
        `tuple`: The model, in `recipe.dtype` and with tied embeddings if those of the language model are tied, and the
        processor.

    Raises:
        `ValueError`: If the vision model is not a CLIP, the language model is not a Llama 3, or weights are missing.
    """
    vision_config, text_config = part_configs(recipe)
    tokenizer = AutoTokenizer.from_pretrained(
        recipe.language_model, revision=recipe.language_revision, padding_side="left"
    )
    processor = build_processor(tokenizer, vision_config)
    if len(tokenizer) > text_config.vocab_size:
        raise ValueError(
            f"`language_model` {recipe.language_model!r} has embeddings for {text_config.vocab_size} tokens, but its "
            f"tokenizer has {len(tokenizer)}: tokens were added without resizing the embeddings. Use a model and a "
            "tokenizer that match."
        )
    tower, language_model = _load_tower(recipe), _load_language_model(recipe)
    special = _special_ids(tokenizer, language_model.generation_config)
    for name, value in special.items():
        setattr(language_model.config, name, value)
    config = assembled_config(recipe.connector, tower.config, language_model.config, processor.image_token_id)
    model = assemble_llava(config, tower, language_model.model, language_model.lm_head, recipe.seed)
    model.generation_config = GenerationConfig(do_sample=False, **special)
    return model, processor


def build_processor(tokenizer: PreTrainedTokenizerBase, vision_config: CLIPVisionConfig) -> LlavaProcessor:
    """Build a processor that pads images to squares, as LLaVA-1.5 does, and uses the chat format of Llama 3.

    The image token is the first reserved token of the vocabulary. The padding token is Llama's own padding token for
    fine-tuning or, if there is none, the next reserved token. The embeddings therefore keep their size: all clients
    would have to agree on rows that a resize adds, and PEFT would not save them. The padding token is never the end of
    text, which the model would then never learn to write.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The tokenizer of a Llama 3. Its padding token and its end of text are changed.
        vision_config ([`~transformers.CLIPVisionConfig`]):
            Configuration with the sizes of images and patches.

    Returns:
        [`~transformers.LlavaProcessor`]: A processor with `(image_size // patch_size) ** 2` image tokens per image. It
        normalizes with the mean and deviation of CLIP and pads with its mean colour.

    Raises:
        `ValueError`: If the tokenizer is not that of a Llama 3 or has too few reserved tokens.
    """
    vocabulary = tokenizer.get_vocab()
    if missing := [token for token in (BOS, START, END, EOT) if token not in vocabulary]:
        raise ValueError(
            f"`language_model` must have the chat tokens of Llama 3, but its tokenizer lacks {', '.join(missing)}. "
            "Use a Llama 3 model, such as meta-llama/Llama-3.2-3B-Instruct."
        )
    image_token, pad_token = _spare_tokens(vocabulary)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = BOS, EOT, pad_token
    square = {"height": vision_config.image_size, "width": vision_config.image_size}
    image_processor = LlavaImageProcessorPil(do_pad=True, size=square, crop_size=square, do_center_crop=False)
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token of CLIP, which the "default" strategy removes again
        image_token=image_token,
        chat_template=CHAT_TEMPLATE.strip().replace("IMAGE_TOKEN", image_token),
    )


def part_configs(recipe: LlavaRecipe) -> tuple[CLIPVisionConfig, LlamaConfig]:
    """Load the configurations of the vision tower and the language model, without weights.

    Raises:
        `ValueError`: If the models are not a CLIP and a Llama.
    """
    vision = AutoConfig.from_pretrained(recipe.vision_model, revision=recipe.vision_revision)
    tower = vision.vision_config if vision.model_type == CLIPConfig.model_type else vision
    if tower.model_type != CLIPVisionConfig.model_type:
        raise ValueError(
            f"`vision_model` must be a CLIP, such as openai/clip-vit-base-patch32, but {recipe.vision_model!r} has "
            f"the model type {vision.model_type!r}."
        )
    text = AutoConfig.from_pretrained(recipe.language_model, revision=recipe.language_revision)
    if text.model_type != LlamaConfig.model_type:
        raise ValueError(
            f"`language_model` must be a Llama 3, such as meta-llama/Llama-3.2-3B-Instruct, but "
            f"{recipe.language_model!r} has the model type {text.model_type!r}."
        )
    return tower, text


def recipe_config(recipe: LlavaRecipe) -> LlavaConfig:
    """Return the configuration of the model of a recipe, except for its image token, for dry runs.

    Raises:
        `ValueError`: As [`part_configs`].
    """
    return assembled_config(recipe.connector, *part_configs(recipe), image_token_id=0)


def assembled_config(
    connector: str, vision_config: CLIPVisionConfig, text_config: LlamaConfig, image_token_id: int
) -> LlavaConfig:
    """Return the configuration of the whole model.

    As in LLaVA-1.5, the image features are those of the second-to-last layer, without the class token.

    Args:
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        vision_config ([`~transformers.CLIPVisionConfig`]), text_config ([`~transformers.LlamaConfig`]):
            Configurations of the two parts.
        image_token_id (`int`):
            Id of the image token, which stands for one patch.
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


def _spare_tokens(vocabulary: dict[str, int]) -> tuple[str, str]:
    """Choose the image token and the padding token, in the order of the vocabulary."""
    reserved = [token for token in vocabulary if re.fullmatch(r"<\|reserved_special_token_\d+\|>", token)]
    reserved.sort(key=vocabulary.__getitem__)
    own_pad = [FINETUNE_PAD] if FINETUNE_PAD in vocabulary else []
    spare = [*reserved[:1], *own_pad, *reserved[1:2]]
    if not reserved or len(spare) < 2:
        raise ValueError(
            f"`language_model` has too few spare tokens: an image token and a padding token are needed, but its "
            f"tokenizer has {spare or 'none'}. That of Llama 3 has 250, such as '<|reserved_special_token_0|>'."
        )
    return spare[0], spare[1]


def _special_ids(tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig) -> dict[str, int | list[int]]:
    """Return the special tokens of generation. Of those that end a text, the template's end of turn is first."""
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
    is_whole = config.model_type == CLIPConfig.model_type  # loading only a part would warn about the other weights
    model, info = (CLIPModel if is_whole else CLIPVisionModel).from_pretrained(
        recipe.vision_model, revision=recipe.vision_revision, dtype=recipe.dtype, output_loading_info=True
    )
    _check_loaded("vision_model", recipe.vision_model, info)
    return _without_name(model.vision_model if is_whole else model)


def _load_language_model(recipe: LlavaRecipe) -> LlamaForCausalLM:
    model, info = LlamaForCausalLM.from_pretrained(
        recipe.language_model, revision=recipe.language_revision, dtype=recipe.dtype, output_loading_info=True
    )
    _check_loaded("language_model", recipe.language_model, info)
    return _without_name(model)


def _without_name(model: PreTrainedModel) -> PreTrainedModel:
    """Clear the name that the model was loaded by, which may be a folder of this machine, and return the model."""
    model.config.name_or_path = ""
    return model


def _check_loaded(argument: str, name: str, info: dict[str, set[str]]) -> None:
    if lacking := sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"])):
        raise ValueError(
            f"`{argument}` {name!r} lacks {len(lacking)} of its weights, which would start from random values: "
            f"{', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}. Use a complete checkpoint."
        )
