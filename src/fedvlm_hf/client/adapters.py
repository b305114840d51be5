"""Which parameters of a PeftModel are the adapter, which of them train, how they are read, written and exported."""

import copy
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from ..files import path_from_here
from ..lora import LoraPair, lora_pairs
from ..models.vlm import vlm_parts
from ..tensors import TensorDict, split
from .modules import cast_around
from .peft_config import check_peft_type, check_targets, default_targets


def complete_config(config: PeftConfig | None, model: PreTrainedModel) -> PeftConfig:
    """A PEFT configuration that reaches the language model and holds the connector, so that each export has it.

    Args:
        config ([`~peft.PeftConfig`], *optional*):
            Taken as it is but for two things: without `target_modules` it gets every linear of the language model,
            where PEFT's own default would reach into the vision tower; and the connector joins its `modules_to_save`.
            By default LoRA as in FedVLMBench: r=8, alpha=32, dropout 0.05.
        model ([`~transformers.PreTrainedModel`]):
            A VLM.

    Returns:
        [`~peft.PeftConfig`]: a copy.

    Raises:
        `ValueError`: if the configuration is of a kind that cannot be averaged, or names a module that the model does
            not have.
    """
    config = copy.deepcopy(config) if config else LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05)
    check_peft_type(config)
    if isinstance(config.target_modules, str) and config.target_modules.isidentifier():
        config.target_modules = {config.target_modules}  # TRL unpacks a list of one name, which is no whole path
    check_targets(config, model)
    if config.target_modules is None:
        config.target_modules = default_targets(model)
        if isinstance(config, IA3Config) and config.feedforward_modules is None:
            config.feedforward_modules = set()  # PEFT's default needs to know the family; the outputs are scaled
    config.modules_to_save = [*(config.modules_to_save or []), *vlm_parts(model).connector] or None
    return config


