"""Tiny models and data, built in memory from configurations and seeds, without network, in a few milliseconds."""

import random
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from PIL import Image as PILImage
from PIL import ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from ..data.features import FEATURES


PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"

# TRL tokenises with add_special_tokens=False and adds no eos, so the template writes both bos and eos.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE + "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 230), "yellow": (230, 220, 50)}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, so that it can encode any text; ids 0-3 are pad, bos, eos, image."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([PAD, BOS, EOS, IMAGE, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[IMAGE],
        clean_up_tokenization_spaces=False,
    )


def tiny_processor(image_size: int = 16, patch_size: int = 8) -> LlavaProcessor:
    """Return a stock LLaVA processor with `(image_size // patch_size) ** 2` image tokens per image."""
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tiny_tokenizer(),
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token, which the "default" strategy drops again
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def tiny_llava(
    seed: int = 0,
    *,
    hidden_size: int = 32,
    num_layers: int = 2,
    image_size: int = 16,
    patch_size: int = 8,
    attention_dropout: float = 0.0,
    **overrides: Any,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Return a random stock LLaVA (CLIP tower, two-layer connector, Llama with a tied head) in fp32 and its processor.

    The same seed gives the same weights; the global random state does not change. `overrides` go to `LlavaConfig`.
    """
    processor = tiny_processor(image_size, patch_size)
    tokenizer = processor.tokenizer
    vision_config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=patch_size,
        projection_dim=16,
    )
    text_config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        attention_dropout=attention_dropout,
        initializer_range=0.1,  # wide enough that a few steps change what is generated
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    defaults = {"image_token_index": processor.image_token_id, "tie_word_embeddings": True}
    config = LlavaConfig(vision_config=vision_config, text_config=text_config, **{**defaults, **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return model.eval(), processor


def save_tiny(path: str | PathLike, seed: int = 0, **overrides: Any) -> str:
    """Save `tiny_llava` as a folder that `from_pretrained` loads, and return the folder."""
    model, processor = tiny_llava(seed, **overrides)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return str(path)


def _scene(rng: random.Random, image_size: int) -> tuple[PILImage.Image, str, list[float]]:
    """Draw a square of one colour on grey; return the image, the name of the colour, and the box in 0-1."""
    ground = rng.randrange(60, 200)
    image = PILImage.new("RGB", (image_size, image_size), (ground, ground, ground))
    side = rng.randrange(image_size // 4, image_size // 2)
    left, top = rng.randrange(image_size - side), rng.randrange(image_size - side)
    colour = rng.choice(list(COLOURS))
    ImageDraw.Draw(image).rectangle((left, top, left + side - 1, top + side - 1), fill=COLOURS[colour])
    return image, colour, [round(edge / image_size, 3) for edge in (left, top, left + side, top + side)]


def _question(task: str, colour: str, box: list[float]) -> tuple[str, list[str]]:
    """Return the prompt and the references of a scene; the first reference is the completion."""
    corners = "[" + ", ".join(f"{edge:.3f}" for edge in box) + "]"
    return {
        "vqa": ("Which colour?", [colour]),
        "classification": ("Class?", [colour]),
        "caption": ("Describe.", [f"a {colour} square", f"one {colour} square on grey"]),
        "report": ("Report.", [f"There is a {colour} square."]),
        "grounding": (f"Where is {colour}?", [corners]),
        "detection": ("Find all.", [f"{colour} {corners}"]),
    }[task]


def tiny_rows(num_rows: int, seed: int = 0, task: str = "vqa", image_size: int = 16) -> Dataset:
    """Return rows in the project's format, with one image each; the same arguments give the same rows."""
    rng = random.Random(f"{seed}/{task}")
    rows = []
    for index in range(num_rows):
        image, colour, box = _scene(rng, image_size)
        question, references = _question(task, colour, box)
        rows.append(
            {
                "id": f"{task}-{seed}-{index}",
                "images": [image],
                "prompt": [{"role": "user", "content": question}],
                "completion": [{"role": "assistant", "content": references[0]}],
                "task": task,
                "references": references,
            }
        )
    return Dataset.from_list(rows, features=FEATURES)


def tiny_federation(
    sizes: Mapping[str, int] | None = None,
    test_rows: int = 4,
    tasks: Mapping[str, str] | None = None,
    seed: int = 0,
    image_size: int = 16,
) -> DatasetDict:
    """Return client splits of the given sizes, and `validation` and `test` with `test_rows` rows of each client.

    The task of a client is "vqa" unless `tasks` has another one. Evaluation rows have a column `client_id`.
    """
    sizes = {"client_00": 5, "client_01": 3} if sizes is None else sizes
    splits: dict[str, Dataset] = {}
    held_out: dict[str, list[Dataset]] = {"validation": [], "test": []}
    for index, (client_id, num_rows) in enumerate(sizes.items()):
        task = (tasks or {}).get(client_id, "vqa")
        start = 1000 * seed + 10 * index
        splits[client_id] = tiny_rows(num_rows, start, task, image_size)
        for offset, parts in enumerate(held_out.values(), start=1):
            rows = tiny_rows(test_rows, start + offset, task, image_size)
            parts.append(rows.add_column("client_id", [client_id] * test_rows))
    splits.update({name: concatenate_datasets(parts) for name, parts in held_out.items()})
    return DatasetDict(splits)
