"""Keep the modules that train in full out of quantization.

LoRA adds its own weights to a quantized linear, so the language model and the vision tower may be quantized. The
connector and all other modules in `modules_to_save` are trained directly, which integer weights do not allow.
"""

import copy
from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.hqq import name_to_linear_tag
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.utils.quantization_config import QuantizationConfigMixin

from .vlm import model_skeleton, vlm_parts


# Of bitsandbytes and of almost all other methods. HQQ has `skip_modules`, with names of another kind.
SKIP_LISTS = ("llm_int8_skip_modules", "modules_to_not_convert")


def skip_trained_modules(
    quantization_config: QuantizationConfigMixin, config: PreTrainedConfig, modules_to_save: Iterable[str] = ()
) -> QuantizationConfigMixin:
    """Add the connector and `modules_to_save` to the modules that a quantization method skips.

    Modules that would be skipped without this call stay skipped: those that the configuration names or, if it names
    none, those that transformers finds by itself, such as the head.

    Args:
        quantization_config ([`~transformers.utils.quantization_config.QuantizationConfigMixin`]):
            The configuration to complete, such as a [`~transformers.BitsAndBytesConfig`].
        config ([`~transformers.PreTrainedConfig`]):
            The configuration of the base model, whose family must be known to [`vlm_parts`].
        modules_to_save (`Iterable[str]`, *optional*):
            Further modules that are trained directly, as in PEFT's `modules_to_save`: a name stands for all modules
            with a path that ends in it.

    Returns:
        [`~transformers.utils.quantization_config.QuantizationConfigMixin`]: A completed copy. A method without a list
        of modules to skip, such as GPTQ, which quantizes the layers of the language model only, is left as it is.

    Raises:
        `ValueError`: If the family is unknown.
    """
    model = model_skeleton(config)
    endings = tuple(modules_to_save)
    names = [name for name, _ in model.named_modules() if endings and name.endswith(endings)]
    paths = list(dict.fromkeys([*vlm_parts(model).connector, *names]))
    completed = copy.deepcopy(quantization_config)
    settings = vars(completed)
    for skip_list in SKIP_LISTS:
        if skip_list in settings:
            # A list replaces the modules that transformers keeps by default, so they have to be in it
            skipped = get_keys_to_not_convert(model) if settings[skip_list] is None else settings[skip_list]
            setattr(completed, skip_list, sorted({*skipped, *paths}))
    if "skip_modules" in settings:
        tags = {name_to_linear_tag(name) for path in paths for name in _linears(model, path)}
        completed.skip_modules = sorted({*completed.skip_modules, *tags})
    return completed


def _linears(model: PreTrainedModel, path: str) -> list[str]:
    modules = model.get_submodule(path).named_modules(prefix=path)
    return [name for name, module in modules if isinstance(module, nn.Linear)]