class Adapter:
    """The parameters of a PeftModel's active adapter, by the names that they have in its export.

    Args:
        model ([`~peft.PeftModel`]):
            A model with one active adapter: LoRA, and perhaps the connector in `modules_to_save`.

    Raises:
        `ValueError`: if the model has no single active adapter, or one of a kind that cannot be averaged.
    """

    def __init__(self, model: PeftModel):
        if not isinstance(model.active_adapter, str):
            raise ValueError(f"`model` must have one active adapter, got {model.active_adapter}.")
        check_peft_type(model.peft_config[model.active_adapter])
        self.model = model
        # PEFT's own names, since cutting ".default" out of a name breaks on modules that are called so. Its tensors
        # share memory with the live parameters, which is how the two are matched.
        state = get_peft_model_state_dict(model, adapter_name=model.active_adapter, save_embedding_layers=False)
        live = {parameter.data_ptr(): parameter for parameter in model.parameters()}
        self.parameters: dict[str, nn.Parameter] = {
            name: live[tensor.data_ptr()] for name, tensor in state.items() if tensor.data_ptr() in live
        }
        self._check_complete()
        self._connector_paths = vlm_parts(model).connector
        self.connector = self._names_under(self._connector_paths)
        self._base_weights: dict[str, torch.Tensor] = {}  # by module, of the layers whose weight was changed
        self._base_change: TensorDict | None = None

    def _check_complete(self) -> None:
        """PEFT leaves out every key that holds another adapter's name: one called "0" loses layer 0 without a word."""
        adapter = self.model.active_adapter
        layers = [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]
        parts = [getattr(layer, name) for layer in layers for name in layer.adapter_layer_names]
        parts += [m.modules_to_save for m in self.model.modules() if isinstance(m, ModulesToSaveWrapper)]
        expected = {p for part in parts if adapter in part for p in _parameters(part[adapter])}
        missing = expected - set(self.parameters.values())
        if missing:
            raise ValueError(
                f"PEFT's state of adapter {adapter!r} lacks {len(missing)} of its {len(expected)} tensors. Adapter "
                f"names that are part of a module's name do that ({sorted(self.model.peft_config)}): rename them."
            )

    def _names_under(self, paths: Sequence[str]) -> frozenset[str]:
        prefixes = tuple(f"base_model.model.{path}." for path in paths)
        return frozenset(name for name in self.parameters if prefixes and name.startswith(prefixes))

    def names(self, trains: str) -> list[str]:
        """Names of what trains: LoRA (`"llm"`), the `"connector"` or both (`"joint"`), in the export's order."""
        return [
            name for name in self.parameters if trains in ("joint", "connector" if name in self.connector else "llm")
        ]

    def set_trainable(self, names: Collection[str]) -> None:
        """Let these parameters train and no others, and keep what trains in fp32.

        The base may be bf16: a bf16 connector would lose most of its small updates, and PEFT copies it in the base's
        dtype. What has trained once stays fp32, also in a later stage in which it is frozen.
        """
        names = frozenset(names)
        if unknown := sorted(names - self.parameters.keys()):
            raise ValueError(f"`names` has {unknown[0]!r}, which is not a parameter of the adapter.")
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in names)
            if parameter.requires_grad and parameter.dtype != torch.float32:
                parameter.data = parameter.data.float()
        if names & self.connector:
            for path in self._connector_paths:
                self._cast_around(self.model.get_base_model().get_submodule(path))

    def _cast_around(self, connector: nn.Module) -> None:
        """Only around the copy that trains: the original keeps its dtype, and merging removes the wrapper."""
        if isinstance(connector, ModulesToSaveWrapper) and self.model.active_adapter in connector.modules_to_save:
            original = next(connector.original_module.parameters())
            cast_around(connector.modules_to_save[self.model.active_adapter], original.dtype)

    def trainable(self) -> list[str]:
        """Names of the parameters that train, in the export's order."""
        return [name for name, parameter in self.parameters.items() if parameter.requires_grad]

    def read(self, names: Iterable[str], shapes: Mapping[str, Sequence[int]] | None = None) -> TensorDict:
        """Copy parameters out of the model, as fp32.

        Args:
            names (`Iterable[str]`):
                The parameters.
            shapes (`Mapping[str, Sequence[int]]`, *optional*):
                Where a shape is smaller than the parameter's, its leading block is read: the first components of a
                LoRA pair. Whole parameters by default.
        """
        if shapes is None:
            return TensorDict.from_tensors({name: self.parameters[name] for name in names})
        return TensorDict.from_tensors({name: _block(self.parameters[name], shapes[name], name) for name in names})

    @torch.no_grad()
    def write(self, tensors: TensorDict) -> None:
        """Copy tensors into the model, in place.

        A tensor that is smaller than its parameter fills the leading block and leaves zeros elsewhere. A LoRA pair of
        a lower rank is then exactly what the model computes with, and stays so in training: where row j of A and
        column j of B are 0, so are their gradients.
        """
        parameters = [self.parameters[name] for name in tensors]
        views: Iterable[torch.Tensor] = tensors.values()
        if parameters and parameters[0].device.type != "cpu":  # one transfer for all
            views = split(tensors.flat.to(parameters[0].device), tensors.shapes)
        for name, parameter, view in zip(tensors, parameters, views, strict=True):
            if parameter.shape != view.shape:
                parameter.zero_()
                parameter = _block(parameter, view.shape, name)
            parameter.copy_(view)

    def lora_pairs(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, LoraPair]:
        """The LoRA pairs among some of the adapter's tensors, by module, with the scale that the model gives them."""
        adapter = self.model.active_adapter
        scales = {
            name: module.scaling[adapter]
            for name, module in self.model.named_modules()
            if isinstance(module, BaseTunerLayer) and adapter in getattr(module, "scaling", {})
        }
        return lora_pairs(tensors, scales)

    def change_base(self, change: TensorDict) -> None:
        """Set the weights of the base model to W + scale B A, from whatever they are.

        Args:
            change (`TensorDict`):
                LoRA pairs by module; none puts the base back. The sum is taken in fp32 and rounded to the dtype of W
                once. The original weights of changed modules are kept in memory.

        Raises:
            `ValueError`: if a module's weight cannot take a change: quantised weights, or DoRA.
        """
        if change is self._base_change or (not change and self._base_change is None):
            return
        pairs = self.lora_pairs(change)
        for module, original in self._base_weights.items():
            if module not in pairs:
                self._base_weight(module).data.copy_(original)
        for module, pair in pairs.items():
            weight = self._base_weight(module)
            original = self._base_weights.setdefault(module, weight.detach().clone())
            change_here = LoraPair(pair.a.to(weight.device), pair.b.to(weight.device), pair.scale)
            weight.data.copy_(changed_weight(original, change_here, self.model.get_submodule(module).fan_in_fan_out))
        self._base_change = change if change else None

    def check_base_change(self) -> None:
        """Check that the weight of each module with LoRA can take a change.

        Raises:
            `ValueError`: if one cannot, as [`change_base`] says, or if it is tied to the weight of another module.
        """
        uses = Counter(id(parameter) for _, parameter in self.model.named_parameters(remove_duplicate=False))
        for module in self.lora_pairs(self.parameters):
            if uses[id(self._base_weight(module))] > 1:
                raise ValueError(
                    f"`method` changes the weights of the base model, but the weight of {module!r} is tied to another "
                    "module, which would change with it. Leave it out of the LoRA configuration's `target_modules`."
                )

    def _base_weight(self, module: str) -> nn.Parameter:
        layer = self.model.get_submodule(module)
        weight = layer.get_base_layer().weight
        if not weight.is_floating_point() or getattr(layer, "use_dora", {}).get(self.model.active_adapter):
            kind = "uses DoRA" if weight.is_floating_point() else f"is quantised ({weight.dtype})"
            raise ValueError(
                f"`method` changes the weights of the base model, but {module!r} {kind}, so that no low-rank change "
                "can be added to it. Load the base without quantisation and use plain LoRA."
            )
        return weight

    def export(self, folder: Path) -> None:
        """Save a folder that stock `PeftModel.from_pretrained(base, folder)` loads; it must be new or empty.

        If the base model is a local folder, `adapter_config.json` names it by its path from the current directory.
        """
        config = self.model.peft_config[self.model.active_adapter]
        base_name = config.base_model_name_or_path
        if base_name and os.path.isdir(base_name):
            config.base_model_name_or_path = path_from_here(base_name)
        # "auto" would ask the Hub for the base's configuration at every call. A trainer may have added an adapter of
        # its own, such as DPO's reference.
        self.model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=[self.model.active_adapter])
        config.base_model_name_or_path = base_name


