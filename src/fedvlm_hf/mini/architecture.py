"""The parts of the tiny LLaVA: a tokenizer of 512 tokens, its processor, and a stock model of 2.5 M parameters.

The tokenizer is a byte-level BPE that accepts any text. It splits numbers so that a model of this size can learn to
read and write them: each decimal digit is a token, and so are `[0.` and `, 0.`. A box with three decimals is therefore
always 17 tokens.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from .pretrain_tower import vision_config
from .scenes import IMAGE_SIZE


VOCAB_SIZE = 512
PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"
ROLES = ("<system>", "<user>", "<assistant>")
_BOX_PIECES = ("[0.", ", 0.")
_CUT = r"\[0\.(?=\d)|, 0\.(?=\d)|\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+|\s+"

# Content is a string, or a list of {"type": "image"} and {"type": "text"} parts. An assistant turn ends with eos,
# because TRL adds none. A prompt with its generation prompt is a prefix of the whole conversation, which
# prompt-completion training requires.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<' + message['role'] + '>' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<image>' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}
"""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer on public text.

    Args:
        texts (`Iterable[str]`): Prompts and answers of the public curriculum.

    Returns:
        `PreTrainedTokenizerFast`: A tokenizer with 512 tokens, including all 256 bytes. `<pad>` is not `</s>`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CUT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, BOS, EOS, IMAGE, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[IMAGE, *ROLES],
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Build the processor, which resizes any image to 48x48 pixels and writes 36 image tokens."""
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessorPil(
        size=square, crop_size=square, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=vision_config().patch_size,
        vision_feature_select_strategy="default",
        # The class token of the tower, which the "default" strategy removes: without it the processor would count one
        # token too few
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Build the model with random weights, in fp32."""
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text_config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        **special,
    )
    tower_config = vision_config()
    config = LlavaConfig(
        vision_config=tower_config,
        text_config=text_config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(IMAGE_SIZE // tower_config.patch_size) ** 2,
        # LLaVA's usual -2 would leave the last of only four layers unused
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        **special,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(do_sample=False, **special)
    return model
