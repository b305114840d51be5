"""Which parameters of a PeftModel are the adapter, which of them train, and how they are read, written and exported."""

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from .models.vlm import VLMParts, lora_target_regex, vlm_parts
from .tensors import TensorDict


TUNINGS = {"connector": (False, True), "llm": (True, False), "joint": (True, True)}
"""Tuning mode -> whether LoRA trains, whether the connector trains (F-C, F-L, F-CL of FedVLMBench)."""


def default_lora_config(model: PreTrainedModel) -> LoraConfig:
    """LoRA of FedVLMBench: r=8, alpha=32, dropout 0.05, on every linear of the language model and nothing else.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            A VLM of a known family.

    Returns:
        [`~peft.LoraConfig`]: without the connector; `with_connector` adds it.
    """
    return LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules=lora_target_regex(model))


def with_connector(config: LoraConfig, parts: VLMParts) -> LoraConfig:
    """A copy of a PEFT configuration whose adapter also holds the connector in full, so that each export has it."""
    config = copy.deepcopy(config)
    config.modules_to_save = [*(config.modules_to_save or []), *parts.connector] or None
    return config


def resolve_tuning(tuning: str | None, has_connector: bool) -> str:
    """The tuning mode of a run: `joint` by default, or `llm` where the adapter holds no connector.

    Raises:
        `ValueError`: on an unknown mode, or a mode that trains a connector that is not there.
    """
    if tuning is None:
        return "joint" if has_connector else "llm"
    if tuning not in TUNINGS:
        raise ValueError(f"`tuning` must be one of {', '.join(TUNINGS)}, got {tuning!r}.")
    if TUNINGS[tuning][1] and not has_connector:
        raise ValueError(
            f"`tuning` {tuning!r} trains the connector, but this model has none in its adapter. Use `tuning='llm'`, or, "
            "for a PeftModel of your own, list the connector in its `modules_to_save`."
        )
    return tuning


class Adapter:
    """The parameters of a PeftModel's active adapter, by the names that they have in its export.

    Args:
        model ([`~peft.PeftModel`]):
            A model with one active adapter: LoRA, and perhaps the connector in `modules_to_save`.

    Raises:
        `ValueError`: if the model has no single active adapter.
    """

    def __init__(self, model: PeftModel):
        if not isinstance(model.active_adapter, str):
            raise ValueError(f"`model` must have one active adapter, got {model.active_adapter}.")
        self.model = model
        # PEFT's own names, since cutting ".default" out of a name breaks on modules that are called so. Its tensors
        # share memory with the live parameters, which is how the two are matched.
        state = get_peft_model_state_dict(model, adapter_name=model.active_adapter, save_embedding_layers=False)
        live = {parameter.data_ptr(): parameter for parameter in model.parameters()}
        self.parameters: dict[str, nn.Parameter] = {
            name: live[tensor.data_ptr()] for name, tensor in state.items() if tensor.data_ptr() in live
        }
        self.connector = self._names_under(vlm_parts(model).connector)

    def _names_under(self, paths: Sequence[str]) -> frozenset[str]:
        prefixes = tuple(f"base_model.model.{path}." for path in paths)
        return frozenset(name for name in self.parameters if prefixes and name.startswith(prefixes))

    def set_tuning(self, tuning: str) -> None:
        """Let LoRA, the connector or both train, and keep what trains in fp32, as the base may be bf16.

        A bf16 connector would lose most of its small updates, and PEFT copies it in the base's dtype.
        """
        lora, connector = TUNINGS[tuning]
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(connector if name in self.connector else lora)
            if parameter.requires_grad and parameter.dtype != torch.float32:
                parameter.data = parameter.data.float()
        if connector:
            for path in vlm_parts(self.model).connector:
                _cast_around(self.model.get_base_model().get_submodule(path))

    def trainable(self) -> list[str]:
        """Names of the parameters that train, in the export's order."""
        return [name for name, parameter in self.parameters.items() if parameter.requires_grad]

    def read(self, names: Iterable[str]) -> TensorDict:
        """Copy parameters out of the model, as fp32."""
        return TensorDict.from_tensors({name: self.parameters[name] for name in names})

    @torch.no_grad()
    def write(self, tensors: TensorDict) -> None:
        """Copy tensors into the model, in place."""
        for name, tensor in tensors.items():
            self.parameters[name].copy_(tensor)

    def export(self, folder: Path) -> None:
        """Save a folder that stock `PeftModel.from_pretrained(base, folder)` loads; it must be new or empty."""
        # "auto" would ask the Hub for the base's configuration at every call
        self.model.save_pretrained(folder, save_embedding_layers=False)


def _cast_around(module: nn.Module) -> None:
    """Let an fp32 module work inside a bf16 model: inputs go in as fp32, outputs leave in the inputs' dtype."""
    dtypes: list[torch.dtype] = []

    def cast(value: object, to: Callable[[torch.Tensor], torch.Tensor]) -> object:
        return to(value) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    def before(_: nn.Module, args: tuple) -> tuple:
        dtypes[:] = [arg.dtype for arg in args if isinstance(arg, torch.Tensor) and arg.is_floating_point()][:1]
        return tuple(cast(arg, torch.Tensor.float) for arg in args)

    def after(_: nn.Module, args: tuple, output: object) -> object:
        return cast(output, lambda tensor: tensor.to(dtypes[0]))

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)
