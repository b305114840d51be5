"""Llama 3's tokens and chat format with images in it: the processor of a LLaVA whose language model is a Llama 3."""

import re

from transformers import CLIPVisionConfig, LlavaImageProcessorPil, LlavaProcessor, PreTrainedTokenizerBase


BOS, START, END, EOT = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
FINETUNE_PAD = "<|finetune_right_pad_id|>"

# TRL adds no special tokens to what this writes, so it has to begin with BOS and to end each answer. Llama 3.2's own
# template also puts today's date into a system message that nobody wrote: a prompt would change from day to day.
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


def build_processor(tokenizer: PreTrainedTokenizerBase, vision_config: CLIPVisionConfig) -> LlavaProcessor:
    """A processor that pads images to squares, as LLaVA-1.5 does, and speaks Llama 3's chat format.

    The image token is the first reserved token of the vocabulary, the padding token Llama's own for fine-tuning or the
    next reserved one. So the embeddings keep their size: rows that a resize adds would have to be agreed on by all
    clients, and PEFT would not save them. Padding is never the end of text, which would then never be learnt.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Llama 3's, whose padding token and end of text are changed.
        vision_config ([`~transformers.CLIPVisionConfig`]):
            For the image's and the patches' size.

    Returns:
        [`~transformers.LlavaProcessor`]: `(image_size // patch_size) ** 2` image tokens per image; CLIP's mean and
        deviation, and its mean as the colour of the padding.

    Raises:
        `ValueError`: if the tokenizer is not Llama 3's or has too few reserved tokens.
    """
    vocabulary = tokenizer.get_vocab()
    if missing := [token for token in (BOS, START, END, EOT) if token not in vocabulary]:
        raise ValueError(
            f"`language_model` must have Llama 3's chat tokens, and its tokenizer lacks {', '.join(missing)}. Take a "
            "Llama 3 model, such as meta-llama/Llama-3.2-3B-Instruct."
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
        num_additional_image_tokens=1,  # CLIP's class token, which the "default" strategy drops again
        image_token=image_token,
        chat_template=CHAT_TEMPLATE.strip().replace("IMAGE_TOKEN", image_token),
    )


def _spare_tokens(vocabulary: dict[str, int]) -> tuple[str, str]:
    """The image token and the padding token, by the order of the vocabulary."""
    reserved = [token for token in vocabulary if re.fullmatch(r"<\|reserved_special_token_\d+\|>", token)]
    reserved.sort(key=vocabulary.__getitem__)
    own_pad = [FINETUNE_PAD] if FINETUNE_PAD in vocabulary else []
    spare = [*reserved[:1], *own_pad, *reserved[1:2]]
    if not reserved or len(spare) < 2:
        raise ValueError(
            f"`language_model` has too few spare tokens: an image token and a padding token are needed, and its "
            f"tokenizer has {spare or 'none'}. Llama 3's has 250 of the form '<|reserved_special_token_0|>'."
        )
    return spare[0], spare[1]
