"""Processor of Show-o: which tokens it adds to those of Phi-1.5, its chat format, and how it cuts images."""

from typing import Any

from transformers import CLIPImageProcessorPil, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin


PAD_TOKEN = "[PAD]"
SOI_TOKEN, EOI_TOKEN, MMU_TOKEN, IMAGE_TOKEN = "<|soi|>", "<|eoi|>", "<|mmu|>", "<|v2v|>"
# In the order of the published vocabulary, right after the tokens of Phi-1.5; the image codes follow
ADDED_TOKENS = (
    PAD_TOKEN, SOI_TOKEN, EOI_TOKEN, "<|sov|>", "<|eov|>", "<|t2i|>", MMU_TOKEN, "<|t2v|>", IMAGE_TOKEN, "<|lvg|>",
)  # fmt: skip

# The format that the published model was trained on: `USER: question ASSISTANT: answer<|endoftext|>` after the images.
# Its inference script has another one, with `<|endoftext|>` after the image and a line break after `USER:`.
CHAT_TEMPLATE = """
{{- '<|mmu|>' -}}
{%- for message in messages -%}
{%- set is_text = message['content'] is string -%}
{%- set parts = [{'type': 'text', 'text': message['content']}] if is_text else message['content'] -%}
{%- for part in parts if part['type'] == 'image' -%}{{- '<|v2v|>' -}}{%- endfor -%}
{%- if message['role'] != 'system' -%}{{- message['role'] | upper + ': ' -}}{%- endif -%}
{%- for part in parts if part['type'] == 'text' -%}{{- part['text'] | trim -}}{%- endfor -%}
{{- eos_token if message['role'] == 'assistant' else ' ' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
""".strip()


class ShowoProcessor(ProcessorMixin):
    """
    Images and text for Show-o. The placeholder of an image becomes `<|soi|>`, one placeholder for each code, and
    `<|eoi|>`.

    Args:
        image_processor ([`~transformers.CLIPImageProcessorPil`]):
            The image processor.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            A tokenizer with the tokens of Show-o; see [`build_processor`].
        chat_template (`str`, *optional*):
            The chat format, by default the one that the published model was trained on.
        patch_size (`int`, *optional*, defaults to 16):
            The number of pixels in a row that become one code, `downsampling` of the image tokenizer.

    Raises:
        `ValueError`: If the tokenizer lacks a token of Show-o.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        chat_template: str | None = None,
        patch_size: int = 16,
    ):
        vocabulary = tokenizer.get_vocab()
        if missing := [token for token in ADDED_TOKENS if token not in vocabulary]:
            raise ValueError(
                f"`tokenizer` must have the special tokens of Show-o, but it lacks {', '.join(missing)}. "
                "`build_processor` adds them."
            )
        self.patch_size = patch_size
        self.image_token = IMAGE_TOKEN
        self.image_token_id = vocabulary[IMAGE_TOKEN]
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """Return the text that the placeholder of an image is replaced by."""
        height, width = image_inputs["pixel_values"][image_idx].shape[-2:]
        num_codes = (height // self.patch_size) * (width // self.patch_size)
        return SOI_TOKEN + IMAGE_TOKEN * num_codes + EOI_TOKEN


def build_processor(tokenizer: PreTrainedTokenizerBase, image_size: int, patch_size: int = 16) -> ShowoProcessor:
    """Build a processor from the tokenizer of a Phi.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The tokenizer. The tokens of Show-o are added to it, unless it has them.
        image_size (`int`):
            Height and width of the square that is cut out of the middle of an image, after its short side was resized
            to this length.
        patch_size (`int`, *optional*, defaults to 16):
            The number of pixels in a row that become one code.

    Returns:
        [`ShowoProcessor`]: A processor with `(image_size / patch_size) ** 2` placeholders for each image.
    """
    tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    tokenizer.add_tokens(list(ADDED_TOKENS[1:]), special_tokens=True)
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return ShowoProcessor(image_processor, tokenizer, patch_size=patch_size)


__all__ = ["ShowoProcessor", "build_processor"]
