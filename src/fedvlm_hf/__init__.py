"""Federated fine-tuning of vision-language models with transformers, trl and peft."""

import os
from typing import TYPE_CHECKING

from .lazy import lazy_attributes


# Threads of torch that wait for each other soon sleep. By default they spin for milliseconds, which on a busy machine
# takes the core from the thread that they wait for, and a round can take ten times as long. With this, a short default
# run beside two busy processes took 1.7 times its time without them. `tests/benchmarks/busy_machine.py` prints that,
# and with `--part steps` the cost on an idle machine. OpenMP reads the variables when torch is imported, so this
# package must be imported first. The results have the same bits.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from .callbacks import RoundCallback
    from .client.model import apply_base_delta
    from .config import FederatedArguments, FederatedConfig
    from .dpo import FederatedDPOConfig, FederatedDPOTrainer
    from .federated import FederatedMixin
    from .federation import Federation
    from .models.vlm import register_vlm
    from .trainer import FederatedTrainer

__version__ = "0.2.0.dev0"

__all__ = [
    "FederatedArguments",
    "FederatedConfig",
    "FederatedDPOConfig",
    "FederatedDPOTrainer",
    "FederatedMixin",
    "FederatedTrainer",
    "Federation",
    "RoundCallback",
    "apply_base_delta",
    "register_vlm",
]

_HOMES = {
    "FederatedArguments": "config",
    "FederatedConfig": "config",
    "FederatedDPOConfig": "dpo",
    "FederatedDPOTrainer": "dpo",
    "FederatedMixin": "federated",
    "Federation": "federation",
    "FederatedTrainer": "trainer",
    "RoundCallback": "callbacks",
    "apply_base_delta": "client.model",
    "register_vlm": "models.vlm",
}

__getattr__ = lazy_attributes(__name__, _HOMES)
