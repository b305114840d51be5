"""Federated fine-tuning of vision-language models with transformers, trl and peft."""

__version__ = "0.1.0"
