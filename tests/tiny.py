"""Tiny models and data for tests. They are the ones of the conformance suite, which ships with the package."""

from fedvlm_hf.data.features import FEATURES
from fedvlm_hf.testing.tiny import (
    BOS,
    CHAT_TEMPLATE,
    COLOURS,
    EOS,
    IMAGE,
    PAD,
    save_tiny,
    tiny_federation,
    tiny_llava,
    tiny_processor,
    tiny_rows,
    tiny_tokenizer,
)


__all__ = [
    "BOS",
    "CHAT_TEMPLATE",
    "COLOURS",
    "EOS",
    "FEATURES",
    "IMAGE",
    "PAD",
    "save_tiny",
    "tiny_federation",
    "tiny_llava",
    "tiny_processor",
    "tiny_rows",
    "tiny_tokenizer",
]
