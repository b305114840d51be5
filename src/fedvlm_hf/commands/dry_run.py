"""Count what a run on a model would train and send, from its configuration alone, without loading weights."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedConfig

from ..client.adapters import complete_config
from ..client.peft_config import warn_outside_language_model
from ..models.vlm import VLMParts, model_skeleton, vlm_parts


BYTES_PER_PARAMETER = 4
"""Trained tensors are fp32 in memory and in transfer, whatever the data type of the base model is."""


@dataclass(frozen=True)
class DryRun:
    """Sizes of a model and of its trained tensors. `str()` prints them as tables.

    Args:
        parameters (`dict[str, int]`):
            Number of parameters of each part that the model has: vision tower, connector, image tokenizer, language
            model with its head, and other modules, which stay frozen. Tied embeddings count once.
        trainable (`dict[str, int]`):
            Number of parameters that are trained, and sent in each direction, for each `tuning`: `"connector"`,
            `"llm"` and `"joint"`, or only `"llm"` for a model without a connector. `"two_stage"` trains the first and
            then the second.
        num_targets (`int`):
            Number of modules with LoRA.
        target_names (`tuple[str, ...]`):
            Names of these modules, without duplicates.
        lora (`str`):
            Description of the adapter.
        reached (`str`, *optional*):
            The parts that have modules with LoRA.
    """

    parameters: dict[str, int]
    trainable: dict[str, int]
    num_targets: int
    target_names: tuple[str, ...]
    lora: str
    reached: str = "language model"

    @property
    def total(self) -> int:
        """Number of parameters of the whole model."""
        return sum(self.parameters.values())

    def bytes_each_way(self, tuning: str) -> int:
        """Return the number of bytes that a client receives in a round, which is also what it sends back."""
        return BYTES_PER_PARAMETER * self.trainable[tuning]

    def __str__(self) -> str:
        parts = [(name, f"{count:,}") for name, count in {**self.parameters, "all": self.total}.items()]
        sizes = [(tuning, count, self.bytes_each_way(tuning)) for tuning, count in self.trainable.items()]
        rows = [(tuning, f"{count:,}", f"{sent:,}", f"{sent:,}") for tuning, count, sent in sizes]
        lines = [
            *format_table([("part", "parameters"), *parts]),
            "",
            f"{self.lora} on {self.num_targets} linears of the {self.reached}:",
            " ".join(self.target_names),
            "",
            "What one client trains and sends in one round:",
            *format_table([("tuning", "trainable", "bytes down", "bytes up"), *rows]),
        ]
        return "\n".join(lines)


def dry_run(config: PreTrainedConfig, peft_config: LoraConfig | None = None) -> DryRun:
    """Build a model and its adapter without weights, and count their parameters.

    Args:
        config ([`~transformers.PreTrainedConfig`]):
            Configuration of a VLM.
        peft_config ([`~peft.LoraConfig`], *optional*):
            As in [`FederatedTrainer`], by default LoRA with r=8 on every linear of the language model.

    Returns:
        [`DryRun`]: The counts.

    Example:

    ```python
    >>> from transformers import AutoConfig
    >>> from fedvlm_hf.mini import base_model
    >>> from fedvlm_hf.commands.dry_run import dry_run

    >>> dry_run(AutoConfig.from_pretrained(base_model("llava"))).trainable
    {'connector': 61824, 'llm': 110592, 'joint': 172416}
    ```
    """
    model = model_skeleton(config)
    parts = vlm_parts(model)
    parameters = _count_parts(model, parts)
    peft_config = complete_config(peft_config, model)
    with warnings.catch_warnings():  # PEFT 0.21 reads a property that transformers 5.23 renamed
        warnings.simplefilter("ignore", FutureWarning)
        peft_model = get_peft_model(model, peft_config, low_cpu_mem_usage=True)
    warn_outside_language_model(peft_model)
    targets = [name for name, module in peft_model.named_modules() if isinstance(module, BaseTunerLayer)]
    return DryRun(
        parameters=parameters,
        trainable=_count_trainable(peft_model, parts),
        num_targets=len(targets),
        target_names=tuple(sorted({name.rpartition(".")[2] for name in targets})),
        lora=f"LoRA r={peft_config.r} alpha={peft_config.lora_alpha}",
        reached=" and the ".join(sorted({parts.part_of(name.removeprefix("base_model.model.")) for name in targets})),
    )


def _count_parts(model: nn.Module, parts: VLMParts) -> dict[str, int]:
    counts = Counter(dict.fromkeys(("vision tower", "connector", "image tokenizer", "language model"), 0))
    for name, parameter in model.named_parameters():
        counts[parts.part_of(name)] += parameter.numel()
    return {part: count for part, count in counts.items() if count}


def _count_trainable(model: PeftModel, parts: VLMParts) -> dict[str, int]:
    prefixes = tuple(f"base_model.model.{path}." for path in parts.connector)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    connector = _size(p for name, p in trainable.items() if prefixes and name.startswith(prefixes))
    joint = _size(trainable.values())
    return {"connector": connector, "llm": joint - connector, "joint": joint} if parts.connector else {"llm": joint}


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def format_table(rows: list[tuple[str, ...]], left: bool = False) -> list[str]:
    """Format rows as lines: the first column is left-aligned, and so are the others if `left`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = str.ljust if left else str.rjust
    lines = [
        [row[0].ljust(widths[0]), *(aligned(cell, w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    return ["  ".join(line).rstrip() for line in lines]
