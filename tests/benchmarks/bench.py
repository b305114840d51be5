"""What the benchmarks share: the model, the rows, the machine's line and the table."""

import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, ProcessorMixin


sys.path.append(str(Path(__file__).parents[1]))  # the tests' helpers, for a script that is run by its path

from tiny import tiny_llava, tiny_rows


BATCH = 8
LOCAL: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "per_device_train_batch_size": BATCH,
    "num_train_epochs": 1,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
    "max_length": None,
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}
"""Arguments of the local work, for plain SFTTrainer and for a federation alike."""


def build_model() -> tuple[PreTrainedModel, ProcessorMixin]:
    """A LLaVA of 1.3 M parameters: so small that a step takes tens of milliseconds, and every other cost shows."""
    return tiny_llava(hidden_size=176, num_layers=4)


def client_rows(num_clients: int, steps: int) -> dict[str, Dataset]:
    """Clients whose rows make `steps` whole batches."""
    return {f"client_{k:03d}": tiny_rows(BATCH * steps, seed=k) for k in range(num_clients)}


def machine() -> str:
    """Date, processor, and what else a number of seconds depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers", "trl", "peft"))
    return f"{date.today()}, {name}, {len(models) or '?'} cores, {torch.get_num_threads()} threads, {packages}"


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table; every column but the first is right-aligned."""
    print(f"\n{machine()}\n")
    for line in (header, ["---", *["---:"] * (len(header) - 1)], *rows):
        print("| " + " | ".join(map(str, line)) + " |")
