"""Federated fine-tuning of vision-language models with transformers, trl and peft."""

from typing import TYPE_CHECKING

from .lazy import lazy_attributes


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

__getattr__ = lazy_attributes(__name__, _HOMES)
