"""Federated fine-tuning of vision-language models with transformers, trl and peft."""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .callbacks import RoundCallback
    from .config import FederatedConfig
    from .federated import FederatedMixin
    from .models.vlm import register_vlm
    from .trainer import FederatedTrainer

__version__ = "0.1.0"

__all__ = ["FederatedConfig", "FederatedMixin", "FederatedTrainer", "RoundCallback", "register_vlm"]

_HOMES = {
    "FederatedConfig": "config",
    "FederatedMixin": "federated",
    "FederatedTrainer": "trainer",
    "RoundCallback": "callbacks",
    "register_vlm": "models.vlm",
}


def __getattr__(name: str) -> Any:
    """Import on first use: transformers and trl take seconds, and `fedvlm_hf.tensors` needs neither."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
