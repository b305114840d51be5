"""What the benchmarks share: the model, the rows, the description of the machine and the tables."""

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


sys.path.append(str(Path(__file__).parents[1]))  # for the helpers of the tests, since these scripts are run by path

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
"""Arguments of local training, the same for plain SFTTrainer and for a federation."""


def build_model() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Build a LLaVA of 1.3 M parameters, so small that a step takes tens of milliseconds and other costs show."""
    return tiny_llava(hidden_size=176, num_layers=4)


def client_rows(num_clients: int, steps: int) -> dict[str, Dataset]:
    """Make clients with rows for `steps` full batches each."""
    return {f"client_{k:03d}": tiny_rows(BATCH * steps, seed=k) for k in range(num_clients)}


def machine() -> str:
    """Describe what durations depend on: date, processor, threads and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers", "trl", "peft"))
    return f"{date.today()}, {name}, {len(models) or '?'} cores, {torch.get_num_threads()} threads, {packages}"


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table in which all columns except the first are right-aligned."""
    print(f"\n{machine()}\n")
    for line in (header, ["---", *["---:"] * (len(header) - 1)], *rows):
        print("| " + " | ".join(map(str, line)) + " |")
