"""The byte-level BPE tokenizer of the tiny base model: 512 tokens, and any text goes in.

Numbers are cut so that a model this small can learn to read and write them: each decimal digit is a token of its own,
and so are `[0.` and `, 0.`. A box with three decimals is therefore always 17 tokens.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


VOCAB_SIZE = 512
PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"
ROLES = ("<system>", "<user>", "<assistant>")
_BOX_PIECES = ("[0.", ", 0.")
_CUT = r"\[0\.(?=\d)|, 0\.(?=\d)|\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+|\s+"

# Content is a string, or a list of {"type": "image"} and {"type": "text"} parts. An assistant turn ends with eos,
# because TRL adds none, and a prompt with its generation prompt is a prefix of the whole conversation, as
# prompt-completion training needs.
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
        `PreTrainedTokenizerFast`: 512 tokens, all 256 bytes among them; `<pad>` is not `</s>`.
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