def _parameters(part: nn.Module | nn.Parameter) -> Iterable[nn.Parameter]:
    return part.parameters() if isinstance(part, nn.Module) else [part]


def changed_weight(weight: torch.Tensor, pair: LoraPair, is_transposed: bool = False) -> torch.Tensor:
    """W + scale B A, summed in fp32 and rounded to the dtype of W once."""
    delta = pair.delta()
    return (weight.float() + (delta.T if is_transposed else delta)).to(weight.dtype)


def _block(parameter: torch.Tensor, shape: Sequence[int], name: str) -> torch.Tensor:
    if len(shape) != parameter.dim() or any(n > m for n, m in zip(shape, parameter.shape, strict=True)):
        raise ValueError(
            f"The tensor {name!r} has shape {tuple(shape)}, but the adapter here has {tuple(parameter.shape)}. Use an "
            "adapter whose rank is at least the highest rank of any client."
        )
    return parameter[tuple(slice(n) for n in shape)]


class ListedParameters:
    """A model whose parameters are listed once; in all else it is the model itself.

    Walking a model with LoRA to list them takes milliseconds (4 where the language model has 28 layers), and Trainer
    does so several times to build an optimizer.

    Args:
        model ([`~torch.nn.Module`]):
            The model. Its parameters must stay the same objects; which of them train may change.
    """

    def __init__(self, model: nn.Module):
        self._model = model
        self._named_parameters = tuple(model.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters with their names, in the model's order."""
        return iter(self._named_parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
